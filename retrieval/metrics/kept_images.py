"""What an evaluation keeps of a ranking to be looked at: the first images with their verdicts, the last positives."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

FIRST = 20
"""First ranked images that are kept of each query, not counting the junk among them."""
AT_MOST = 50
"""The same with the junk: a place may have hundreds of images that are neither right nor wrong."""
LAST = 3
"""Positives that are kept of each query, those that were ranked last."""
WRONG, RIGHT, JUNK = 0, 1, 2
VERDICTS = ("wrong", "right", "junk")
"""Names of the verdicts, by their numbers."""


@dataclass(frozen=True)
class KeptImages:
    """What is kept of rankings; a row a query."""

    first: np.ndarray
    """(q, AT_MOST) int64: the first ranked rows of the database, junk among them; -1 behind them."""
    verdict: np.ndarray
    """(q, AT_MOST) int8: what each is."""
    last: np.ndarray
    """(q, LAST) int64: the positives ranked last, those never ranked before all; -1 where there are fewer."""
    last_rank: np.ndarray
    """(q, LAST) int64: their ranks from 0, junk taken out; -1 where never ranked, or where there is no image."""
    nearest: np.ndarray
    """(q,) int64: the positive ranked first of all; -1 where none was ranked."""
    similarity: np.ndarray | None = None
    """(q, AT_MOST) float32: cosines of `first` to their queries, where the ranking is by them."""

    def with_similarity(self, queries: np.ndarray, database: np.ndarray) -> KeptImages:
        """The same with similarities; `queries` (q, D) and `database` (n, D) are L2-normalised descriptors."""
        similarity = np.full(self.first.shape, -np.inf, np.float32)
        for row, first in enumerate(self.first):
            seen = first >= 0
            similarity[row, seen] = database[first[seen]] @ queries[row]
        return replace(self, similarity=similarity)


@dataclass
class ImageCollector:
    """Collects what is kept of one query after the other."""

    first: list[np.ndarray] = field(default_factory=list)
    """Rows of `KeptImages.first`, and so on."""
    verdict: list[np.ndarray] = field(default_factory=list)
    """See `first`."""
    last: list[np.ndarray] = field(default_factory=list)
    """See `first`."""
    last_rank: list[np.ndarray] = field(default_factory=list)
    """See `first`."""
    nearest: list[int] = field(default_factory=list)
    """See `first`."""

    def add(
        self, head: np.ndarray, verdict: np.ndarray, found: np.ndarray, rank: np.ndarray, positives: np.ndarray
    ) -> None:
        """Keep what is to be seen of one ranking.

        Parameters
        ----------
        head : (h,) int64
            The first rows of the database, best first: `AT_MOST`, or all that were ranked.
        verdict : (h,) int8
            `WRONG`, `RIGHT` or `JUNK`, of each.
        found : (r,) int64
            The positives that were ranked, best first.
        rank : (r,) int64
            Their ranks, junk taken out.
        positives : (p,) int
            All positives of the query, ranked or not.
        """
        counted = np.flatnonzero(verdict != JUNK)
        seen = len(head) if len(counted) < FIRST else int(counted[FIRST - 1]) + 1
        self.first.append(_padded(head[:seen], AT_MOST))
        self.verdict.append(np.pad(verdict[:seen], (0, AT_MOST - seen)))
        self.nearest.append(int(found[0]) if len(found) else -1)
        never = np.setdiff1d(positives, found)
        self.last.append(_padded(np.concatenate([never, found[::-1]]), LAST))
        self.last_rank.append(_padded(np.concatenate([np.full(len(never), -1), rank[::-1]]), LAST))

    def all(self) -> KeptImages:
        """Everything that was added."""
        return KeptImages(
            np.array(self.first, np.int64).reshape(-1, AT_MOST),
            np.array(self.verdict, np.int8).reshape(-1, AT_MOST),
            np.array(self.last, np.int64).reshape(-1, LAST),
            np.array(self.last_rank, np.int64).reshape(-1, LAST),
            np.array(self.nearest, np.int64),
        )


def _padded(values: np.ndarray, count: int) -> np.ndarray:
    """The first `count` values, and -1 where there are fewer."""
    kept = np.asarray(values[:count], np.int64)
    return np.pad(kept, (0, count - len(kept)), constant_values=-1)
