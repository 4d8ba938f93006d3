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

    @property
    def said(self) -> str:
        """The same of a difference, for people."""
        return "more than chance" if self.excludes_zero else "within chance"

    def as_dict(self) -> dict[str, float | None]:
        """Mean and ends as plain values for JSON, which has no NaN."""
        return {name: None if np.isnan(value) else value for name, value in vars(self).items()}


NOTHING = Interval(float("nan"), float("nan"), float("nan"))
"""Without any query."""


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
    _check(level, draws)
    if not len(values):
        return NOTHING
    means = np.concatenate([values[rows].mean(axis=1) for rows in resamples(len(values), draws, seed)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(values)), float(low), float(high))


def mean_intervals(values: np.ndarray, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> list[Interval]:
    """`mean_interval` of several figures of the same queries, whose samples are drawn once: but for rounding the same.

    Parameters
    ----------
    values : (n, F) float64
        A row a query, a column a figure.
    level, draws, seed
        As of `mean_interval`.

    Returns
    -------
    list of Interval
        One a column.
    """
    _check(level, draws)
    count, figures = values.shape
    if not count:
        return [NOTHING] * figures
    means = np.concatenate([_times_drawn(rows) @ values / count for rows in resamples(count, draws, seed)])
    ends = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    columns = zip(values.mean(axis=0).tolist(), *ends.tolist(), strict=True)
    return [Interval(mean, low, high) for mean, low, high in columns]


def _check(level: float, draws: int) -> None:
    if not 0 < level < 1 or draws < 1:
        raise UsageError(f"a level of {level} and {draws} draws mean nothing; 0.95 and 4000 are usual")


def _times_drawn(rows: np.ndarray) -> np.ndarray:
    """How often each sample has each row: (b, n) rows to (b, n) float64."""
    samples, count = rows.shape
    at = rows + count * np.arange(samples)[:, None]
    return np.bincount(at.ravel(), minlength=rows.size).reshape(samples, count).astype(np.float64)


def resamples(count: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks (b, count) int64 of rows drawn with replacement, `draws` rows in all; the same for the same seed."""
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK // count)
    for start in range(0, draws, size):
        yield generator.integers(count, size=(min(size, draws - start), count))
