"""A whitening: its file, and how it is applied to descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.whitening.linear_algebra import BLOCK_ROWS
from retrieval.whitening.options import METHODS
from sfm2tuples.errors import FileFormatError, UsageError
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.container import create_file, header_of, open_file
from sfm2tuples.files.descriptor_settings import differing, shortened
from sfm2tuples.files.rules import Rule, Rules

FORMAT = "sfm2tuples-whitening"
VERSION = 1
OPTIONS: dict[str, Any] = {
    "method": str,
    "shrinkage": (int, float),
    "settings": dict,
    "num_pairs": int,
    "rank": int,
    "jitter": (int, float),
}
"""The options of a file that `Whitening` has as fields, and their types."""
RULES: Rules = {
    "mean": Rule(("dimensions of descriptors",), "float64", finite=True),
    "projection": Rule(("dimensions kept", "dimensions of descriptors"), "float64", finite=True),
}
FARTHEST = 1e15
"""No whitening that is learned takes a dimension so far; single precision, which layers have, holds its square."""


@dataclass(frozen=True)
class Whitening:
    """A learned projection; ``apply`` maps descriptors f to the normalised ``projection @ (f - mean)``."""

    mean: np.ndarray
    """(K,) float64: subtracted first."""
    projection: np.ndarray
    """(D, K) float64: rows in the order of falling importance, so that the first D' whiten to D' dimensions."""
    method: str
    """``lw`` or ``pca``."""
    shrinkage: float
    """λ in 0..1 that the covariance was shrunk by; 0 as published."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What made the descriptors it was learned on: network, size, scales, ...; empty when not known."""
    num_pairs: int = 0
    """Matching pairs (lw) or images (pca) that it was learned on; 0 when not known."""
    rank: int = 0
    """Rank of the covariance before shrinkage; 0 when not known."""
    jitter: float = 0.0
    """What had to be added to the covariance's diagonal so that it factors."""
    fingerprint: str = ""
    """Fingerprint of the file it was read from."""

    @property
    def dim(self) -> int:
        """Dimension of whitened descriptors."""
        return len(self.projection)


def apply(whitening: Whitening, descriptors: np.ndarray, dim: int | None = None) -> np.ndarray:
    """Whiten descriptors, cut to the first `dim` dimensions, and normalise.

    Parameters
    ----------
    whitening : Whitening
    descriptors : (n, K) float32, L2-normalised
    dim : int, optional
        All dimensions of the whitening by default.

    Returns
    -------
    (n, dim) float32, L2-normalised
        A descriptor that is the mean itself has no direction and stays zero.

    Raises
    ------
    UsageError
        The descriptors have another dimension, or `dim` is more than the whitening has.
    """
    check_applicable(whitening, descriptors.shape[1], dim)
    projection = cut(whitening, dim).projection if dim is not None else whitening.projection
    result = np.empty((len(descriptors), len(projection)), np.float32)
    for start in range(0, len(descriptors), BLOCK_ROWS):
        block = (descriptors[start : start + BLOCK_ROWS] - whitening.mean) @ projection.T
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        result[start : start + BLOCK_ROWS] = block / np.where(norms > 0, norms, 1)
    return result


def check_applicable(whitening: Whitening, dimension: int, dim: int | None = None) -> None:
    """Refuse what `apply` would refuse, before there are descriptors.

    Parameters
    ----------
    whitening : Whitening
    dimension : int
        Of the descriptors.
    dim : int, optional
        Dimensions to keep.

    Raises
    ------
    UsageError
        The descriptors have another dimension, or `dim` is more than the whitening has.
    """
    if dimension != len(whitening.mean):
        raise UsageError(
            f"the whitening is for descriptors of {len(whitening.mean)} dimensions, these have {dimension}; "
            "it belongs to another network"
        )
    if dim is not None:
        cut(whitening, dim)


def cut(whitening: Whitening, dim: int) -> Whitening:
    """Keep only the first `dim` dimensions.

    Raises
    ------
    UsageError
        `dim` is below 1 or more than the whitening has.
    """
    if not 1 <= dim <= whitening.dim:
        raise UsageError(f"dim {dim} is not between 1 and the {whitening.dim} dimensions of the whitening")
    return replace(whitening, projection=whitening.projection[:dim])


def write_whitening(path: str | Path, whitening: Whitening, parents: Sequence[str] = ()) -> None:
    """Write a whitening file; `parents` are the fingerprints of the files it was learned on."""
    options = {
        "method": whitening.method,
        "shrinkage": whitening.shrinkage,
        "dim": whitening.dim,
        "num_pairs": whitening.num_pairs,
        "rank": whitening.rank,
        "jitter": whitening.jitter,
        "settings": whitening.settings,
    }
    with create_file(path, FORMAT, VERSION, options, parents) as file:
        file["mean"] = np.asarray(whitening.mean, np.float64)
        file["projection"] = np.asarray(whitening.projection, np.float64)


def read_whitening(path: str | Path) -> Whitening:
    """Read a whitening file; errors are those of `open_file`, and FileFormatError where it cannot be one."""
    with open_file(path, FORMAT, VERSION) as file:
        columns, header = CheckedColumns(path, file, RULES), header_of(path, file)
        mean, projection = columns.read("mean"), columns.read("projection")
    if not 0 < len(projection) <= len(mean):
        raise FileFormatError(path, f"a mean of shape {mean.shape} does not fit a projection of {projection.shape}")
    options: dict[str, Any] = {key: header.options.get(key) for key in OPTIONS}
    odd = [key for key, value in options.items() if not isinstance(value, OPTIONS[key])]
    if odd or options["method"] not in METHODS:
        raise FileFormatError(path, f"its options say no {(odd or ['method'])[0]} of a whitening", "learn it again")
    check_reach(path, mean, projection)
    return Whitening(mean, projection, fingerprint=header.fingerprint, **options)


def check_reach(path: str | Path, mean: np.ndarray, projection: np.ndarray) -> None:
    """Refuse a whitening that could take a descriptor to more than `FARTHEST`; `path` is the file at fault.

    A descriptor f has length 1, so that no dimension of P (f - m) is beyond the length of its row of P times (1 + |m|).

    Raises
    ------
    FileFormatError
        See above; also where a value is NaN or infinite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        reach = np.sqrt(np.einsum("dk,dk->d", projection, projection)) * (1 + np.sqrt(mean @ mean))
    if not (reach <= FARTHEST).all():
        largest = max(np.abs(values).max(initial=0) for values in (mean, projection))
        what = f"whitened descriptors would overflow (its largest value is {largest:.3g})"
        raise FileFormatError(path, what, "learn it again")


def settings_mismatch(learned: dict[str, Any], applied: dict[str, Any]) -> str | None:
    """Say in one line where descriptors were made otherwise than those a whitening was learned on.

    Parameters
    ----------
    learned, applied : dict
        `Whitening.settings` and `Descriptors.settings`. What only one of them knows is not compared: foreign files
        do not say how they were made.

    Returns
    -------
    str or None
        None where nothing differs.
    """
    found = differing(learned, applied)
    if not found:
        return None
    parts = [f"{key} {shortened(there)} there, {shortened(here)} here" for key, there, here in found]
    return f"the whitening was learned with other settings than these descriptors': {'; '.join(parts)}"
