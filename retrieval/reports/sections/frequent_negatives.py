"""The places that were most often chosen as negatives, each with its image that was chosen most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval.reports.page import Section
from retrieval.reports.tuple_page import TITLES, Tile, TuplePage

MOST_PLACES = 12
"""So many places of a split are shown."""


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


def sections(page: TuplePage) -> Iterator[Section]:
    """The places of both splits."""
    places = [(split, title, _frequent_places(page, split)) for split, title in TITLES.items()]
    title, link = "Places most often chosen as negatives", "Frequent negatives"
    yield Section("frequent", title, {"places": places}, "frequent_negatives.html.j2", link)


def _frequent_places(page: TuplePage, split: str) -> list[FrequentPlace]:
    """The places with most negatives, falling; ties by lower row."""
    images = page.tuples.images
    negatives = page.tuples.tuples[split].negative
    negatives = negatives[negatives >= 0]
    counts = np.bincount(images.place[negatives], minlength=len(page.tuples.places.name))
    frequent = []
    for place in np.argsort(-counts, kind="stable")[:MOST_PLACES].tolist():
        if counts[place] == 0:
            break
        rows, times = np.unique(negatives[images.place[negatives] == place], return_counts=True)
        tile = page.tile("negative", int(rows[np.argmax(times)]))
        frequent.append(FrequentPlace(tile, int(counts[place]), counts[place] / len(negatives), len(rows)))
    return frequent
