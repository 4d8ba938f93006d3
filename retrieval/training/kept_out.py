"""Tuples that a training without held-out places keeps out, to see by them how far it may go.

Without validation places there is no mAP. What can be seen is the gap: by how much queries are more like their
positives than like their negatives, over tuples whose queries the training never sees.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from retrieval.training.described_tuples import TuplePositions, rows_and_positions
from retrieval.training.state import TrainingState
from sfm2tuples.compute.random_draws import draw, item_numbers, smallest
from sfm2tuples.errors import DataError
from sfm2tuples.mining.tuple_file import TupleFile, TupleSet

logger = logging.getLogger(__name__)

SHARE = 0.1
"""Share of the file's training tuples that are kept out, rounded, and at least `FEWEST` ..."""
FEWEST = 4
"""... but never more than one of so many."""
MOST = 200
"""Tuples kept out at most: they are described after every round."""


@dataclass(frozen=True)
class KeptOut:
    """Tuples that are looked at after every round, and never trained on."""

    query: np.ndarray
    """(k,) int64, rows of `/images` that no tuple of the training may hold."""
    rows: np.ndarray
    """(m,) int64, rising rows of `/images` to describe."""
    tuples: TuplePositions
    """The tuples, as positions in `rows`."""

    def gap(self, state: TrainingState, round: int) -> float:
        """Mean cosine of queries and positives less that of queries and negatives; NaN where nothing is kept out.

        A tuple with a photo that cannot be read is left out, with a warning.
        """
        if not len(self.query):
            return math.nan
        values = state.describe(self.rows, f"round {round} kept-out tuples", strict=False)
        readable = self.tuples.within(~np.isin(self.rows, [*state.unreadable]))
        self._warn_of_unreadable(state, len(self.tuples.query) - len(readable.query))
        described = readable.take(torch.from_numpy(values))
        positive, negative = (cosines[there].double().mean().item() for cosines, there in described.cosines())
        return positive - negative

    def _warn_of_unreadable(self, state: TrainingState, left_out: int) -> None:
        """Say once how many tuples are left out for their photos."""
        if not left_out or "kept out" in state.warned or not state.team.leads:
            return
        state.warned.add("kept out")
        first = next(state.unreadable[row] for row in self.rows.tolist() if row in state.unreadable)
        what = f"{left_out:,} of {len(self.tuples.query):,} kept-out tuples hold a photo that cannot be read"
        logger.warning("%s and are left out of the gap, first: %s", what, first)

    def without(self, chosen: TupleSet, tuples: TupleFile) -> TupleSet:
        """Tuples of a round without the kept-out queries: where one is a negative, that negative is missing.

        A tuple whose query or positive it is falls away, and inside, where negatives are few, one that has none left.

        Raises
        ------
        DataError
            None is left.
        """
        if not len(self.query):
            return chosen
        held = np.column_stack([chosen.query, chosen.positive])
        kept = ~np.isin(held, self.query).any(axis=1)
        if tuples.barred is not None:
            kept &= ((chosen.negative >= 0) & ~np.isin(chosen.negative, self.query)).any(axis=1)
        rows = np.flatnonzero(kept)
        if len(chosen.query) and not len(rows):
            what = f"all {len(chosen.query):,} tuples of the round hold one of the {len(self.query):,} kept-out queries"
            raise DataError(tuples.path, what, "mine more tuples, or hold places out by build-index --val-share")
        left = chosen.take(rows)
        away = np.isin(left.negative, self.query)
        similarity = np.where(away, np.float32(-np.inf), left.negative_similarity)
        return replace(left, negative=np.where(away, -1, left.negative), negative_similarity=similarity)


def keep_out(tuples: TupleFile, seed: int) -> KeptOut:
    """Draw the tuples to keep out among the file's training tuples with a positive and a negative.

    Parameters
    ----------
    tuples : TupleFile
    seed : int
        Of the draw.
    """
    train = tuples.tuples["train"]
    fit = np.flatnonzero((train.positive >= 0).any(axis=1) & (train.negative >= 0).any(axis=1))
    count = min(max(round(SHARE * len(fit)), FEWEST), len(fit) // FEWEST, MOST)
    names = [f"{tuples.images.key[train.query[row]]} {row}" for row in fit.tolist()]
    luck = draw(seed, 0, "tuples kept out", item_numbers(names))
    drawn = fit[smallest(luck, count)]
    rows, positions = rows_and_positions(train.query[drawn], train.positive[drawn], train.negative[drawn])
    return KeptOut(np.unique(train.query[drawn]), rows, positions)


def nothing_kept_out() -> KeptOut:
    """For a training that validation places vouch for."""
    nobody = np.zeros(0, np.int64)
    rows, positions = rows_and_positions(nobody, nobody[:, None], nobody[:, None])
    return KeptOut(nobody, rows, positions)
