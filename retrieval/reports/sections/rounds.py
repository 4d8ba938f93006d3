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
    "queries": "drawn",
    "learning_rate": "rate",
    "seconds": "seconds",
}
"""Figures of a round, in the order of the table, and what people call them."""


def sections(page: RunPage) -> Iterator[Section]:
    """Curves, a table, then what was asked."""
    figures = []
    for title, (axis, lines, said) in _drawings(page).items():
        known = [line for line in lines if any(math.isfinite(value) for value in line.values)]
        if known:
            svg = curves(page.numbers, known, axis, page.used)
            figures.append({"title": title, "svg": svg, "lines": known, "said": said})
    yield Section("curves", "Curves", {"figures": figures}, "curves.html.j2")
    columns = [name for name in COLUMNS if any(math.isfinite(value) for value in page.column(name))]
    rows = [
        (number, [_cell(name, page.column(name)[at]) for name in columns]) for at, number in enumerate(page.numbers)
    ]
    titles = [f"{page.drawn}s" if name == "queries" else COLUMNS[name] for name in columns]
    values = {"titles": titles, "rows": rows, "used": page.used}
    yield Section("rounds", "Rounds", values, "rounds.html.j2")
    asked = {
        "options": sorted(page.checkpoint["options"].items()),
        "network": sorted(page.checkpoint["network"].items()),
    }
    yield Section("asked", "Asked for", asked, "asked.html.j2")


def _drawings(page: RunPage) -> dict[str, tuple[str, list[Curve], str]]:
    """Title of each drawing to its axis, its lines, and what it says where that is not plain."""
    percent = {name: [100 * value for value in page.column(name)] for name in ("val_map", "agreement")}
    anchor = {"tuple": "a tuple", "place": "an anchor of a batch", "photo": "a photo"}[page.drawn]
    return {
        "mAP of the validation places": ("per cent", [Curve("validation", percent["val_map"], "val")], ""),
        "Agreement with the teacher": (
            "per cent of its nearest photos, kept-out photos",
            [Curve("agreement", percent["agreement"], "val")],
            "",
        ),
        "Loss": (
            f"mean loss of {anchor}",
            [
                Curve("training", page.column("train_loss"), "train"),
                Curve("validation", page.column("val_loss"), "val"),
            ],
            "",
        ),
        "Similarity to the query": (
            "mean cosine while training",
            [
                Curve("positives", page.column("positive_similarity"), "positive"),
                Curve("negatives", page.column("negative_similarity"), "negative"),
            ],
            "",
        ),
        "Gap of the kept-out tuples": (
            "cosine of positives less that of negatives",
            [Curve("gap", page.column("gap"), "train")],
            "How much more alike queries are to their positives than to their negatives, in tuples that were not "
            "trained on. A smaller gap is not a worse network: without held-out places, nothing ranks the rounds.",
        ),
    }


def _cell(name: str, value: float) -> str:
    if not math.isfinite(value):
        return ""
    if name == "learning_rate":
        return f"{value:.1e}"
    digits = {"val_map": 2, "agreement": 2, "queries": 0, "seconds": 0}.get(name, 4)
    return f"{value * (100 if name in ('val_map', 'agreement') else 1):,.{digits}f}"
