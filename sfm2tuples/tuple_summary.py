"""What a set of tuples is like, in a few numbers, for people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.mining_options import MiningOptions
from sfm2tuples.negatives import semi_hard_bounds
from sfm2tuples.tuples import TupleSet


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


def _filled(tuples: TupleSet, options: MiningOptions) -> int:
    above, below = semi_hard_bounds(tuples.positive_similarity[:, :1].astype(np.float64), options.margin)
    inside = (tuples.negative_similarity > above) & (tuples.negative_similarity < below)
    return int(np.count_nonzero((tuples.negative >= 0) & ~inside))


def _median(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
