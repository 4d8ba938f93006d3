"""The most similar of a pool by a blocked product on the CPU: exact, and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from sfm2tuples.similarity.best_rows import BestRows, PoolBlock, PoolRules
from sfm2tuples.similarity.rows import Matrix, block_of

QUERY_BLOCK = 2048
"""Queries of one product; with `block` pool rows of 4 bytes each it bounds the memory: 32 MiB by default."""
BLOCK = 4096
"""Pool rows of one product, where nothing else is said."""


class Search(Protocol):
    """Finds the most similar: `most_similar` here, others on a GPU or by an inverted file."""

    def __call__(
        self, queries: np.ndarray, pool: Matrix, count: int, rules: PoolRules
    ) -> tuple[np.ndarray, np.ndarray]:
        """The most similar pool rows that the rules allow; ties: lower row first.

        Parameters
        ----------
        queries, pool : (q, D), (s, D) float32
            L2-normalised descriptors; the pool may lie in a file.
        count : int
            How many to take for each query.
        rules : PoolRules

        Returns
        -------
        row : (q, count) int64
            Rows of `pool`, most similar first; -1 where there are fewer.
        similarity : (q, count) float64
            -inf where there are fewer.
        """


def most_similar(
    queries: np.ndarray,
    pool: Matrix,
    count: int,
    rules: PoolRules,
    block: int = BLOCK,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A `Search` on the CPU: O(q s D), the time of the product, and one block of it in memory.

    `block` is the number of pool rows of one product, `threads` compare; neither changes the result. The product has
    the threads of NumPy's library.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    best = BestRows(queries, count, rules)
    buffer = np.empty(min(len(queries), QUERY_BLOCK) * min(len(pool), block), np.float32)
    for rows in pool_blocks(pool, rules, block):
        for first in range(0, len(queries), QUERY_BLOCK):
            asking = queries[first : first + QUERY_BLOCK]
            shape = (len(asking), len(rows.row))
            product = np.matmul(asking, rows.descriptors.T, out=buffer[: shape[0] * shape[1]].reshape(shape))
            best.offer_products(np.arange(first, first + len(asking)), product, rows, threads)
    return best.row, best.similarity


def pool_blocks(pool: Matrix, rules: PoolRules, block: int) -> Iterator[PoolBlock]:
    """The pool in blocks of rows, in order."""
    for start in range(0, len(pool), block):
        end = min(start + block, len(pool))
        yield rules.block(np.arange(start, end), block_of(pool, slice(start, end)))
