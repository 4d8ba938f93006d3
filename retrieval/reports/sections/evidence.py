"""How the evidence of tuples is distributed: of the positives by split, of the similarities by role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from retrieval.reports.drawings import Series, histogram
from retrieval.reports.page import Section
from retrieval.reports.tuple_page import TITLES, TuplePage
from sfm2tuples.index.schema import SPLITS
from sfm2tuples.mining.tuple_file import UNKNOWN_SHARED, TupleFile


def sections(page: TuplePage) -> Iterator[Section]:
    """A histogram of each measure."""
    yield Section("evidence", "Evidence", {"figures": evidence_figures(page.tuples)}, "evidence.html.j2")


def evidence_figures(tuples: TupleFile) -> list[dict[str, Any]]:
    """Title and histogram of each measure that is known, and of its series class, name, number and median."""
    figures = []
    for title, axis, column, scale, decimals in (
        ("Shared points", "points that query and positive both see", "shared", 1.0, 0),
        ("Overlap", "shared points over the query's points", "overlap", 1.0, 2),
        ("Scale change", "ratio of pixel sizes, at least 1", "scale_change", 1.0, 2),
        ("Viewing angle", "mean over shared points, degrees", "angle", 180 / np.pi, 1),
    ):
        series = []
        for split in SPLITS:
            rows = tuples.tuples[split]
            known = (rows.positive >= 0) & (rows.shared != UNKNOWN_SHARED)
            series.append(Series(TITLES[split].lower(), getattr(rows, column)[known] * scale, split))
        figures.append(_figure(title, axis, series, decimals))
    for split in SPLITS:
        rows = tuples.tuples[split]
        series = [
            Series("positive", rows.positive_similarity[rows.positive >= 0]),
            Series("negative", rows.negative_similarity[rows.negative >= 0]),
        ]
        title = f"Similarity, {TITLES[split].lower()}"
        figures.append(_figure(title, "cosine of the descriptors to the query", series, 3))
    return [figure for figure in figures if figure["legend"]]


def _figure(title: str, axis: str, series: list[Series], decimals: int) -> dict[str, Any]:
    legend = [(s.css or s.name, s.name, len(s.finite), f"{s.median:.{decimals}f}") for s in series if len(s.finite)]
    return {"title": title, "svg": histogram(series, axis, decimals), "legend": legend}
