"""What a localiser gets from the first results: shares of a query's points, near poses, and poses by PnP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from retrieval.evaluation.database_images import DatabaseImages
from retrieval.evaluation.intervals import Interval, mean_intervals
from retrieval.localisation.options import MOST_MATCHED, PoseThresholds
from retrieval.metrics.pose_differences import centre_distances, first_within, rotation_angles
from retrieval.metrics.results import Evaluation
from retrieval.metrics.seen_points import count_attainable, count_seen

DEPTHS = (1, 5, 10, 20)
"""The usual k."""
ENOUGH = (12, 30, 100)
"""Points that make a query localisable: with 12 a P3P with RANSAC can say something, 30 is usual; METHOD.md 14."""
ALL = "all"
"""The column of what the whole database holds, which no ranking exceeds."""
ELSEWHERE, FAR = "pose in another model", "pose beyond the widest threshold"
Figures = dict[str, dict[str, Interval]]
"""By name and k."""


@dataclass(frozen=True)
class Localised:
    """Poses that PnP found for queries, against those of the index."""

    num_matched: int
    """Results that were matched."""
    reason: list[str]
    """Why a query is not localised within the widest threshold; empty where it is."""
    distance: np.ndarray
    """(q,) float64: metres, or scene depths; NaN without a pose in a model of the query."""
    degrees: np.ndarray
    """(q,) float64, likewise."""
    matches: np.ndarray
    """(q,) int64: correspondences of 2D and 3D that PnP was given."""
    inliers: np.ndarray
    """(q,) int64: those that the pose explains."""

    def within(self, poses: PoseThresholds) -> np.ndarray:
        """(q, T) bool: whether each query is localised within each threshold."""
        return within_thresholds(self.distance, self.degrees, poses)


@dataclass(frozen=True)
class Localisability:
    """What the first results of each query hold; rows of all columns are queries, K results are looked at."""

    poses: PoseThresholds
    """When a pose is right."""
    observed: np.ndarray
    """(q,) int64: |P(q)|."""
    seen: np.ndarray
    """(q, K) int64: how many of these the first 1, 2, … results see together."""
    attainable: np.ndarray
    """(q,) int64: how many all other photos of the database see."""
    first_right: np.ndarray
    """(q, T) int64: rank from 0 of the first result within each threshold; -1 where none of the K is."""
    localised: Localised | None = None
    """Poses by PnP, where they were asked for."""

    @property
    def depths(self) -> list[int]:
        """The k that figures are given for: the usual ones, and the number of results that were matched."""
        return sorted({*DEPTHS, *([self.localised.num_matched] if self.localised else [])})

    @cached_property
    def figures(self) -> Figures:
        """Means over queries in 0..1 with intervals: by name, and by k or `ALL`."""
        columns: dict[tuple[str, str], np.ndarray] = {}
        observed = np.maximum(self.observed, 1)
        counts = {str(k): self.seen[:, k - 1] for k in self.depths} | {ALL: self.attainable}
        columns |= {("points seen", k): count / observed for k, count in counts.items()}
        for least in ENOUGH:
            columns |= {(f"localisable, {least} points", k): count >= least for k, count in counts.items()}
        for number, text in enumerate(self.poses.texts()):
            rank = self.first_right[:, number]
            columns |= {(f"photo within {text}", str(k)): (rank >= 0) & (rank < k) for k in self.depths}
        if self.localised is not None:
            right = self.localised.within(self.poses)
            k = str(self.localised.num_matched)
            columns |= {(f"localised within {text}", k): right[:, n] for n, text in enumerate(self.poses.texts())}
        intervals = mean_intervals(np.stack([column.astype(np.float64) for column in columns.values()], axis=1))
        figures: Figures = {}
        for (name, k), interval in zip(columns, intervals, strict=True):
            figures.setdefault(name, {})[k] = interval
        return figures

    def failures(self) -> dict[str, int]:
        """Queries that were not localised, by reason, the most frequent first."""
        reasons = Counter(filter(None, self.localised.reason)) if self.localised else Counter[str]()
        return dict(reasons.most_common())

    def as_dict(self) -> dict[str, Any]:
        """Everything but single queries as plain values for JSON."""
        figures = {name: {k: one.as_dict() for k, one in by_k.items()} for name, by_k in self.figures.items()}
        return {"figures": figures} | ({"failures": self.failures()} if self.localised else {})

    def of_query(self, row: int) -> dict[str, Any]:
        """One query as plain values for JSON."""
        ranks = [None if rank < 0 else rank for rank in self.first_right[row].tolist()]
        found: dict[str, Any] = {
            "points": int(self.observed[row]),
            "seen": {str(k): int(self.seen[row, k - 1]) for k in self.depths} | {ALL: int(self.attainable[row])},
            "first_within": ranks,
        }
        if (poses := self.localised) is not None:
            distance, degrees = (_plain(values[row]) for values in (poses.distance, poses.degrees))
            counts = {"matches": int(poses.matches[row]), "inliers": int(poses.inliers[row])}
            found["pose"] = {"reason": poses.reason[row], "distance": distance, "degrees": degrees, **counts}
        return found


def first_results(evaluation: Evaluation) -> np.ndarray:
    """The first results of each query as a localiser gets them: junk is among them, the query itself is not.

    Parameters
    ----------
    evaluation : Evaluation
        Its queries are rows of the database.

    Returns
    -------
    (q, MOST_MATCHED) int64
        Rows of the database, best first; -1 behind the last.
    """
    results = np.full((len(evaluation.queries), MOST_MATCHED), -1, np.int64)
    for row, (query, first) in enumerate(zip(evaluation.queries, evaluation.kept.first, strict=True)):
        ranked = first[(first >= 0) & (first != query)][:MOST_MATCHED]
        results[row, : len(ranked)] = ranked
    return results


def localisability(
    database: DatabaseImages, queries: np.ndarray, results: np.ndarray, poses: PoseThresholds
) -> Localisability:
    """Work out what the first results of queries hold.

    Parameters
    ----------
    database : DatabaseImages
    queries : (q,) int64
        Rows of the photos that ask.
    results : (q, K) int64
        From `first_results`.
    poses : PoseThresholds
    """
    indptr = database.point_indptr
    observed, seen = count_seen(indptr, database.point, queries, results)
    query, rank, own, other = database.pairs(queries, results)
    distance, degrees = pose_errors(database, own, database.pose[other], poses)
    first = first_within(query, rank, within_thresholds(distance, degrees, poses), len(queries))
    return Localisability(poses, observed, seen, count_attainable(indptr, database.point, queries), first)


def pose_errors(
    database: DatabaseImages, own: np.ndarray, other: np.ndarray, poses: PoseThresholds
) -> tuple[np.ndarray, np.ndarray]:
    """How far poses are from those of some images, in the unit of the thresholds and in degrees.

    Parameters
    ----------
    database : DatabaseImages
    own : (m,) int64
        Positions of images whose pose is the truth.
    other : (m, 3, 4) float64
        Poses in the same models.
    poses : PoseThresholds

    Returns
    -------
    distance, degrees : (m,) float64
    """
    distance = centre_distances(database.pose[own], other)
    if poses.scale is not None:
        distance = distance * poses.scale
    else:
        photos = np.unique(np.searchsorted(database.indptr, own, "right") - 1)
        distance = distance / database.depths(photos)[own]
    return distance, np.degrees(rotation_angles(database.pose[own], other))


def within_thresholds(distance: np.ndarray, degrees: np.ndarray, poses: PoseThresholds) -> np.ndarray:
    """Whether pose errors (m,) are within each threshold, ends included: (m, T) bool; NaN is within none."""
    limits = [(distance <= one.distance) & (degrees <= one.degrees) for one in poses.thresholds]
    return np.stack(limits, axis=-1)


def rows_for_people(figures: Figures) -> tuple[list[tuple[str, ...]], list[str]]:
    """A table of figures in percent with their intervals: rows, and the header."""
    titles = [*sorted({k for by_k in figures.values() for k in by_k} - {ALL}, key=int), ALL]
    rows = [(name, *(interval_text(by_k.get(k)) for k in titles)) for name, by_k in figures.items()]
    return rows, ["percent of queries", *(f"first {k}" if k != ALL else "all others" for k in titles)]


def interval_text(interval: Interval | None) -> str:
    """An interval in percent: ``43.1 [38.0, 48.2]``; empty for none."""
    if interval is None:
        return ""
    if np.isnan(interval.mean):
        return "-"
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def reasons_of_failure(reason: Sequence[str], elsewhere: np.ndarray, right: np.ndarray) -> list[str]:
    """Why each query is not localised: what PnP said, else that its pose is in another model, or is too far."""
    return [
        said or (ELSEWHERE if away else "" if good else FAR)
        for said, away, good in zip(reason, elsewhere.tolist(), right.tolist(), strict=True)
    ]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
