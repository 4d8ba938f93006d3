"""What the page of an evaluation shows: figures, the worst and best queries, and where two ways to answer differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from retrieval.evaluation_files import SUFFIX, EvaluationFile, PhotoFinder, read_evaluation
from retrieval.histograms import Series, histogram
from retrieval.images import photo_size
from retrieval.protocols.benchmark import figure_text
from retrieval.scatter import scatter
from retrieval.thumbnails import Thumbnails
from sfm2tuples.errors import PhotoError, UsageError

NETWORK, TEACHER = "network", "teacher"
FINGERPRINT = re.compile("[0-9a-f]{64}")
EQUAL = 5e-4
"""Difference of two average precisions that counts as none: less than is shown."""
Entry = dict[str, Any]
"""One query's result, as `Evaluation.as_dict` writes it."""


@dataclass(frozen=True)
class Looking:
    """How much a page shows, and of what."""

    num_queries: int = 10
    """Queries of each kind: worst, best, and those in which one of two ways is ahead."""
    num_ranked: int = 10
    """First ranked images of a query."""
    setup: str | None = None
    """Of several setups the one that is looked at; Medium, or the first."""
    compare: Path | None = None
    """Another evaluation of the same queries; a teacher inside of this one by default."""
    images: Path | None = None
    """Folder of the photos, where they are not where `evaluate` found them."""


@dataclass(frozen=True)
class Picture:
    """A photo with its frame."""

    role: str
    """``query``, or one of `ranked_pictures.VERDICTS`; also its CSS class."""
    key: str
    """Its name."""
    url: str
    """Address of the picture; empty where the photo cannot be shown."""
    caption: str
    """What it is, in words: the frame's colour is not enough."""
    box: Markup | None = None
    """What is asked for of a query's photo, drawn over it."""


@dataclass(frozen=True)
class Answer:
    """What one way found for a query."""

    name: str
    """Of the way."""
    precision: float
    """Average precision, 0..1."""
    pictures: list[Picture]
    """The first ranked."""
    last: list[Picture]
    """Positives that were ranked last, or never, beyond those above."""


@dataclass(frozen=True)
class QueryCard:
    """A query and its answers."""

    query: Picture
    group: str
    """Its place or label."""
    positives: int
    """How many images are right."""
    answers: list[Answer]
    """One, or two to compare."""


@dataclass(frozen=True)
class Way:
    """One way to answer: its name and its results by query."""

    name: str
    entries: dict[str, Entry]

    def precision(self, query: str) -> float:
        """Average precision of a query, 0..1."""
        return float(self.entries[query]["average_precision"])


def evaluation_page(path: Path, looking: Looking, thumbnails: Thumbnails) -> dict[str, Any]:
    """Collect what `evaluation.html.j2` shows.

    Parameters
    ----------
    path : Path
        What `evaluate -o` wrote.
    looking : Looking
    thumbnails : Thumbnails
        Where the pictures go.

    Raises
    ------
    FileFormatError
        A file is no evaluation, or of another version.
    UsageError
        There is no such setup, or the other evaluation is of other queries.
    """
    file = read_evaluation(path)
    setup = file.setup(looking.setup)
    own = Way(_own_name(file, setup, looking), _counted(file, setup))
    other = _other(file, setup, looking)
    if other is not None and set(other.entries) != set(own.entries):
        raise UsageError(f"{looking.compare}: has other queries than {path}; compare evaluations of one protocol")
    ways = [own] if other is None else [own, other]
    cards = _Cards(file.photos.find(looking.images), thumbnails, looking.num_ranked)
    rising = sorted(own.entries, key=own.precision)
    count = min(looking.num_queries, (len(rising) + 1) // 2)
    best = rising[::-1][: min(looking.num_queries, len(rising) - count)]
    return {
        "name": path.name,
        "file": file.content,
        "setup": setup,
        "figures": _figures(file),
        "settings": list(_settings(file.content["settings"])),
        "groups": _groups(ways),
        "histogram": histogram(
            [Series(way.name, _precisions(way), css) for way, css in zip(ways, ("first", "second"), strict=False)],
            "average precision of a query",
        ),
        "ways": [(way.name, float(_precisions(way).mean())) for way in ways if way.entries],
        "queries": len(rising),
        "worst": [cards.card(query, [own]) for query in rising[:count]],
        "best": [cards.card(query, [own]) for query in best],
        "difference": None if other is None else _difference(own, other, cards, looking.num_queries),
        "thumbnails": thumbnails,
    }


def _own_name(file: EvaluationFile, setup: str, looking: Looking) -> str:
    if looking.compare is not None:
        return file.path.stem if file.path.stem != looking.compare.stem else str(file.path)
    return TEACHER if setup.endswith(SUFFIX) or set(file.content["settings"]) == {TEACHER} else NETWORK


def _other(file: EvaluationFile, setup: str, looking: Looking) -> Way | None:
    """What the evaluation is compared with: another file, or the teacher that answered beside the network."""
    if looking.compare is None:
        beside = setup + SUFFIX
        return Way(TEACHER, _counted(file, beside)) if beside in file.setups else None
    against = read_evaluation(looking.compare)
    name = looking.compare.stem if looking.compare.stem != file.path.stem else str(looking.compare)
    return Way(name, _counted(against, setup if setup in against.setups else against.setup(None)))


def _counted(file: EvaluationFile, setup: str) -> dict[str, Entry]:
    """Results of the queries that have positives, by query; a query that is asked twice has a number behind it."""
    found: dict[str, Entry] = {}
    for entry in file.setups[setup]["per_query"]:
        if entry["average_precision"] is not None:
            name = str(entry["query"])
            again = sum(known.split(" #")[0] == name for known in found)
            found[f"{name} #{again + 1}" if again else name] = entry
    return found


def _figures(file: EvaluationFile) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Names of the figures, and each setup's as people read them."""
    figures = file.content["figures"]
    names = list(next(iter(figures.values())))
    rows = [
        (setup, [figure_text(name, np.nan if found[name] is None else found[name]) for name in names])
        for setup, found in figures.items()
    ]
    return names, rows


def _settings(settings: dict[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """Settings as label and text; a setting of settings is taken apart."""
    for name, value in settings.items():
        label = f"{before}{name}".replace("_", " ")
        if isinstance(value, dict):
            yield from _settings(value, f"{name}: ")
        else:
            said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield label, said[:16] if FINGERPRINT.fullmatch(said) else said


def _groups(ways: Sequence[Way]) -> list[tuple[str, int, list[float]]]:
    """Name, number of queries and mAP by each way, of each place or label, the worst first."""
    names = list(dict.fromkeys(entry["group"] for entry in ways[0].entries.values()))
    rows = []
    for name in names:
        members = [query for query, entry in ways[0].entries.items() if entry["group"] == name]
        rows.append((name, len(members), [float(np.mean([way.precision(q) for q in members])) for way in ways]))
    return sorted(rows, key=lambda row: row[2][0])


def _precisions(way: Way) -> np.ndarray:
    return np.array([way.precision(query) for query in way.entries], np.float64)


def _difference(own: Way, other: Way, cards: _Cards, count: int) -> dict[str, Any]:
    """Where two ways differ: how often which is ahead, a drawing, and the queries in which one is ahead most."""
    gain = {query: own.precision(query) - other.precision(query) for query in own.entries}
    ahead = sorted((q for q in gain if gain[q] > EQUAL), key=lambda q: -gain[q])
    behind = sorted((q for q in gain if gain[q] < -EQUAL), key=lambda q: gain[q])
    points = [(other.precision(query), own.precision(query), query) for query in gain]
    return {
        "ahead": len(ahead),
        "behind": len(behind),
        "equal": len(gain) - len(ahead) - len(behind),
        "drawing": scatter(points, f"average precision, {other.name}", f"average precision, {own.name}"),
        "sides": [
            (own.name, [cards.card(query, [own, other]) for query in ahead[:count]]),
            (other.name, [cards.card(query, [own, other]) for query in behind[:count]]),
        ],
    }


class _Cards:
    """Makes cards of queries, each photo once."""

    def __init__(self, photos: PhotoFinder, thumbnails: Thumbnails, num_ranked: int) -> None:
        self._photos = photos
        self._thumbnails = thumbnails
        self._num_ranked = num_ranked
        self._numbers: dict[str, int] = {}

    def card(self, query: str, ways: Sequence[Way]) -> QueryCard:
        """The card of a query with the answers of some ways."""
        entry = ways[0].entries[query]
        name = str(entry["query"])
        asked = Picture("query", name, self._url(name), "query", self._box(name, entry.get("box")))
        return QueryCard(asked, entry["group"], entry["positives"], [self._answer(name, way, query) for way in ways])

    def _answer(self, name: str, way: Way, query: str) -> Answer:
        entry = way.entries[query]
        pictures: list[Picture] = []
        rank = 0
        for key, verdict in zip(map(str, entry["first"]), entry["verdicts"], strict=True):
            rank += verdict != "junk"
            if len(pictures) == self._num_ranked:
                break
            if key != name or verdict != "junk":  # the query itself, left out of its own ranking
                said = verdict if verdict == "junk" else f"{rank}: {verdict}"
                pictures.append(Picture(verdict, key, self._url(key), said))
        shown = {picture.key for picture in pictures}
        last = [
            Picture("right", str(one["image"]), self._url(str(one["image"])), _late(one["rank"]))
            for one in entry["last"][::-1]
            if str(one["image"]) not in shown
        ]
        return Answer(way.name, way.precision(query), pictures, last)

    def _url(self, key: str) -> str:
        number = self._numbers.setdefault(key, len(self._numbers))
        return self._thumbnails.url(number, key, self._source_of(key))

    def _source_of(self, key: str) -> Callable[[int], Path]:
        def source(_: int) -> Path:
            path = self._photos.path(key)
            if path is None:
                raise PhotoError(key, "no such photo")
            return path

        return source

    def _box(self, name: str, box: list[float] | None) -> Markup | None:
        """A query's box as a drawing that fits its photo, however large that is shown."""
        path = self._photos.path(name)
        if box is None or path is None:
            return None
        try:
            width, height = photo_size(path)
        except PhotoError:
            return None
        left, top, right, bottom = box
        return Markup('<svg class="box" viewBox="0 0 {} {}"><rect x="{}" y="{}" width="{}" height="{}"/></svg>').format(
            width, height, left, top, right - left, bottom - top
        )


def _late(rank: int | None) -> str:
    return "right, never ranked" if rank is None else f"right, at rank {rank + 1:,}"
