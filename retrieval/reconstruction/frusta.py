"""Which cameras of known poses may see the same thing: those whose viewing cones meet.

Nothing is known of the scene, so its depth is measured in distances between the two cameras: two photos taken `b` apart
that show a thing nearer than `NEAREST` times `b` differ by more than 40 degrees, where SIFT finds no match. Walls that
hide are not known either. Lens distortion is left out: cones need not be exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.reconstruction.cameras import PhotoCamera
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS, CAMERA_MODELS

NEAREST = 1.5
DEPTHS = (NEAREST, 3.0, 6.0, 12.0, 100.0)
"""Where along its rays a cone is looked at, in distances between the two cameras."""
GRID = 5
"""Rays a side of a picture."""
SHARE = 0.1
"""Cones meet where this share of one's rays, all at one depth, falls into the other's picture."""
LOOKED = 8
"""Of a photo's nearest cameras so many times the number wanted are looked at."""
FISHEYE = ("OPENCV_FISHEYE", "FOV", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE",
           "RAD_TAN_THIN_PRISM_FISHEYE", "SIMPLE_FISHEYE", "FISHEYE")  # fmt: skip
"""Cameras whose focal length is pixels a radian."""
AROUND = "EQUIRECTANGULAR"
_ENTRIES = 1 << 21


@dataclass(frozen=True)
class Views:
    """Pictures and where they were taken from."""

    rotations: np.ndarray
    """(n, 3, 3) float64, world to camera."""
    centres: np.ndarray
    """(n, 3) float64."""
    focal: np.ndarray
    """(n, 2) float64, pixels; of a fisheye pixels a radian."""
    middle: np.ndarray
    """(n, 2) float64, principal point in pixels."""
    size: np.ndarray
    """(n, 2) float64, pixels."""
    fisheye: np.ndarray
    """(n,) bool."""
    around: np.ndarray
    """(n,) bool: the picture shows every direction."""

    def __len__(self) -> int:
        """Number of views."""
        return len(self.centres)

    @classmethod
    def of(cls, quaternions: np.ndarray, translations: np.ndarray, cameras: Sequence[PhotoCamera]) -> Views:
        """Views of photos, by their poses, world to camera (quaternions wxyz), and cameras."""
        rotations = rotation_matrices(quaternions)
        focal, middle = np.ones((len(cameras), 2)), np.zeros((len(cameras), 2))
        for row, camera in enumerate(cameras):
            number = CAMERA_MODELS[CAMERA_MODEL_IDS[camera.model]].num_focal
            if number:
                focal[row] = camera.parameters[0], camera.parameters[number - 1]
                middle[row] = camera.parameters[number : number + 2]
        return cls(
            rotations,
            -np.einsum("nji,nj->ni", rotations, translations),
            focal,
            middle,
            np.array([(camera.width, camera.height) for camera in cameras], np.float64).reshape(-1, 2),
            np.array([camera.model in FISHEYE for camera in cameras], bool),
            np.array([camera.model == AROUND for camera in cameras], bool),
        )


def meeting_pairs(views: Views, count: int) -> np.ndarray:
    """Each view with the nearest others whose cones meet its own: O(n² log n), in blocks of bounded memory.

    Parameters
    ----------
    views : Views
    count : int
        How many for each; they are looked for among the `LOOKED` times as many nearest, of equal distances the first.

    Returns
    -------
    (k, 2) int64
        Pairs of rows, the lower first, each once, rising.
    """
    rays = _rays(views)
    looked = min(len(views) - 1, LOOKED * count)
    found = [np.zeros((0, 2), np.int64)]
    for first, second in _nearest(views.centres, looked):
        meet = np.concatenate(
            [
                np.zeros(0, bool),
                *(cones_meet(views, rays, first[some], second[some]) for some in _portions(len(first))),
            ]
        )
        # The block is in the order of each row's distances: of those that meet the first `count` of a row are kept.
        first, second = first[meet], second[meet]
        place = np.arange(len(first)) - np.searchsorted(first, first, side="left")
        found.append(np.stack([first, second], axis=1)[place < count])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def cones_meet(views: Views, rays: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether the cones of pairs of rows (m,), (m,) meet: (m,) bool; `rays` are those of all views."""
    apart = np.linalg.norm(views.centres[first] - views.centres[second], axis=1)
    depth = np.where(apart > 0, apart, 1.0)[:, None] * np.array(DEPTHS)
    one = _share(views, rays, first, second, depth)
    other = _share(views, rays, second, first, depth)
    return np.asarray(np.maximum(one, other).max(axis=1, initial=0.0) >= SHARE)


def rotation_matrices(quaternions: np.ndarray) -> np.ndarray:
    """Matrices (n, 3, 3) of unit quaternions wxyz (n, 4)."""
    w, x, y, z = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows, np.float64).transpose(2, 0, 1)


def _rays(views: Views) -> np.ndarray:
    """Directions of the middles of a grid of cells of each picture, in the world: (n, GRID², 3), of length 1."""
    steps = (np.arange(GRID) + 0.5) / GRID
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    xy = (grid * views.size[:, None] - views.middle[:, None]) / views.focal[:, None]
    plane = np.concatenate([xy, np.ones((*xy.shape[:2], 1))], axis=2)
    angle = np.linalg.norm(xy, axis=2, keepdims=True)
    side = np.divide(xy, angle, out=np.zeros_like(xy), where=angle > 0)
    dome = np.concatenate([side * np.sin(angle), np.cos(angle)], axis=2)
    turn, lift = 2 * np.pi * (grid[:, 0] - 0.5), np.pi * (0.5 - grid[:, 1])
    globe = np.stack([np.cos(lift) * np.sin(turn), -np.sin(lift), np.cos(lift) * np.cos(turn)], axis=1)
    own = np.where(views.fisheye[:, None, None], dome, plane)
    own = np.where(views.around[:, None, None], globe, own)
    own /= np.linalg.norm(own, axis=2, keepdims=True)
    return own @ views.rotations  # Rows times R are Rᵀ times columns: camera to world.


def _share(views: Views, rays: np.ndarray, one: np.ndarray, other: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Share of the rays of one view that lies in the other's picture, at each depth (m, d): (m, d) float64."""
    rotation = views.rotations[other].transpose(0, 2, 1)
    ray = (rays[one] @ rotation)[:, None]
    start = ((views.centres[one] - views.centres[other])[:, None] @ rotation)[:, None]
    x, y, z = np.moveaxis(start + depth[:, :, None, None] * ray, -1, 0)
    off = np.hypot(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        bent = np.where(off > 0, np.arctan2(off, z) / off, 0.0)
        scale = np.where(views.fisheye[other][:, None, None], bent, np.where(z > 0, 1 / z, np.nan))
    (fx, fy), (cx, cy), (width, height) = (
        column[other].T[:, :, None, None] for column in (views.focal, views.middle, views.size)
    )
    u, v = fx * x * scale + cx, fy * y * scale + cy
    inside = (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    return np.asarray((inside | views.around[other][:, None, None]).mean(axis=2))


def _nearest(centres: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of (row, one of its `count` nearest): rows rising, the nearest first, of equal distances the lower."""
    step = max(1, _ENTRIES // max(1, 3 * len(centres)))
    for start in range(0, len(centres) if count > 0 else 0, step):
        rows = np.arange(start, min(start + step, len(centres)))
        squares = np.square(centres[rows, None] - centres).sum(axis=2)
        squares[np.arange(len(rows)), rows] = np.inf
        order = np.argsort(squares, axis=1, kind="stable")[:, :count]
        yield np.repeat(rows, count), order.ravel()


def _portions(number: int) -> Iterator[slice]:
    step = max(1, _ENTRIES // (3 * len(DEPTHS) * GRID**2))
    yield from (slice(start, start + step) for start in range(0, number, step))
