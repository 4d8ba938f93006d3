"""Where two images see the points that both observe: the pixels behind a pair's number of shared points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.index.answers import ObservedPoints
from sfm2tuples.index.opened import OpenedIndex


@dataclass(frozen=True)
class SharedObservations:
    """The points that two images of a model both observe, each once."""

    point: np.ndarray
    """(s,) int64, rows of the points, rising."""
    first: np.ndarray
    """(s, 2) float32, where the one image sees them, in pixels of its camera; NaN where the model does not say."""
    second: np.ndarray
    """(s, 2) float32, likewise for the other."""


def shared_observations(index: OpenedIndex, first: int | str, second: int | str) -> SharedObservations:
    """Find the points that two images both observe, and where each sees them.

    Of a point that an image observes twice, the first observation counts whose place is known. Images of two models
    share no point.

    Parameters
    ----------
    index : OpenedIndex
    first, second : int or str
        Row or key of the images.

    Returns
    -------
    SharedObservations
        As many as the co-visibility graph counts for the pair.

    Raises
    ------
    DataError
        The index is lean, or has no image of that key.

    Examples
    --------
    >>> with open_index("index.h5") as index:                             # doctest: +SKIP
    ...     seen = shared_observations(index, 0, 1)
    """
    (point, xy), (other_point, other_xy) = (_each_once(index.points_of(image)) for image in (first, second))
    both, at, other_at = np.intersect1d(point, other_point, assume_unique=True, return_indices=True)
    return SharedObservations(both, xy[at], other_xy[other_at])


def _each_once(seen: ObservedPoints) -> tuple[np.ndarray, np.ndarray]:
    """Points of an image, rising, and one place of each."""
    is_unknown = ~np.isfinite(seen.xy).all(axis=1)
    order = np.lexsort((is_unknown, seen.point))  # stable: of a point's observations the first known one leads
    point, leads = np.unique(seen.point[order], return_index=True)
    return point, seen.xy[order][leads]
