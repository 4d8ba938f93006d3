"""Tracks of a model: which images see each point, from which points each image sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.files.columns import indptr_of


@dataclass(frozen=True)
class Tracks:
    """The observations of a model from both sides. A point that an image observes twice is in its track once.

    Tracks are in the order in which the images meet them, so that what one image needs lies together in memory,
    however the points are numbered: this makes the loops over them several times faster.
    """

    indptr: np.ndarray
    """(n + 1,) int64, where each image's observations start."""
    track: np.ndarray
    """(m,) int32, the track of each observation."""
    slots: np.ndarray
    """(m,) int32, each observation's place in `images`; -1 for the second one of the same point."""
    starts: np.ndarray
    """(t + 1,) int32, where each track's images start."""
    images: np.ndarray
    """(s,) uint32, the images of each track, rising; unsigned, so that compiled loops need not care for negative rows.

    All int32 columns are int64 where a model has 2^31 observations or more."""
    points: np.ndarray
    """(t,) row of each track's point in the model."""


def tracks_of(indptr: np.ndarray, points: np.ndarray, num_points: int, threads: int | None = None) -> Tracks:
    """Turn image -> points into point -> images, each pair once: O(observations + points).

    Parameters
    ----------
    indptr : np.ndarray
        (n + 1,) int64, where each image's observations start.
    points : np.ndarray
        (m,) int64, row of the observed point.
    num_points : int
    threads : int, optional
        See `sfm2tuples.compute.threads.over_blocks`; changes nothing but the time.

    Returns
    -------
    Tracks
    """
    dtype = np.int32 if len(points) < 2**31 else np.int64
    track, slots = np.empty(len(points), dtype), np.empty(len(points), dtype)
    rows, lengths = np.empty((2, min(num_points, len(points))), dtype)
    seen = _number(indptr, points, np.full(num_points, -1, dtype), track, slots, rows, lengths)
    starts = indptr_of(lengths[:seen]).astype(dtype)
    images = np.empty(int(starts[-1]), np.uint32)
    over_blocks(lambda a, b: _fill(a, b, indptr, track, starts, slots, images), indptr, threads)
    return Tracks(indptr, track, slots, starts, images, rows[:seen])


@njit(nogil=True, cache=True)
def _number(indptr, points, number, track, slots, rows, lengths):  # type: ignore[no-untyped-def]
    """Number the tracks as they are met, and the images of each; gives how many tracks there are.

    A mark of the last image of each track finds the second observation of a point by one image.
    """
    last = np.empty(len(rows), np.int32)
    seen = 0
    for i in range(len(indptr) - 1):
        for k in range(indptr[i], indptr[i + 1]):
            t = number[points[k]]
            if t < 0:
                t = number[points[k]] = seen
                rows[t], lengths[t], last[t] = points[k], 0, -1
                seen += 1
            track[k] = t
            if last[t] == i:
                slots[k] = -1
            else:
                last[t] = i
                slots[k] = lengths[t]
                lengths[t] += 1
    return seen


@njit(nogil=True, cache=True)
def _fill(begin, end, indptr, track, starts, slots, images):  # type: ignore[no-untyped-def]
    """Put a block of images into the tracks; no two observations have the same slot."""
    for i in range(begin, end):
        for k in range(indptr[i], indptr[i + 1]):
            if slots[k] >= 0:
                slots[k] += starts[track[k]]
                images[slots[k]] = i
