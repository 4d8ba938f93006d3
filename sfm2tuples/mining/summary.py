"""What a set of tuples is like, in a few numbers, for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.mining.negatives import semi_hard_bounds
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.tuple_file import Candidates, TupleSet

SHARES = {"least": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "most": 1.0}
"""Points of a distribution that are told: which share of the values lies below."""


@dataclass(frozen=True)
class TupleSummary:
    """Counts and medians over a set of tuples; a median of nothing is None."""

    tuples: int
    """Number of tuples."""
    pool: int
    """Images that negatives were chosen from."""
    overlap: float | None
    """Median overlap of query and positive."""
    scale_change: float | None
    """Median scale change of query and positive."""
    angle: float | None
    """Median viewing angle of query and positive in degrees."""
    positive_similarity: float | None
    """Median similarity of query and positive."""
    negative_similarity: float | None
    """Median similarity of query and negative."""
    missing_positives: int
    """Positives asked for that there are not."""
    missing_negatives: int
    """Negatives asked for that there are not."""
    filled: int
    """semi-hard: negatives that are not semi-hard, which N2 filled up."""


def summarise(tuples: TupleSet, options: MiningOptions) -> TupleSummary:
    """Summarise the tuples that were mined by these options."""
    return TupleSummary(
        tuples=len(tuples.query),
        pool=len(tuples.pool),
        overlap=_median(tuples.overlap),
        scale_change=_median(tuples.scale_change),
        angle=_median(np.degrees(tuples.angle)),
        positive_similarity=_median(tuples.positive_similarity),
        negative_similarity=_median(tuples.negative_similarity),
        missing_positives=int(np.count_nonzero(tuples.positive < 0)),
        missing_negatives=int(np.count_nonzero(tuples.negative < 0)),
        filled=_filled(tuples, options) if options.negatives == "semi-hard" else 0,
    )


def share_across(tuples: TupleSet, candidates: Candidates) -> float | None:
    """Which share of the positives is of another sequence than its query; None where nobody asked, or none are there.

    Parameters
    ----------
    tuples, candidates
        Of one split.
    """
    row, slot = np.nonzero(tuples.positive >= 0)
    if candidates.across is None or not len(row):
        return None
    position = candidates.positions(tuples.query[row], tuples.positive[row, slot])
    return float(np.append(candidates.across, False)[position].mean())


def distributions(tuples: TupleSet) -> dict[str, dict[str, float | None]]:
    """How the evidence is distributed: by measure, the value at each of `SHARES`; None where nothing is known."""
    positive, negative = tuples.positive >= 0, tuples.negative >= 0
    values = {
        "overlap": tuples.overlap[positive],
        "scale change": tuples.scale_change[positive],
        "angle in degrees": np.degrees(tuples.angle[positive]),
        "similarity of positives": tuples.positive_similarity[positive],
        "similarity of negatives": tuples.negative_similarity[negative],
    }
    return {measure: _distribution(column) for measure, column in values.items()}


def _distribution(values: np.ndarray) -> dict[str, float | None]:
    known = values[np.isfinite(values)]
    if not len(known):
        return dict.fromkeys(SHARES)
    found = np.quantile(known, list(SHARES.values()))
    return {name: round(float(value), 3) for name, value in zip(SHARES, found, strict=True)}


def _filled(tuples: TupleSet, options: MiningOptions) -> int:
    above, below = semi_hard_bounds(tuples.positive_similarity[:, :1].astype(np.float64), options.margin)
    inside = (tuples.negative_similarity > above) & (tuples.negative_similarity < below)
    return int(np.count_nonzero((tuples.negative >= 0) & ~inside))


def _median(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
