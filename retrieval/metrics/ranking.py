"""Rank a database for each query by exact search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_BYTES = 1 << 27
"""Memory that a block of similarities with its sorted order may take, about."""
FEWEST = 64
"""Queries that are multiplied with a database at once even where they take more than that: fewer cost more, since each
block of queries casts the whole database to double precision."""


@dataclass(frozen=True)
class Rankings:
    """The whole database ranked for each query: exact, by cosine; ties by the lower row.

    Each time that they are gone through costs q x n x D and a sort of n for each query.
    """

    queries: np.ndarray
    """(q, D) float32, L2-normalised."""
    database: np.ndarray
    """(n, D) float32, L2-normalised."""
    block_bytes: int = BLOCK_BYTES
    """About the most memory that it takes."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (n,) int64 database rows, best first, for one query after the other."""
        # Each similarity takes 4 bytes, its row in the order 8, and the sort's own copies about as much again.
        size = max(1, self.block_bytes // max(1, 24 * len(self.database)))
        for start in range(0, len(self.queries), size):
            similarity = similarities(self.queries[start : start + size], self.database, self.block_bytes)
            yield from np.argsort(-similarity, axis=1, kind="stable")

    def similarity_rows(self) -> Iterator[np.ndarray]:
        """Yield (n,) float32, the similarities that the database is ranked by, for one query after the other."""
        size = max(FEWEST, self.block_bytes // max(1, 4 * len(self.database)))
        for start in range(0, len(self.queries), size):
            yield from similarities(self.queries[start : start + size], self.database, self.block_bytes)


def similarities(queries: np.ndarray, database: np.ndarray, block_bytes: int = BLOCK_BYTES) -> np.ndarray:
    """Dot products (q, n) float32, worked out in blocks of double precision.

    Rounding from double makes equal rows equally similar wherever they stand in a block, which a product in single
    precision does not, so that ties are ties on every machine.
    """
    result = np.empty((len(queries), len(database)), np.float32)
    left = np.asarray(queries, np.float64)
    size = max(1, block_bytes // (8 * max(1, left.shape[1] + len(left))))
    for start in range(0, len(database), size):
        result[:, start : start + size] = left @ np.asarray(database[start : start + size], np.float64).T
    return result
