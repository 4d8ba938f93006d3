"""What every protocol comes to: named photos, ground truth for each setup, and the figures to report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth
from retrieval.metrics.results import Evaluation
from retrieval.photos.names import short_name
from retrieval.photos.sources import PhotoSources
from sfm2tuples.errors import DataError, UsageError, first_three


@dataclass(frozen=True)
class Benchmark:
    """The photos of a protocol and what is right for each query."""

    database: list[str]
    """Keys of the database's photos."""
    queries: list[str]
    """Keys of the queries, in the order of every setup's ground truth; they may be in the database too."""
    setups: dict[str, GroundTruth]
    """Ground truth over rows of `database`, by the setup's name; one setup for most protocols."""
    measures: tuple[str, ...] = ("mAP",)
    """Figures of each setup, as `figure` names them."""
    boxes: np.ndarray | None = None
    """(q, 4) float64: left, top, right, bottom of what is asked for, in pixels of the query's photo."""
    aliases: tuple[str, ...] = ()
    """Other names of the queries, in their order: Oxford's topics; empty where there are none."""
    notes: tuple[str, ...] = ()
    """What was left out, one line each."""
    photos: PhotoSources | None = None
    """The photos of `database`, where the data itself lists them, as an index and a table of labels do."""


@dataclass(frozen=True)
class PhotoNames:
    """Names that a protocol may choose its photos from: a folder's photos, or those of a descriptor file."""

    database: list[str]
    """Names of photos, each once."""
    origin: str
    """Where they come from, for messages."""
    queries: list[str] | None = None
    """Names of the queries where they come from a file of their own."""
    whole: bool = True
    """Whether a photo that has no name here is missing; rankings name only what was found."""

    @property
    def all(self) -> list[str]:
        """Names of database and queries, each once."""
        return list(dict.fromkeys([*self.database, *(self.queries or [])]))

    def of_queries(self) -> PhotoNames:
        """The names that queries are looked up in."""
        return self if self.queries is None else PhotoNames(self.queries, self.origin, None, self.whole)

    def find(self, name: str) -> str | None:
        """The name here that is `name` with or without folders and the photo's suffix; None where there is none.

        Raises
        ------
        DataError
            More than one name here fits.
        """
        found = self._by_short_name.get(short_name(name), [])
        if len(found) > 1 and name not in found:
            raise DataError(self.origin, f"{len(found)} photos are called {name}: {first_three(found)}")
        return name if name in found else (found[0] if found else None)

    @cached_property
    def _by_short_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self.database:
            names.setdefault(short_name(name), []).append(name)
        return names


def names_of(wanted: Sequence[str], names: PhotoNames, where: str) -> list[str]:
    """Find each wanted photo; where names come from rankings, one that was never ranked keeps its own name.

    Parameters
    ----------
    wanted : sequence of str
        As the ground truth names them.
    names : PhotoNames
    where : str
        What lists them, for the message: ``imlist``.

    Raises
    ------
    DataError
        Some are absent.
    """
    found = [names.find(name) for name in wanted]
    absent = [name for name, own in zip(wanted, found, strict=True) if own is None]
    if absent and names.whole:
        raise DataError(
            names.origin,
            f"{len(absent):,} of {len(wanted):,} photos of {where} are absent, first {first_three(absent)}",
            "complete the download, or describe the photos that are absent",
        )
    return [name if own is None else own for name, own in zip(wanted, found, strict=True)]


def named(evaluation: Evaluation, benchmark: Benchmark, database: Sequence[str]) -> Evaluation:
    """An evaluation that knows its photos by name; `database` may go on beyond the benchmark's."""
    return replace(evaluation, names=tuple(database), query_names=tuple(benchmark.queries), boxes=benchmark.boxes)


def figure(name: str, evaluation: Evaluation) -> float:
    """One figure of a setup.

    Parameters
    ----------
    name : str
        ``mAP`` (mean over queries), ``mP@k`` [R18], ``recall@k`` [A16], all in 0..1; ``N-S``, UKBench's, in 0..4.
    evaluation : Evaluation

    Raises
    ------
    UsageError
        There is no such figure.
    """
    kind, _, depth = name.partition("@")
    if name == "mAP":
        return evaluation.mean_over_queries
    if name == "N-S":
        return evaluation.mean_found_in(4)
    if kind == "mP":
        return evaluation.mean_precision_at(int(depth))
    if kind == "recall":
        return evaluation.recall_at(int(depth))
    raise UsageError(f"no figure is called {name}")


def figure_text(name: str, value: float) -> str:
    """A figure as people read it: in percent, N-S as it is."""
    if np.isnan(value):
        return "-"
    return f"{value:.3f}" if name == "N-S" else f"{100 * value:.2f}"
