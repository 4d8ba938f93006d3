"""Whole rankings of a database after query expansion, database-side augmentation or re-ranking, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth
from retrieval.metrics.ranking import rank_all
from retrieval.search.engines import NOBODY, FlatEngine
from retrieval.search.options import Refinement
from retrieval.search.query_expansion import augment, expand_by_rows
from retrieval.search.ranked_search import own_rows
from retrieval.search.verified_lists import Verifier, verify_lists
from retrieval.search.window_search import WindowFinder, rerank
from sfm2tuples.errors import UsageError


@dataclass(frozen=True)
class RefinedRankings:
    """What whole rankings are made of; iterating makes them anew, one query after the other."""

    queries: np.ndarray
    """(q, D) float32: the queries, expanded where the whole database is searched again."""
    database: np.ndarray
    """(n, D) float32: the database, augmented or not."""
    short: np.ndarray
    """(q, m) int64: re-ranked rows, best first, -1 for none; no columns without re-ranking."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (n,) int64 database rows for each query: the short list, then all others in their order."""
        for ranking, short in zip(rank_all(self.queries, self.database), self.short, strict=True):
            first = short[short >= 0]
            behind = np.ones(len(self.database), bool)
            behind[first] = False
            yield np.concatenate([first, ranking[behind[ranking]]])


def refine(
    queries: np.ndarray,
    database: np.ndarray,
    own: np.ndarray,
    refinement: Refinement,
    finder: WindowFinder | None = None,
    verifier: Verifier | None = None,
) -> RefinedRankings:
    """Refine by exact search.

    Parameters
    ----------
    queries : (q, D) float32, L2-normalised
    database : (n, D) float32, L2-normalised
    own : (q,) int64
        The query's own row, by which it is neither expanded nor re-ranked; -1 for none.
    refinement : Refinement
    finder : WindowFinder, optional
        Needed for re-ranking by windows.
    verifier : Verifier, optional
        Needed for re-ranking by geometry.

    Raises
    ------
    UsageError
        Re-ranking without what it needs.
    """
    if refinement.augmentation is not None:
        database = augment(database, refinement.augmentation)
    expansion, n = refinement.query_expansion, refinement.num_reranked
    short = np.empty((len(queries), 0), np.int64)
    if refinement.num_windows:
        if finder is None:
            raise UsageError("--rerank R looks at photos: name the network of the descriptors")
        row, similarity = FlatEngine(database).search(queries, min(n, len(database)), own)
        short, _ = rerank(row, similarity, queries, finder.find(row), expansion)
    elif refinement.num_verified:
        row, similarity = FlatEngine(database).search(queries, min(n, len(database)), own)
        found = verify_lists(row, similarity, verifier)
        short = found.row
        if expansion is not None:
            queries, expanded = found.expand(queries, database, expansion)
            # The second search has learned from the verified images; its order stands.
            short = np.where(expanded[:, None], -1, short)
    elif expansion is not None:
        row, similarity = FlatEngine(database).search(queries, min(expansion.num_images, len(database)), own)
        queries = expand_by_rows(queries, row, similarity, database, expansion)
    return RefinedRankings(queries, database, short)


def own_junk(queries: list[str], database: list[str], truth: GroundTruth) -> np.ndarray:
    """Row of each query's own image where it is left out of the query's ranking, (q,) int64; -1 elsewhere.

    Oxford's and Paris' queries find themselves, and are right: there nothing is left out.
    """
    own = own_rows(queries, database)
    left_out = [row >= 0 and row in truth.junk_of(query) for query, row in enumerate(own.tolist())]
    return np.where(left_out, own, NOBODY)
