"""How far two poses are apart, and at which rank a result is within thresholds of it."""

from __future__ import annotations

import numpy as np


def centre_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distances of camera centres, in units of the poses' world.

    Parameters
    ----------
    one, other : (..., 3, 4) float64
        World-to-camera poses [R | t] of one world.

    Returns
    -------
    (...) float64
    """
    distances: np.ndarray = np.linalg.norm(_centres(one) - _centres(other), axis=-1)
    return distances


def rotation_angles(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Angles of the rotations between poses, in radians, 0 to pi; exact for small ones too.

    Parameters
    ----------
    one, other : (..., 3, 4) or (..., 3, 3) float64

    Returns
    -------
    (...) float64
    """
    # The Frobenius norm of a difference of rotations is 2 sqrt(2) sin(angle / 2).
    apart = np.linalg.norm(one[..., :3] - other[..., :3], axis=(-2, -1))
    angles: np.ndarray = 2 * np.arcsin(np.minimum(apart / np.sqrt(8), 1))
    return angles


def first_within(
    query: np.ndarray, rank: np.ndarray, within: np.ndarray, num_queries: int, never: int = -1
) -> np.ndarray:
    """The best rank at which a query has a result within some thresholds.

    Parameters
    ----------
    query, rank : (m,) int64
        Of each pair of a query and a result.
    within : (m, T) bool
        Whether it is within each threshold.
    num_queries : int
    never : int
        What stands where no result is.

    Returns
    -------
    (q, T) int64
    """
    beyond = np.iinfo(np.int64).max
    best = np.full((num_queries, within.shape[1]), beyond)
    for column in range(within.shape[1]):
        right = within[:, column]
        np.minimum.at(best[:, column], query[right], rank[right])
    return np.where(best == beyond, never, best)


def _centres(poses: np.ndarray) -> np.ndarray:
    return -np.einsum("...ij,...i->...j", poses[..., :3], poses[..., 3])
