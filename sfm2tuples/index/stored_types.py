"""Whole numbers in the smallest type that their rule lets a file have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm2tuples.files.columns import ColumnStream
from sfm2tuples.files.rules import Rule
from sfm2tuples.files.tables import Column


def smallest_type(rule: Rule, low: int, high: int) -> np.dtype:
    """The first of a rule's types for files that holds all from `low` to `high`, else the type that is read."""
    for name in rule.stored:
        dtype = np.dtype(name)
        if dtype.kind in "iu" and np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return dtype
    return np.dtype(rule.dtype)


def narrowed(rule: Rule | None, column: Column) -> Column:
    """A column as a file has it; the same one where there is nothing to gain, or a stream's bounds are not known.

    Parameters
    ----------
    rule : Rule or None
        Of the dataset.
    column : Column
        Whole numbers are narrowed; others are as whoever made them wants them.
    """
    if rule is None or not rule.stored:
        return column
    if isinstance(column, ColumnStream):
        dtype = column.dtype if column.bounds is None else smallest_type(rule, *column.bounds)
        return replace(column, dtype=dtype)
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu":
        bounds = (int(column.min()), int(column.max())) if column.size else (0, 0)
        return column.astype(smallest_type(rule, *bounds))
    return column
