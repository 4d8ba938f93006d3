"""Co-visibility of one model: shared points, scale change, viewing angle and axis angle of every pair that shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from sfm2tuples.columns import indptr_of
from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.sparse_model import SparseModel


@dataclass(frozen=True)
class Covisibility:
    """The graph of one model as CSR over its images: symmetric, neighbours rising, METHOD.md section 2's figures."""

    indptr: np.ndarray
    """(n + 1,) int64, where each image's neighbours start."""
    neighbour: np.ndarray
    """(e,) int64, row of the other image within the model."""
    shared: np.ndarray
    """(e,) int32, shared points."""
    scale_change: np.ndarray
    """(e,) float32, geometric mean of the ratio of pixel sizes, >= 1; NaN where no shared point has one."""
    angle: np.ndarray
    """(e,) float32, mean over the shared points of the angle between the two camera centres, in radians."""
    axis_angle: np.ndarray
    """(e,) float32, angle between the optical axes in radians."""
    behind: int
    """Observations of a point that is not in front of its camera: left out of the scale figure."""
    without_focal_length: int
    """Images whose camera has no focal length: they have no scale figure."""


def covisibility(model: SparseModel, min_shared: int = 1) -> Covisibility:
    """Compute the co-visibility graph of a model, by METHOD.md section 2.

    A point that an image observes twice counts once. Each pair is summed once, in a fixed order, and mirrored, so
    both directions carry the same bits.

    Parameters
    ----------
    model : SparseModel
    min_shared : int
        Pairs that share fewer points are left out as they are made.

    Returns
    -------
    Covisibility
    """
    axes, centres, depth_offset = _camera_geometry(model.quaternions, model.translations)
    focal = focal_lengths(model)[model.image_cameras]
    indptr, points = model.observation_indptr, model.observation_points
    track_indptr, track_image = _transpose(indptr, points, len(model.points))
    size, direction = _seen_from(track_indptr, track_image, model.points, axes, depth_offset, centres, np.log(focal))
    first, second, shared, sums = _pairs(
        indptr, points, track_indptr, track_image, size, direction, max(1, int(min_shared))
    )
    edges, neighbour, pair = _mirror(first, second, len(indptr) - 1)
    scale_change, angle = _means(sums)
    axis_angle = _angle_between(axes[first], axes[second])
    without = np.isnan(focal)
    return Covisibility(
        indptr=edges,
        neighbour=neighbour,
        shared=shared[pair],
        scale_change=scale_change[pair],
        angle=angle[pair],
        axis_angle=axis_angle[pair],
        behind=int(np.isnan(size[~without[track_image]]).sum()),
        without_focal_length=int(without.sum()),
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


def _means(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale change and mean angle of each pair from its four sums; NaN where nothing was summed."""
    log_ratio, num_ratios, angle, num_angles = sums.T
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scale_change = np.exp(np.abs(log_ratio / num_ratios)).astype(np.float32)
        return scale_change, (angle / num_angles).astype(np.float32)


def _angle_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between rows: exact for parallel and opposite directions, where an arc cosine is not."""
    sine = np.linalg.norm(np.cross(a, b), axis=1)
    return np.arctan2(sine, (a * b).sum(axis=1)).astype(np.float32)


def _mirror(first: np.ndarray, second: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CSR of both directions from pairs first < second in rising order, and the pair that each edge comes from."""
    indptr = indptr_of(np.bincount(first, minlength=n) + np.bincount(second, minlength=n))
    neighbour, pair = _fill_both_ways(first, second, indptr)
    return indptr, neighbour, pair


@njit(cache=True)
def _transpose(indptr, points, num_points):  # type: ignore[no-untyped-def]
    """CSR point -> images, rising, doubles removed by a mark of the last image. O(observations + points)."""
    n = len(indptr) - 1
    last = np.full(num_points, -1, np.int64)
    starts = np.zeros(num_points + 1, np.int64)
    for i in range(n):
        for k in range(indptr[i], indptr[i + 1]):
            p = points[k]
            if last[p] != i:
                last[p] = i
                starts[p + 1] += 1
    starts = np.cumsum(starts)
    images = np.empty(starts[-1], np.int64)
    cursor = starts[:-1].copy()
    last[:] = -1
    for i in range(n):
        for k in range(indptr[i], indptr[i + 1]):
            p = points[k]
            if last[p] != i:
                last[p] = i
                images[cursor[p]] = i
                cursor[p] += 1
    return starts, images


@njit(cache=True)
def _seen_from(starts, images, xyz, axes, offsets, centres, log_focal):  # type: ignore[no-untyped-def]
    """For each entry of the tracks: log(focal / depth), NaN where there is none, and the direction to the camera."""
    size = np.full(len(images), np.nan)
    direction = np.full((len(images), 3), np.nan)
    for p in range(len(starts) - 1):
        x, y, z = xyz[p, 0], xyz[p, 1], xyz[p, 2]
        for k in range(starts[p], starts[p + 1]):
            i = images[k]
            depth = axes[i, 0] * x + axes[i, 1] * y + axes[i, 2] * z + offsets[i]
            if depth > 0:
                size[k] = log_focal[i] - np.log(depth)
            a, b, c = centres[i, 0] - x, centres[i, 1] - y, centres[i, 2] - z
            length = np.sqrt(a * a + b * b + c * c)
            if length > 0:
                direction[k, 0], direction[k, 1], direction[k, 2] = a / length, b / length, c / length
    return size, direction


@njit(cache=True)
def _pairs(indptr, points, starts, images, size, direction, min_shared):  # type: ignore[no-untyped-def]
    """Pairs i < j that share a point, rising, with the number of points and four sums: log ratios, angles, counts.

    Time O(sum of squared track lengths); memory O(observations + pairs). Nothing is quadratic in the images: each
    image's counters are dense, and only those that it touched are read and cleared.
    """
    n = len(indptr) - 1
    last = np.full(len(starts) - 1, -1, np.int64)
    cursor = starts[:-1].copy()
    count = np.zeros(n, np.int32)
    sums = np.zeros((n, 4))
    touched = np.empty(n, np.int64)
    capacity, made = 1024, 0
    pair = np.empty((capacity, 2), np.int64)
    pair_count = np.empty(capacity, np.int32)
    pair_sums = np.empty((capacity, 4))
    for i in range(n):
        num_touched = 0
        for k in range(indptr[i], indptr[i + 1]):
            p = points[k]
            if last[p] == i:
                continue
            last[p] = i
            own = cursor[p]
            cursor[p] += 1
            for other in range(own + 1, starts[p + 1]):
                j = images[other]
                if count[j] == 0:
                    touched[num_touched] = j
                    num_touched += 1
                count[j] += 1
                _add(sums[j], size[other] - size[own], direction[own], direction[other])
        if made + num_touched > capacity:
            capacity = 2 * (made + num_touched)
            pair = _grown(pair, made, capacity)
            pair_count = _grown(pair_count, made, capacity)
            pair_sums = _grown(pair_sums, made, capacity)
        for j in np.sort(touched[:num_touched]):
            if count[j] >= min_shared:
                pair[made, 0], pair[made, 1], pair_count[made] = i, j, count[j]
                pair_sums[made] = sums[j]
                made += 1
            count[j] = 0
            sums[j] = 0
    return pair[:made, 0].copy(), pair[:made, 1].copy(), pair_count[:made].copy(), pair_sums[:made].copy()


@njit(cache=True, inline="always")
def _add(sums, log_ratio, u, v):  # type: ignore[no-untyped-def]
    """Add one shared point; half the chord of two unit vectors is the sine of half their angle, exact where small."""
    if log_ratio == log_ratio:
        sums[0] += log_ratio
        sums[1] += 1
    a, b, c = u[0] - v[0], u[1] - v[1], u[2] - v[2]
    half = 0.5 * np.sqrt(a * a + b * b + c * c)
    if half == half:
        sums[2] += 2 * np.arcsin(min(1.0, half))
        sums[3] += 1


@njit(cache=True)
def _grown(array, used, capacity):  # type: ignore[no-untyped-def]
    """A longer copy of an array's used part."""
    longer = np.empty((capacity, *array.shape[1:]), array.dtype)
    longer[:used] = array[:used]
    return longer


@njit(cache=True)
def _fill_both_ways(first, second, indptr):  # type: ignore[no-untyped-def]
    """Rising neighbours: by the time image i is `first`, all lower ones have put themselves in its row."""
    cursor = indptr[:-1].copy()
    neighbour = np.empty(indptr[-1], np.int64)
    pair = np.empty(indptr[-1], np.int64)
    for k in range(len(first)):
        for here, there in ((first[k], second[k]), (second[k], first[k])):
            neighbour[cursor[here]] = there
            pair[cursor[here]] = k
            cursor[here] += 1
    return neighbour, pair
