"""Whole rankings of a database after query expansion, database-side augmentation or re-ranking, for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from retrieval.metrics.ranking import Rankings
from retrieval.protocols.benchmark import Benchmark
from retrieval.search.engines import NOBODY, FlatEngine
from retrieval.search.query_expansion import augment
from retrieval.search.ranked_lists import Pipeline, RankedLists, average_with, whole_rankings
from retrieval.search.ranked_search import own_rows


@dataclass(frozen=True)
class RefinedRankings:
    """What whole rankings are made of; iterating makes them anew, one query after the other."""

    queries: np.ndarray
    """(q, D) float32: the queries, expanded where the whole database is searched again."""
    database: np.ndarray
    """(n, D) float32: the database, augmented or not."""
    short: np.ndarray
    """(q, m) int64: re-ranked rows, best first, -1 for none."""

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (n,) int64 database rows for each query: the short list, then all others in their order."""
        return whole_rankings(self.short, Rankings(self.queries, self.database))


def refine(queries: np.ndarray, database: np.ndarray, own: np.ndarray, pipeline: Pipeline) -> RefinedRankings:
    """Put the first images of an exact search through a pipeline.

    Parameters
    ----------
    queries : (q, D) float32, L2-normalised
    database : (n, D) float32, L2-normalised
    own : (q,) int64
        The query's own row, by which it is neither expanded nor re-ranked; -1 for none.
    pipeline : Pipeline
    """
    if pipeline.refinement.dba is not None:
        database = augment(database, pipeline.refinement.dba)
    depth = min(pipeline.depth, len(database))
    if not depth:
        return RefinedRankings(queries, database, np.empty((len(queries), 0), np.int64))
    found = RankedLists(queries, *FlatEngine(database).search(queries, depth, own))
    lists = pipeline.run(found, partial(average_with, database=database))
    return RefinedRankings(lists.queries, database, lists.row)


def own_junk(benchmark: Benchmark) -> np.ndarray:
    """Row of each query's own image where it is left out of the query's ranking, (q,) int64; -1 elsewhere.

    Oxford's and Paris' queries find themselves, and are right: there nothing is left out.
    """
    own, truth = own_rows(benchmark.queries, benchmark.database), next(iter(benchmark.setups.values()))
    left_out = [row >= 0 and row in truth.junk_of(query) for query, row in enumerate(own.tolist())]
    return np.where(left_out, own, NOBODY)
