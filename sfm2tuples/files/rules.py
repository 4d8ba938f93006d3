"""What a format promises of its columns, declared beside its schema; `checked_columns` holds files to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.errors import FileFormatError

Dimension = str | int
"""A number, or what there are so many of: ``"images"``, ``"images + 1"``. One word means one number in a file."""
Sizes = dict[str, int]
"""How many there are of what the dimensions of a file name."""
_AGAIN = "make it again"
_ONE_MORE = " + 1"


@dataclass(frozen=True)
class Rule:
    """What is true of one dataset of every file of a format."""

    shape: tuple[Dimension, ...]
    """How many of what; the first dimension counts the rows."""
    dtype: str
    """NumPy's name of the type as it is read; ``float`` is any floating point of up to 8 bytes."""
    stored: tuple[str, ...] = ()
    """Types that a file may have in its place, the smallest first; a reader gets `dtype` whichever it has."""
    row_of: str = ""
    """The values are rows of these, from 0 up."""
    or_none: bool = False
    """With `row_of`: -1 stands for none."""
    starts_of: str = ""
    """The values are an `indptr`: they start at 0, never fall, and end at the number of these."""
    least: int | None = None
    """No value is lower."""
    most: int | None = None
    """No value is higher."""
    finite: bool = False
    """No value is NaN or infinite."""
    unknown: float | None = None
    """Every value is finite or this one (NaN, -inf)."""
    only_with: str = ""
    """The dataset is there only where the file has this group; its own name: it may be absent."""


Rules = Mapping[str, Rule]
"""By name of the dataset."""


def text_rules(name: str, rows: str) -> dict[str, Rule]:
    """Rules of a column of strings, as `sfm2tuples.files.columns.write_strings` stores it."""
    letters = f"bytes of {name}"
    return {
        f"{name}/utf8": Rule((letters,), "uint8", least=1),
        f"{name}/offsets": Rule((rows + _ONE_MORE,), "int64", starts_of=letters),
    }


def below(group: str, rules: Rules) -> dict[str, Rule]:
    """The same rules of datasets that lie in a group."""
    return {f"{group}/{name}": rule for name, rule in rules.items()}


def check_shape(path: str | Path, name: str, rule: Rule, shape: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Refuse a shape that the rule or the columns before it do not allow; adds to `sizes` what it is first to say.

    Raises
    ------
    FileFormatError
        See above.
    """
    if len(shape) != len(rule.shape):
        raise FileFormatError(path, f"{name} has {len(shape)} dimensions, not {len(rule.shape)}", _AGAIN)
    for length, dimension in zip(shape, rule.shape, strict=True):
        if isinstance(dimension, int):
            expected, what = dimension, f"rows of {dimension:,}"
        else:
            of, more = dimension.removesuffix(_ONE_MORE), int(dimension.endswith(_ONE_MORE))
            if of not in sizes and length >= more:
                sizes[of] = length - more
            expected = sizes.get(of, 0) + more
            what = f"{expected - more:,} {of}"
        if length != expected:
            raise FileFormatError(path, f"{name} has the shape {shape}, which does not fit {what}", _AGAIN)


def check_type(path: str | Path, name: str, rule: Rule, dtype: np.dtype) -> None:
    """Refuse another type than the rule's.

    Raises
    ------
    FileFormatError
        See above.
    """
    if rule.dtype == "float":
        right = dtype.kind == "f" and dtype.itemsize <= 8
    else:
        right = any(dtype == np.dtype(name) for name in (rule.dtype, *rule.stored))
    if not right:
        raise FileFormatError(path, f"{name} is {dtype}, not {rule.dtype}", _AGAIN)


def check_column(path: str | Path, name: str, rule: Rule, values: np.ndarray, sizes: Sizes) -> None:
    """Refuse values, of all rows or of some, that the rule does not allow; a pass or two over them.

    Raises
    ------
    FileFormatError
        See above.
    """
    if not values.size:
        return
    if rule.row_of:
        least, count = -1 if rule.or_none else 0, sizes[rule.row_of]
        if not _all_rows(values, least, count):
            odd = values[(values < least) | (values >= count)].flat[0]
            raise FileFormatError(path, f"{name} names the row {odd} of {count:,} {rule.row_of}", _AGAIN)
    if rule.least is not None and values.min() < rule.least:
        raise FileFormatError(path, f"{name} holds {values.min()}, less than {rule.least}", _AGAIN)
    if rule.most is not None and values.max() > rule.most:
        raise FileFormatError(path, f"{name} holds {values.max()}, more than {rule.most}", _AGAIN)
    if rule.finite and not _all_finite(values):
        raise FileFormatError(path, f"{name} holds NaN or infinity", _AGAIN)
    if rule.unknown is not None:
        odd = values[~np.isfinite(values)]
        if not (np.isnan(odd) if np.isnan(rule.unknown) else odd == rule.unknown).all():
            raise FileFormatError(path, f"{name} holds a value that is neither finite nor {rule.unknown}", _AGAIN)


def _all_finite(values: np.ndarray) -> bool:
    """Whether all are finite: their sum is finite only if they are, and where it is not, it may have overflowed."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum(dtype=np.float64)) or np.isfinite(values).all())


def _all_rows(values: np.ndarray, least: int, count: int) -> bool:
    """Whether all values are from `least` to `count` - 1; in one pass where none may be negative."""
    if least == 0 and values.dtype in (np.int64, np.int32):
        # Seen without a sign, a negative number is larger than any row: a table has fewer than half as many.
        return bool(values.view(f"u{values.itemsize}").max() < min(count, 1 << (8 * values.itemsize - 1)))
    return bool(values.min() >= least and values.max() < count)


def check_starts(
    path: str | Path, name: str, rule: Rule, values: np.ndarray, sizes: Sizes, whole: tuple[bool, bool]
) -> None:
    """Refuse consecutive values of an `indptr` that fall, or leave what it divides.

    Parameters
    ----------
    whole : (bool, bool)
        Whether the first of the column is among them, which is 0, and the last, which is the number of all.

    Raises
    ------
    FileFormatError
        See above.
    """
    if not values.size:
        return
    # Where the file lacks what the starts divide, as a lean index its points, their number is any.
    count = sizes.get(rule.starts_of, int(values[-1]))
    right = values[0] == 0 if whole[0] else values[0] >= 0
    right &= values[-1] == count if whole[1] else values[-1] <= count
    if not right or (values[1:] < values[:-1]).any():
        raise FileFormatError(path, f"{name} does not rise from 0 to the {count:,} {rule.starts_of}", _AGAIN)
