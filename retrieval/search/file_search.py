"""Search descriptor files: one call for the `search` command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.search.feature_verifier import FeatureTables, FeatureVerifier
from retrieval.search.options import Refinement, SearchOptions, VerificationSources
from retrieval.search.ranked_lists import Pipeline
from retrieval.search.ranked_search import SearchResult, check_comparable, search
from sfm2tuples.errors import UsageError
from sfm2tuples.files.container import known_parents
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.interop.pair_lists import refuse_spaced_names
from sfm2tuples.similarity.exact_search import Search, most_similar

if TYPE_CHECKING:
    from retrieval.search.windows_of_files import WindowSources


@dataclass(frozen=True)
class SearchRequest:
    """What is searched, for what, and how: what the `search` command is asked."""

    queries: Path
    """Descriptors of the queries, in either layout."""
    database: Path
    """Descriptors to search, or the same file; a large one in our columns is mapped and read in blocks."""
    options: SearchOptions
    """Engine and results."""
    refinement: Refinement
    """What is done beyond one search."""
    windows: WindowSources
    """For re-ranking by windows; its device multiplies in the flat search too, where one is named."""
    verification: VerificationSources
    """For re-ranking by geometry."""
    pairs: Path | None = None
    """The list of pairs that the ranks are for: the queries' names must be such as it can hold."""


@dataclass(frozen=True)
class FileSearch:
    """What a search of files found."""

    result: SearchResult
    warning: str | None
    """Where queries and database were made otherwise, one line."""
    parents: Sequence[str]
    """Fingerprints of the files."""


def search_files(request: SearchRequest) -> FileSearch:
    """Search the descriptors of one file for those of another, or for its own.

    Raises
    ------
    UsageError
        The files do not fit together, re-ranking lacks a network, photos or features, or a query's name holds spaces
        and pairs are wanted.
    DataError
        A file is absent, torn, or holds rows that are no descriptors; a photo has no features.
    """
    refinement, windows, verification = request.refinement, request.windows, request.verification
    verification.check(refinement)
    if not refinement.num_windows and windows.any:
        raise UsageError("--network, --photos and --whitening are for --rerank R; the files hold descriptors already")
    database = read_descriptors(request.database)
    queries = database if request.queries == request.database else read_descriptors(request.queries)
    warning = check_comparable(queries, database)
    if request.pairs is not None:
        refuse_spaced_names(request.pairs, queries.names)
    finder = verifier = None
    if refinement.num_windows:
        # PyTorch is slow to load, and a plain search does without.
        from retrieval.search.windows_of_files import window_finder

        finder = window_finder(queries, database, windows)
    if refinement.num_verified:
        tables = FeatureTables.of_files(verification.features)
        verifier = FeatureVerifier(tables, queries.names, database.names, verification.options, verification.jobs)
    pipeline = Pipeline(refinement, finder, verifier)
    result = search(queries, database, request.options, pipeline, _exact(windows.device))
    parents = [queries.fingerprint, database.fingerprint]
    if verifier is not None:
        result = replace(result, ranks=result.ranks.made_with(verifier.settings()))
        parents += verifier.parents
    return FileSearch(result, warning, known_parents(parents))


def _exact(device: str | None) -> Search:
    """What multiplies in a flat search."""
    if device is None:
        return most_similar
    from retrieval.networks.devices import choose_device
    from retrieval.search.torch_similarity import exact_search

    return exact_search(choose_device(device))
