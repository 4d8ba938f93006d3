"""Tuples that a training without held-out places keeps out, to see by them how far it may go.

Without validation places there is no mAP. What can be seen is the gap: by how much queries are more like their
positives than like their negatives, over tuples whose queries the training never sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch

from retrieval.training.described_tuples import TuplePositions, rows_and_positions
from retrieval.training.state import TrainingState
from sfm2tuples.compute.random_draws import draw, item_numbers
from sfm2tuples.errors import DataError
from sfm2tuples.mining.tuple_file import TupleFile, TupleSet

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
        """Mean cosine of queries and positives less that of queries and negatives; NaN where nothing is kept out."""
        if not len(self.query):
            return math.nan
        described = self.tuples.take(torch.from_numpy(state.describe(self.rows, f"round {round} kept-out tuples")))
        cosines = [
            (described.query[:, None] * others).sum(dim=2)[there].double().mean().item()
            for others, there in (
                (described.positives, described.has_positive),
                (described.negatives, described.has_negative),
            )
        ]
        return cosines[0] - cosines[1]

    def without(self, chosen: TupleSet, tuples: TupleFile) -> TupleSet:
        """Tuples of a round without the kept-out queries: where one is a negative, that negative is missing.

        A tuple whose query or positive it is falls away.

        Raises
        ------
        DataError
            None is left.
        """
        if not len(self.query):
            return chosen
        held = np.column_stack([chosen.query, chosen.positive])
        rows = np.flatnonzero(~np.isin(held, self.query).any(axis=1))
        if len(chosen.query) and not len(rows):
            what = f"all {len(chosen.query):,} tuples of the round hold one of the {len(self.query):,} kept-out queries"
            raise DataError(tuples.path, what, "mine more tuples, or hold places out by build-index --val-share")
        away = np.isin(chosen.negative, self.query)
        columns = {column.name: getattr(chosen, column.name) for column in fields(TupleSet)}
        columns["negative"] = np.where(away, -1, chosen.negative)
        columns["negative_similarity"] = np.where(away, np.float32(-np.inf), chosen.negative_similarity)
        return TupleSet(**{name: value if name == "pool" else value[rows] for name, value in columns.items()})


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
    drawn = np.sort(fit[np.argsort(luck, kind="stable")[:count]])
    rows, positions = rows_and_positions(train.query[drawn], train.positive[drawn], train.negative[drawn])
    return KeptOut(np.unique(train.query[drawn]), rows, positions)


def nothing_kept_out() -> KeptOut:
    """For a training that validation places vouch for."""
    nobody = np.zeros(0, np.int64)
    rows, positions = rows_and_positions(nobody, nobody[:, None], nobody[:, None])
    return KeptOut(nobody, rows, positions)
