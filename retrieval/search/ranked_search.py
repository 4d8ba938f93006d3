"""Search a database of descriptors for the most similar of each query: one call for the `search` command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from retrieval.search.engines import NOBODY, FlatEngine, make_engine
from retrieval.search.options import FLAT, SearchOptions
from retrieval.search.query_expansion import augment
from retrieval.search.ranked_lists import Pipeline, RankedLists, average_with
from retrieval.search.ranks_file import Ranks
from sfm2tuples.errors import UsageError
from sfm2tuples.files.descriptor_settings import differing, shortened
from sfm2tuples.files.descriptors import Descriptors
from sfm2tuples.similarity.exact_search import Search, most_similar
from sfm2tuples.similarity.ivf_search import recall_of

SAMPLE = 100
"""Queries that are searched exactly too, to measure an approximate engine."""
SPACE = ("network", "whitening")
"""Settings without which two descriptors lie in different spaces, so that their cosine means nothing."""


@dataclass(frozen=True)
class SearchResult:
    """What was found, and how well the engine found it."""

    ranks: Ranks
    """Ranked lists."""
    recall: float | None = None
    """Share of the exact rows of a sample of queries that an approximate engine found, before any refinement."""
    sampled: int = 0
    """Queries of that sample."""


def search(
    queries: Descriptors,
    database: Descriptors,
    options: SearchOptions,
    pipeline: Pipeline | None = None,
    exact: Search = most_similar,
) -> SearchResult:
    """Rank a database for each query.

    Parameters
    ----------
    queries, database : Descriptors
        Comparable ones, see `check_comparable`; the database may be mapped from a file.
    options : SearchOptions
    pipeline : Pipeline, optional
        What follows the first search.
    exact : Search
        What the flat engine multiplies with.

    Raises
    ------
    UsageError
        The descriptors have unequal dimensions.
    """
    check_comparable(queries, database)
    pipeline = pipeline or Pipeline()
    refinement, values = pipeline.refinement, database.values
    own = np.full(len(queries.names), NOBODY) if options.include_self else own_rows(queries.names, database.names)
    if refinement.dba is not None:
        values = augment(values, refinement.dba, exact)
    engine = make_engine(options.engine, values, options.nprobe, options.ef, exact)
    depth = min(max(options.num_results, refinement.num_reranked, refinement.num_averaged), len(values))
    # What is expanded without being verified is found anew as a whole, so that only the results are asked for.
    wanted = depth if refinement.num_verified else min(options.num_results, len(values))

    def again(vectors: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return engine.search(vectors[which], wanted, own[which])

    lists = RankedLists(queries.values, *engine.search(queries.values, depth, own))
    recall, sampled = _measured(lists, options, values, own, exact)
    lists = pipeline.run(lists, partial(average_with, database=values), again).cut(options.num_results)
    if options.min_similarity is not None:
        lists = lists.only(~(lists.similarity < options.min_similarity))
    ranks = Ranks(
        queries.names,
        database.names,
        lists.row,
        lists.similarity.astype(np.float32),
        asdict(options) | refinement.as_dict() | {"settings": database.settings or queries.settings},
        inliers=None if lists.inliers is None else lists.inliers.astype(np.int32),
    )
    return SearchResult(ranks, recall, sampled)


def own_rows(queries: Sequence[str], database: Sequence[str]) -> np.ndarray:
    """Row of the database that has the query's own name, (q,) int64; `NOBODY` where there is none."""
    row_of = {name: row for row, name in enumerate(database)}
    return np.fromiter((row_of.get(name, NOBODY) for name in queries), np.int64, len(queries))


def check_comparable(queries: Descriptors, database: Descriptors) -> str | None:
    """Refuse descriptors whose cosine means nothing; one line where they were made otherwise, None where alike.

    What only one of the files knows of itself is not compared, except a whitening: foreign files do not say how they
    were made.

    Raises
    ------
    UsageError
        Unequal dimensions, or another network or whitening.
    """
    sizes = queries.values.shape[1], database.values.shape[1]
    if sizes[0] != sizes[1]:
        raise UsageError(f"{_called(queries)} has {sizes[0]} dimensions, {_called(database)} {sizes[1]}")
    if not queries.settings or not database.settings:
        return None
    found = differing(queries.settings, database.settings, always=["whitening"])
    if not found:
        return None
    said = "; ".join(
        f"{key} {shortened(there)} there, {shortened(here)} in {_called(database)}" for key, there, here in found
    )
    message = f"{_called(queries)}: made otherwise than the database: {said}"
    if any(key in SPACE for key, _, _ in found):
        raise UsageError(f"{message}; extract both alike")
    return message


def _measured(
    lists: RankedLists, options: SearchOptions, database: np.ndarray, own: np.ndarray, exact: Search
) -> tuple[float | None, int]:
    """Recall of an approximate engine, and the number of queries that it was measured on; none where none is exact."""
    if options.engine == FLAT:
        return None, 0
    sample = np.linspace(0, len(own) - 1, min(SAMPLE, len(own))).astype(np.int64)
    count = min(options.num_results, len(database))
    wanted, _ = FlatEngine(database, exact).search(lists.queries[sample], count, own[sample])
    if not (wanted >= 0).any():
        return None, 0
    return recall_of(lists.row[sample, : wanted.shape[1]], wanted), len(sample)


def _called(descriptors: Descriptors) -> str:
    return descriptors.path or "a set of descriptors"
