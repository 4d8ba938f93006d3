"""Tuples as rows of photos, a section for each split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from retrieval.reports.page import Section
from retrieval.reports.tuple_page import TITLES, Tile, TuplePage
from sfm2tuples.mining.tuple_file import UNKNOWN_SHARED

NOT_KNOWN = "not known"


def sections(page: TuplePage) -> Iterator[Section]:
    """Some tuples of each split, balanced over the places of their queries."""
    for split, title in TITLES.items():
        rows = page.tuples.tuples[split]
        shown = choose_balanced(page.tuples.images.place[rows.query], page.num_tuples).tolist()
        montages = [_montage(page, split, row) for row in shown]
        values = {"montages": montages, "total": len(rows.query), "is_drawn": page.is_drawn}
        yield Section(split, f"{title} tuples", values, "montages.html.j2")


def choose_balanced(places: np.ndarray, count: int) -> np.ndarray:
    """Rows to show, as evenly over the places as can be, and evenly spread within a place.

    Parameters
    ----------
    places : (t,) int64
        Place of each row.
    count : int
        Rows wanted.

    Returns
    -------
    (min(t, count),) int64
        Grouped by place, rising within a place.
    """
    groups = [np.flatnonzero(places == place) for place in np.unique(places)]
    if len(groups) > count:
        groups = [groups[g] for g in _spread(len(groups), count)]
    quota = np.zeros(len(groups), np.int64)
    sizes = np.array([len(group) for group in groups], np.int64)
    # One more of each place that has one left, again and again, until enough are chosen.
    while quota.sum() < min(count, sizes.sum()):
        open_places = np.flatnonzero(quota < sizes)
        quota[open_places[: count - int(quota.sum())]] += 1
    chosen = [group[_spread(len(group), k)] for group, k in zip(groups, quota.tolist(), strict=True)]
    return np.concatenate([np.empty(0, np.int64), *chosen])


def _spread(total: int, count: int) -> np.ndarray:
    """`count` different positions, evenly spread over `total`."""
    return (np.arange(count) * total) // max(count, 1)


def _montage(page: TuplePage, split: str, row: int) -> dict[str, Any]:
    """The tiles of a tuple: its query, its positives, and its negatives, most similar first."""
    rows = page.tuples.tuples[split]
    query = int(rows.query[row])
    width, height = page.tuples.images.size[query].tolist()
    asked = page.tile("query", query, numbers=(("photo", f"{width} × {height} px"),))
    negatives = zip(rows.negative[row].tolist(), rows.negative_similarity[row].tolist(), strict=True)
    tiles = [asked, *_positives(page, split, row), *(page.tile("negative", *negative) for negative in negatives)]
    drawn = [page.drawn(query, positive) for positive in rows.positive[row].tolist()]
    pairs = [pair for pair in drawn if pair is not None]
    return {"place": asked.place, "number": row, "tiles": tiles, "drawn": pairs}


def _positives(page: TuplePage, split: str, row: int) -> Iterator[Tile]:
    rows, candidates = page.tuples.tuples[split], page.tuples.candidates[split]
    if candidates.across is not None:
        position = candidates.positions(np.full(rows.positive.shape[1], rows.query[row]), rows.positive[row])
        across = np.append(candidates.across, False)[position].tolist()
    for column, image in enumerate(rows.positive[row].tolist()):
        shared, scale_change = int(rows.shared[row, column]), float(rows.scale_change[row, column])
        overlap, angle = float(rows.overlap[row, column]), float(np.degrees(rows.angle[row, column]))
        sequence = [] if candidates.across is None else [("sequence", "another" if across[column] else "own")]
        yield page.tile(
            "positive",
            image,
            float(rows.positive_similarity[row, column]),
            (
                ("shared points", f"{shared:,}" if shared != UNKNOWN_SHARED else NOT_KNOWN),
                ("overlap", f"{overlap:.2f}" if np.isfinite(overlap) else NOT_KNOWN),
                ("scale change", f"{scale_change:.2f}×" if np.isfinite(scale_change) else NOT_KNOWN),
                ("angle", f"{angle:.1f}°" if np.isfinite(angle) else NOT_KNOWN),
                *sequence,
            ),
        )
