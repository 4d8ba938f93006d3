"""The most similar of a pool by a blocked product on the CPU: exact, and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sfm2tuples.similarity.best_rows import BestRows, PoolBlock, pair_similarities
from sfm2tuples.similarity.rows import Matrix, block_of

__all__ = ["BLOCK", "QUERY_BLOCK", "Search", "most_similar", "pair_similarities", "pool_blocks"]

QUERY_BLOCK = 2048
"""Queries of one product; with `block` pool rows of 4 bytes each it bounds the memory: 32 MiB by default."""
BLOCK = 4096
"""Pool rows of one product, where nothing else is said."""


class Search(Protocol):
    """Finds the most similar: `most_similar` here, others on a GPU or by an inverted file."""

    def __call__(
        self,
        queries: np.ndarray,
        pool: Matrix,
        count: int,
        query_place: np.ndarray,
        pool_place: np.ndarray,
        group: np.ndarray,
        above: np.ndarray | None = None,
        below: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `most_similar`."""


def most_similar(
    queries: np.ndarray,
    pool: Matrix,
    count: int,
    query_place: np.ndarray,
    pool_place: np.ndarray,
    group: np.ndarray,
    above: np.ndarray | None = None,
    below: np.ndarray | None = None,
    block: int = BLOCK,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The most similar pool rows of other places, at most one of a group; ties: lower row first.

    Parameters
    ----------
    queries, pool : (q, D), (s, D) float32
        L2-normalised descriptors; the pool may lie in a file.
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
    threads : int, optional
        Threads that compare; the product has those of NumPy's library. Changes no result.

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
    queries = np.ascontiguousarray(queries, np.float32)
    best = BestRows(queries, count, query_place, above, below)
    buffer = np.empty(min(len(queries), QUERY_BLOCK) * min(len(pool), block), np.float32)
    for part in pool_blocks(pool, pool_place, group, block):
        for first in range(0, len(queries), QUERY_BLOCK):
            asking = queries[first : first + QUERY_BLOCK]
            shape = (len(asking), len(part.row))
            product = np.matmul(asking, part.descriptors.T, out=buffer[: shape[0] * shape[1]].reshape(shape))
            best.offer_products(np.arange(first, first + len(asking)), product, part, threads)
    return best.row, best.similarity


def pool_blocks(pool: Matrix, place: np.ndarray, group: np.ndarray, block: int) -> Iterator[PoolBlock]:
    """The pool in blocks of rows, in order."""
    for start in range(0, len(pool), block):
        p = slice(start, min(start + block, len(pool)))
        yield PoolBlock(np.arange(p.start, p.stop), block_of(pool, p), place[p], group[p])
