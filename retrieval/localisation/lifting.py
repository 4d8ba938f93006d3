"""From keypoints of a photo to the 3D points of its model: by the observation nearest to each."""

from __future__ import annotations

import numpy as np
from numba import njit


def nearest_observations(keypoints: np.ndarray, xy: np.ndarray, most: float) -> np.ndarray:
    """Find the observation nearest to each keypoint.

    Parameters
    ----------
    keypoints : (m, 2) float
        Pixels of the camera.
    xy : (k, 2) float
        Where an image sees points, in the same pixels; NaN where that is not known.
    most : float
        Pixels that they may be apart.

    Returns
    -------
    (m,) int64
        Rows of `xy`, the lowest of equally near ones; -1 where none is near enough.
    """
    found = np.full(len(keypoints), -1, np.int64)
    known = np.flatnonzero(np.isfinite(xy).all(axis=1))
    if not len(known) or not len(keypoints):
        return found
    at = np.asarray(xy[known], np.float64)
    # Cells as wide as the reach: what is near a keypoint is in its own cell or in one of the eight around it.
    low = at.min(axis=0)
    cells = np.floor((at - low) / most).astype(np.int64)
    wide, high = (cells.max(axis=0) + 1).tolist()
    cell = cells[:, 1] * wide + cells[:, 0]
    order = np.argsort(cell, kind="stable")
    _nearest(np.asarray(keypoints, np.float64), at[order], cell[order], low, most, wide, high, order, found)
    return np.where(found >= 0, known[found], -1)


@njit(nogil=True, cache=True)
def _nearest(
    keypoints: np.ndarray,
    at: np.ndarray,
    cell: np.ndarray,
    low: np.ndarray,
    most: float,
    wide: int,
    high: int,
    order: np.ndarray,
    found: np.ndarray,
) -> None:
    """Time: for each keypoint three searches among the sorted cells, and the observations of nine cells."""
    for row in range(len(keypoints)):
        across = int(np.floor((keypoints[row, 0] - low[0]) / most))
        down = int(np.floor((keypoints[row, 1] - low[1]) / most))
        best = most * most
        for line in range(max(down - 1, 0), min(down + 2, high)):
            left, right = max(across - 1, 0), min(across + 1, wide - 1)
            if left > right:
                continue
            start = np.searchsorted(cell, line * wide + left)
            for one in range(start, len(cell)):
                if cell[one] > line * wide + right:
                    break
                far = (keypoints[row, 0] - at[one, 0]) ** 2 + (keypoints[row, 1] - at[one, 1]) ** 2
                if far < best or (far == best and (found[row] < 0 or order[one] < found[row])):
                    best, found[row] = far, order[one]
