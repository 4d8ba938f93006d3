"""Co-visibility of one model: shared points, scale change, viewing angle and axis angle of every pair that shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.covisibility.pair_loops import DISTANCE, LOG_SIZE, Sightings, pairs_of
from sfm2tuples.covisibility.tracks import tracks_of
from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.sparse_model import SparseModel

AT_THE_CAMERA = 1e-9
"""A point nearer to a camera than this share of its coordinates has no direction from there but rounding, and one whose
depth is below it has no depth: it is left out of the angle, and of the scale figure. The real data has such a point."""


@dataclass(frozen=True)
class Covisibility:
    """The graph of one model as CSR over its images: symmetric, neighbours rising, method.md section 2's figures."""

    indptr: np.ndarray
    """(n + 1,) int64, where each image's neighbours start."""
    neighbour: np.ndarray
    """(e,) int64, row of the other image within the model."""
    shared: np.ndarray
    """(e,) int32, shared points."""
    scale_change: np.ndarray
    """(e,) float32, geometric mean of the ratio of pixel sizes, >= 1; NaN where no shared point has one."""
    angle: np.ndarray
    """(e,) float32, mean over the shared points of the angle between the two camera centres, in radians; a point that
    coincides with a centre has none, and NaN stands where no shared point has one."""
    axis_angle: np.ndarray
    """(e,) float32, angle between the optical axes in radians."""
    observed: np.ndarray
    """(n,) int64, |P(i)|: different points that each image observes."""
    behind: int
    """Observations of a point that is not in front of its camera, but for rounding: left out of the scale figure."""
    without_focal_length: int
    """Images whose camera has no focal length: they have no scale figure."""


def covisibility(model: SparseModel, min_shared: int = 1, threads: int | None = None) -> Covisibility:
    """Compute the co-visibility graph of a model, by method.md section 2.

    A point that an image observes twice counts once. Each pair is summed once, in a fixed order, and mirrored, so
    both directions carry the same bits.

    Depth is along the optical axis for every camera. A fisheye camera has a focal length (pixels a radian along the
    axis) and is used like the others: its scale change is that of the middle of the photo, and points beyond 90
    degrees from the axis count as behind. An equirectangular camera has none, nor has any pair that it is part of.

    Parameters
    ----------
    model : SparseModel
    min_shared : int
        Pairs that share fewer points are left out as they are made.
    threads : int, optional
        By default `sfm2tuples.compute.threads.default_threads()`; the graph has the same bits for any number.

    Returns
    -------
    Covisibility
    """
    axes, centres, depth_offset = _camera_geometry(model.quaternions, model.translations)
    focal = focal_lengths(model)[model.image_cameras]
    tracks = tracks_of(model.observation_indptr, model.observation_points, len(model.points), threads)
    seen = np.empty((len(tracks.images), 2))
    log_focal = np.log(focal)

    def one_block(begin: int, end: int) -> int:
        told = tracks.starts, tracks.images, tracks.points, model.points, axes, depth_offset, centres, log_focal
        return _see(begin, end, *told, seen)

    behind = sum(over_blocks(one_block, tracks.starts, threads))
    pairs = pairs_of(tracks, min_shared, Sightings(seen, centres, axes), threads)
    return Covisibility(
        indptr=pairs.indptr,
        neighbour=pairs.neighbour,
        shared=pairs.shared,
        scale_change=pairs.figures[0],
        angle=pairs.figures[1],
        axis_angle=pairs.figures[2],
        observed=np.bincount(tracks.images, minlength=len(centres)),
        behind=int(behind),
        without_focal_length=int(np.isnan(focal).sum()),
    )


def focal_lengths(model: SparseModel) -> np.ndarray:
    """Mean focal length (fx + fy) / 2 of each camera in pixels: (c,) float64, NaN where the camera has none.

    A focal length that is not positive is none either.
    """
    start = model.camera_indptr[:-1]
    number = np.array([CAMERA_MODELS[i].num_focal for i in model.camera_models.tolist()], np.int64)
    focal = np.full(len(number), np.nan)
    some = number > 0
    # Focal lengths come first in every camera model: the last of one is the first again.
    focal[some] = (model.camera_params[start[some]] + model.camera_params[start[some] + number[some] - 1]) / 2
    focal[~(focal > 0)] = np.nan
    return focal


def _camera_geometry(quaternions: np.ndarray, translations: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Optical axes (n, 3) and centres (n, 3) in the world, and the offset (n,) of depth = axis . X + offset."""
    w, x, y, z = np.ascontiguousarray(quaternions.T)
    rotation = np.empty((len(quaternions), 3, 3))
    rotation[:, 0] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=1)
    rotation[:, 1] = np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=1)
    rotation[:, 2] = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)
    centres = -np.einsum("nij,ni->nj", rotation, translations)
    return np.ascontiguousarray(rotation[:, 2]), centres, np.ascontiguousarray(translations[:, 2])


@njit(nogil=True, cache=True)
def _see(begin, end, starts, images, points, xyz, axes, offsets, centres, log_focal, seen):  # type: ignore[no-untyped-def]
    """Fill the sightings of a block of points; gives how many have no depth before a camera with a focal length."""
    behind = 0
    for p in range(begin, end):
        x, y, z = xyz[points[p]]
        for k in range(starts[p], starts[p + 1]):
            i = images[k]
            depth = axes[i, 0] * x + axes[i, 1] * y + axes[i, 2] * z + offsets[i]
            a, b, c = centres[i, 0] - x, centres[i, 1] - y, centres[i, 2] - z
            distance = np.sqrt(a * a + b * b + c * c)
            away = AT_THE_CAMERA * (abs(x) + abs(y) + abs(z) + abs(a) + abs(b) + abs(c))
            if depth > away:
                seen[k, LOG_SIZE] = log_focal[i] - np.log(depth)
            else:
                seen[k, LOG_SIZE] = np.nan
                behind += log_focal[i] == log_focal[i]
            seen[k, DISTANCE] = distance if distance > away else np.nan
    return behind
