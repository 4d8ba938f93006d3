"""The best pool rows of each query so far: a product finds candidates, and their exact similarity decides.

A matrix product is fast, but its rounding depends on where a pair lies in the matrix. So it only finds candidates. The
similarity of a pair that may still be among the best is computed again, in double precision and one fixed order, and
that number decides. The best are the same, bit by bit, whatever the blocks, the threads or the device of the product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.similarity.barred_rows import BarredRows, is_barred
from sfm2tuples.similarity.rows import Matrix, MatrixRows

LANES = 32
"""Running sums of the exact dot product: enough to fill the widest registers, and the same order on every machine."""
CHUNK = 128
"""Products compared with the limit at once."""


@dataclass(frozen=True)
class PoolBlock:
    """A few rows of the pool."""

    row: np.ndarray
    """(b,) int64, their rows in the pool; ties are settled by it."""
    descriptors: np.ndarray
    """(b, D) float32, contiguous."""
    place: np.ndarray
    """(b,) int64."""
    group: np.ndarray
    """(b,) int64; at most one row of a group is taken."""
    home: np.ndarray
    """(b, 2) int64, as in `BarredRows.pool_home`."""


@dataclass(frozen=True)
class PoolRules:
    """Which rows of a pool each query may be given."""

    query_place: np.ndarray
    """(q,) int64; a row of the query's own place is never given."""
    pool_place: np.ndarray
    """(s,) int64."""
    group: np.ndarray
    """(s,) int64; one row of a group is given at most: the place for N2, a number of its own for N1."""
    above: np.ndarray | None = None
    """(q,) float64; only more similar rows are given."""
    below: np.ndarray | None = None
    """(q,) float64; only less similar rows are given."""
    barred: BarredRows | None = None
    """Rows that single queries are never given; None: nothing but their own places."""

    def of_queries(self, some: np.ndarray) -> PoolRules:
        """The rules of some of the queries."""
        above, below = (None if bound is None else bound[some] for bound in (self.above, self.below))
        barred = None if self.barred is None else self.barred.of_queries(some)
        return PoolRules(self.query_place[some], self.pool_place, self.group, above, below, barred)

    def block(self, row: np.ndarray, descriptors: np.ndarray) -> PoolBlock:
        """Some rows of the pool with their descriptors."""
        home = np.full((len(row), 2), -1, np.int64) if self.barred is None else self.barred.pool_home[row]
        return PoolBlock(row, descriptors, self.pool_place[row], self.group[row], home)


class BestRows:
    """The best rows of each query among all that was offered.

    Parameters
    ----------
    queries : (q, D) float32
        L2-normalised descriptors, contiguous.
    count : int
        How many to keep for each query; of 0 nothing that is offered is kept.
    rules : PoolRules

    Attributes
    ----------
    row : (q, count) int64
        Rows of the pool, most similar first, ties by lower row; -1 where there are fewer.
    similarity : (q, count) float64
        -inf where there are fewer.
    barred : BarredRows or None
        As in the rules.
    """

    def __init__(self, queries: np.ndarray, count: int, rules: PoolRules) -> None:
        self.queries = queries
        self.place = np.asarray(rules.query_place, np.int64)
        self.above = np.full(len(queries), -np.inf) if rules.above is None else rules.above
        self.below = np.full(len(queries), np.inf) if rules.below is None else rules.below
        self.row = np.full((len(queries), count), -1, np.int64)
        self.similarity = np.full((len(queries), count), -np.inf)
        self.barred = rules.barred
        self._group = np.full((len(queries), count), -1, np.int64)
        self._largest = _largest_norm(queries)

    def rounding(self, descriptors: np.ndarray) -> float:
        """How far a float32 dot product with these may be off, however it is summed: D u |a| |b|, u = 2^-24."""
        return 1.01 * descriptors.shape[1] * 2.0**-24 * self._largest * _largest_norm(descriptors)

    def offer_products(
        self, query: np.ndarray, product: np.ndarray, block: PoolBlock, threads: int | None = None
    ) -> None:
        """Offer every pair of some queries and a block.

        Parameters
        ----------
        query : (k,) int64
            The queries.
        product : (k, b) float32
            Their products with the block, in single precision.
        block : PoolBlock
        threads : int, optional
            `sfm2tuples.compute.threads.default_threads` where left out.
        """
        if not self.row.shape[1]:
            return
        offered = (product, query, block.descriptors, block.row, block.place, block.group, block.home)
        wanted = (self.queries, self.place, self.above, self.below, *self._barred, self.rounding(block.descriptors))
        best = (self.row, self._group, self.similarity)
        entries = np.arange(len(query) + 1) * product.shape[1]
        over_blocks(lambda first, end: _offer_rows(first, end, *offered, *wanted, *best), entries, threads)

    def offer_pairs(self, query: np.ndarray, column: np.ndarray, block: PoolBlock) -> None:
        """Offer pairs of a query and a column of a block: (k,), (k,) int64."""
        if not self.row.shape[1]:
            return
        offered = (query, column, block.descriptors, block.row, block.place, block.group, block.home)
        wanted = (self.queries, self.place, self.above, self.below, *self._barred)
        _offer_pairs(*offered, *wanted, self.row, self._group, self.similarity)

    @property
    def _barred(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        barred = BarredRows.none(len(self.queries), 0) if self.barred is None else self.barred
        return barred.query_home, barred.indptr, barred.row


def pair_similarities(a: Matrix, b: Matrix, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Cosine of chosen pairs.

    Parameters
    ----------
    a, b : (n, D), (m, D) float32
        L2-normalised descriptors.
    left, right : (k,) int64
        Rows of `a` and `b`.

    Returns
    -------
    (k,) float64
        The same for a pair wherever it stands.
    """
    a_values, left = (a.values, a.row[left]) if isinstance(a, MatrixRows) else (a, left)
    b_values, right = (b.values, b.row[right]) if isinstance(b, MatrixRows) else (b, right)
    return _pairs(np.ascontiguousarray(a_values, np.float32), np.ascontiguousarray(b_values, np.float32), left, right)


def _largest_norm(descriptors: np.ndarray) -> float:
    """Of the rows that are numbers; others are never kept."""
    squares = np.einsum("nd,nd->n", descriptors, descriptors)
    return float(np.sqrt(squares[np.isfinite(squares)].max(initial=0.0)))


@numba.njit(cache=True, nogil=True)
def _dot(a, b):  # type: ignore[no-untyped-def]
    """Double-precision dot product, always summed in this order."""
    sums = np.zeros(LANES)
    whole = len(a) - len(a) % LANES
    for d in range(0, whole, LANES):
        x, y = a[d : d + LANES], b[d : d + LANES]
        for k in range(LANES):
            sums[k] += np.float64(x[k]) * np.float64(y[k])
    for d in range(whole, len(a)):
        sums[d - whole] += np.float64(a[d]) * np.float64(b[d])
    total = 0.0
    for k in range(LANES):
        total += sums[k]
    return total


@numba.njit(cache=True, nogil=True)
def _pairs(a, b, left, right):  # type: ignore[no-untyped-def]
    similarity = np.empty(len(left))
    for i in range(len(left)):
        similarity[i] = _dot(a[left[i]], b[right[i]])
    return similarity


@numba.njit(cache=True, nogil=True)
def _offer_rows(  # type: ignore[no-untyped-def]
    first, end, product, query, pool, pool_row, pool_place, pool_group, pool_home,
    queries, place, above, below, home, indptr, barred, slack, row, group, similarity,
):  # fmt: skip
    """Offer each pair of some rows of a product that could still enter the best of its query."""
    for i in range(first, end):
        q = query[i]
        values, last = product[i], row.shape[1] - 1
        own = barred[indptr[q] : indptr[q + 1]]
        limit = _just_below(max(similarity[q, last], above[q]) - slack)
        for start in range(0, len(values), CHUNK):
            chunk = values[start : start + CHUNK]
            # This comparison is the hot loop, a few entries an instruction: nearly every pair ends here.
            passing = np.int32(0)
            for j in range(len(chunk)):
                passing += np.int32(chunk[j] >= limit)
            if passing == 0:
                continue
            for j in range(start, start + len(chunk)):
                if not values[j] >= limit or pool_place[j] == place[q] or values[j] > below[q] + slack:
                    continue
                if _is_behind(values[j] + slack, pool_group[j], group[q], similarity[q]):
                    continue
                if is_barred(home[q], pool_home[j], pool_row[j], own):
                    continue
                exact = _dot(queries[q], pool[j])
                if above[q] < exact < below[q]:
                    _insert(exact, pool_row[j], pool_group[j], row[q], group[q], similarity[q])
                    limit = _just_below(max(similarity[q, last], above[q]) - slack)


@numba.njit(cache=True, nogil=True)
def _offer_pairs(  # type: ignore[no-untyped-def]
    query, column, pool, pool_row, pool_place, pool_group, pool_home,
    queries, place, above, below, home, indptr, barred, row, group, similarity,
):  # fmt: skip
    for i in range(len(query)):
        q, j = query[i], column[i]
        if pool_place[j] != place[q] and not is_barred(
            home[q], pool_home[j], pool_row[j], barred[indptr[q] : indptr[q + 1]]
        ):
            exact = _dot(queries[q], pool[j])
            if above[q] < exact < below[q]:
                _insert(exact, pool_row[j], pool_group[j], row[q], group[q], similarity[q])


@numba.njit(cache=True, nogil=True)
def _just_below(value):  # type: ignore[no-untyped-def]
    """A float32 that is surely no greater, so that no pair is lost by comparing in single precision."""
    return np.nextafter(np.float32(value), np.float32(-np.inf))


@numba.njit(cache=True, nogil=True)
def _is_behind(value, own_group, group, similarity):  # type: ignore[no-untyped-def]
    """Whether a better row of the same group is kept already."""
    behind = False
    for t in range(len(group)):
        behind |= group[t] == own_group and value < similarity[t]
    return behind


@numba.njit(cache=True, nogil=True)
def _insert(value, candidate, own_group, row, group, similarity):  # type: ignore[no-untyped-def]
    """Insert a row into one query's best, most similar first, ties by lower row, one of a group."""
    last = len(row) - 1
    leaves = last
    for t in range(last + 1):
        if row[t] >= 0 and group[t] == own_group:
            leaves = t
    if value < similarity[leaves] or (value == similarity[leaves] and row[leaves] >= 0 and candidate > row[leaves]):
        return
    t = leaves
    while t > 0 and (value > similarity[t - 1] or (value == similarity[t - 1] and candidate < row[t - 1])):
        row[t], group[t], similarity[t] = row[t - 1], group[t - 1], similarity[t - 1]
        t -= 1
    row[t], group[t], similarity[t] = candidate, own_group, value
