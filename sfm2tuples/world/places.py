"""A place: its building on a piece of ground, trees and lamp posts around it, people and cars that pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sfm2tuples.world.buildings import KINDS, build
from sfm2tuples.world.cameras import Camera
from sfm2tuples.world.pictures import Picture, darker
from sfm2tuples.world.rendering import TILE
from sfm2tuples.world.solids import EXTRA, GROUND, Extent, Solids, X, Y, Z
from sfm2tuples.world.styles import pick, pick_colour
from sfm2tuples.world.textures import Texels, lay_out, surface
from sfm2tuples.world.weather import Sky, draw_sky

GROUNDS = {"grass": (88, 112, 52), "asphalt": (92, 92, 94), "gravel": (172, 154, 126)}
SQUARES = {"cobbles": (128, 122, 114), "slabs": (168, 162, 150), "gravel": (172, 154, 126), "asphalt": (92, 92, 94)}
LEAVES = ("4a682e", "5c7638", "3c5834", "967430", "68703e")
CLOTHES = ("283046", "962e2a", "d2ccc0", "3c3c3e", "3a688c", "ba9646")
PAINTS = ("961e1c", "243458", "c4c6c8", "2c2e32", "e4e2dc", "3a5c42")
SKINS, HAIRS = ("e0b296", "966850", "c69676"), ("281e18", "6e5032", "a0968c")


class CutOut(NamedTuple):
    """A picture that turns towards whoever looks: number of its texture, width and height in metres."""

    texture: int
    width: float
    height: float


Standing = list[tuple[CutOut, np.ndarray]]
"""Cut-outs and where they stand, (2,) metres."""


@dataclass(frozen=True)
class Place:
    """What photos of a place have in common: its building on its ground, (n,) PANEL, and cut-outs.

    Trees and lamp posts stand there; trees and passers-by are to choose from.
    """

    name: str
    extent: Extent
    panels: np.ndarray
    texels: Texels
    sky: Sky
    standing: Standing
    passing: list[CutOut]
    trees: list[CutOut]

    @property
    def radius(self) -> float:
        """Of the building and its close surroundings, in metres."""
        return 0.6 * float(np.hypot(self.extent.width, self.extent.depth)) + 0.5 * self.extent.height + 6


def make_place(random: np.random.Generator, place: int) -> Place:
    """Build place number `place`."""
    solids = Solids()
    extent = build(random, place, solids)
    _lay_ground(random, solids, extent)
    pictures = [_tree(random) for _ in range(4)] + [_person(random) for _ in range(6)]
    pictures += [_car(random) for _ in range(2)] + [_lamp_post()]
    cut_outs = [CutOut(solids.texture(picture.cut_out()), picture.width, picture.height) for picture in pictures]
    trees, passing, lamp = cut_outs[:4], cut_outs[4:-1], cut_outs[-1]
    wide, deep, standing = extent.width, extent.depth, []
    for _ in range(int(random.integers(4, 10))):
        at = (random.uniform(-1, 1) * wide, deep / 2 + random.uniform(5, 16))
        if random.random() < 0.6:
            at = (pick(random, (-1, 1)) * (wide / 2 + random.uniform(3, 14)), random.uniform(-1, 1.2) * deep)
        standing.append((pick(random, trees), np.asarray(at)))
    for side in (-1, 1):
        if random.random() < 0.6:
            at = (side * random.uniform(0.2, 0.4) * wide, -deep / 2 - random.uniform(5, 8))
            standing.append((lamp, np.asarray(at)))
    name, sky = f"{KINDS[place % len(KINDS)].name}_{place + 1:02d}", draw_sky(random)
    return Place(name, extent, solids.panels(), lay_out(solids.textures), sky, standing, passing, trees)


def _lay_ground(random: np.random.Generator, solids: Solids, extent: Extent) -> None:
    wide, deep = np.asarray(extent[:2]) + 2 * random.uniform(4, 9)
    path = random.uniform(3, 7)
    grounds = (pick(random, ("grass", *GROUNDS)), GROUNDS), (pick(random, tuple(SQUARES)), SQUARES)
    field, square = (solids.texture(surface(random, kind, of[kind], TILE, TILE)) for kind, of in grounds)
    solids.panel(np.asarray([-400, -400, 0]), X, Y, (800, 800), field, GROUND)
    solids.panel(np.asarray([-wide / 2, -deep / 2 - 5, 0.04]), X, Y, (wide, deep + 5), square, GROUND)
    solids.panel(np.asarray([-path / 2, -deep / 2 - 60, 0.03]), X, Y, (path, 56), square, GROUND)


def draw_passing(random: np.random.Generator, place: Place, camera: Camera) -> Standing:
    """What stands between one photographer and the building: people, cars, now and then a tree."""
    centre = camera.centre[:2]
    distance = float(np.linalg.norm(centre))
    ahead = -centre / distance
    aside = np.asarray([-ahead[1], ahead[0]])
    free = distance - 0.5 * max(place.extent.width, place.extent.depth)
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
    for cut_out, at in standing:
        out = towards[:2] - at
        right = np.asarray([-out[1], out[0], 0.0]) / np.linalg.norm(out)
        corner = np.asarray([*at, 0.0]) - cut_out.width / 2 * right
        solids.panel(corner, right, Z, (cut_out.width, cut_out.height), cut_out.texture, EXTRA)
    return solids.panels()


def _tree(random: np.random.Generator) -> Picture:
    """A round, a slender or a coniferous tree of leafy spots, lighter towards the top."""
    leaf, high = pick_colour(random, LEAVES), random.uniform(5.5, 10)
    slim, fir = pick(random, ((0.75, 0), (0.75, 0), (0.36, 0), (0.5, 1)))
    picture = Picture(high * slim, high)
    middle, trunk = picture.width / 2, high * 0.028
    picture.polygon([(middle - trunk, 0), (middle + trunk, 0), (middle, high * 0.75)], (74, 60, 46))
    turn, share = random.uniform(0, 2 * np.pi, 1800), np.sqrt(random.uniform(0, 1, 1800))
    x, y = share * np.cos(turn), share * np.sin(turn)
    shade = np.clip(0.78 + 0.3 * y - 0.18 * x + random.normal(0, 0.12, 1800), 0.35, 1.3)
    across = middle * (1 + 0.9 * x * (1 - 0.46 * fir * (y + 1)))
    up = high * (0.54 + 0.42 * y if fir else 0.6 + 0.36 * y)
    for spot in np.argsort(-share * 0.6 - random.uniform(0, 1, 1800)).tolist():
        size = high * random.uniform(0.007, 0.021)
        picture.disc(across[spot], up[spot], size, darker(leaf, shade[spot]), flat=0.8)
    return picture


def _person(random: np.random.Generator) -> Picture:
    """Someone who stands about."""
    coat, legs = pick_colour(random, CLOTHES), darker(pick_colour(random, CLOTHES), 0.8)
    picture = Picture(0.8, 1.8)
    for left in (0.26, 0.42):
        picture.box(left, 0.04, 0.13, 0.82, legs)
        picture.box(left - 0.02, 0, 0.18, 0.08, (40, 34, 30))
    picture.polygon([(0.1, 0.8), (0.7, 0.8), (0.64, 1.42), (0.5, 1.52), (0.3, 1.52), (0.16, 1.42)], darker(coat, 0.8))
    picture.polygon([(0.2, 0.75), (0.6, 0.75), (0.58, 1.5), (0.22, 1.5)], coat)
    picture.disc(0.4, 1.71, 0.12, pick_colour(random, HAIRS), flat=0.75)
    picture.disc(0.4, 1.63, 0.1, pick_colour(random, SKINS))
    return picture


def _car(random: np.random.Generator) -> Picture:
    """A car from the side."""
    paint = pick_colour(random, PAINTS)
    picture = Picture(4.2, 1.5)
    picture.polygon([(0.6, 0.8), (1.1, 1.45), (2.5, 1.45), (3.3, 0.8)], darker(paint, 0.85))
    picture.polygon([(0.85, 0.92), (1.2, 1.36), (1.78, 1.36), (1.78, 0.92)], (64, 78, 88))
    picture.polygon([(1.88, 0.92), (1.88, 1.36), (2.42, 1.36), (3.02, 0.92)], (84, 98, 108))
    picture.polygon([(0.05, 0.3), (4.15, 0.3), (4.12, 0.75), (3.3, 0.88), (0.25, 0.92), (0.08, 0.7)], paint)
    picture.box(0.05, 0.3, 4.1, 0.1, darker(paint, 0.45))
    for x in (0.9, 3.25):
        picture.disc(x, 0.33, 0.33, (24, 24, 26))
        picture.disc(x, 0.33, 0.18, (150, 152, 156))
    return picture


def _lamp_post() -> Picture:
    """A lantern on a cast-iron post."""
    picture, iron = Picture(0.7, 4.4), (38, 42, 42)
    picture.box(0.29, 0, 0.12, 3.6, iron)
    picture.box(0.22, 0, 0.26, 0.5, iron)
    picture.polygon([(0.2, 3.6), (0.5, 3.6), (0.62, 4.15), (0.08, 4.15)], (226, 214, 170))
    picture.polygon([(0.02, 4.12), (0.68, 4.12), (0.35, 4.4)], iron)
    return picture
