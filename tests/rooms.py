"""Photos of invented rooms, corners of three textured walls: enough to make a model of, in milliseconds a photo."""

from __future__ import annotations

import json
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
SIZE = (280, 210)
"""Width and height of a photo."""


def photograph_room(folder: Path, seed: int, photos: int, size: tuple[int, int] = SIZE) -> None:
    """Write ``0000.jpg`` and so on: photos of one corner, taken on a walk along it."""
    folder.mkdir(parents=True, exist_ok=True)
    walls = [texture(seed * len(WALLS) + wall, TEXELS, TEXELS, 6000) for wall in range(len(WALLS))]
    for number, pose in enumerate(poses_of_walk(photos)):
        Image.fromarray(_render(walls, pose, size)).save(folder / f"{number:04d}.jpg", quality=92)


def photograph_posed_room(folder: Path, photos: int = 6, scale: float = 1.0, **more: object) -> Path:
    """A room's photos with a transforms.json, whose sizes are `scale` times the photos'; `more` is said in it too."""
    photograph_room(folder / "images", 3, photos)
    width, height = (round(scale * side) for side in SIZE)
    focal = scale * FOCAL * max(SIZE)
    frames = []
    for number, pose in enumerate(poses_of_walk(photos)):
        pose[:, 1:3] *= -1
        frames.append({"file_path": f"images/{number:04d}.jpg", "transform_matrix": pose.tolist()})
    content = {"w": width, "h": height, "fl_x": focal, "cx": width / 2, "cy": height / 2, "frames": frames, **more}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def poses_of_walk(photos: int) -> np.ndarray:
    """Camera to world, COLMAP's axes, of each photo of a room: (n, 4, 4)."""
    poses = np.tile(np.eye(4), (photos, 1, 1))
    for pose, along in zip(poses, np.linspace(0, 1, photos), strict=True):
        centre = np.array([-2.2 + 2.4 * along, -0.3 + 0.3 * np.sin(5 * along), 0.8 * along])
        forward = np.array([1.2, 0.2, 3.6]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross([0.0, 1.0, 0.0], forward)
        right /= np.linalg.norm(right)
        pose[:3] = np.stack([right, np.cross(forward, right), forward, centre], axis=1)
    return poses


def _render(walls: list[np.ndarray], pose: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What a camera sees, (h, w, 3) uint8: four rays a pixel."""
    right, down, forward, centre = pose[:3].T
    wide, high = 2 * size[0], 2 * size[1]
    x, y = np.meshgrid(np.arange(wide) + 0.5 - wide / 2, np.arange(high) + 0.5 - high / 2)
    scale = FOCAL * max(wide, high)
    rays = forward + (x[..., None] * right + y[..., None] * down) / scale
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
