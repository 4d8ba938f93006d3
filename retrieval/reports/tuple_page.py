"""What the page of a tuple file shows: counts, distributions of the evidence, frequent negatives, tuples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from retrieval.reports.drawings import Series, histogram
from retrieval.reports.inspection import split_counts
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.mining.tuple_file import SPLITS, UNKNOWN_SHARED, PackedPhotos, TupleFile, TupleSet, read_tuples

NOT_KNOWN = "not known"
COUNTS = (
    *("tuples", "different queries", "places of queries", "positives", "negatives", "negatives missing"),
    *("images in the pool", "possible queries", "images", "places"),
)
"""Of `split_counts`, in the order of the table."""
FREQUENT_PLACES = 12
"""How many of the places that were most often chosen as negatives are shown."""


@dataclass(frozen=True)
class Tile:
    """One photo of a tuple with the numbers under it."""

    role: str
    """``query``, ``positive`` or ``negative``; also its CSS class."""
    url: str = ""
    """Address of the picture; empty where the photo cannot be shown."""
    key: str = ""
    """The photo's key; empty where the tuple has no image here (-1)."""
    place: str = ""
    """Name of its place."""
    similarity: float | None = None
    """Cosine to the query; None where it is not known."""
    numbers: tuple[tuple[str, str], ...] = ()
    """Label and value of each number."""


@dataclass(frozen=True)
class Montage:
    """One tuple as a row of photos."""

    number: int
    """Row of the tuple in its split."""
    place: str
    """Place of the query."""
    query: Tile
    """The query."""
    positives: list[Tile]
    """Its positives."""
    negatives: list[Tile]
    """Its negatives, most similar first."""


@dataclass(frozen=True)
class Figure:
    """A histogram with its legend."""

    title: str
    """What is shown."""
    svg: Markup
    """The drawing."""
    legend: list[tuple[str, int, str]]
    """Name, number of values and median of each series."""


@dataclass(frozen=True)
class FrequentPlace:
    """A place that many tuples have a negative of."""

    tile: Tile
    """Its image that was chosen most often."""
    chosen: int
    """How often one of its images was chosen."""
    share: float
    """The same as a share of all negatives of the split."""
    images: int
    """Different images of it that were chosen."""


def tuple_page(path: Path, num_tuples: int, thumbnails: Thumbnails) -> dict[str, Any]:
    """Collect what `tuples.html.j2` shows of a tuple file.

    Parameters
    ----------
    path : Path
        The tuple file.
    num_tuples : int
        Tuples shown of each split, balanced over the places of their queries.
    thumbnails : Thumbnails
        Where the pictures go.
    """
    tuples = read_tuples(path)
    look = _Look(tuples, thumbnails)
    return {
        "name": path.name,
        "header": tuples.header,
        "options": sorted(tuples.header.options.items()),
        "counts": _counts(tuples),
        "num_images": len(tuples.images.key),
        "num_places": len(tuples.places.name),
        "packed_size": tuples.packed_size,
        "packed_bytes": int(tuples.photo_indptr[-1]) if tuples.packed_size else 0,
        "figures": evidence_figures(tuples),
        "frequent": {split: _frequent_places(look, split) for split in SPLITS},
        "montages": {split: _montages(look, split, num_tuples) for split in SPLITS},
        "thumbnails": thumbnails,
    }


def _counts(tuples: TupleFile) -> list[tuple[str, list[int]]]:
    """What there is of each split: label and its counts in the order of `SPLITS`."""
    found = [split_counts(tuples, split) for split in SPLITS]
    return [(label, [counts[label] for counts in found]) for label in COUNTS]


def evidence_figures(tuples: TupleFile) -> list[Figure]:
    """Distributions of the evidence: of the positives by split, of the similarities by role."""
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
            series.append(Series(split, getattr(rows, column)[known] * scale))
        figures.append(_figure(title, axis, series, decimals))
    for split, name in zip(SPLITS, ("training", "validation"), strict=True):
        rows = tuples.tuples[split]
        series = [
            Series("positive", rows.positive_similarity[rows.positive >= 0]),
            Series("negative", rows.negative_similarity[rows.negative >= 0]),
        ]
        figures.append(_figure(f"Similarity, {name}", "cosine of the descriptors to the query", series, 3))
    return figures


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


def _figure(title: str, axis: str, series: list[Series], decimals: int) -> Figure:
    legend = [(s.name, len(s.finite), f"{s.median:.{decimals}f}" if len(s.finite) else "none") for s in series]
    return Figure(title, histogram(series, axis, decimals), legend)


class _Look:
    """The tuple file, its photos, and tiles made of them."""

    def __init__(self, tuples: TupleFile, thumbnails: Thumbnails) -> None:
        self.tuples = tuples
        self._thumbnails = thumbnails
        self._source: Callable[[int], Path | bytes] = (
            PackedPhotos(tuples).__getitem__ if tuples.packed_size else tuples.images.path
        )

    def tile(
        self, role: str, row: int, similarity: float | None = None, numbers: tuple[tuple[str, str], ...] = ()
    ) -> Tile:
        """The tile of an image; an empty one where there is none (-1)."""
        if row < 0:
            return Tile(role)
        images = self.tuples.images
        return Tile(
            role=role,
            url=self._thumbnails.url(row, images.key[row], self._source),
            key=images.key[row],
            place=self.tuples.places.name[int(images.place[row])],
            similarity=similarity if similarity is not None and np.isfinite(similarity) else None,
            numbers=numbers,
        )


def _montages(look: _Look, split: str, num_tuples: int) -> list[Montage]:
    rows = look.tuples.tuples[split]
    return [
        _montage(look, rows, row) for row in choose_balanced(look.tuples.images.place[rows.query], num_tuples).tolist()
    ]


def _montage(look: _Look, rows: TupleSet, row: int) -> Montage:
    images = look.tuples.images
    query = int(rows.query[row])
    width, height = images.size[query].tolist()
    query_tile = look.tile("query", query, numbers=(("photo", f"{width} × {height} px"),))
    return Montage(
        number=row,
        place=query_tile.place,
        query=query_tile,
        positives=list(_positives(look, rows, row)),
        negatives=[
            look.tile("negative", image, similarity)
            for image, similarity in zip(
                rows.negative[row].tolist(), rows.negative_similarity[row].tolist(), strict=True
            )
        ],
    )


def _positives(look: _Look, rows: TupleSet, row: int) -> Iterator[Tile]:
    for column, image in enumerate(rows.positive[row].tolist()):
        shared, scale_change = int(rows.shared[row, column]), float(rows.scale_change[row, column])
        overlap, angle = float(rows.overlap[row, column]), float(np.degrees(rows.angle[row, column]))
        yield look.tile(
            "positive",
            image,
            float(rows.positive_similarity[row, column]),
            (
                ("shared points", f"{shared:,}" if shared != UNKNOWN_SHARED else NOT_KNOWN),
                ("overlap", f"{overlap:.2f}" if np.isfinite(overlap) else NOT_KNOWN),
                ("scale change", f"{scale_change:.2f}×" if np.isfinite(scale_change) else NOT_KNOWN),
                ("angle", f"{angle:.1f}°" if np.isfinite(angle) else NOT_KNOWN),
            ),
        )


def _frequent_places(look: _Look, split: str) -> list[FrequentPlace]:
    """The places with most negatives, falling; ties by lower row."""
    images = look.tuples.images
    negatives = look.tuples.tuples[split].negative
    negatives = negatives[negatives >= 0]
    counts = np.bincount(images.place[negatives], minlength=len(look.tuples.places.name))
    frequent = []
    for place in np.argsort(-counts, kind="stable")[:FREQUENT_PLACES].tolist():
        if counts[place] == 0:
            break
        rows, times = np.unique(negatives[images.place[negatives] == place], return_counts=True)
        tile = look.tile("negative", int(rows[np.argmax(times)]))
        frequent.append(FrequentPlace(tile, int(counts[place]), counts[place] / len(negatives), len(rows)))
    return frequent
