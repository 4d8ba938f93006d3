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
        inner = np.diag([self.focal * scale, self.focal * scale, 1.0])
        inner[:2, 2] = wide * scale / 2, high * scale / 2
        return inner @ np.column_stack([self.rotation, -self.rotation @ self.centre])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``(n, 2)`` and depths ``(n,)`` of points ``(n, 3)``."""
        matrix = self.matrix().astype(points.dtype)
        homogeneous = points @ matrix[:, :3].T + matrix[:, 3]
        depth = homogeneous[:, 2]
        return homogeneous[:, :2] / np.where(np.abs(depth) > 1e-9, depth, 1e-9)[:, None], depth

    def rays(self, scale: int) -> np.ndarray:
        """Directions ``(h * w, 3) float32`` in the world, of unit length along the camera's axis."""
        wide, high = self.size[0] * scale, self.size[1] * scale
        x = (np.arange(wide, dtype=np.float32) + 0.5 - wide / 2) / (self.focal * scale)
        y = (np.arange(high, dtype=np.float32) + 0.5 - high / 2) / (self.focal * scale)
        across, down, ahead = self.rotation.astype(np.float32)
        return (x[None, :, None] * across + (y[:, None, None] * down + ahead)).reshape(-1, 3)


def look_at(centre: np.ndarray, target: np.ndarray, focal: float, size: tuple[int, int], roll: float = 0.0) -> Camera:
    """A camera at `centre` that looks at `target`, turned by `roll` radians about its axis."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    turned = np.cos(roll) * right + np.sin(roll) * np.cross(forward, right)
    return Camera(np.stack([turned, np.cross(forward, turned), forward]), np.asarray(centre, float), focal, size)


def draw_camera(random: np.random.Generator, extent: Extent, number: int, count: int, size: tuple[int, int]) -> Camera:
    """Where photo `number` of `count` is taken, and how it is framed.

    Two of three photographers stand before the front in a wide arc, the others go around the building; most take all
    of it, some a part from nearby or with a long lens. A quarter of the photos are upright.
    """
    front = max(1, round(count * 0.68))
    spread = random.uniform(-0.5, 0.5)
    if number < front:
        azimuth = -np.pi / 2 + np.radians(68) * (2 * (number + 0.5 + spread) / front - 1)
    else:
        rest = max(1, count - front)
        azimuth = np.pi / 2 + np.radians(min(22 * rest, 105)) * (2 * (number - front + 0.5 + spread) / rest - 1)
    upright = random.random() < (0.5 if extent.height > extent.width else 0.2)
    pixels = (size[1], size[0]) if upright else size
    sine, cosine = abs(np.sin(azimuth)), abs(np.cos(azimuth))
    across = sine * extent.width + cosine * extent.depth
    part = random.uniform(0.42, 0.7) if random.random() < 0.18 else random.uniform(0.8, 1.08)
    distance = random.uniform(0.9, 1.7) * max(across, extent.height) + 0.5 * max(extent.width, extent.depth)
    eye = random.uniform(1.5, 1.9) if random.random() < 0.75 else random.uniform(3, 9)
    out = np.asarray([np.cos(azimuth), np.sin(azimuth), 0.0])
    centre = max(distance, 16.0) * out + [0, 0, eye]
    loose = max(0.0, 1 - part) * 0.5 + 0.06
    aside = np.asarray([-out[1], out[0], 0.0]) * random.uniform(-loose, loose) * across
    aim = extent.height * (0.46 + random.uniform(-1, 1) * max(0.04, (1 - part) * 0.3))
    target = aside + np.asarray([0, 0, aim])
    # The front of the building is nearer than its middle.
    near = np.linalg.norm(centre - target) - 0.4 * (cosine * extent.width + sine * extent.depth)
    need = max(across, extent.height * 1.05 * pixels[0] / pixels[1]) * part
    return look_at(centre, target, pixels[0] * max(float(near), 8.0) / need, pixels, float(random.normal(0, 0.02)))
