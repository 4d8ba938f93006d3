"""The places that were most often chosen as negatives, each with its image that was chosen most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from retrieval.reports.page import Section
from retrieval.reports.tuple_page import TITLES, TuplePage

MOST_PLACES = 12
"""So many places of a split are shown."""


def sections(page: TuplePage) -> Iterator[Section]:
    """The places of both splits."""
    places = [(split, title, _frequent_places(page, split)) for split, title in TITLES.items()]
    title, link = "Places most often chosen as negatives", "Frequent negatives"
    yield Section("frequent", title, {"places": places}, "frequent_negatives.html.j2", link)


def _frequent_places(page: TuplePage, split: str) -> list[dict[str, Any]]:
    """The places with most negatives, falling; ties by lower row. Each has the tile of the image chosen most often."""
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
        chosen = int(counts[place])
        frequent.append({"tile": tile, "chosen": chosen, "share": chosen / len(negatives), "images": len(rows)})
    return frequent
