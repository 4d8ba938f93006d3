"""What is right, wrong or neither for each query of a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm2tuples.files.columns import indptr_of


@dataclass(frozen=True)
class GroundTruth:
    """What is right, and what is neither right nor wrong, for each query of a protocol.

    Rows are rows of the protocol's database. A query that must not find its own image has that image among its junk.
    """

    queries: np.ndarray
    """(q,) int64: the queries' rows (of the database, or of a query set of its own)."""
    positives_indptr: np.ndarray
    """(q + 1,) int64: where each query's positives start."""
    positives: np.ndarray
    """(p,) int32: database rows that are right."""
    junk_indptr: np.ndarray
    """(q + 1,) int64: where each query's junk starts."""
    junk: np.ndarray
    """(j,) int32: database rows that are taken out of the ranking."""
    groups: np.ndarray
    """(q,) int64: the place or label of each query, a row of `group_names`."""
    group_names: tuple[str, ...]
    """Names of the places or labels."""

    def positives_of(self, query: int) -> np.ndarray:
        """The positives of the query number `query`."""
        return self.positives[self.positives_indptr[query] : self.positives_indptr[query + 1]]

    def junk_of(self, query: int) -> np.ndarray:
        """The junk of the query number `query`."""
        return self.junk[self.junk_indptr[query] : self.junk_indptr[query + 1]]


def make_ground_truth(
    queries: np.ndarray,
    positives: Sequence[np.ndarray],
    junk: Sequence[np.ndarray],
    groups: np.ndarray,
    group_names: Sequence[str],
) -> GroundTruth:
    """Put lists of positives and junk, one array of rows a query, into a `GroundTruth`."""
    return GroundTruth(
        np.asarray(queries, np.int64),
        *_ragged(positives),
        *_ragged(junk),
        np.asarray(groups, np.int64),
        tuple(group_names),
    )


def _ragged(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    values = np.concatenate([np.empty(0, np.int32), *(np.asarray(r, np.int32) for r in rows)])
    return indptr_of(np.array([len(r) for r in rows], np.int64)), values.astype(np.int32)
