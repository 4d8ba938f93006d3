"""What an evaluation keeps of a ranking to be looked at: the first images with their verdicts, the last positives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

FIRST = 20
"""First ranked images that are kept of each query, junk among them."""
LAST = 3
"""Positives that are kept of each query, those that were ranked last."""
WRONG, RIGHT, JUNK = 0, 1, 2
VERDICTS = ("wrong", "right", "junk")
"""Names of the verdicts, by their numbers."""


@dataclass(frozen=True)
class RankedPictures:
    """A ranking's pictures; a row a query."""

    first: np.ndarray
    """(q, FIRST) int64: the first ranked rows of the database, junk among them; -1 where the ranking ends."""
    verdict: np.ndarray
    """(q, FIRST) int8: what each is."""
    last: np.ndarray
    """(q, LAST) int64: the positives ranked last, those never ranked before all; -1 where there are fewer."""
    last_rank: np.ndarray
    """(q, LAST) int64: their ranks from 0, junk taken out; -1 where never ranked, or where there is no image."""


@dataclass
class PictureList:
    """Collects the pictures of one query after the other."""

    first: list[np.ndarray] = field(default_factory=list)
    """Rows of `RankedPictures.first`, and so on."""
    verdict: list[np.ndarray] = field(default_factory=list)
    """See `first`."""
    last: list[np.ndarray] = field(default_factory=list)
    """See `first`."""
    last_rank: list[np.ndarray] = field(default_factory=list)
    """See `first`."""

    def add(self, ranked: np.ndarray, verdict: np.ndarray, positives: np.ndarray) -> None:
        """Keep what is to be seen of one ranking.

        Parameters
        ----------
        ranked : (k,) int64
            Rows of the database, best first.
        verdict : (k,) int8
            `WRONG`, `RIGHT` or `JUNK`, of each.
        positives : (p,) int
            All positives of the query, ranked or not.
        """
        self.first.append(_padded(ranked, FIRST))
        self.verdict.append(np.pad(verdict[:FIRST], (0, FIRST - len(verdict[:FIRST]))))
        kept = verdict != JUNK
        found = np.flatnonzero(verdict[kept] == RIGHT)
        rows = ranked[kept][found]
        never = np.setdiff1d(positives, rows)
        self.last.append(_padded(np.concatenate([never, rows[::-1]]), LAST))
        self.last_rank.append(_padded(np.concatenate([np.full(len(never), -1), found[::-1]]), LAST))

    def all(self) -> RankedPictures:
        """Everything that was added."""
        return RankedPictures(
            np.array(self.first, np.int64).reshape(-1, FIRST),
            np.array(self.verdict, np.int8).reshape(-1, FIRST),
            np.array(self.last, np.int64).reshape(-1, LAST),
            np.array(self.last_rank, np.int64).reshape(-1, LAST),
        )


def _padded(values: np.ndarray, count: int) -> np.ndarray:
    """The first `count` values, and -1 where there are fewer."""
    kept = np.asarray(values[:count], np.int64)
    return np.pad(kept, (0, count - len(kept)), constant_values=-1)
