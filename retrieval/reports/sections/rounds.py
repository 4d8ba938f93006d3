"""The rounds of a training run as curves and in numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from retrieval.reports.curves import Curve, curves
from retrieval.reports.page import Section
from retrieval.reports.run_page import RunPage

COLUMNS = {
    "val_map": "val mAP, %",
    "agreement": "as the teacher, %",
    "val_loss": "val loss",
    "train_loss": "train loss",
    "positive_similarity": "cosine, positives",
    "negative_similarity": "cosine, negatives",
    "gap": "gap",
    "gem_p": "GeM p",
    "queries": "tuples",
    "learning_rate": "rate",
    "seconds": "seconds",
}
"""Figures of a round, in the order of the table, and what people call them."""


def sections(page: RunPage) -> Iterator[Section]:
    """Curves, a table, then what was asked."""
    percent = [100 * value for value in page.column("val_map")]
    drawn = {
        "mAP of the validation places": ("per cent", [Curve("validation", percent, "val")]),
        "Agreement with the teacher": (
            "per cent of its nearest photos, kept-out photos",
            [Curve("agreement", [100 * value for value in page.column("agreement")], "val")],
        ),
        "Loss": (
            "mean loss of a tuple",
            [
                Curve("training", page.column("train_loss"), "train"),
                Curve("validation", page.column("val_loss"), "val"),
            ],
        ),
        "Similarity to the query": (
            "mean cosine while training",
            [
                Curve("positives", page.column("positive_similarity"), "positive"),
                Curve("negatives", page.column("negative_similarity"), "negative"),
            ],
        ),
        "What a blind run sees": (
            "cosine of positives less negatives, kept-out tuples",
            [Curve("gap", page.column("gap"), "train")],
        ),
    }
    figures = [
        {"title": title, "svg": curves(page.numbers, lines, axis, page.used), "lines": lines}
        for title, (axis, lines) in drawn.items()
        if any(math.isfinite(value) for line in lines for value in line.values)
    ]
    yield Section("curves", "Curves", {"figures": figures}, "curves.html.j2")
    columns = [name for name in COLUMNS if any(math.isfinite(value) for value in page.column(name))]
    rows = [
        (number, [_cell(name, page.column(name)[at]) for name in columns]) for at, number in enumerate(page.numbers)
    ]
    values = {"titles": [COLUMNS[name] for name in columns], "rows": rows, "used": page.used}
    yield Section("rounds", "Rounds", values, "rounds.html.j2")
    asked = {
        "options": sorted(page.checkpoint["options"].items()),
        "network": sorted(page.checkpoint["network"].items()),
    }
    yield Section("asked", "Asked for", asked, "asked.html.j2")


def _cell(name: str, value: float) -> str:
    if not math.isfinite(value):
        return ""
    if name == "learning_rate":
        return f"{value:.1e}"
    digits = {"val_map": 2, "agreement": 2, "queries": 0, "seconds": 0}.get(name, 4)
    return f"{value * (100 if name in ('val_map', 'agreement') else 1):,.{digits}f}"
