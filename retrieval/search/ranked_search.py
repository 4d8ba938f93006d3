"""Search a database of descriptors for the most similar of each query: one call for the `search` command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retrieval.search.engines import FLAT, NOBODY, Engine, FlatEngine, keep_above, make_engine, padded
from retrieval.search.options import SearchOptions
from retrieval.search.query_expansion import augment, expand_by_rows
from retrieval.search.ranks_file import Ranks
from retrieval.search.verified_lists import VerifiedLists, Verifier, verify_lists
from retrieval.search.window_search import WindowFinder, rerank
from sfm2tuples.errors import UsageError
from sfm2tuples.files.descriptor_settings import differing
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
    finder: WindowFinder | None = None,
    exact: Search = most_similar,
    verifier: Verifier | None = None,
) -> SearchResult:
    """Rank a database for each query.

    Parameters
    ----------
    queries, database : Descriptors
        Comparable ones, see `check_comparable`; the database may be mapped from a file.
    options : SearchOptions
    finder : WindowFinder, optional
        Finds the windows of the photos of a short list; needed for ``--rerank R``.
    exact : Search
        What the flat engine multiplies with.
    verifier : Verifier, optional
        Looks at the photos of a short list; needed for ``--rerank geometry``.

    Raises
    ------
    UsageError
        The descriptors have unequal dimensions, or re-ranking was asked for without what it needs.
    """
    refinement = options.refinement
    if refinement.num_windows and finder is None:
        raise UsageError("--rerank R looks at photos: name the network of the descriptors, and the photos (--photos)")
    check_comparable(queries, database)
    own = np.full(len(queries.names), NOBODY) if options.include_self else own_rows(queries.names, database.names)
    values = database.values
    if refinement.augmentation is not None:
        values = augment(values, refinement.augmentation)
    engine = make_engine(options.engine, values, options.nprobe, options.ef, exact)
    expansion = refinement.query_expansion
    depth = max(options.num_results, refinement.num_reranked, expansion.num_images if expansion else 0)
    row, similarity = engine.search(queries.values, min(depth, len(values)), own)
    recall, sampled = _measured(engine, options, queries.values, values, own, row, exact)
    verified = None
    if finder is not None and refinement.num_windows:
        windows = finder.find(row[:, : refinement.num_windows])
        row, similarity = rerank(row, similarity, queries.values, windows, expansion)
    elif refinement.num_verified:
        verified = _put_verified_first(row, similarity, refinement.num_verified, verifier)
        if expansion is not None:
            vectors, expanded = verified.expand(queries.values, values, expansion)
            # The second search has learned from the verified images; its order stands.
            row[expanded], similarity[expanded] = engine.search(vectors[expanded], row.shape[1], own[expanded])
    elif expansion is not None:
        vectors = expand_by_rows(queries.values, row, similarity, values, expansion)
        row, similarity = engine.search(vectors, min(options.num_results, len(values)), own)
    row, similarity = padded(row, similarity, options.num_results)
    if options.min_similarity is not None:
        row, similarity = keep_above(row, similarity, options.min_similarity)
    ranks = Ranks(queries.names, database.names, row, similarity.astype(np.float32), _plain(options, queries, database))
    ranks = ranks if verified is None else replace(ranks, inliers=verified.of(row))
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
        f"{key} {_short(there)} there, {_short(here)} in {_called(database)}" for key, there, here in found
    )
    message = f"{_called(queries)}: made otherwise than the database: {said}"
    if any(key in SPACE for key, _, _ in found):
        raise UsageError(f"{message}; extract both alike")
    return message


def _put_verified_first(row: np.ndarray, similarity: np.ndarray, n: int, verifier: Verifier | None) -> VerifiedLists:
    """Verify the first n of each list, and put them in their new order into the lists."""
    found = verify_lists(row[:, :n], similarity[:, :n], verifier)
    row[:, :n], similarity[:, :n] = found.row, found.similarity
    return found


def _measured(
    engine: Engine,
    options: SearchOptions,
    queries: np.ndarray,
    database: np.ndarray,
    own: np.ndarray,
    row: np.ndarray,
    exact: Search,
) -> tuple[float | None, int]:
    """Recall of an approximate engine, and the number of queries that it was measured on."""
    if options.engine == FLAT:
        return None, 0
    sample = np.linspace(0, len(queries) - 1, min(SAMPLE, len(queries))).astype(np.int64)
    wanted, _ = FlatEngine(database, exact).search(
        queries[sample], min(options.num_results, len(database)), own[sample]
    )
    return recall_of(row[sample, : wanted.shape[1]], wanted), len(sample)


def _plain(options: SearchOptions, queries: Descriptors, database: Descriptors) -> dict[str, Any]:
    """What changed the ranks, for the file's header."""
    named = {
        "engine": options.engine,
        "num_results": options.num_results,
        "min_similarity": options.min_similarity,
        "include_self": options.include_self,
        "nprobe": options.nprobe,
        "ef": options.ef,
    }
    return {**named, **options.refinement.as_dict(), "settings": database.settings or queries.settings}


def _called(descriptors: Descriptors) -> str:
    return descriptors.path or "a set of descriptors"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:20] + "…"
