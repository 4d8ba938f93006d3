"""What every protocol comes to: named photos, ground truth for each setup, and the figures to report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth
from retrieval.metrics.results import Evaluation, evaluate_rankings
from retrieval.photos.sources import PhotoSources
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.remote.address import Address, AnyPath, is_folder
from sfm2tuples.index.opened import OpenedIndex

MIN_SHARED = 15
"""Shared points that make a positive of the SfM protocol; method.md names no number."""
MAX_DISTANCE = 25.0
"""Metres within which a photo is right in place recognition, as usual since [A16]."""


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
    boxless: str = ""
    """Why there are no boxes, where the protocol has some and these data have none."""
    aliases: tuple[str, ...] = ()
    """Other names of the queries, in their order: Oxford's topics; empty where there are none."""
    notes: tuple[str, ...] = ()
    """What was left out, one line each."""
    photos: PhotoSources | None = None
    """The photos of `database`, where the data itself lists them, as an index and a table of labels do."""
    left_out: frozenset[str] = frozenset()
    """Keys of photos that may be right for a query without being known to be: they are no distractors."""
    index: OpenedIndex | None = None
    """The index that it was made from, still open: of the SfM protocol. A file that replaces it is not read."""

    def boxes_for(self, crop: str) -> np.ndarray | None:
        """The boxes that a crop looks at; None for ``none``.

        Raises
        ------
        UsageError
            There are none.
        """
        if crop == "none":
            return None
        if self.boxes is None:
            why = self.boxless or "the queries of Oxford and Paris have some, original and revisited"
            raise UsageError(f"--crop {crop} needs boxes: {why}; leave out --crop")
        return self.boxes

    def evaluate(self, rankings: Iterable[np.ndarray], database: Sequence[str]) -> dict[str, Evaluation]:
        """Evaluate rankings under every setup.

        Parameters
        ----------
        rankings : iterable of (k,) int64
            Rows of `database` for each query, best first; gone through once a setup.
        database : sequence of str
            Names of this protocol's database, and of what was ranked beyond it.
        """
        names, queries = tuple(database), tuple(self.queries)
        evaluations = {name: evaluate_rankings(rankings, truth, len(names)) for name, truth in self.setups.items()}
        return {
            name: replace(found, names=names, query_names=queries, boxes=self.boxes)
            for name, found in evaluations.items()
        }


@dataclass(frozen=True)
class ProtocolChoice:
    """A protocol, its data, and the numbers that define what is right."""

    name: str
    """One of `by_name.PROTOCOLS`."""
    data: AnyPath
    """Its folder or file."""
    images: AnyPath | None = None
    """Folder that the names in a table of labels start from; the table's own by default."""
    split: str = "val"
    """Places of an index that are measured."""
    min_shared: int = MIN_SHARED
    """Shared points that make a positive of the SfM protocol."""
    max_distance: float = MAX_DISTANCE
    """Distance within which a photo is right in place recognition."""
    unit_length: float = 1.0
    """Length of a unit of an index's models, in the unit of `max_distance`."""

    @property
    def folder(self) -> AnyPath:
        """The folder that names of photos start from."""
        self.check_exists()
        return self.data if is_folder(self.data) else self.data.parent

    @property
    def local_data(self) -> Path:
        """The data of a protocol whose tables and ground truth are read on this machine.

        Raises
        ------
        UsageError
            It lies elsewhere.
        """
        if isinstance(self.data, Address):
            raise UsageError(f"{self.data}: the data of {self.name} is read on this machine alone; copy it first")
        return self.data

    def check_exists(self) -> None:
        """Raise DataError where the data is absent."""
        if not (isinstance(self.data, Address) or self.data.exists()):
            raise DataError(self.data, "no such file or folder")


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
