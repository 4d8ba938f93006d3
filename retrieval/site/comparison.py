"""The table before and after: every candidate on held-out places, how sure that is, and which one is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.evaluation.evaluation_file import read_evaluation
from retrieval.evaluation.intervals import Interval, mean_interval
from retrieval.site.candidates import HALFWAY, START, TUNED, WHITENED, title_of
from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.text import read_json

FORMAT, VERSION = "sfm2tuples-comparison", 2
BEST_ELSEWHERE = (*(name + WHITENED for name in (HALFWAY, TUNED, START)), HALFWAY, TUNED, START)
"""Ways by their mAP on landmarks that no fold and no training held, best first: 74.1, 73.4, 70.8, 70.1, 69.2, 62.8
(means of two folds; method.md section 14). Held-out places are few and easy: where they cannot tell ways apart, this
does."""
SAFEST = tuple(name + how for how in ("", WHITENED) for name in (START, HALFWAY, TUNED))
"""Ways where all that is learned comes of one place, safest first. On `gardens_point`, with nothing held out that told,
L_w of the days lost up to 14 points of recall@1 by night, and training gained or lost (examples/one_site.md)."""
TOLERANCE = 0.01
"""How far below the best held-out mAP a way may be that is kept for what it did elsewhere, if that is within chance."""


@dataclass(frozen=True)
class Row:
    """One candidate on held-out places; shares in 0..1."""

    way: str
    """Its name, with `candidates.WHITENED` behind it where it is whitened."""
    title: str
    """As people call it."""
    value: Interval
    """mAP over the queries."""
    gain: Interval
    """Over the network off the shelf, of the same queries."""
    training: Interval | None = None
    """What training alone adds: over the network off the shelf with the same whitening; None where none was done."""


@dataclass(frozen=True)
class Comparison:
    """All candidates, and the one that is kept."""

    kept: str
    """Its way."""
    rows: tuple[Row, ...]
    """Off the shelf first; none where no place could be held out."""
    queries: int
    """Held-out queries."""
    places: int
    """Places of these."""
    reason: str = ""
    """Why nothing was measured; empty where it was."""

    @property
    def title(self) -> str:
        """The kept one, as people call it."""
        return title_of(self.kept)

    @property
    def row(self) -> Row | None:
        """What the kept one reached."""
        return next((row for row in self.rows if row.way == self.kept), None)

    def verdict(self) -> str:
        """What is kept, and whether its gain is more than chance, in a sentence."""
        row = self.row
        if row is None:
            return f"kept: {self.title}; {self.reason}"
        if row.way == START:
            return f"kept: {self.title}, since nothing was surely better on what was held out"
        why = "best on what was held out"
        if row.value.mean < max(other.value.mean for other in self.rows):
            why = "which the held-out questions cannot tell from the best, and which experience favours"
        whole = f"kept: {self.title}, {why}; its gain of {_gained(row.gain)} is {row.gain.said}"
        return f"{whole}; {self._share_of_training(row)}"

    def _share_of_training(self, row: Row) -> str:
        """What of the gain of the kept one comes of training."""
        if row.training is None:
            tried = [other for other in self.rows if other.training is not None]
            return "training adds nothing to it" if tried else "nothing was trained"
        if not row.way.endswith(WHITENED):
            return "all of it comes of training"
        by = f"training alone, over {title_of(START + WHITENED)}, adds {_gained(row.training)}"
        return f"{by}, which is {row.training.said}"

    def table(self) -> tuple[list[tuple[str, ...]], list[str]]:
        """Rows for people and their header: percent, 95 % intervals."""
        shown: list[tuple[str, ...]] = [
            (
                f"{row.title}{' (kept)' if row.way == self.kept else ''}",
                f"{100 * row.value.mean:.1f}",
                f"{100 * row.value.low:.1f} to {100 * row.value.high:.1f}",
                "" if row.way == START else _signed(row.gain.mean),
                "" if row.way == START else f"{_signed(row.gain.low)} to {_signed(row.gain.high)}",
                "" if row.training is None else _signed(row.training.mean),
                "" if row.training is None else f"{_signed(row.training.low)} to {_signed(row.training.high)}",
            )
            for row in self.rows
        ]
        return shown, ["on what was held out", "mAP", "95 %", "gain", "95 %", "of it by training", "95 %"]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"title": self.title, "verdict": self.verdict()}


def compare(evaluations: Mapping[str, Path], favoured: Sequence[str] = BEST_ELSEWHERE) -> Comparison:
    """Compare candidates by their evaluations, and choose the one to keep.

    Of those that the same questions cannot tell from the best (the 95 % interval of the difference holds 0) and that
    are within `TOLERANCE` of it, the first of `favoured` is kept. So none is kept that is worse than the network
    off the shelf by more than chance, or by more than `TOLERANCE`.

    Parameters
    ----------
    evaluations : mapping of str to Path
        Way to the file of its evaluation; off the shelf first. All are of the same queries.
    favoured : sequence of str
        All ways: `BEST_ELSEWHERE`, or `SAFEST` where one place taught everything.
    """
    precisions, places = {}, set()
    for way, path in evaluations.items():
        setup = next(iter(read_evaluation(path).setups.values()))
        counted = [entry for entry in setup["per_query"] if entry["average_precision"] is not None]
        precisions[way] = np.array([entry["average_precision"] for entry in counted], np.float64)
        places |= {entry["group"] for entry in counted}
    start = precisions[START]
    rows = tuple(
        Row(
            *(way, title_of(way), mean_interval(values), mean_interval(values - start)),
            None if untrained is None else mean_interval(values - untrained),
        )
        for way, values in precisions.items()
        for untrained in [_untrained(way, precisions)]
    )
    return Comparison(_kept(precisions, favoured), rows, len(start), len(places))


def _kept(precisions: Mapping[str, np.ndarray], favoured: Sequence[str]) -> str:
    """The way to keep, by the average precisions of the same queries."""
    mean = {way: float(values.mean()) for way, values in precisions.items()}
    best = max(mean, key=lambda way: mean[way])
    near = [way for way in precisions if mean[way] >= mean[best] - TOLERANCE]
    as_good = [way for way in near if not mean_interval(precisions[best] - precisions[way]).low > 0]
    return min(as_good, key=favoured.index)


def _untrained(way: str, precisions: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Figures of the network off the shelf with the whitening, or none, of a way that was trained."""
    name = way.removesuffix(WHITENED)
    return None if name == START else precisions[START + way[len(name) :]]


def unmeasured(kept: str, reason: str) -> Comparison:
    """What is kept where nothing can be held out, and why."""
    return Comparison(kept, (), 0, 0, reason)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the table as JSON."""
    content = {"format": FORMAT, "version": VERSION} | comparison.as_dict()
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_comparison(path: Path) -> Comparison:
    """Read it again.

    Raises
    ------
    FileFormatError
        It is no such file.
    """
    content = read_json(path, "run tune again")
    try:
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise KeyError("format")
        rows = tuple(_row(row) for row in content["rows"])
        return Comparison(content["kept"], rows, content["queries"], content["places"], content["reason"])
    except (KeyError, TypeError) as error:
        raise FileFormatError(path, "is no comparison of a site", "run tune again") from error


def _row(values: Mapping[str, Any]) -> Row:
    value, gain = (Interval(**values[name]) for name in ("value", "gain"))
    training = values["training"]
    return Row(values["way"], values["title"], value, gain, None if training is None else Interval(**training))


def _gained(gain: Interval) -> str:
    return f"{_signed(gain.mean)} mAP ({_signed(gain.low)} to {_signed(gain.high)})"


def _signed(share: float) -> str:
    """Percent with a sign; what rounds to nothing is +0.0."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"
