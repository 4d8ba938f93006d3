"""Where two ways to answer the queries of an evaluation differ."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.reports.drawings import scatter
from retrieval.reports.evaluation_page import EvaluationPage
from retrieval.reports.page import Section


def sections(page: EvaluationPage) -> Iterator[Section]:
    """A drawing of all queries, and cards of those in which one of two ways is ahead; nothing for a single way."""
    if page.difference is None:
        return
    own, other = page.ways
    points = [(other.score(query), own.score(query), query) for query in own.entries]
    across, up = (f"{page.judged.name}, {way.name}" for way in (other, own))
    sides = [
        (way.name, len(queries), [page.cards.card(query, page.ways) for query in queries[: page.num_queries]])
        for way, queries in ((own, page.difference.ahead), (other, page.difference.behind))
    ]
    values = {
        "drawing": scatter(points, across, up, page.judged.best),
        "ways": [own.name, other.name],
        "judged": page.judged,
        "sides": sides,
    }
    yield Section("differ", "Where they differ", values, "differences.html.j2")
