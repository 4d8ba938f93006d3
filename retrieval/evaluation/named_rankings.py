"""Ranked lists of names, anybody's: a text for each query, one text of lines, or what `search` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrieval.metrics.results import Evaluation
from retrieval.protocols.benchmark import Benchmark
from retrieval.protocols.photo_names import PhotoNames
from retrieval.search.ranks_file import read_ranks
from sfm2tuples.errors import DataError, first_three, refuse_some, told_of
from sfm2tuples.files.opening import is_hdf5
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.text import filled_lines


def read_rankings(path: Path) -> dict[str, list[str]]:
    """Read ranked lists.

    Parameters
    ----------
    path : Path
        A folder with ``QUERY.txt`` for each query, one name a line, best first. Or a file whose lines begin with the
        query's name, followed by ranked names; lines of one query continue each other, so that hloc's pairs.txt is
        such a file. Or what ``search -o`` wrote.

    Returns
    -------
    dict
        Query to names, best first, each once.

    Raises
    ------
    DataError
        No such file or folder, no text, no ranking in it, or a line without a ranked name.
    """
    if path.is_dir():
        rankings = {file.stem: filled_lines(file) for file in sorted(path.glob("*.txt"))}
    elif is_hdf5(path):
        ranks = read_ranks(path)
        rankings = {query: ranks.found(row) for row, query in enumerate(ranks.queries)}
    else:
        require_file(path, absent="no such file or folder")
        rankings = _of_lines(path)
    if not rankings:
        raise DataError(path, "holds no ranking", "a file of lines, or a folder of QUERY.txt")
    return {query: list(dict.fromkeys(names)) for query, names in rankings.items()}


def _of_lines(path: Path) -> dict[str, list[str]]:
    rankings: dict[str, list[str]] = {}
    for number, line in enumerate(filled_lines(path), start=1):
        query, *names = line.split()
        if not names:
            raise DataError(path, f"line {number} names a query and nothing ranked")
        rankings.setdefault(query, []).extend(names)
    return rankings


def evaluate_named_rankings(
    rankings: dict[str, list[str]], benchmark: Benchmark, origin: str
) -> tuple[dict[str, Evaluation], list[str]]:
    """Evaluate ranked names under every setup of a protocol.

    Parameters
    ----------
    rankings : dict
        By the query's name or its alias, with or without folders and suffix. A ranked name that the protocol does not
        know is a wrong answer; what is not ranked counts as not found.
    benchmark : Benchmark
    origin : str
        Where the rankings are from, for messages.

    Returns
    -------
    evaluations : dict
        By setup.
    notes : list of str
        How many ranked names the protocol does not know.

    Raises
    ------
    DataError
        A query has no ranking, or several that its name fits; or no ranked name is known.
    """
    ordered = _in_order(rankings, benchmark, origin)
    if not any(ordered):
        raise DataError(origin, "ranks nothing for any query", "was it made with too high a --min-similarity?")
    known = PhotoNames(benchmark.database, origin)
    row_of = {name: row for row, name in enumerate(benchmark.database)}
    strangers: dict[str, int] = {}
    rows = []
    for names in ordered:
        found = []
        for name in names:
            own = known.find(name)
            stranger = len(benchmark.database) + strangers.setdefault(name, len(strangers)) if own is None else -1
            found.append(stranger if own is None else row_of[own])
        rows.append(np.array(list(dict.fromkeys(found)), np.int64))
    if all(np.all(row >= len(benchmark.database)) for row in rows):
        raise DataError(
            origin, f"none of its names is known to the protocol, first {first_three(next(filter(None, ordered)))}"
        )
    evaluations = benchmark.evaluate(rows, [*benchmark.database, *strangers])
    notes = [told_of(len(strangers), "ranked names are not in the ground truth's lists and are held to be wrong")]
    return evaluations, notes if strangers else []


def _in_order(rankings: dict[str, list[str]], benchmark: Benchmark, origin: str) -> list[list[str]]:
    """The ranking of each query, found by its name, its short name or its alias."""
    known = PhotoNames(list(rankings), origin)
    aliases = benchmark.aliases or benchmark.queries
    called = [
        alias if query not in rankings and alias in rankings else known.find(query)
        for query, alias in zip(benchmark.queries, aliases, strict=True)
    ]
    found = [None if name is None else rankings[name] for name in called]
    absent = [query for query, names in zip(benchmark.queries, found, strict=True) if names is None]
    remedy = f"it has those of {first_three(list(rankings))}; is it the right folder or file?"
    refuse_some(origin, absent, len(found), "queries have no ranking", remedy)
    return [names for names in found if names is not None]
