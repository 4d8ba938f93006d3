"""Average precision as Oxford and Paris define it, and precision among the first k."""

from __future__ import annotations

import numpy as np


def average_precision(positive_ranks: np.ndarray, n_positives: int) -> float:
    """Area under precision over recall by the trapezoid rule, as Oxford and Paris measure it [P07].

    Parameters
    ----------
    positive_ranks : (r,) int
        Ranks of the positives found, from 0, rising, in a ranking without junk.
    n_positives : int
        Positives in all; one that was never ranked adds 0.

    Returns
    -------
    float
        In 0..1; NaN without positives.
    """
    if n_positives == 0:
        return float("nan")
    ranks = np.asarray(positive_ranks, np.float64)
    found = np.arange(len(ranks))
    # Before the first item precision is 1 by definition, so that a perfect ranking has area 1.
    before = np.where(ranks == 0, 1.0, found / np.maximum(ranks, 1))
    after = (found + 1) / (ranks + 1)
    return float(np.sum(before + after) / (2 * n_positives))


def precision_at(positive_ranks: np.ndarray, k: int) -> float:
    """P@k of the revisited benchmarks: divides by min(k, rank of the last positive in the ranking) [R18].

    Parameters
    ----------
    positive_ranks : (r,) int
        Ranks of the positives found, from 0, rising, in a ranking without junk.
    k : int
        At least 1.
    """
    if len(positive_ranks) == 0:
        return 0.0
    ranks = np.asarray(positive_ranks) + 1
    depth = min(k, int(ranks[-1]))
    return float(np.sum(ranks <= depth) / depth)
