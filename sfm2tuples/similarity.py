"""Exact similarities: the k most similar of a pool, in bounded memory, whatever the blocks and the pool's order.

A matrix product is fast, but its rounding depends on where a pair lies in the matrix. So the product only proposes: a
pair that may still be among the best is computed again, in double precision and one fixed order, and that decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np

QUERY_BLOCK = 1024
"""Queries of one product; with `block` pool rows of 4 bytes each it bounds the memory: 16 MiB by default."""


def pair_similarities(a: np.ndarray, b: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
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
    return _pairs(np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32), left, right)


def most_similar(
    queries: np.ndarray,
    pool: np.ndarray,
    count: int,
    query_place: np.ndarray,
    pool_place: np.ndarray,
    group: np.ndarray,
    above: np.ndarray | None = None,
    below: np.ndarray | None = None,
    block: int = 4096,
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar pool rows of other places, at most one of a group; ties: lower row first.

    Parameters
    ----------
    queries, pool : (q, D), (s, D) float32
        L2-normalised descriptors.
    count : int
        How many to take for each query.
    query_place, pool_place : (q,), (s,) int64
        A pool row of the query's own place is never taken.
    group : (s,) int64
        At most one row of a group is taken: the place for N2, a number of its own for N1.
    above, below : (q,) float64, optional
        Only rows with ``above < similarity < below`` are taken.
    block : int
        Pool rows of one product; bounds the memory and changes no result.

    Returns
    -------
    row : (q, count) int64
        Rows of `pool`, most similar first; -1 where there are fewer.
    similarity : (q, count) float64
        -inf where there are fewer.

    Notes
    -----
    Time is that of the product plus one comparison a pair, O(q s D); memory is one block of the product.
    """
    queries, pool = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(pool, np.float32)
    above = np.full(len(queries), -np.inf) if above is None else above
    below = np.full(len(queries), np.inf) if below is None else below
    slack = _rounding_of_a_product(queries, pool)
    row = np.full((len(queries), count), -1, np.int64)
    taken_group = np.full((len(queries), count), -1, np.int64)
    similarity = np.full((len(queries), count), -np.inf)
    for q, p, product in _products(queries, pool, block):
        bounds = (query_place[q], above[q], below[q], slack)
        best = (row[q], taken_group[q], similarity[q])
        _offer_block(product, queries[q], pool[p], p.start, pool_place[p], group[p], *bounds, *best)
    return row, similarity


def _products(queries: np.ndarray, pool: np.ndarray, block: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Products of blocks of queries and pool, all in one buffer."""
    buffer = np.empty(min(len(queries), QUERY_BLOCK) * min(len(pool), block), np.float32)
    for first in range(0, len(queries), QUERY_BLOCK):
        q = slice(first, first + QUERY_BLOCK)
        for start in range(0, len(pool), block):
            p = slice(start, start + block)
            shape = (len(queries[q]), len(pool[p]))
            yield q, p, np.matmul(queries[q], pool[p].T, out=buffer[: shape[0] * shape[1]].reshape(shape))


def _rounding_of_a_product(a: np.ndarray, b: np.ndarray) -> float:
    """How far a float32 dot product may be off, in whatever order it is summed: D u |a| |b|, u = 2^-24."""
    norms = [float(np.sqrt(np.einsum("nd,nd->n", x, x).max(initial=0.0))) for x in (a, b)]
    return 1.01 * a.shape[1] * 2.0**-24 * norms[0] * norms[1]


@numba.njit(cache=True, nogil=True)
def _dot(a, b):  # type: ignore[no-untyped-def]
    """Double-precision dot product with four running sums, always in this order."""
    s0 = s1 = s2 = s3 = 0.0
    whole = len(a) - len(a) % 4
    for d in range(0, whole, 4):
        s0 += np.float64(a[d]) * np.float64(b[d])
        s1 += np.float64(a[d + 1]) * np.float64(b[d + 1])
        s2 += np.float64(a[d + 2]) * np.float64(b[d + 2])
        s3 += np.float64(a[d + 3]) * np.float64(b[d + 3])
    for d in range(whole, len(a)):
        s0 += np.float64(a[d]) * np.float64(b[d])
    return (s0 + s1) + (s2 + s3)


@numba.njit(cache=True, nogil=True)
def _pairs(a, b, left, right):  # type: ignore[no-untyped-def]
    similarity = np.empty(len(left))
    for i in range(len(left)):
        similarity[i] = _dot(a[left[i]], b[right[i]])
    return similarity


@numba.njit(cache=True, nogil=True)
def _offer_block(  # type: ignore[no-untyped-def]
    product, queries, pool, start, pool_place, group, query_place, above, below, slack, row, taken_group, similarity
):
    """Offer each pair of a block that could still enter the best of its query."""
    last = row.shape[1] - 1
    for i in range(product.shape[0]):
        limit = similarity[i, last] - slack
        for j in range(product.shape[1]):
            # This comparison is the hot loop: nearly every pair ends here.
            if product[i, j] < limit:
                continue
            if pool_place[j] == query_place[i] or product[i, j] > below[i] + slack:
                continue
            if _is_behind(product[i, j] + slack, group[j], taken_group[i], similarity[i]):
                continue
            exact = _dot(queries[i], pool[j])
            if above[i] < exact < below[i]:
                _offer(exact, start + j, group[j], row[i], taken_group[i], similarity[i])
                limit = similarity[i, last] - slack


@numba.njit(cache=True, nogil=True)
def _is_behind(value, group, taken_group, similarity):  # type: ignore[no-untyped-def]
    """Whether a better row of the same group is taken already."""
    behind = False
    for t in range(len(taken_group)):
        behind |= taken_group[t] == group and value < similarity[t]
    return behind


@numba.njit(cache=True, nogil=True)
def _offer(value, candidate, group, row, taken_group, similarity):  # type: ignore[no-untyped-def]
    """Insert a candidate into one query's best, most similar first, ties by lower row, one of a group."""
    last = len(row) - 1
    leaves = last
    for t in range(last + 1):
        if row[t] >= 0 and taken_group[t] == group:
            leaves = t
    if value < similarity[leaves] or (value == similarity[leaves] and row[leaves] >= 0 and candidate > row[leaves]):
        return
    t = leaves
    while t > 0 and (value > similarity[t - 1] or (value == similarity[t - 1] and candidate < row[t - 1])):
        row[t], taken_group[t], similarity[t] = row[t - 1], taken_group[t - 1], similarity[t - 1]
        t -= 1
    row[t], taken_group[t], similarity[t] = candidate, group, value
