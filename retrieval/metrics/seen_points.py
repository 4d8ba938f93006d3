"""How many of a query's 3D points the first results see together; METHOD.md section 14."""

from __future__ import annotations

import numpy as np
from numba import njit


def count_seen(
    indptr: np.ndarray, point: np.ndarray, queries: np.ndarray, results: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Count the points of each query that its first results see: |P(q) ∩ ∪ P(r)| over the first 1, 2, … of them.

    Parameters
    ----------
    indptr, point : (n + 1,) int64, (m,) int64
        The points that each photo of a database observes, as CSR; a point may be there twice, and counts once.
    queries : (q,) int64
        Rows of the photos that ask.
    results : (q, K) int64
        Rows of the photos found for each, best first. A row that the CSR does not have, such as -1 or that of a
        distractor, sees nothing.

    Returns
    -------
    observed : (q,) int64
        |P(q)|.
    seen : (q, K) int64
        Column k - 1 is the count of the first k results; it never falls along a row.
    """
    seen = np.zeros(results.shape, np.int64)
    observed = np.zeros(len(queries), np.int64)
    marks = np.zeros(int(point.max(initial=-1)) + 1, np.int32)
    _count(indptr, point, queries, np.ascontiguousarray(results), marks, observed, seen)
    return observed, seen


@njit(nogil=True, cache=True)
def _count(
    indptr: np.ndarray,
    point: np.ndarray,
    queries: np.ndarray,
    results: np.ndarray,
    marks: np.ndarray,
    observed: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Time: the observations of every query and of its results. Memory: 4 bytes a point, whatever the queries are."""
    for row in range(len(queries)):
        # A mark of q + 1 is a point of query q that no result has seen yet, of -(q + 1) one that was seen.
        mine, own = np.int32(row + 1), queries[row]
        for at in range(indptr[own], indptr[own + 1]):
            if marks[point[at]] != mine:
                marks[point[at]] = mine
                observed[row] += 1
        found = 0
        for rank in range(results.shape[1]):
            other = results[row, rank]
            if 0 <= other < len(indptr) - 1:
                for at in range(indptr[other], indptr[other + 1]):
                    if marks[point[at]] == mine:
                        marks[point[at]] = -mine
                        found += 1
            seen[row, rank] = found


def count_attainable(indptr: np.ndarray, point: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Count the points of each query that any other photo of the database sees: what no ranking can exceed.

    Parameters
    ----------
    indptr, point, queries
        As of `count_seen`.

    Returns
    -------
    (q,) int64
    """
    count = int(point.max(initial=-1)) + 1
    observers, last = np.zeros(count, np.int32), np.full(count, -1, np.int32)
    _count_observers(indptr, point, observers, last)
    attainable = np.zeros(len(queries), np.int64)
    _count_shared(indptr, point, queries, observers, last, attainable)
    return attainable


@njit(nogil=True, cache=True)
def _count_observers(indptr: np.ndarray, point: np.ndarray, observers: np.ndarray, last: np.ndarray) -> None:
    """How many photos see each point, each once: the time of all observations."""
    for photo in range(len(indptr) - 1):
        for at in range(indptr[photo], indptr[photo + 1]):
            if last[point[at]] != photo:
                last[point[at]] = photo
                observers[point[at]] += 1


@njit(nogil=True, cache=True)
def _count_shared(
    indptr: np.ndarray,
    point: np.ndarray,
    queries: np.ndarray,
    observers: np.ndarray,
    last: np.ndarray,
    attainable: np.ndarray,
) -> None:
    """How many points of each query have two observers: the time of the queries' observations."""
    last[:] = -1
    for row in range(len(queries)):
        for at in range(indptr[queries[row]], indptr[queries[row] + 1]):
            if last[point[at]] != row:
                last[point[at]] = row
                attainable[row] += observers[point[at]] > 1
