"""What the page of an evaluation shows: the file, one or two ways to answer its queries, and where they differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.evaluation.evaluation_file import SUFFIX, EvaluationFile, read_evaluation
from retrieval.reports.evaluation_cards import Cards, Way
from retrieval.reports.options import ReportOptions
from retrieval.reports.query_scores import Entry, query_score
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.errors import UsageError

NETWORK, TEACHER = "network", "teacher"
LOCALISABLE = "localisable, 30 points", "10"
"""Of the figures for a localiser the one in the page's head: its name and k."""
EQUAL = 5e-4
"""Difference of two scores, as a share of the best, that counts as none: less than is shown."""


@dataclass(frozen=True)
class Difference:
    """Where two ways to answer differ, by queries."""

    ahead: list[str]
    """Queries in which the first way is ahead, those with the largest gain first."""
    behind: list[str]
    """Queries in which the second way is ahead, likewise."""
    equal: int
    """Number of queries in which neither is."""


class EvaluationPage:
    """An evaluation, what it is compared with, and cards of its queries.

    Raises
    ------
    FileFormatError
        A file is no evaluation, or of another version.
    UsageError
        There is no such setup, or the other evaluation is of another protocol or other queries.
    """

    def __init__(self, path: Path, options: ReportOptions, thumbnails: Thumbnails) -> None:
        self.file = read_evaluation(path)
        self.against = None if options.compare is None else read_evaluation(options.compare)
        self.title, self.called = options.title or path.name, (options.called, options.compare_called)
        self.setup = self.file.setup(options.setup)
        self.judged = query_score(next(iter(self.file.content["figures"][self.setup])))
        self.ways = self._ways()
        self.groups = {str(entry["group"]) for entry in self.ways[0].entries.values()}
        self.difference = _difference(*self.ways) if len(self.ways) > 1 else None
        self.num_queries = options.num_queries
        self.thumbnails = thumbnails
        photos = self.file.photos.find(options.images)
        self.cards = Cards(photos, thumbnails, options.num_ranked, titled_by_group=len(self.groups) > 1)

    def head(self) -> dict[str, Any]:
        """What the template of the page's head shows."""
        return {
            "name": self.title,
            "protocol": self.file.content["protocol"],
            "setup": self.setup if len(self.file.content["figures"]) > 1 else "",
            "queries": len(self.ways[0].entries),
            "ways": [way.name for way in self.ways],
            "figure": self.judged.figure,
            "means": [self.judged.mean_text(list(way.entries.values())) for way in self.ways],
            "intervals": [self.judged.interval_text(list(way.entries.values())) for way in self.ways],
            "difference": self.difference,
            "gain": self._gain(),
            "localiser": self._localiser(),
        }

    def files(self) -> list[tuple[str, EvaluationFile]]:
        """One or two evaluations, by what they are called: as the options say, else by their files' names, or paths."""
        files = [self.file] if self.against is None else [self.file, self.against]
        alike = len({file.path.stem for file in files}) < len(files)
        named = zip(self.called, files, strict=False)
        return [(called or (str(file.path) if alike else file.path.stem), file) for called, file in named]

    def figures(self) -> dict[str, dict[str, Any]]:
        """The figures of each setup, and of which evaluation they are where there are two."""
        if self.against is None:
            return dict(self.file.content["figures"])
        return {
            f"{setup}, {name}": found for name, file in self.files() for setup, found in file.content["figures"].items()
        }

    def _gain(self) -> tuple[str, str] | None:
        """By how much the first way is ahead over the same queries, and how sure that is; None for a single way."""
        if self.difference is None:
            return None
        own, other = self.ways
        return self.judged.gain_text(list(own.entries.values()), [other.entries[query] for query in own.entries])

    def _localiser(self) -> list[tuple[str, str]]:
        """Value and name of the figure that speaks for a localiser, where it was measured."""
        setups = self.file.content.get("localisable", {}).get("setups", {})
        found = setups.get(self.setup, {"figures": {}})["figures"].get(LOCALISABLE[0], {}).get(LOCALISABLE[1])
        if found is None or found["mean"] is None:
            return []
        return [(f"{100 * found['mean']:.2f}", f"percent localisable by their first {LOCALISABLE[1]}")]

    def _ways(self) -> list[Way]:
        """The evaluation, and what it is compared with: another file, the teacher beside its network, or nothing."""
        file, setup, against = self.file, self.setup, self.against
        entries = _counted(file, setup)
        if against is not None:
            others = _counted(against, setup if setup in against.setups else against.setup(None))
            _check_alike(file, against, entries, others)
            (own, _), (other, _) = self.files()
            return [Way(own, entries, self.judged), Way(other, others, self.judged)]
        alone = setup.endswith(SUFFIX) or set(file.content["settings"]) == {TEACHER}
        ways = [Way(TEACHER if alone else NETWORK, entries, self.judged)]
        if setup + SUFFIX in file.setups:
            ways.append(Way(TEACHER, _counted(file, setup + SUFFIX), self.judged))
        return ways


def _check_alike(file: EvaluationFile, against: EvaluationFile, queries: Iterable[str], others: Iterable[str]) -> None:
    """Refuse to compare evaluations of different protocols or queries."""
    protocols = against.content["protocol"], file.content["protocol"]
    if protocols[0] != protocols[1]:
        raise UsageError(f"{against.path}: is of protocol {protocols[0]}, {file.path} of {protocols[1]}; compare alike")
    if set(queries) != set(others):
        raise UsageError(f"{against.path}: has other queries than {file.path}; compare evaluations of the same ones")


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


def _difference(own: Way, other: Way) -> Difference:
    gain = {query: (own.score(query) - other.score(query)) / own.judged.best for query in own.entries}
    ahead = sorted((q for q in gain if gain[q] > EQUAL), key=lambda q: -gain[q])
    behind = sorted((q for q in gain if gain[q] < -EQUAL), key=lambda q: gain[q])
    return Difference(ahead, behind, len(gain) - len(ahead) - len(behind))
