"""What is true of descriptors in any layout: names that occur once, finite rows of length 1, a sensible dimension."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sfm2tuples.errors import DataError, first_three, refuse_some, told_of

NORM_TOLERANCE = 1e-3
"""How far a row's norm may be from 1 in our columns; float32 rounding stays far below."""
LARGEST_DIMENSION = 1 << 20
"""No descriptor is longer; a file that says so is damaged. NetVLAD of ResNet-50 has 131,072 dimensions."""


def check_names(path: str | Path, names: Sequence[str]) -> None:
    """Refuse names that are empty or occur twice; `path` is the file at fault."""
    if not names:
        raise DataError(path, "holds no descriptors")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(path, f"{told_of(len(twice), 'names occur more than once')}, first {first_three(twice)}")
    if "" in set(names):
        raise DataError(path, "an image has an empty name")


def check_values(path: str | Path, names: Sequence[str], values: np.ndarray) -> None:
    """Refuse rows that are no L2-normalised descriptors of these names; `path` is the file at fault."""
    check_matrix(path, len(names), values.shape, values.dtype)
    norms = row_norms(path, names, values)
    _refuse_rows(
        path,
        names,
        np.abs(norms - 1) > NORM_TOLERANCE,
        "descriptors are not L2-normalised",
        "divide each by its length",
    )


def row_norms(path: str | Path, names: Sequence[str], values: np.ndarray) -> np.ndarray:
    """The rows' lengths (n,), float64, after refusing rows that are not finite and rows of zeros."""
    norms = np.concatenate([_norms(values[start : start + 65536]) for start in range(0, len(values), 65536)])
    _refuse_rows(path, names, ~np.isfinite(norms), "descriptors hold NaN or infinity", "extract them again")
    _refuse_rows(path, names, norms == 0, "descriptors are all zeros", "extract them again")
    return norms


def _norms(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nd,nd->n", values, values, dtype=np.float64, casting="same_kind"))


def normalise_rows(path: str | Path, names: Sequence[str], values: np.ndarray) -> np.ndarray:
    """L2-normalise rows (n, D) to float32; rows that are not finite or all zeros are refused, `path` is at fault."""
    return to_unit_rows(values, row_norms(path, names, values))


def to_unit_rows(values: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Rows (n, D) of any floating point by their lengths (n,): (n, D) float32; no other copy of them is made."""
    rows = np.empty(values.shape, np.float32)
    np.divide(values, norms[:, None], out=rows, dtype=np.float64, casting="same_kind")
    return rows


def check_matrix(path: str | Path, count: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse what is no (count, D) array of floating point; `path` is the file at fault."""
    if len(shape) != 2 or shape[0] != count or not 0 < shape[1] <= LARGEST_DIMENSION:
        raise DataError(path, f"{count:,} names, but descriptors of shape {tuple(shape)}")
    if dtype.kind != "f":
        raise DataError(path, f"descriptors are {dtype}, not floating point")


def _refuse_rows(path: str | Path, names: Sequence[str], bad: np.ndarray, what: str, remedy: str) -> None:
    refuse_some(path, [names[row] for row in np.flatnonzero(bad).tolist()], len(names), what, remedy)
