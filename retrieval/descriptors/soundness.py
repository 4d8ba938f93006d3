"""Descriptors that say nothing: values that are not finite, and a network that describes all photos alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from retrieval.networks.devices import FP16
from sfm2tuples.errors import NotFiniteError, first_three

ALIKE = 0.95
"""Mean cosine of two descriptors above which a network tells hardly any photos apart."""
FEWEST = 20
"""Descriptors below which their likeness says nothing of the network: they may well show one thing."""
COMPARED = 10_000
"""Descriptors that are compared at most, taken at even steps."""

TURN = "--upright exif turns them, as tune does"
"""What to do about photos that lie sideways."""

logger = logging.getLogger(__name__)


def require_finite(values: np.ndarray, names: Sequence[str], precision: str) -> np.ndarray:
    """Give back a network's descriptors, unless one is not finite.

    Parameters
    ----------
    values : (n, D) float32
    names : sequence of str
        The photos, for the message.
    precision : str
        That the network ran in.

    Raises
    ------
    NotFiniteError
        Some are not: the network has diverged, or its activations leave the range of fp16, which ends at 65,504.
    """
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if not len(bad):
        return values
    name = names[bad[0]]
    if precision == FP16:
        what = "the network's descriptor of this photo is not finite: its activations leave the range of fp16"
        raise NotFiniteError(name, what, "use --precision bf16 or fp32")
    what = "the network's descriptor of this photo is not finite: its weights have diverged"
    raise NotFiniteError(name, what, "use an earlier checkpoint, or train again with a lower --learning-rate")


def mean_cosine(values: np.ndarray) -> float:
    """Mean cosine of all pairs of different rows (n, D), of norm 1; NaN for fewer than two. O(n D).

    Examples
    --------
    >>> mean_cosine(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    0.3333333333333333
    """
    count = len(values)
    if count < 2:
        return float("nan")
    total = values.sum(axis=0, dtype=np.float64)
    squares = np.einsum("nd,nd->", values, values, dtype=np.float64)
    return float((total @ total - squares) / (count * (count - 1)))


def alike(values: np.ndarray) -> float | None:
    """The mean cosine of descriptors (n, D) where it is above `ALIKE` and they are enough to say so; else None."""
    if len(values) < FEWEST:
        return None
    cosine = mean_cosine(values[:: -(-len(values) // COMPARED)])
    return cosine if cosine > ALIKE else None


def warn_of_collapse(values: np.ndarray, origin: str, remedy: str) -> bool:
    """Warn where descriptors (n, D) are all alike; say whether.

    Parameters
    ----------
    values : (n, D) float32
    origin : str
        Where they come from, for the message.
    remedy : str
        What the user can do about it.
    """
    cosine = alike(values)
    if cosine is not None:
        logger.warning(
            "%s: the descriptors are all alike (mean cosine of two: %.3f), so that they tell hardly any photos apart; "
            "%s",
            *(origin, cosine, remedy),
        )
    return cosine is not None


def warn_of_sideways(names: list[str], count: int) -> None:
    """Say in one line how many of `count` photos lie sideways by their EXIF and were seen so, where there are any."""
    if names:
        shown = f"{len(names):,} of {count:,} photos lie sideways by their EXIF and are seen so"
        logger.warning("%s, first: %s; %s", shown, first_three(sorted(names)), TURN)
