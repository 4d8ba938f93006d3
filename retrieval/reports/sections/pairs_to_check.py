"""Positives that look unlike and negatives that look alike, with pictures; and a list of them to leave pairs out by."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from retrieval.reports.index_page import IndexPage
from retrieval.reports.inspection import LEAST_ALIKE, MOST_ALIKE
from retrieval.reports.page import Section
from retrieval.reports.tuple_page import TuplePage
from sfm2tuples.errors import counted
from sfm2tuples.mining.doubtful_pairs import MOST_LISTED, DoubtfulPairs

PAIRS = "pairs_to_check.csv"
"""File beside the page; `mine-tuples --leave-out-pairs` reads it."""
COLUMNS = ("kind", "first", "second", "similarity", "shared", "overlap", "angle")
TITLES = {"positive": LEAST_ALIKE, "negative": MOST_ALIKE}


def sections(page: IndexPage | TuplePage) -> Iterator[Section]:
    """Pairs of each kind, no photo twice, and all of the first `MOST_LISTED` in a file beside the page."""
    found = page.doubtful_pairs
    kinds = [
        {"kind": kind, "title": TITLES[kind].capitalize(), "pairs": _shown(page, pairs), "looked_at": pairs.looked_at}
        for kind, pairs in found.items()
        if pairs is not None
    ]
    values = {
        "kinds": kinds,
        "described": bool(found) and any(kind["looked_at"] for kind in kinds),
        "of_index": isinstance(page, IndexPage),
        "proven": found.get("negative") is not None,
        "file": PAIRS,
        "most": MOST_LISTED,
    }
    files = {PAIRS: table_of_pairs(found, page.keys)} if values["described"] else {}
    yield Section("check", "Pairs to check", values, "pairs_to_check.html.j2", files=files)


def _shown(page: IndexPage | TuplePage, pairs: DoubtfulPairs) -> list[dict[str, Any]]:
    shown = []
    for i in pairs.shown(page.options.num_pairs).tolist():
        numbers = []
        if pairs.shared[i] > 0:
            numbers.append(counted(int(pairs.shared[i]), "point"))
        if pairs.overlap[i] > 0:
            numbers.append(f"overlap {pairs.overlap[i]:.2f}")
        if np.isfinite(pairs.angle[i]):
            numbers.append(f"{np.degrees(pairs.angle[i]):.0f}°")
        first, second = int(pairs.first[i]), int(pairs.second[i])
        shown.append({
            "photos": [page.photo(first), page.photo(second)],
            "drawn": page.drawn(first, second) if pairs.shared[i] > 0 else None,
            "similarity": float(pairs.similarity[i]),
            "numbers": numbers,
        })  # fmt: skip
    return shown


def table_of_pairs(found: Mapping[str, DoubtfulPairs | None], keys: Sequence[str]) -> str:
    """A CSV of pairs: similarity is a cosine, the angle is in degrees, what is not known is empty.

    Parameters
    ----------
    found : mapping
        By kind.
    keys : sequence of str
        Of all images.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for kind, pairs in found.items():
        if pairs is None:
            continue
        angle = np.degrees(pairs.angle)
        for i in range(len(pairs.first)):
            shared = "" if pairs.shared[i] < 0 else int(pairs.shared[i])
            evidence = [shared, _number(pairs.overlap[i], 3), _number(angle[i], 1)]
            ends = [keys[int(pairs.first[i])], keys[int(pairs.second[i])]]
            writer.writerow([kind, *ends, f"{pairs.similarity[i]:.4f}", *evidence])
    return text.getvalue()


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""
