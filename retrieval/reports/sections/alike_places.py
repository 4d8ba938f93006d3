"""Places of an index that look alike, with the photos that do so most."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.reports.index_page import IndexPage
from retrieval.reports.page import Section

PHOTOS = 3
"""Pairs of photos shown of each pair of places."""


def sections(page: IndexPage) -> Iterator[Section]:
    """Pairs of places side by side; without descriptors a line that says how to get them."""
    alike = page.alike_places()
    pairs = []
    for pair in alike[: page.options.num_pairs]:
        photos = [
            {"first": page.photo(found.first), "second": page.photo(found.second), "similarity": found.similarity}
            for found in page.alike_photos(pair, PHOTOS)
        ]
        names = [page.index.places.name[side] for side in (pair.first, pair.second)]
        pairs.append({"names": names, "likeness": pair.likeness, "photos": photos})
    values = {
        "described": page.described is not None,
        "places": len(page.index.places.name),
        "pairs": pairs,
        "total": len(alike),
    }
    yield Section("alike", "Places that look alike", values, "alike_places.html.j2", "Look alike")
