"""What an evaluation looks at of a ranking: its first images, and the ranks of the positives.

That is little of it, so that it can be had without ordering the whole database: see `parts_by_similarity`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth
from retrieval.metrics.kept_images import AT_MOST, JUNK, RIGHT, WRONG
from retrieval.metrics.ranking import Rankings

TOP = 10
"""How many of the first ranked images an evaluation remembers of each query."""


@dataclass(frozen=True)
class RankedPart:
    """Of one query."""

    head: np.ndarray
    """(h,) int64: the first ranked rows of the database, junk among them; `AT_MOST` where there are as many."""
    verdict: np.ndarray
    """(h,) int8: `WRONG`, `RIGHT` or `JUNK`, of each."""
    top: np.ndarray
    """(t,) int64: the first `TOP` ranked rows without junk."""
    positive: np.ndarray
    """(r,) int64: the positives that were ranked, best first."""
    rank: np.ndarray
    """(r,) int64: their ranks from 0, junk taken out."""


def parts_of_rankings(rankings: Iterable[np.ndarray], truth: GroundTruth, n_database: int) -> Iterator[RankedPart]:
    """The parts of ranked lists, which may be cut short; arguments as of `results.evaluate_rankings`."""
    verdict = np.zeros(n_database, np.int8)
    for query, ranking in enumerate(rankings):
        with_verdicts(verdict, truth, query)
        ranked = ranking[ranking >= 0]
        kept = ranked[verdict[ranked] != JUNK]
        rank = np.flatnonzero(verdict[kept] == RIGHT)
        head = ranked[:AT_MOST]
        yield RankedPart(head, verdict[head], kept[:TOP], kept[rank], rank)
        without_verdicts(verdict, truth, query)


def parts_by_similarity(rankings: Rankings, truth: GroundTruth) -> Iterator[RankedPart]:
    """The same parts of the same rankings, in O(n log p) a query for p positives, with no more than n values at hand.

    The first images are kept while the similarities are gone through once. A positive's rank is how many images
    without junk go before it: those more similar, and of the equally similar those of lower rows.
    """
    # Compiled loops take a while to load, and not every program that evaluates has whole rankings.
    from retrieval.metrics.ranked_loops import best_rows, ranks

    verdict = np.zeros(len(rankings.database), np.int8)
    for query, similarity in enumerate(rankings.similarity_rows()):
        with_verdicts(verdict, truth, query)
        head = best_rows(similarity, verdict, np.int8(-1), AT_MOST)
        top = best_rows(similarity, verdict, np.int8(JUNK), TOP)
        positive = np.unique(truth.positives_of(query)).astype(np.int64)
        positive = positive[verdict[positive] == RIGHT]
        positive = positive[np.lexsort((positive, -similarity[positive]))]
        rank = ranks(similarity, verdict, np.int8(JUNK), positive)
        yield RankedPart(head, verdict[head], top, positive, rank)
        without_verdicts(verdict, truth, query)


def with_verdicts(verdict: np.ndarray, truth: GroundTruth, query: int) -> None:
    """Mark a query's positives and junk in (n,) int8 that is all `WRONG`; what is both is junk."""
    verdict[truth.positives_of(query)] = RIGHT
    verdict[truth.junk_of(query)] = JUNK


def without_verdicts(verdict: np.ndarray, truth: GroundTruth, query: int) -> None:
    """Take the marks away."""
    verdict[truth.positives_of(query)] = WRONG
    verdict[truth.junk_of(query)] = WRONG
