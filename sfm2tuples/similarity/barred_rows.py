"""Rows of a pool that single queries may not be given: whole kins of rows by their labels, and rows one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from sfm2tuples.files.columns import gather_rows


@dataclass(frozen=True)
class BarredRows:
    """Which rows of a pool are barred for which query.

    A home is two labels, a place and a fragment of it. A row of the query's place is barred where the two fragments
    differ or are not known. What is barred besides is named row by row.
    """

    query_home: np.ndarray
    """(q, 2) int64, place and fragment of each query; -1 where there is none."""
    pool_home: np.ndarray
    """(s, 2) int64, likewise of each row of the pool."""
    indptr: np.ndarray
    """(q + 1,) int64, where the barred rows of each query start."""
    row: np.ndarray
    """(u,) int64, rows of the pool, rising within a query."""

    @classmethod
    def none(cls, queries: int, pool: int) -> BarredRows:
        """Nothing is barred."""
        asking, searched = (np.full((count, 2), -1, np.int64) for count in (queries, pool))
        return cls(asking, searched, np.zeros(queries + 1, np.int64), np.zeros(0, np.int64))

    def of_queries(self, some: np.ndarray) -> BarredRows:
        """What is barred for some of the queries."""
        indptr, position = gather_rows(self.indptr, some)
        return BarredRows(self.query_home[some], self.pool_home, indptr, self.row[position])

    def mask(self, query: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Whether each of some rows is barred for each of some queries.

        Parameters
        ----------
        query, row : (k,), (b,) int64
            Queries, and rows of the pool.

        Returns
        -------
        (k, b) bool
        """
        return _mask(query, row, self.query_home, self.pool_home[row], self.indptr, self.row)


@numba.njit(cache=True, nogil=True)
def is_barred(query_home, row_home, row, barred):  # type: ignore[no-untyped-def]
    """Whether a row of the pool is barred for a query: O(log of the rows named for it)."""
    if row_home[0] >= 0 and row_home[0] == query_home[0] and (row_home[1] < 0 or row_home[1] != query_home[1]):
        return True
    first, end = 0, len(barred)
    while first < end:
        middle = (first + end) // 2
        if barred[middle] < row:
            first = middle + 1
        else:
            end = middle
    return first < len(barred) and barred[first] == row


@numba.njit(cache=True, nogil=True)
def _mask(query, row, query_home, row_home, indptr, barred):  # type: ignore[no-untyped-def]
    mask = np.empty((len(query), len(row)), np.bool_)
    for i in range(len(query)):
        q = query[i]
        own = barred[indptr[q] : indptr[q + 1]]
        for j in range(len(row)):
            mask[i, j] = is_barred(query_home[q], row_home[j], row[j], own)
    return mask
