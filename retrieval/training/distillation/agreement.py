"""Whether student and teacher rank alike, on photos that are kept out: what is measured where there is no label.

For each kept-out photo: the share of the teacher's nearest photos that are among as many of the student's nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval.search.torch_similarity import exact_search
from retrieval.training.distillation.photo_batches import nearest
from retrieval.training.distillation.teaching import Teaching
from retrieval.training.state import TrainingState
from sfm2tuples.compute.random_draws import draw, item_numbers, smallest
from sfm2tuples.errors import DataError
from sfm2tuples.similarity.best_rows import PoolRules

SHARE = 0.1
"""Share of the photos that are kept out, rounded, and at least `FEWEST` ..."""
FEWEST = 4
"""... but never more than one of so many."""
MOST = 200
"""Photos kept out at most."""
DATABASE = 1000
"""Photos that each is ranked among, at most, the kept-out ones in it: they are described after every round."""
NEAREST = 10
"""How many nearest are compared; of few photos, half of the others at most."""
FEWEST_PHOTOS = 12
"""Below that nothing can be said of a ranking."""


@dataclass(frozen=True)
class Agreement:
    """Photos that are kept out, and what the teacher says of them."""

    rows: np.ndarray
    """(m,) int64, rising rows of `/images`: what is ranked."""
    query: np.ndarray
    """(q,) int64, rising rows of `/images` among these that no batch of the training has."""
    wanted: np.ndarray
    """(q, k) int64, rows of `/images`: the nearest of each by the teacher."""

    def measure(self, state: TrainingState, round: int) -> float:
        """Mean share of `wanted` that is among the k nearest by the network of the state, 0..1.

        A photo that cannot be read counts as far from all.
        """
        values = state.describe(self.rows, f"round {round} agree", strict=False)
        at = np.searchsorted(self.rows, self.query)
        rules = PoolRules(self.query, self.rows, np.arange(len(self.rows)))
        count = self.wanted.shape[1]
        found, _ = exact_search(state.network.device)(values[at], values, count, rules)
        return overlap(self.wanted, np.append(self.rows, -1)[found])


def overlap(wanted: np.ndarray, found: np.ndarray) -> float:
    """Mean over rows of the share of `wanted` (q, k) that is in the same row of `found` (q, k)."""
    return float((wanted[:, :, None] == found[:, None, :]).any(axis=2).mean())


def keep_photos_out(state: TrainingState, teaching: Teaching) -> Agreement:
    """Draw the photos that are kept out, and ask the teacher of them.

    Raises
    ------
    DataError
        There are too few photos.
    """
    rows, seed = teaching.rows, state.options.seed
    if len(rows) < FEWEST_PHOTOS:
        what = f"{len(rows):,} photos can be read, of which a teacher can teach nothing"
        raise DataError(state.tuples.path, what, f"give at least {FEWEST_PHOTOS}")
    numbers = item_numbers(state.photos.names(rows))
    count = min(max(round(SHARE * len(rows)), FEWEST), len(rows) // FEWEST, MOST)
    out = smallest(draw(seed, 0, "photos kept out", numbers), count)
    luck = draw(seed, 0, "photos to rank", numbers)
    luck[out] = 0
    ranked = rows[smallest(luck, DATABASE)]
    near = min(NEAREST, (len(ranked) - 1) // 2)
    query = rows[out]
    return Agreement(ranked, query, nearest(teaching, query, ranked, near, exact_search(state.network.device)))
