"""What a localiser gets from the first results of an evaluation's queries: points, near photos, poses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from retrieval.evaluation.evaluation_file import EvaluationFile
from retrieval.reports.drawings import Series, histogram
from retrieval.reports.evaluation_page import EvaluationPage
from retrieval.reports.page import Section

ALL = "all"
"""The column of what the whole database holds."""
NAMED = 12
"""Queries that are named of those that were not localised for one reason."""
DRAWN = "10"
"""The k of the histogram, where no other was matched."""
Cell = tuple[str, str]
"""A figure in percent, and its interval."""


def sections(page: EvaluationPage) -> Iterator[Section]:
    """Tables of each setup, a histogram of the points seen, who was not localised; nothing where it is not known."""
    files = [(title, file) for title, file in page.files() if "localisable" in file.content]
    if not files:
        return
    parts = [part for title, file in files for part in _parts(title if len(page.files()) > 1 else "", file)]
    values = {
        "parts": parts,
        "depths": any(file.content["localisable"]["metres_per_unit"] is None for _, file in files),
    }
    yield Section("localise", "For a localiser", values, "localisation.html.j2")


def _parts(title: str, file: EvaluationFile) -> Iterator[dict[str, Any]]:
    """What is shown of each setup of a file."""
    by_setup = file.content["localisable"]["setups"]
    for setup, found in by_setup.items():
        entries = file.setups[setup]["per_query"]
        titles, rows = _table(found["figures"])
        yield {
            "title": ", ".join(filter(None, (title, setup if len(by_setup) > 1 else ""))),
            "titles": titles,
            "rows": rows,
            "drawing": _drawing(file, entries),
            "drawn": _is_localised(entries),
            "failures": _failures(entries),
            "queries": len(entries),
        }


def _table(figures: dict[str, dict[str, dict[str, float | None]]]) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Titles of the columns, and each figure's name and cells."""
    known = {k for by_k in figures.values() for k in by_k}
    columns = sorted(known - {ALL}, key=int) + sorted(known & {ALL})
    titles = ["all others" if k == ALL else f"first {k}" for k in columns]
    return titles, [(name, [_cell(by_k.get(k)) for k in columns]) for name, by_k in figures.items()]


def _cell(interval: dict[str, float | None] | None) -> Cell:
    if interval is None:
        return "", ""
    numbers = [interval[name] for name in ("mean", "low", "high")]
    if any(number is None for number in numbers):
        return "-", ""
    mean, low, high = (f"{100 * number:.1f}" for number in numbers if number is not None)
    return mean, f"{low} to {high}"


def _is_localised(entries: Sequence[dict[str, Any]]) -> bool:
    return bool(entries) and all("pose" in entry["localisable"] for entry in entries)


def _drawing(file: EvaluationFile, entries: Sequence[dict[str, Any]]) -> Markup:
    """How much of their points the results of the queries see: of those localised and of the others, where known."""
    localise = file.content["settings"].get("localise")
    matched = str(localise.get("num_matched")) if isinstance(localise, dict) else DRAWN
    seen = [entry["localisable"]["seen"] for entry in entries]
    k = matched if all(matched in one for one in seen) else DRAWN
    points = np.array([entry["localisable"]["points"] for entry in entries], np.float64)
    share = np.array([one.get(k, np.nan) for one in seen]) / np.maximum(points, 1)
    groups = [Series("queries", share, "query")]
    if _is_localised(entries):
        right = np.array([entry["localisable"]["pose"]["reason"] == "" for entry in entries], bool)
        groups = [Series("localised", share[right], "right"), Series("not localised", share[~right], "wrong")]
    return histogram(groups, f"share of a query's points seen by its first {k}")


def _failures(entries: Sequence[dict[str, Any]]) -> list[tuple[str, int, list[str]]]:
    """Reason, number of queries, and the first of them; the most frequent reason first."""
    names: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        reason = entry["localisable"].get("pose", {}).get("reason")
        if reason:
            names[reason].append(str(entry["query"]))
    rows = [(reason, len(queries), queries[:NAMED]) for reason, queries in names.items()]
    return sorted(rows, key=lambda row: -row[1])
