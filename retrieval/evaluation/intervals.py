"""How sure a mean over queries is: percentile intervals by the bootstrap (Efron, 1979), of one way or of two paired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sfm2tuples.errors import UsageError

DRAWS = 4000
"""Samples with replacement."""
LEVEL = 0.95
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Interval:
    """A mean, and where means of as many other queries of the kind would lie."""

    mean: float
    """Over the queries."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is more than chance."""
        return bool(self.low > 0 or self.high < 0)


def mean_interval(values: np.ndarray, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Interval of the mean of some queries' figures.

    Parameters
    ----------
    values : (n,) float64
        One a query, such as its average precision; for two ways, the differences of the same queries.
    level : float
        Share of the samples' means inside.
    draws, seed : int
        Number of samples, and what they are drawn by.

    Returns
    -------
    Interval
        NaN in all, without any query.

    Raises
    ------
    UsageError
        A level or a number of draws without meaning.

    Examples
    --------
    >>> mean_interval(np.array([0.5, 0.5, 0.5]))
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    if not 0 < level < 1 or draws < 1:
        raise UsageError(f"a level of {level} and {draws} draws mean nothing; 0.95 and 4000 are usual")
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    means = np.concatenate([values[rows].mean(axis=1) for rows in resamples(len(values), draws, seed)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(values)), float(low), float(high))


def resamples(count: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks (b, count) int64 of rows drawn with replacement, `draws` rows in all; the same for the same seed."""
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // count)
    for start in range(0, draws, size):
        yield generator.integers(count, size=(min(size, draws - start), count))
