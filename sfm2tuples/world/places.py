"""A place: its building on a piece of ground, trees around it, people and cars that pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfm2tuples.world.buildings import KINDS, build
from sfm2tuples.world.rendering import TILE, Camera, Sky, draw_sky, look_at
from sfm2tuples.world.solids import EXTRA, GROUND, Extent, Picture, Solids, Texels, Z, darker, pick, surface, tint

FIELDS, SQUARES = ("grass", "grass", "asphalt", "gravel"), ("cobbles", "slabs", "gravel", "asphalt")
GROUNDS = {"cobbles": (128, 122, 114), "slabs": (168, 162, 150), "grass": (88, 112, 52)}
GROUNDS |= {"gravel": (172, 154, 126), "asphalt": (92, 92, 94)}
LEAVES = ("4a682e", "5c7638", "3c5834", "967430", "68703e")
CLOTHES = ("283046", "962e2a", "d2ccc0", "3c3c3e", "3a688c", "ba9646")
PAINTS = ("961e1c", "243458", "c4c6c8", "2c2e32", "e4e2dc", "3a5c42")
SKINS = ("e0b296", "966850", "c69676")


CutOut = tuple[int, float, float]
"""A picture that turns towards whoever looks: number of its texture, width and height in metres."""
Standing = list[tuple[CutOut, np.ndarray]]
"""Cut-outs and where they stand, (2,) metres."""


class Place(NamedTuple):
    """What photos of a place have in common: its building on its ground, (n,) PANEL, and cut-outs.

    Trees stand there; trees and passers-by are to choose from.
    """

    name: str
    extent: Extent
    panels: np.ndarray
    texels: Texels
    sky: Sky
    standing: Standing
    passing: list[CutOut]
    trees: list[CutOut]


def make_place(random: np.random.Generator, place: int) -> Place:
    """Build place number `place`."""
    solids = Solids()
    extent = build(random, place, solids)
    wide, deep = np.asarray(extent[:2]) + 2 * random.uniform(4, 9)
    grounds = pick(random, FIELDS), pick(random, SQUARES)
    field, square = (solids.texture(surface(random, kind, GROUNDS[kind], TILE, TILE)) for kind in grounds)
    solids.flat(np.asarray([0, 0, 0]), (800, 800), field, GROUND)
    solids.flat(np.asarray([0, -2.5, 0.04]), (wide, deep + 5), square, GROUND)
    pictures = [_tree(random) for _ in range(4)] + [_person(random) for _ in range(6)]
    pictures += [_car(random) for _ in range(2)]
    cut_outs = [(solids.texture(picture.texture()), picture.width, picture.height) for picture in pictures]
    trees, (wide, deep, _), standing = cut_outs[:4], extent, []
    for _ in range(int(random.integers(4, 10))):
        at = (random.uniform(-1, 1) * wide, deep / 2 + random.uniform(5, 16))
        if random.random() < 0.6:
            at = (pick(random, (-1, 1)) * (wide / 2 + random.uniform(3, 14)), random.uniform(-1, 1.2) * deep)
        standing.append((pick(random, trees), np.asarray(at)))
    name, sky = f"{KINDS[place % len(KINDS)].name}_{place + 1:02d}", draw_sky(random)
    return Place(name, extent, solids.panels(), solids.texels(), sky, standing, cut_outs[4:], trees)


def draw_camera(random: np.random.Generator, extent: Extent, number: int, count: int, size: tuple[int, int]) -> Camera:
    """Where photo `number` of `count` is taken, and how it is framed.

    Two of three photographers stand before the front in a wide arc, the others go around the building; most take all
    of it, some a part from nearby or with a long lens. A quarter of the photos are upright.
    """
    width, depth, height = extent
    front = max(1, round(count * 0.68))
    side, at, stops, arc = -1, number, front, 68
    if number >= front:
        side, at, stops, arc = 1, number - front, count - front, min(22 * (count - front), 105)
    azimuth = side * np.pi / 2 + np.radians(arc) * (2 * (at + 0.5 + random.uniform(-0.5, 0.5)) / stops - 1)
    pixels = (size[1], size[0]) if random.random() < (0.5 if height > width else 0.2) else size
    sine, cosine = abs(np.sin(azimuth)), abs(np.cos(azimuth))
    across = sine * width + cosine * depth
    part = random.uniform(0.42, 0.7) if random.random() < 0.18 else random.uniform(0.8, 1.08)
    distance = random.uniform(0.9, 1.7) * max(across, height) + 0.5 * max(width, depth)
    eye = random.uniform(1.5, 1.9) if random.random() < 0.75 else random.uniform(3, 9)
    out = np.asarray([np.cos(azimuth), np.sin(azimuth), 0.0])
    centre = max(distance, 16.0) * out + [0, 0, eye]
    loose = max(0.0, 1 - part) * 0.5 + 0.06
    aside = np.asarray([-out[1], out[0], 0.0]) * random.uniform(-loose, loose) * across
    aim = height * (0.46 + random.uniform(-1, 1) * max(0.04, (1 - part) * 0.3))
    target = np.add(aside, [0, 0, aim])
    # The front of the building is nearer than its middle.
    near = np.linalg.norm(centre - target) - 0.4 * (cosine * width + sine * depth)
    need = max(across, height * 1.05 * pixels[0] / pixels[1]) * part
    return look_at(centre, target, pixels[0] * max(float(near), 8.0) / need, pixels, float(random.normal(0, 0.02)))


def draw_passing(random: np.random.Generator, place: Place, camera: Camera) -> Standing:
    """What stands between one photographer and the building: people, cars, now and then a tree."""
    centre = camera.centre[:2]
    distance = float(np.linalg.norm(centre))
    ahead = -centre / distance
    aside = np.asarray([-ahead[1], ahead[0]])
    free = distance - 0.5 * max(place.extent[:2])
    found: Standing = []
    for _ in range(int(random.integers(0, 6))):
        far = random.uniform(min(9.0, 0.6 * free), max(free, 9.0))
        found.append((pick(random, place.passing), centre + far * (ahead + random.normal(0, 0.28) * aside)))
    if random.random() < 0.22:
        far = random.uniform(0.45, 0.85) * max(free, 8.0)
        to_side = pick(random, (-1, 1)) * random.uniform(0.2, 0.4)
        found.append((pick(random, place.trees), centre + far * (ahead + to_side * aside)))
    return found


def upright_panels(standing: Standing, towards: np.ndarray) -> np.ndarray:
    """Cut-outs, at least one, that face someone at `towards`, (3,) metres."""
    solids = Solids()
    for (texture, wide, high), at in standing:
        out = towards[:2] - at
        right = np.asarray([-out[1], out[0], 0.0]) / np.linalg.norm(out)
        solids.panel(np.asarray([*at, 0.0]) - wide / 2 * right, right, Z, (wide, high), texture, EXTRA)
    return solids.panels()


def _tree(random: np.random.Generator) -> Picture:
    """A round, a slender or a coniferous tree of leafy spots, lighter towards the top."""
    leaf, high = tint(random, LEAVES), random.uniform(5.5, 10)
    slim, fir = pick(random, ((0.75, 0), (0.75, 0), (0.36, 0), (0.5, 1)))
    picture = Picture(high * slim, high)
    middle, trunk = picture.width / 2, high * 0.028
    picture.draw((74, 60, 46), middle - trunk, 0, middle + trunk, 0, middle, high * 0.75)
    turn, share = random.uniform(0, 2 * np.pi, 1800), np.sqrt(random.uniform(0, 1, 1800))
    x, y = share * np.cos(turn), share * np.sin(turn)
    shade = np.clip(0.78 + 0.3 * y - 0.18 * x + random.normal(0, 0.12, 1800), 0.35, 1.3)
    across = middle * (1 + 0.9 * x * (1 - 0.46 * fir * (y + 1)))
    up = high * (0.54 + 0.42 * y if fir else 0.6 + 0.36 * y)
    for spot in np.argsort(-share * 0.6 - random.uniform(0, 1, 1800)).tolist():
        picture.draw(darker(leaf, shade[spot]), across[spot], up[spot], high * random.uniform(0.007, 0.02))
    return picture


def _person(random: np.random.Generator) -> Picture:
    coat, legs, picture = tint(random, CLOTHES), darker(tint(random, CLOTHES), 0.8), Picture(0.8, 1.8)
    picture.draw(legs, 0.26, 0, 0.13, 0.86)
    picture.draw(legs, 0.42, 0, 0.13, 0.86)
    picture.draw(darker(coat, 0.8), 0.1, 0.8, 0.7, 0.8, 0.64, 1.42, 0.5, 1.52, 0.3, 1.52, 0.16, 1.42)
    picture.draw(coat, 0.2, 0.75, 0.6, 0.75, 0.58, 1.5, 0.22, 1.5)
    picture.draw((52, 38, 28), 0.4, 1.69, 0.1)
    picture.draw(tint(random, SKINS), 0.4, 1.63, 0.1)
    return picture


def _car(random: np.random.Generator) -> Picture:
    paint, picture = tint(random, PAINTS), Picture(4.2, 1.5)
    picture.draw(darker(paint, 0.85), 0.6, 0.8, 1.1, 1.45, 2.5, 1.45, 3.3, 0.8)
    picture.draw((64, 78, 88), 0.85, 0.92, 1.2, 1.36, 1.78, 1.36, 1.78, 0.92)
    picture.draw((84, 98, 108), 1.88, 0.92, 1.88, 1.36, 2.42, 1.36, 3.02, 0.92)
    picture.draw(paint, 0.05, 0.3, 4.15, 0.3, 4.12, 0.75, 3.3, 0.88, 0.25, 0.92, 0.08, 0.7)
    picture.draw(darker(paint, 0.45), 0.05, 0.3, 4.1, 0.1)
    for x in (0.9, 3.25):
        picture.draw((24, 24, 26), x, 0.33, 0.33)
        picture.draw((150, 152, 156), x, 0.33, 0.18)
    return picture
