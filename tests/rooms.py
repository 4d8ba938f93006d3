"""Photos of invented rooms, corners of three textured walls: enough to make a model of, in milliseconds a photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.textures import texture

FOCAL = 1.2
"""Focal length over the longest side: COLMAP's guess where no EXIF says it."""
TEXELS, METRES = 1400, 8.0
"""A wall's texture covers so many metres."""
WALLS = ((2, 4.0), (0, 2.0), (1, 1.2))
"""Axis and position of each wall: the back, the right, and the floor (y points down)."""


def photograph_room(folder: Path, seed: int, photos: int, size: tuple[int, int] = (280, 210)) -> None:
    """Write ``0000.jpg`` and so on: photos of one corner, taken on a walk along it."""
    folder.mkdir(parents=True, exist_ok=True)
    walls = [texture(seed * len(WALLS) + wall, TEXELS, TEXELS, 6000) for wall in range(len(WALLS))]
    for number, along in enumerate(np.linspace(0, 1, photos)):
        centre = np.array([-2.2 + 2.4 * along, -0.3 + 0.3 * np.sin(5 * along), 0.8 * along])
        pixels = _render(walls, centre, np.array([1.2, 0.2, 3.6]), size)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=92)


def _render(walls: list[np.ndarray], centre: np.ndarray, target: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What a camera sees, (h, w, 3) uint8: four rays a pixel."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    wide, high = 2 * size[0], 2 * size[1]
    x, y = np.meshgrid(np.arange(wide) + 0.5 - wide / 2, np.arange(high) + 0.5 - high / 2)
    scale = FOCAL * max(wide, high)
    rays = forward + (x[..., None] * right + y[..., None] * np.cross(forward, right)) / scale
    seen, nearest = np.zeros((high, wide, 3)), np.full((high, wide), np.inf)
    for (axis, position), picture in zip(WALLS, walls, strict=True):
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (position - centre[axis]) / rays[..., axis]
        closer = (depth > 0) & (depth < nearest)
        hit = centre + depth[closer, None] * rays[closer]
        across = np.delete(hit, axis, axis=1) / METRES * TEXELS
        column, line = np.round(across % (TEXELS - 1)).astype(int).T
        seen[closer], nearest[closer] = picture[line, column], depth[closer]
    return seen.reshape(size[1], 2, size[0], 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
