"""A place: its building, the ground, trees that stay, and what passes through single photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.world import sprites
from sfm2tuples.world.atlas import Atlas, Texels
from sfm2tuples.world.buildings import KINDS, build
from sfm2tuples.world.cameras import Camera
from sfm2tuples.world.materials import ground
from sfm2tuples.world.randomness import generator
from sfm2tuples.world.scenery import Sky, draw_sky
from sfm2tuples.world.solids import EXTRA, GROUND, Extent, Panels, Solids, X, Y, Z
from sfm2tuples.world.sprites import Sprite

TILE = 11.0
"""Side of the ground's pattern in metres."""


@dataclass(frozen=True)
class Place:
    """Everything that photos of a place have in common."""

    name: str
    extent: Extent
    panels: Panels
    """Building and ground."""
    texels: Texels
    sky: Sky
    standing: list[tuple[Sprite, np.ndarray]]
    """Trees and lamp posts with where they stand, (2,) metres."""
    passing: list[Sprite]
    """People and cars to choose from."""
    trees: list[Sprite]

    @property
    def radius(self) -> float:
        """Of the building and its close surroundings, in metres."""
        return 0.6 * float(np.hypot(self.extent.width, self.extent.depth)) + 0.5 * self.extent.height + 6


def place_name(place: int) -> str:
    """Name of a place: its kind and number."""
    return f"{KINDS[place % len(KINDS)][0]}_{place + 1:02d}"


def make_place(seed: int, place: int) -> Place:
    """Build a place.

    Parameters
    ----------
    seed : int
        Of the world.
    place : int
        Number of the place, from 0.
    """
    random = generator(seed, 1, place)
    atlas = Atlas()
    solids = Solids(atlas)
    extent = build(random, place, solids)
    _lay_ground(random, solids, extent)
    trees = [sprites.tree(random, atlas) for _ in range(4)]
    lamp = sprites.lamp_post(atlas)
    passing = [sprites.person(random, atlas) for _ in range(6)] + [sprites.car(random, atlas) for _ in range(2)]
    standing = _plant(random, extent, trees, lamp)
    return Place(place_name(place), extent, solids.finish(), atlas.finish(), draw_sky(random), standing, passing, trees)


def _lay_ground(random: np.random.Generator, solids: Solids, extent: Extent) -> None:
    field = solids.atlas.add(ground(random, str(random.choice(["grass", "grass", "asphalt", "gravel"])), TILE))
    square = solids.atlas.add(ground(random, str(random.choice(["cobbles", "slabs", "gravel", "asphalt"])), TILE))
    solids.panel(np.asarray([-400, -400, 0.0]), X, Y, (800, 800), field, kind=GROUND, tile=TILE)
    margin = float(random.uniform(4, 9))
    wide, deep = extent.width + 2 * margin, extent.depth + 2 * margin
    corner = np.asarray([-wide / 2, -deep / 2 - 5, 0.04])
    solids.panel(corner, X, Y, (wide, deep + 5), square, kind=GROUND, tile=TILE)
    path = float(random.uniform(3, 7))
    solids.panel(np.asarray([-path / 2, -deep / 2 - 60, 0.03]), X, Y, (path, 56), square, kind=GROUND, tile=TILE)


def _plant(
    random: np.random.Generator, extent: Extent, trees: list[Sprite], lamp: Sprite
) -> list[tuple[Sprite, np.ndarray]]:
    standing = []
    for _ in range(int(random.integers(4, 10))):
        side = float(random.choice([-1, 1]))
        if random.random() < 0.6:
            at = [side * (extent.width / 2 + random.uniform(3, 14)), random.uniform(-1, 1.2) * extent.depth]
        else:
            at = [random.uniform(-1, 1) * extent.width, extent.depth / 2 + random.uniform(5, 16)]
        standing.append((trees[int(random.integers(len(trees)))], np.asarray(at)))
    for side in (-1, 1):
        if random.random() < 0.6:
            at = [side * random.uniform(0.2, 0.4) * extent.width, -extent.depth / 2 - random.uniform(5, 8)]
            standing.append((lamp, np.asarray(at)))
    return standing


def draw_passing(random: np.random.Generator, place: Place, camera: Camera) -> list[tuple[Sprite, np.ndarray]]:
    """What stands between one photographer and the building: people, cars, now and then a branch or a tree."""
    away = -camera.centre[:2] / np.linalg.norm(camera.centre[:2])
    across = np.asarray([-away[1], away[0]])
    distance = float(np.linalg.norm(camera.centre[:2]))
    free = distance - 0.5 * max(place.extent.width, place.extent.depth)
    found = []
    for _ in range(int(random.integers(0, 6))):
        sprite = place.passing[int(random.integers(len(place.passing)))]
        ahead = random.uniform(min(9.0, 0.6 * free), max(free, 9.0))
        aside = random.normal(0, 0.28) * ahead
        found.append((sprite, camera.centre[:2] + ahead * away + aside * across))
    if random.random() < 0.22:
        tree = place.trees[int(random.integers(len(place.trees)))]
        ahead = random.uniform(0.45, 0.85) * max(free, 8.0)
        aside = random.choice([-1, 1]) * random.uniform(0.2, 0.4) * ahead
        found.append((tree, camera.centre[:2] + ahead * away + aside * across))
    return found


def upright_panels(standing: list[tuple[Sprite, np.ndarray]], towards: np.ndarray) -> Panels | None:
    """Cut-outs that face someone at `towards`, (3,) metres; None for nothing."""
    if not standing:
        return None
    solids = Solids(Atlas())
    for sprite, at in standing:
        out = towards[:2] - at
        right = np.asarray([-out[1], out[0], 0.0]) / np.linalg.norm(out)
        corner = np.asarray([at[0], at[1], 0.0]) - sprite.width / 2 * right
        solids.panel(corner, right, Z, (sprite.width, sprite.height), sprite.texture, kind=EXTRA, two_sided=True)
    return solids.finish()
