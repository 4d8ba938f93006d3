"""The queries of an evaluation that were answered worst, and best."""

from __future__ import annotations

from collections.abc import Iterator

from retrieval.reports.evaluation_page import EvaluationPage
from retrieval.reports.page import Section


def sections(page: EvaluationPage) -> Iterator[Section]:
    """Cards of the worst queries, then of the best; no query is among both."""
    rising = page.ways[0].rising()
    count = min(page.num_queries, (len(rising) + 1) // 2)
    best = rising[::-1][: min(page.num_queries, len(rising) - count)]
    for anchor, queries in (("worst", rising[:count]), ("best", best)):
        values = {
            "cards": [page.cards.card(query, page.ways[:1]) for query in queries],
            "judged": page.judged,
            "way": page.ways[0].name if page.difference else "",
        }
        yield Section(anchor, f"{anchor.capitalize()} queries", values, "cards.html.j2")
