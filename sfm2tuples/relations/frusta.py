"""Where each image of a model looks, how deep it sees, and the points that stand for all that it observes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.relations.pictures import Pictures, pictures_of

LEAST_POINTS = 15
"""An image with fewer points before it takes no part. [method.md section 12]"""
SAMPLE = 100
"""Points that stand for those of an image. [method.md section 12]"""
REACH = 3.0
"""A camera sees as far as so many times the 90th percentile of its points' depths. [method.md section 12]"""


@dataclass(frozen=True)
class Frusta:
    """What the images of a model see, and some points of each."""

    rotation: np.ndarray
    """(n, 3, 3) float64, world to camera."""
    translation: np.ndarray
    """(n, 3) float64, world to camera."""
    box: np.ndarray
    """(n, 4) float64, as `Pictures.box`, by image."""
    is_wide: np.ndarray
    """(n,) bool, likewise."""
    reach: np.ndarray
    """(n,) float64, the largest depth at which something counts as seen; NaN where nothing is before the camera."""
    median: np.ndarray
    """(n,) float64, median depth of the image's points; NaN likewise."""
    takes_part: np.ndarray
    """(n,) bool, whether the image has a picture and at least `LEAST_POINTS` points before it."""
    sample: np.ndarray
    """(n, SAMPLE) int64, rows of different points that the image observes; -1 behind the last one."""
    observed: np.ndarray
    """(n,) int64, |P(i)|: different points that the image observes."""

    @property
    def size(self) -> np.ndarray:
        """(n,) int64, how many points stand for those of the image."""
        return np.minimum(self.observed, SAMPLE)

    @property
    def centre(self) -> np.ndarray:
        """(n, 3) float64, where the cameras stand."""
        centres: np.ndarray = -np.einsum("nij,ni->nj", self.rotation, self.translation)
        return centres


def frusta_of(model: SparseModel, threads: int | None = None) -> Frusta:
    """What the images of a model see: O(observations) time, memory O(images + points) beside the model.

    Depth is along the optical axis; for a wide camera (a fisheye) it is the distance from its centre. Points that are
    not before a camera have no depth there. A point that an image observes twice counts once. The sample is drawn
    evenly from the different points in the order of the image's observations, so it is the same in every run.

    Parameters
    ----------
    model : SparseModel
    threads : int, optional
        See `sfm2tuples.compute.threads.over_blocks`; changes nothing but the time.

    Returns
    -------
    Frusta
    """
    pictures: Pictures = pictures_of(model.camera_models, model.camera_sizes, model.camera_indptr, model.camera_params)
    box, is_wide = pictures.box[model.image_cameras], pictures.is_wide[model.image_cameras]
    rotation, n = rotations_of(model.quaternions), len(model.image_names)
    reach, median = np.full(n, np.nan), np.full(n, np.nan)
    sample, observed, in_front = np.full((n, SAMPLE), -1, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    indptr, points, xyz = model.observation_indptr, model.observation_points, model.points
    translation = np.ascontiguousarray(model.translations)

    def one_block(begin: int, end: int) -> None:
        seen = (indptr, points, xyz, rotation, translation, is_wide)
        _look(begin, end, *seen, reach, median, sample, observed, in_front)

    over_blocks(one_block, indptr, threads)
    takes_part = (in_front >= LEAST_POINTS) & np.isfinite(box).all(axis=1)
    return Frusta(rotation, translation, box, is_wide, reach, median, takes_part, sample, observed)


def rotations_of(quaternions: np.ndarray) -> np.ndarray:
    """World-to-camera rotations (n, 3, 3) float64 of normalised quaternions (n, 4), wxyz."""
    w, x, y, z = np.ascontiguousarray(quaternions.T)
    rotation = np.empty((len(quaternions), 3, 3))
    rotation[:, 0] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=1)
    rotation[:, 1] = np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=1)
    rotation[:, 2] = np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1)
    return rotation


@njit(nogil=True, cache=True)
def _look(  # type: ignore[no-untyped-def]
    begin, end, indptr, points, xyz, rotation, translation, is_wide, reach, median, sample, observed, in_front
):
    """Fill the last five for a block of images. A mark of the last image of each point finds its second observation."""
    last = np.full(len(xyz), -1, np.int32)
    longest = 0
    for i in range(begin, end):
        longest = max(longest, indptr[i + 1] - indptr[i])
    own, depth = np.empty(longest, np.int64), np.empty(longest)
    for i in range(begin, end):
        different, before = 0, 0
        r, t = rotation[i], translation[i]
        for k in range(indptr[i], indptr[i + 1]):
            p = points[k]
            if last[p] == i:
                continue
            last[p] = i
            own[different] = p
            different += 1
            z = r[2, 0] * xyz[p, 0] + r[2, 1] * xyz[p, 1] + r[2, 2] * xyz[p, 2] + t[2]
            if is_wide[i]:
                x = r[0, 0] * xyz[p, 0] + r[0, 1] * xyz[p, 1] + r[0, 2] * xyz[p, 2] + t[0]
                y = r[1, 0] * xyz[p, 0] + r[1, 1] * xyz[p, 1] + r[1, 2] * xyz[p, 2] + t[1]
                z = np.sqrt(x * x + y * y + z * z)
            if z > 0:
                depth[before] = z
                before += 1
        observed[i], in_front[i] = different, before
        size = min(different, sample.shape[1])
        for s in range(size):
            sample[i, s] = own[s * different // size]
        if before > 0:
            # Of the two depths beside the percentile the larger one: what counts as seen is then more, not less.
            reach[i] = REACH * _smallest(depth, before, (9 * (before - 1) + 9) // 10)
            upper = _smallest(depth, before, before // 2)
            median[i] = upper if before % 2 else (_smallest(depth, before, before // 2 - 1) + upper) / 2


@njit(nogil=True, cache=True)
def _smallest(values, count, rank):  # type: ignore[no-untyped-def]
    """The value of a rank, from 0, among the first `count`, whose order changes: Hoare's selection, O(count) mostly."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]
