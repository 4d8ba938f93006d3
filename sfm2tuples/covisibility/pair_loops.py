"""Pairs of images that share points: the compiled loop over tracks, blocks of images in threads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.covisibility.tracks import Tracks
from sfm2tuples.files.columns import indptr_of

LOG_SIZE, DISTANCE = 0, 1
"""Columns of `Sightings.seen`."""
BASE, RATIOS, NUM_RATIOS, ANGLES, NUM_ANGLES = 0, 1, 2, 3, 4
"""What is summed for the neighbours of an image: squared distance of the centres, log ratios, angles, their counts."""


@dataclass(frozen=True)
class Sightings:
    """What the figures of a pair are made from."""

    seen: np.ndarray
    """(t, 2) float64 beside `Tracks.images`: log(focal length / depth) and distance of the point; NaN where none."""
    centres: np.ndarray
    """(n, 3) float64, where the cameras stand."""
    axes: np.ndarray
    """(n, 3) float64, optical axes, of length 1."""


@dataclass(frozen=True)
class CovisiblePairs:
    """Pairs of images in both directions, as CSR: the same figures stand in both rows."""

    indptr: np.ndarray
    """(n + 1,) int64, where each image's neighbours start."""
    neighbour: np.ndarray
    """(e,) int64, rising within an image."""
    shared: np.ndarray
    """(e,) int32, shared points."""
    figures: np.ndarray
    """(3, e) float32: scale change, mean angle, axis angle; (3, 0) where only points were counted."""


def pairs_of(
    tracks: Tracks, min_shared: int, sightings: Sightings | None, threads: int | None = None
) -> CovisiblePairs:
    """Count the shared points of every pair that has some, and sum up its figures where there are sightings.

    Time O(sum of squared track lengths); memory O(observations + pairs), and some numbers an image for each block.

    Parameters
    ----------
    tracks : Tracks
    min_shared : int
        Pairs that share fewer points are left out as they are made.
    sightings : Sightings or None
        None: only shared points are counted.
    threads : int, optional
        Threads to work in; they change nothing but the time, since one thread sums each pair.

    Returns
    -------
    CovisiblePairs
    """
    t, s = tracks, sightings
    seen, centres, axes = (None, None, None) if s is None else (s.seen, s.centres, s.axes)

    def one_block(begin: int, end: int) -> tuple[np.ndarray, ...]:
        return _pairs_of_block(
            begin, end, t.indptr, t.track, t.slots, t.starts, t.images, seen, centres, axes, max(1, min_shared)
        )

    blocks = over_blocks(one_block, t.indptr, threads)
    counts, second, shared, figures = (np.concatenate(column) for column in zip(*blocks, strict=True))
    del blocks
    first = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    indptr = indptr_of(counts + np.bincount(second, minlength=len(counts)))
    neighbour, pair = _both_ways(first, second, indptr)
    both = np.empty((3, len(pair) if s is not None else 0), np.float32)
    for row in range(3 if s is not None else 0):
        both[row] = figures[row::3][pair]
    return CovisiblePairs(indptr, neighbour, shared[pair], both)


@njit(nogil=True, cache=True)
def _pairs_of_block(  # type: ignore[no-untyped-def]
    begin, end, indptr, track, slots, starts, images, seen, centres, axes, min_shared
):
    """Pairs i < j of the images i of a block: how many of each i; j, shared points and three figures of each pair.

    Nothing is quadratic in the images: an image's counters are dense, and only those that it touched are read and
    cleared. What depends on `seen` is left out by the compiler where it is None.
    """
    n = len(indptr) - 1
    count = np.zeros(n, np.int32)
    sums = np.zeros((n if seen is not None else 0, 5))
    touched = np.empty(n, np.int32)
    made = 0
    made_by = np.zeros(end - begin, np.int64)
    second, shared, figures = np.empty(1024, np.int32), np.empty(1024, np.int32), np.empty(3 * 1024, np.float32)
    for i in range(begin, end):
        num_touched = 0
        for k in range(indptr[i], indptr[i + 1]):
            own = slots[k]
            if own < 0:
                continue
            for other in range(own + 1, starts[track[k] + 1]):
                j = images[other]
                if count[j] == 0:
                    touched[num_touched] = j
                    num_touched += 1
                    if seen is not None:
                        _start(sums, j, centres, i)
                count[j] += 1
                if seen is not None:
                    _add(sums, j, seen, own, other)
        if made + num_touched > len(second):
            capacity = 2 * (made + num_touched)
            second, shared = _grown(second, made, capacity), _grown(shared, made, capacity)
            if seen is not None:
                figures = _grown(figures, 3 * made, 3 * capacity)
        before = made
        for place in range(num_touched):
            j = touched[place]
            if count[j] >= min_shared:
                second[made], shared[made] = j, count[j]
                if seen is not None:
                    _finish(figures, 3 * made, sums, j, axes, i)
                made += 1
            count[j] = 0
        made_by[i - begin] = made - before
    num_figures = 3 * made if seen is not None else 0
    return made_by, second[:made].copy(), shared[:made].copy(), figures[:num_figures].copy()


@njit(nogil=True, cache=True)
def _grown(array, used, capacity):  # type: ignore[no-untyped-def]
    """A longer copy of an array's used part, number by number: to assign a slice takes seconds to compile."""
    longer = np.empty(capacity, array.dtype)
    for place in range(used):
        longer[place] = array[place]
    return longer


@njit(cache=True, inline="always")
def _start(sums, j, centres, i):  # type: ignore[no-untyped-def]
    a, b, c = centres[j, 0] - centres[i, 0], centres[j, 1] - centres[i, 1], centres[j, 2] - centres[i, 2]
    for number in range(sums.shape[1]):
        sums[j, number] = 0
    sums[j, BASE] = a * a + b * b + c * c


@njit(cache=True, inline="always")
def _add(sums, j, seen, own, other):  # type: ignore[no-untyped-def]
    """Add one shared point.

    The sine of half its angle comes from the sides of the triangle of both centres and the point: one number a
    sighting is enough, and it is exact for small angles, where the law of cosines is not.
    """
    ratio = seen[other, LOG_SIZE] - seen[own, LOG_SIZE]
    if ratio == ratio:
        sums[j, RATIOS] += ratio
        sums[j, NUM_RATIOS] += 1
    a, b = seen[own, DISTANCE], seen[other, DISTANCE]
    square = (sums[j, BASE] - (a - b) * (a - b)) / (4 * a * b)
    if square == square:
        sums[j, ANGLES] += 2 * _arcsin_of_root(min(1.0, max(0.0, square)))
        sums[j, NUM_ANGLES] += 1


@njit(cache=True, inline="always")
def _arcsin_of_root(square):  # type: ignore[no-untyped-def]
    """Arc sine of the root of a number from 0 to 1, to 3e-10 of it, at a fifth of the cost of the exact one.

    Up to a half, by the polynomial through the Chebyshev nodes of arcsin(x) / x over x^2; above, by the half angle.
    """
    near = square <= 0.25
    z = square if near else 0.5 - 0.5 * np.sqrt(square)
    p = 0.044508709472211194 + z * (0.031857189096626805 + z * (0.014295255316288355 + z * 0.037677139309900146))
    arc = np.sqrt(z) * (1.0000000002307785 + z * (0.16666657639572235 + z * (0.07500571381184176 + z * p)))
    return arc if near else 0.5 * np.pi - 2 * arc


@njit(cache=True, inline="always")
def _finish(figures, at, sums, j, axes, i):  # type: ignore[no-untyped-def]
    """Scale change, mean angle and axis angle of a pair; the first two are NaN where nothing was summed."""
    ratios, angles = sums[j, NUM_RATIOS], sums[j, NUM_ANGLES]
    figures[at] = np.exp(np.abs(sums[j, RATIOS] / ratios)) if ratios > 0 else np.nan
    figures[at + 1] = sums[j, ANGLES] / angles if angles > 0 else np.nan
    u, v = axes[i], axes[j]
    a, b, c = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
    # Exact for parallel and opposite directions, where an arc cosine is not.
    figures[at + 2] = np.arctan2(np.sqrt(a * a + b * b + c * c), u[0] * v[0] + u[1] * v[1] + u[2] * v[2])


@njit(nogil=True, cache=True)
def _both_ways(first, second, indptr):  # type: ignore[no-untyped-def]
    """Neighbours in both directions and the pair of each, rising though the second images of a first one are not.

    `first` rises, so lower neighbours come into each row in order; read row by row, they put the higher ones in order.
    """
    cursor = indptr[:-1].copy()
    neighbour = np.empty(indptr[-1], np.int64)
    pair = np.empty(indptr[-1], np.int64)
    for k in range(len(first)):
        at = cursor[second[k]]
        neighbour[at], pair[at] = first[k], k
        cursor[second[k]] += 1
    ends = cursor.copy()
    for j in range(len(ends)):
        for low in range(indptr[j], ends[j]):
            i = neighbour[low]
            neighbour[cursor[i]], pair[cursor[i]] = j, pair[low]
            cursor[i] += 1
    return neighbour, pair
