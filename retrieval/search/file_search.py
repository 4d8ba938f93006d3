"""Search descriptor files: one call for the `search` command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.search.feature_verifier import FeatureTables, FeatureVerifier, VerificationSources
from retrieval.search.options import SearchOptions
from retrieval.search.ranked_search import SearchResult, check_comparable, search
from sfm2tuples.errors import UsageError
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.similarity.exact_search import Search, most_similar

if TYPE_CHECKING:
    from retrieval.search.windows_of_files import WindowSources


@dataclass(frozen=True)
class FileSearch:
    """What a search of files found."""

    result: SearchResult
    warning: str | None
    """Where queries and database were made otherwise, one line."""
    parents: Sequence[str]
    """Fingerprints of the files."""


def search_files(
    query_file: Path,
    database_file: Path,
    options: SearchOptions,
    sources: WindowSources,
    verification: VerificationSources | None = None,
) -> FileSearch:
    """Search the descriptors of one file for those of another, or for its own.

    Parameters
    ----------
    query_file, database_file : Path
        Of either layout. A large database in our columns is mapped and read in blocks.
    options : SearchOptions
    sources : WindowSources
        For re-ranking by windows; its device multiplies in the flat search too, where one is named.
    verification : VerificationSources, optional
        For re-ranking by geometry.

    Raises
    ------
    UsageError
        The files do not fit together, or re-ranking lacks a network, photos or features.
    DataError
        A file is absent, torn, or holds rows that are no descriptors; a photo has no features.
    """
    refinement, verification = options.refinement, verification or VerificationSources()
    verification.check(refinement)
    if not refinement.num_windows and sources.any:
        raise UsageError("--network, --photos and --whitening are for --rerank R; the files hold descriptors already")
    database = read_descriptors(database_file)
    queries = database if query_file == database_file else read_descriptors(query_file)
    warning = check_comparable(queries, database)
    finder = verifier = None
    if refinement.num_windows:
        # PyTorch is slow to load, and a plain search does without.
        from retrieval.search.windows_of_files import window_finder

        finder = window_finder(queries, database, sources)
    parents = [fingerprint for fingerprint in (queries.fingerprint, database.fingerprint) if fingerprint]
    if refinement.num_verified:
        tables = FeatureTables(verification.features)
        verifier = FeatureVerifier(tables, queries.names, database.names, verification)
        parents += verifier.parents
    result = search(queries, database, options, finder, _exact(sources.device), verifier)
    if verifier is not None:
        result = replace(result, ranks=result.ranks.made_with(verifier.settings()))
    return FileSearch(result, warning, tuple(dict.fromkeys(parents)))


def _exact(device: str | None) -> Search:
    """What multiplies in a flat search."""
    if device is None:
        return most_similar
    from retrieval.networks.devices import choose_device
    from retrieval.search.torch_similarity import exact_search

    return exact_search(choose_device(device))
