"""The places of an index: what they hold, how their images hang together, and why models were joined."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.reports.index_page import IndexPage
from retrieval.reports.inspection import JOINED
from retrieval.reports.page import Section

MOST = 200
"""Places in the table; those of many models and many images come first."""


def sections(page: IndexPage) -> Iterator[Section]:
    """A table of the places, then the shared points of the largest ones."""
    row_of = {name: row for row, name in enumerate(page.index.places.name)}
    joined, places = page.facts[JOINED], page.facts["places"]
    table = [
        {"name": name, "hue": page.hue(row_of[name]), **facts, "joined": joined.get(name, {"models": [], "why": []})}
        for name, facts in list(places.items())[:MOST]
    ]
    yield Section(
        "places",
        "Places",
        {"table": table, "total": len(places), "is_joined": any(row["joined"]["why"] for row in table)},
        "places.html.j2",
    )
    matrices = []
    for place in page.largest_places:
        drawn = page.drawings_of(place)
        matrices.append({"name": page.index.places.name[place], **vars(drawn)})
    yield Section("shared", "Shared points", {"matrices": matrices}, "shared_points.html.j2")
