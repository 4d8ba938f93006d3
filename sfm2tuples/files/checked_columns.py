"""The columns of a file that nobody vouches for: their layout is checked before any is read, their values as they are.

Checking the layout reads no value, and takes memory for none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfm2tuples.files.columns import Utf8Strings
from sfm2tuples.files.plain_items import plain_dataset, plain_item, reading
from sfm2tuples.files.rules import Rules, check_column, check_shape, check_starts, check_type

RowSelection = slice | np.ndarray
"""Which rows: a slice with both ends, or row numbers."""
_NEAR = 1 << 16
"""Bytes between two rows that are read too, since a jump would take longer."""


class CheckedColumns:
    """The columns of an open file of ours.

    Parameters
    ----------
    path : str or Path
        The file, for messages.
    file : h5py.File
    rules : Rules
        Of every dataset that may be read.

    Raises
    ------
    FileFormatError
        A dataset is absent, a link, or of another type or shape than the rules say, or than others allow.
    """

    def __init__(self, path: str | Path, file: h5py.Group, rules: Rules) -> None:
        self.path, self._rules = path, rules
        self.sizes: dict[str, int] = {}
        """How many there are of what the rules' dimensions name."""
        self._datasets: dict[str, h5py.Dataset] = {}
        for name, rule in rules.items():
            if rule.only_with and plain_item(path, file, rule.only_with) is None:
                continue
            dataset = plain_dataset(path, file, name)
            with reading(path, name):
                dtype, shape = dataset.dtype, dataset.shape
            check_type(path, name, rule, dtype)
            check_shape(path, name, rule, () if shape is None else shape, self.sizes)
            self._datasets[name] = dataset

    def has(self, name: str) -> bool:
        """Whether the file has a dataset that the rules let be absent."""
        return name in self._datasets

    def num_rows(self, name: str) -> int:
        """Rows of a column."""
        return len(self._datasets[f"{name}/offsets"]) - 1 if self._is_text(name) else len(self._datasets[name])

    def dataset(self, name: str) -> h5py.Dataset:
        """A dataset whose values are still to be checked."""
        return self._datasets[name]

    def read(self, name: str, rows: RowSelection | None = None) -> Any:
        """Read some or all rows of a column: an array, or a list of strings.

        Row numbers are from 0 to the number of rows; far fewer bytes than the column has are read for a few.

        Raises
        ------
        FileFormatError
            The rows cannot be read, or a value is none that the rules allow.
        """
        rows = slice(0, self.num_rows(name)) if rows is None else rows
        return self._strings(name, rows) if self._is_text(name) else self._values(name, rows)

    def check(self, name: str, values: np.ndarray) -> None:
        """Hold all values of a column, which were read elsewhere, to its rule."""
        check_column(self.path, name, self._rules[name], values, self.sizes)

    def _is_text(self, name: str) -> bool:
        return name not in self._datasets and f"{name}/offsets" in self._datasets

    def _values(self, name: str, rows: RowSelection) -> np.ndarray:
        dataset, rule = self._datasets[name], self._rules[name]
        with reading(self.path, name):
            values = dataset[rows] if isinstance(rows, slice) else _scattered(dataset, rows)
        check_column(self.path, name, rule, values, self.sizes)
        if rule.starts_of:
            # Single starts are in any order; each must be in range all the same.
            whole = (rows.start == 0, rows.stop >= len(dataset)) if isinstance(rows, slice) else (False, False)
            starts = values if isinstance(rows, slice) else np.sort(values)
            check_starts(self.path, name, rule, starts, self.sizes, whole)
        return values.astype(rule.dtype, copy=False) if rule.stored else values

    def _strings(self, name: str, rows: RowSelection) -> list[str]:
        if not isinstance(rows, slice):
            wanted, where = np.unique(rows, return_inverse=True)
            found: list[str] = []
            for run in _runs(wanted, _NEAR >> 6):
                texts = self._strings(name, slice(run[0], run[-1] + 1))
                found += [texts[row] for row in (run - run[0]).tolist()]
            return [found[row] for row in where.ravel().tolist()]
        if rows.stop == rows.start:
            return []
        offsets = self._values(f"{name}/offsets", slice(rows.start, rows.stop + 1))
        utf8 = self._values(f"{name}/utf8", slice(int(offsets[0]), int(offsets[-1])))
        return Utf8Strings(utf8, offsets - offsets[0]).tolist()


def _scattered(dataset: h5py.Dataset, rows: np.ndarray) -> np.ndarray:
    width = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
    wanted, where = np.unique(rows, return_inverse=True)
    parts = [dataset[run[0] : run[-1] + 1][run - run[0]] for run in _runs(wanted, _NEAR // max(1, width))]
    return np.concatenate([dataset[:0], *parts])[where.ravel()]


def _runs(wanted: np.ndarray, near: int) -> list[np.ndarray]:
    """Rising rows in parts, each of rows that lie near each other."""
    return [run for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > near) + 1) if len(run)]
