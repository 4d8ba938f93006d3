"""Pinhole cameras, and where the photographers stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.world.solids import Extent


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in COLMAP's convention: x right, y down, z forward; the first pixel's middle is (0.5, 0.5)."""

    rotation: np.ndarray
    """(3, 3) float64, world to camera."""
    centre: np.ndarray
    """(3,) float64, metres."""
    focal: float
    """Pixels."""
    size: tuple[int, int]
    """Width and height in pixels."""

    def matrix(self, scale: int = 1) -> np.ndarray:
        """Projection ``(3, 4)`` to pixels of a photo `scale` times larger."""
        wide, high = self.size
        focal = self.focal * scale
        inner = np.asarray([[focal, 0, wide * scale / 2], [0, focal, high * scale / 2], [0, 0, 1.0]])
        return inner @ np.column_stack([self.rotation, -self.rotation @ self.centre])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``(n, 2)`` and depths ``(n,)`` of points ``(n, 3)``."""
        homogeneous = points @ self.matrix()[:, :3].T + self.matrix()[:, 3]
        depth = homogeneous[:, 2]
        return homogeneous[:, :2] / np.where(np.abs(depth) > 1e-9, depth, 1e-9)[:, None], depth


def look_at(centre: np.ndarray, target: np.ndarray, focal: float, size: tuple[int, int], roll: float = 0.0) -> Camera:
    """A camera at `centre` that looks at `target`, turned by `roll` radians about its axis."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turned = np.cos(roll) * right + np.sin(roll) * down
    return Camera(np.stack([turned, np.cross(forward, turned), forward]), np.asarray(centre, float), focal, size)


def draw_camera(random: np.random.Generator, extent: Extent, number: int, count: int, size: tuple[int, int]) -> Camera:
    """Where photo `number` of `count` is taken, and how it is framed.

    Two of three photographers stand before the front in a wide arc, the others go around the building; most take all
    of it, some a part from nearby or with a long lens.

    Parameters
    ----------
    random : Generator
        Of this photo.
    extent : Extent
        Size of the building.
    number, count : int
        Which photo of how many.
    size : (int, int)
        Of a photo taken broadside, in pixels; a quarter are taken upright.
    """
    front = max(1, round(count * 0.68))
    spread = random.uniform(-0.5, 0.5)
    if number < front:
        azimuth = -np.pi / 2 + np.radians(68) * (2 * (number + 0.5 + spread) / front - 1)
    else:
        rest = max(1, count - front)
        azimuth = np.pi / 2 + np.radians(min(22 * rest, 105)) * (2 * (number - front + 0.5 + spread) / rest - 1)
    upright = bool(random.random() < (0.5 if extent.height > extent.width else 0.2))
    pixels = (size[1], size[0]) if upright else size
    across = abs(np.sin(azimuth)) * extent.width + abs(np.cos(azimuth)) * extent.depth
    part = (
        float(np.exp(random.uniform(np.log(0.42), np.log(0.7))))
        if random.random() < 0.18
        else float(random.uniform(0.8, 1.08))
    )
    need = max(across, extent.height * 1.05 * pixels[0] / pixels[1]) * part
    distance = float(random.uniform(0.9, 1.7)) * max(across, extent.height) + 0.5 * max(extent.width, extent.depth)
    distance = max(distance, 16.0)
    eye = float(random.uniform(1.5, 1.9)) if random.random() < 0.75 else float(random.uniform(3, 9))
    centre = np.asarray([distance * np.cos(azimuth), distance * np.sin(azimuth), eye])
    loose = max(0.0, 1 - part) * 0.5 + 0.06
    sideways = np.asarray([-np.sin(azimuth), np.cos(azimuth), 0.0]) * random.uniform(-loose, loose) * across
    aim = extent.height * (0.46 + random.uniform(-1, 1) * max(0.04, (1 - part) * 0.3))
    target = sideways + np.asarray([0, 0, aim])
    near = float(np.linalg.norm(centre - target)) - 0.4 * (
        abs(np.cos(azimuth)) * extent.width + abs(np.sin(azimuth)) * extent.depth
    )
    focal = pixels[0] * max(near, 8.0) / need
    return look_at(centre, target, focal, pixels, float(random.normal(0, 0.02)))
