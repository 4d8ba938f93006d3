"""What the page of an evaluation shows: figures, the worst and best queries, and where two ways to answer differ."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.evaluation.evaluation_file import SUFFIX, EvaluationFile, read_evaluation
from retrieval.metrics.kept_images import FIRST
from retrieval.protocols.benchmark import figure_text
from retrieval.reports.drawings import Series, histogram, scatter
from retrieval.reports.evaluation_cards import Cards, Way
from retrieval.reports.query_scores import Entry, QueryScore, query_score
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.errors import UsageError

NETWORK, TEACHER = "network", "teacher"
FINGERPRINT = re.compile("[0-9a-f]{64}")
EQUAL = 5e-4
"""Difference of two scores, as a share of the best, that counts as none: less than is shown."""
MAX_GROUPS = 60
"""Places or labels in the table; of more, the worst."""


@dataclass(frozen=True)
class EvaluationOptions:
    """How much a page shows, and of what."""

    num_queries: int = 10
    """Queries of each kind: worst, best, and those in which one of two ways is ahead."""
    num_ranked: int = 10
    """First ranked images of a query, not counting the junk among them."""
    setup: str | None = None
    """Of several setups the one that is looked at; Medium, or the first."""
    compare: Path | None = None
    """Another evaluation of the same queries; a teacher inside of this one by default."""
    images: Path | None = None
    """Folder of the photos, where they are not where `evaluate` found them."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if self.num_queries < 0:
            raise UsageError(f"--num-queries {self.num_queries}: give a number of at least 0")
        if not 0 <= self.num_ranked <= FIRST:
            what = f"an evaluation keeps the first {FIRST} that are not junk; give 0 to as many"
            raise UsageError(f"--num-ranked {self.num_ranked}: {what}")


def evaluation_page(path: Path, options: EvaluationOptions, thumbnails: Thumbnails) -> dict[str, Any]:
    """Collect what `evaluation.html.j2` shows.

    Parameters
    ----------
    path : Path
        What `evaluate -o` wrote.
    options : EvaluationOptions
    thumbnails : Thumbnails
        Where the pictures go.

    Raises
    ------
    FileFormatError
        A file is no evaluation, or of another version.
    UsageError
        There is no such setup, or the other evaluation is of another protocol or other queries.
    """
    file = read_evaluation(path)
    setup = file.setup(options.setup)
    judged = query_score(next(iter(file.content["figures"][setup])))
    against = None if options.compare is None else read_evaluation(options.compare)
    ways = _ways(file, setup, against, judged)
    cards = Cards(file.photos.find(options.images), thumbnails, options.num_ranked)
    rising = ways[0].rising()
    count = min(options.num_queries, (len(rising) + 1) // 2)
    best = rising[::-1][: min(options.num_queries, len(rising) - count)]
    groups = _groups(ways)
    return {
        "name": path.name,
        "file": file.content,
        "setup": setup,
        "judged": judged,
        "figures": _figures(file, against),
        "made": [
            (name, one.content, list(_settings(one.content["settings"])))
            for name, one in zip(_names(file, against), (file, against), strict=True)
            if one is not None
        ],
        "groups": groups[:MAX_GROUPS],
        "more_groups": max(len(groups) - MAX_GROUPS, 0),
        "histogram": histogram(
            [
                Series(way.name, np.array(way.scores()), css)
                for way, css in zip(ways, ("first", "second"), strict=False)
            ],
            judged.name,
        ),
        "ways": [(way.name, judged.mean_text(list(way.entries.values()))) for way in ways],
        "queries": len(rising),
        "worst": [cards.card(query, ways[:1]) for query in rising[:count]],
        "best": [cards.card(query, ways[:1]) for query in best],
        "difference": None if len(ways) == 1 else _difference(ways[0], ways[1], cards, options.num_queries),
        "thumbnails": thumbnails,
    }


def _check_alike(file: EvaluationFile, against: EvaluationFile, queries: Iterable[str], others: Iterable[str]) -> None:
    """Refuse to compare evaluations of different protocols or queries."""
    protocols = against.content["protocol"], file.content["protocol"]
    if protocols[0] != protocols[1]:
        raise UsageError(f"{against.path}: is of protocol {protocols[0]}, {file.path} of {protocols[1]}; compare alike")
    if set(queries) != set(others):
        raise UsageError(f"{against.path}: has other queries than {file.path}; compare evaluations of the same ones")


def _names(file: EvaluationFile, against: EvaluationFile | None) -> tuple[str, str]:
    """What two evaluations are called: by their files' names, or by their paths where these are one name."""
    if against is None or file.path.stem != against.path.stem:
        return file.path.stem, "" if against is None else against.path.stem
    return str(file.path), str(against.path)


def _ways(file: EvaluationFile, setup: str, against: EvaluationFile | None, judged: QueryScore) -> list[Way]:
    """The evaluation, and what it is compared with: another file, the teacher beside its network, or nothing."""
    entries = _counted(file, setup)
    if against is not None:
        others = _counted(against, setup if setup in against.setups else against.setup(None))
        _check_alike(file, against, entries, others)
        own, other = _names(file, against)
        return [Way(own, entries, judged), Way(other, others, judged)]
    alone = setup.endswith(SUFFIX) or set(file.content["settings"]) == {TEACHER}
    ways = [Way(TEACHER if alone else NETWORK, entries, judged)]
    if setup + SUFFIX in file.setups:
        ways.append(Way(TEACHER, _counted(file, setup + SUFFIX), judged))
    return ways


def _counted(file: EvaluationFile, setup: str) -> dict[str, Entry]:
    """Results of the queries that have positives, by query; a query that is asked again has a number behind it."""
    found: dict[str, Entry] = {}
    asked: dict[str, int] = defaultdict(int)
    for entry in file.setups[setup]["per_query"]:
        if entry["average_precision"] is not None:
            name = str(entry["query"])
            asked[name] += 1
            found[name if asked[name] == 1 else f"{name} #{asked[name]}"] = entry
    return found


def _figures(file: EvaluationFile, against: EvaluationFile | None) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Names of the figures, and each setup's as people read them."""
    figures = file.content["figures"]
    if against is not None:
        own, other = _names(file, against)
        figures = {f"{setup}, {own}": found for setup, found in figures.items()}
        figures |= {f"{setup}, {other}": found for setup, found in against.content["figures"].items()}
    names = list(next(iter(figures.values())))
    texts = [
        [figure_text(n, np.nan if found.get(n) is None else found[n]) for n in names] for found in figures.values()
    ]
    return names, list(zip(figures, texts, strict=True))


def _settings(settings: dict[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """Settings as label and text; a setting of settings is taken apart."""
    for name, value in settings.items():
        label = f"{before}{name}".replace("_", " ")
        if isinstance(value, dict):
            yield from _settings(value, f"{name}: ")
        else:
            said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield label, said[:16] if FINGERPRINT.fullmatch(said) else said


def _groups(ways: Sequence[Way]) -> list[tuple[str, int, list[tuple[float, str]]]]:
    """Name, number of queries, and each way's figure as a share of the best and as text, by place or label.

    The worst come first.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for query, entry in ways[0].entries.items():
        members[str(entry["group"])].append(query)
    rows = []
    for name, queries in members.items():
        found = [(way.judged, [way.entries[query] for query in queries]) for way in ways]
        rows.append((name, len(queries), [(j.mean(entries) / j.best, j.mean_text(entries)) for j, entries in found]))
    return sorted(rows, key=lambda row: row[2][0][0])


def _difference(own: Way, other: Way, cards: Cards, count: int) -> dict[str, Any]:
    """Where two ways differ: how often which is ahead, a drawing, and the queries in which one is ahead most."""
    score = own.judged
    gain = {query: (own.score(query) - other.score(query)) / score.best for query in own.entries}
    ahead = sorted((q for q in gain if gain[q] > EQUAL), key=lambda q: -gain[q])
    behind = sorted((q for q in gain if gain[q] < -EQUAL), key=lambda q: gain[q])
    points = [(other.score(query), own.score(query), query) for query in gain]
    return {
        "ahead": len(ahead),
        "behind": len(behind),
        "equal": len(gain) - len(ahead) - len(behind),
        "drawing": scatter(points, f"{score.name}, {other.name}", f"{score.name}, {own.name}", score.best),
        "sides": [
            (own.name, len(ahead), [cards.card(query, [own, other]) for query in ahead[:count]]),
            (other.name, len(behind), [cards.card(query, [own, other]) for query in behind[:count]]),
        ],
    }
