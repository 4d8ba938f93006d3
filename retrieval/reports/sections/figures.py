"""The figures of an evaluation: by setup, by place or label, by query, and what they were measured with."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from retrieval.protocols.benchmark import figure_text
from retrieval.reports.drawings import Series, histogram
from retrieval.reports.evaluation_page import EvaluationPage
from retrieval.reports.page import Section
from retrieval.reports.values import value_text

FINGERPRINT = re.compile("[0-9a-f]{64}")
MAX_GROUPS = 60
"""Places or labels in the table; of more, the worst."""
Group = tuple[str, int, list[tuple[float, str]]]
"""Name, number of queries, and each way's figure as a share of the best and as text."""


def sections(page: EvaluationPage) -> Iterator[Section]:
    """Tables of the figures and a histogram of the queries."""
    groups = _groups(page)
    scores = [np.array([way.score(query) for query in way.entries]) for way in page.ways]
    ways = zip(page.ways, scores, ("first", "second"), strict=False)
    series = [Series(way.name, values, css) for way, values, css in ways]
    names, figures = _texts(page)
    values = {
        "names": names,
        "figures": figures,
        "groups": groups[:MAX_GROUPS],
        "more_groups": max(len(groups) - MAX_GROUPS, 0),
        "means": _means(page, groups),
        "ways": [way.name for way in page.ways],
        "judged": page.judged,
        "histogram": histogram(series, page.judged.name),
        "made": [(name, file.content, list(_settings(file.content["settings"]))) for name, file in page.files()],
        "missing": page.thumbnails.missing,
    }
    yield Section("contents", "Figures", values, "figures.html.j2")


def _texts(page: EvaluationPage) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Names of the figures, and each setup's as people read them."""
    figures = page.figures()
    names = list(next(iter(figures.values())))
    texts = {
        title: [figure_text(name, np.nan if found.get(name) is None else found[name]) for name in names]
        for title, found in figures.items()
    }
    return names, list(texts.items())


def _settings(settings: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Settings as label and text; a setting of settings is taken apart."""
    for name, value in settings.items():
        label = f"{before}{name}".replace("_", " ")
        if isinstance(value, dict):
            yield from _settings(value, f"{name}: ")
        else:
            said = value_text(value)
            yield label, said[:16] if FINGERPRINT.fullmatch(said) else said


def _means(page: EvaluationPage, groups: list[Group]) -> list[tuple[str, list[str]]]:
    """The two means that `evaluate` prints below its groups: name, and text of each way."""
    judged, ways = page.judged, page.ways
    over_groups = [float(np.mean([found[at][0] for _, _, found in groups])) * judged.best for at in range(len(ways))]
    over_queries = [judged.mean_text(list(way.entries.values())) for way in ways]
    texts = [figure_text(judged.figure, mean) for mean in over_groups]
    return [("mean over groups", texts), ("mean over queries", over_queries)]


def _groups(page: EvaluationPage) -> list[Group]:
    """Name, number of queries, and each way's figure as a share of the best and as text, by place or label.

    The worst come first.
    """
    judged = page.judged
    members: dict[str, list[str]] = defaultdict(list)
    for query, entry in page.ways[0].entries.items():
        members[str(entry["group"])].append(query)
    rows = []
    for name, queries in members.items():
        found = [[way.entries[query] for query in queries] for way in page.ways]
        rows.append((name, len(queries), [(judged.mean(one) / judged.best, judged.mean_text(one)) for one in found]))
    return sorted(rows, key=lambda row: row[2][0][0])
