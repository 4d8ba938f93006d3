"""What one query's result is worth, by the figure that its protocol is known for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.evaluation.intervals import mean_interval
from retrieval.protocols.benchmark import figure_text

OBJECT = 4
"""Photos of an object in UKBench, and how many ranked images its score looks at."""
Entry = dict[str, Any]
"""One query's result, as `Evaluation.as_dict` writes it."""


@dataclass(frozen=True)
class QueryScore:
    """How queries are put in order and drawn, and the figure that they add up to."""

    figure: str
    """``mAP``, ``N-S`` or ``recall@k``: the first of the protocol's figures."""
    name: str
    """What the score of one query is called where it is drawn."""
    said: str
    """What its text is called."""
    best: float
    """The highest that there is; the lowest is 0."""
    of: Callable[[Entry], float]
    """Score of a query."""
    text: Callable[[Entry], str]
    """The score as people read it."""
    part: Callable[[Entry], float]
    """What the query adds to the figure, which is the mean of these parts."""

    def mean(self, entries: Sequence[Entry]) -> float:
        """The figure over some queries; NaN without any."""
        return float(np.mean([self.part(entry) for entry in entries])) if entries else float("nan")

    def mean_text(self, entries: Sequence[Entry]) -> str:
        """The same as people read it."""
        return figure_text(self.figure, self.mean(entries))

    def interval_text(self, entries: Sequence[Entry]) -> str:
        """Where the figures of 95 % of as many other queries of the kind would lie."""
        found = mean_interval(self._parts(entries))
        return f"{figure_text(self.figure, found.low)} to {figure_text(self.figure, found.high)}"

    def gain_text(self, own: Sequence[Entry], other: Sequence[Entry]) -> tuple[str, str]:
        """By how much one way is ahead of another, of the same queries in the same order, and how sure that is."""
        found = mean_interval(self._parts(own) - self._parts(other))
        mean, low, high = (signed_figure_text(self.figure, value) for value in (found.mean, found.low, found.high))
        return mean, f"{low} to {high}, {found.said}"

    def _parts(self, entries: Sequence[Entry]) -> np.ndarray:
        return np.array([self.part(entry) for entry in entries], np.float64)


def signed_figure_text(figure: str, value: float) -> str:
    """A difference of two figures as people read it, with its sign; one that rounds to nothing is +0."""
    said = figure_text(figure, abs(value))
    return said if np.isnan(value) else f"{'-' if value < 0 and float(said) else '+'}{said}"


def query_score(figure: str) -> QueryScore:
    """How queries are judged where `figure` is the first of the protocol's figures."""
    if figure == "N-S":
        name, four = f"right images among the first {OBJECT}", _in_first_four
        return QueryScore(figure, name, name, OBJECT, four, lambda entry: f"{four(entry):.0f} of {OBJECT}", four)
    kind, _, depth = figure.partition("@")
    if kind == "recall":
        name = "rank of the first right image"
        return QueryScore(figure, f"1 / {name}", name, 1, _nearness, _first_text, _found_in(int(depth)))
    name = "average precision"
    return QueryScore("mAP", name, name, 1, _precision, lambda entry: f"{_precision(entry):.3f}", _precision)


def _precision(entry: Entry) -> float:
    return float(entry["average_precision"])


def _in_first_four(entry: Entry) -> float:
    return float(sum(rank < OBJECT for rank in entry["ranks"]))


def _nearness(entry: Entry) -> float:
    return 1 / (1 + min(entry["ranks"])) if entry["ranks"] else 0.0


def _found_in(depth: int) -> Callable[[Entry], float]:
    return lambda entry: float(any(rank < depth for rank in entry["ranks"]))


def _first_text(entry: Entry) -> str:
    return f"{1 + min(entry['ranks']):,}" if entry["ranks"] else "never found"
