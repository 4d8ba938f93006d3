"""A site of one model: a row of rooms that look the same, with doors between them, and what each camera really sees."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sfm2tuples.world.rendering import Buffers, Camera, Sky, draw_light, draw_sky, look_at, rasterise, shade
from sfm2tuples.world.solids import SHEET, WALL, Solids, Texels, X, Y, Z, surface
from sfm2tuples.world.synthetic import (
    SCALE,
    SceneModel,
    Shot,
    check_folder,
    develop,
    draw_details,
    observe,
    scene_model,
    write_models,
)
from sfm2tuples.world.walls import LOOKS, draw_style, paint_wall

LONG, WIDE, HIGH = 6.0, 4.0, 3.0
"""Metres of a room, along the row, across it, and up."""
DOOR_WIDE, DOOR_HIGH = 1.2, 2.1
EYE, ASIDE = 1.5, 1.3
"""Metres: height of every camera, and how far from the middle line it stands at most."""
PATCH = 0.25
"""Metres: side of the patches that surfaces are cut into, to say who sees what."""


class Corridor(NamedTuple):
    """The rooms: (n,) PANEL, their textures, and the sky above, since there is no ceiling."""

    panels: np.ndarray
    texels: Texels
    sky: Sky
    rooms: int


class CorridorSummary(NamedTuple):
    """What `write_corridor` made: a root for `build-index`, and the renderer's truth."""

    folder: Path
    cameras: list[Camera]
    """In the order of the photos' names."""
    patches: list[np.ndarray]
    """By photo, numbers of the patches of surface that it shows, rising."""


def write_corridor(
    folder: str | Path, *, rooms: int = 8, photos: int = 96, size: tuple[int, int] = (160, 120), seed: int = 0
) -> CorridorSummary:
    """Write ``folder/images/*.jpg`` and ``folder/sparse/0``: one model of all rooms, exact but for noise in the pixels.

    Every room has the same walls to the texel, so that descriptors cannot tell one from another. The same arguments
    give the same bytes.

    Parameters
    ----------
    folder : str or Path
        Made where it does not exist; must be empty.
    rooms, photos, seed : int
        Rooms in the row; photos, spread evenly over them; of everything that is drawn.
    size : (int, int)
        Width and height of a photo in pixels.

    Raises
    ------
    UsageError
        The folder holds something already.
    """
    folder = Path(folder)
    check_folder(folder)
    corridor = make_corridor(np.random.default_rng([seed, 0]), rooms)
    details = draw_details(np.random.default_rng([seed, 1]), corridor.panels, corridor.texels, 1500 * rooms)
    shots, patches = [], []
    for number in range(photos):
        random = np.random.default_rng([seed, 2, number])
        camera = _draw_camera(random, rooms * (number + 0.5) / photos, size)
        buffers = rasterise(corridor.panels, corridor.texels, camera, SCALE)
        jpeg = _photo(random, corridor, camera, buffers)
        shots.append(Shot(jpeg, camera, *observe(random, details, camera, buffers)))
        patches.append(_patches(corridor.panels, camera, buffers))
    model: SceneModel = scene_model(folder, shots, details[0])
    write_models([model])
    return CorridorSummary(folder, [shot.camera for shot in shots], patches)


def make_corridor(random: np.random.Generator, rooms: int) -> Corridor:
    """Build the rooms; walls that stand in the same place of two rooms have one texture."""
    solids, style = Solids(), draw_style(random, 0, ("flat",))
    sides = [solids.texture(paint_wall(random, style, LOOKS[look], LONG, HIGH)) for look in ("shop", "plain")]
    floor = solids.texture(surface(random, "tiles", (150, 120, 100), LONG, WIDE))
    part = (WIDE - DOOR_WIDE) / 2
    beside, above = (
        solids.texture(surface(random, "brick", (156, 76, 60), *measures))
        for measures in ((part, HIGH), (DOOR_WIDE, HIGH - DOOR_HIGH))
    )
    end = solids.texture(surface(random, "plaster", (228, 190, 112), WIDE, HIGH))
    for room in range(rooms):
        start = room * LONG
        solids.panel(np.array([start + LONG, -WIDE / 2, 0]), -X, Z, (LONG, HIGH), sides[0], WALL)
        solids.panel(np.array([start, WIDE / 2, 0]), X, Z, (LONG, HIGH), sides[1], WALL)
        solids.flat(np.array([start + LONG / 2, 0, 0]), (LONG, WIDE), floor, SHEET)
        for at, right in ((start, Y), (start + LONG, -Y)):
            first = -right * WIDE / 2 + at * X
            if at in (0, rooms * LONG):
                solids.panel(first, right, Z, (WIDE, HIGH), end, WALL)
                continue
            solids.panel(first, right, Z, (part, HIGH), beside, WALL)
            solids.panel(first + right * (part + DOOR_WIDE), right, Z, (part, HIGH), beside, WALL)
            solids.panel(first + right * part + DOOR_HIGH * Z, right, Z, (DOOR_WIDE, HIGH - DOOR_HIGH), above, WALL)
    return Corridor(solids.panels(), solids.texels(), draw_sky(random), rooms)


def _draw_camera(random: np.random.Generator, along: float, size: tuple[int, int]) -> Camera:
    """A camera that stands `along` rooms from the start; two of three look at a side wall, the others down the row."""
    room = min(max(along % 1, 0.08), 0.92) + np.floor(along)
    centre = np.array([room * LONG, random.uniform(-ASIDE, ASIDE), EYE])
    turn = random.choice([-1, 1]) * np.pi / 2 + random.normal(0, 0.25)
    if random.random() < 1 / 3:
        turn = random.choice([0.0, np.pi]) + random.normal(0, 0.3)
    ahead = np.array([np.cos(turn), np.sin(turn), random.normal(-0.05, 0.05)])
    return look_at(centre, centre + ahead, 0.7 * size[0], size)


def _photo(random: np.random.Generator, corridor: Corridor, camera: Camera, buffers: Buffers) -> bytes:
    """The JPEG of a photo under clouds of its own."""
    light = draw_light(random)._replace(sun=np.zeros(3, np.float32))
    image = shade(corridor.panels, corridor.texels, camera, buffers, light, corridor.sky, None)
    wide, high = camera.size
    image = image.reshape(high, SCALE, wide, SCALE, 3).mean(axis=(1, 3))
    jpeg = io.BytesIO()
    Image.fromarray(develop(random, image)).save(jpeg, "JPEG", quality=88)
    return jpeg.getvalue()


def _patches(panels: np.ndarray, camera: Camera, buffers: Buffers) -> np.ndarray:
    """Numbers of the patches that the rays of a photo meet: rising int64."""
    met = np.flatnonzero(buffers.panel.ravel() >= 0)
    panel, depth = buffers.panel.ravel()[met], 1 / buffers.inverse_depth.ravel()[met]
    away = camera.centre + camera.rays(SCALE)[met] * depth[:, None] - panels["corner"][panel]
    right, up = (((away * panels[axis][panel]).sum(axis=1) / PATCH).astype(np.int64) for axis in ("right", "up"))
    side = int(panels["size"].max() / PATCH) + 2
    return np.unique((panel * side + right) * side + up)
