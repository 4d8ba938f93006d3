"""One of our files, read a few rows at a time: opened when it is needed, and anew in every process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.files.columns import Utf8Strings
from sfm2tuples.files.container import Header, header_of, open_file

RowSelection = slice | np.ndarray
"""Which rows: a slice, row numbers, or a mask (n,)."""
_NEAR = 1 << 16
"""Bytes between two rows that are read too, since a jump would take longer."""
_ITERATED = 1 << 13


class _OpenLock:
    """One thread of a process opens a file at a time."""

    lock = threading.Lock()

    @classmethod
    def renew(cls) -> None:
        """Forget in a forked process who held the lock."""
        cls.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_OpenLock.renew)


class LazyFile:
    """An HDF5 file of ours that is open while it is read, and whose rows are read as they are asked for.

    It is pickled as a path. A forked process opens it anew: HDF5's state must not be shared.

    Parameters
    ----------
    path : Path
    format, version
        As in `sfm2tuples.files.container.open_file`.
    fingerprint : str
        What the file's must be; "": any at first, and then always that one.
    cache : bool
        As in `open_file`.
    """

    def __init__(self, path: Path, format: str, version: int, fingerprint: str = "", cache: bool = True) -> None:
        self.path = Path(os.path.abspath(path))
        self._format, self._version, self._fingerprint = format, version, fingerprint
        self._cache = cache
        self._file: h5py.File | None = None
        self._stack = ExitStack()
        self._process = 0
        self._closed = False

    def __reduce__(self) -> tuple[type[LazyFile], tuple[Path, str, int, str, bool]]:
        """Travel to another process as a path."""
        return type(self), (self.path, self._format, self._version, self._fingerprint, self._cache)

    def open(self) -> h5py.File:
        """The open file.

        Raises
        ------
        DataError, FileFormatError
            It was closed, or it is absent, replaced, torn, of another format or newer than this program.
        """
        if self._closed:
            raise DataError(self.path, "was closed", "open it again")
        if self._file is None or self._process != os.getpid():
            with _OpenLock.lock:
                if self._file is None or self._process != os.getpid():
                    self._stack.close()
                    self._stack = ExitStack()
                    file = self._stack.enter_context(open_file(self.path, self._format, self._version, self._cache))
                    self._check_content(header_of(file).fingerprint)
                    self._file, self._process = file, os.getpid()
        return self._file

    def close(self) -> None:
        """Close the file for good."""
        self._closed = True
        self._file = None
        self._stack.close()

    def header(self) -> Header:
        """What the file says of itself."""
        return header_of(self.open())

    def num_rows(self, name: str) -> int:
        """Rows of a column."""
        item = self._item(name)
        return len(item["offsets"]) - 1 if isinstance(item, h5py.Group) else len(item)

    def column(self, name: str) -> LazyColumn:
        """A column whose rows are read as they are asked for."""
        return LazyColumn(self.num_rows(name), partial(self.read, name))

    def read(self, name: str, rows: RowSelection) -> Any:
        """Read rows of a column: an array, or a list of strings.

        Row numbers are from 0 to the number of rows; far fewer bytes than the column has are read for a few.
        """
        item = self._item(name)
        try:
            return _strings(item, rows) if isinstance(item, h5py.Group) else _values(item, rows)
        except OSError as error:
            raise FileFormatError(self.path, f"{name} cannot be read ({error})", "make it again") from error

    def _check_content(self, fingerprint: str) -> None:
        """Rows of one file must not be looked up in another that took its place."""
        if fingerprint != (self._fingerprint or fingerprint):
            raise DataError(self.path, "was replaced since it was first opened", "open it again")
        self._fingerprint = fingerprint

    def _item(self, name: str) -> h5py.Group | h5py.Dataset:
        try:
            return self.open()[name]
        except KeyError as error:
            raise FileFormatError(self.path, f"torn or incomplete (no {name})", "make it again") from error


class LazyColumn(Sequence):
    """A column that is read by rows: ``column[3]``, ``column[10:20]``, ``column[rows]``, ``np.asarray(column)``.

    Parameters
    ----------
    num_rows : int
    read : callable
        Reads a slice from 0 up, or row numbers that are in range.
    """

    def __init__(self, num_rows: int, read: Callable[[RowSelection], Any]) -> None:
        self._num_rows, self._read = num_rows, read

    def __len__(self) -> int:
        """Number of rows."""
        return self._num_rows

    def __getitem__(self, rows: Any) -> Any:
        """The value of one row, or the values of several."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self._num_rows)
            if step == 1:
                return self._read(slice(start, max(start, stop)))
            return self._read(np.arange(start, stop, step))
        if np.ndim(rows) == 0 and not isinstance(rows, (bool, np.bool_)):
            return self._read(self._in_range(np.array([rows])))[0]
        chosen = np.asarray(rows)
        if chosen.dtype == bool:
            if len(chosen) != self._num_rows:
                raise IndexError(f"a mask of {len(chosen)} for {self._num_rows} rows")
            chosen = np.flatnonzero(chosen)
        return self._read(self._in_range(chosen))

    def __iter__(self) -> Iterator[Any]:
        """Every value, read in blocks."""
        for start in range(0, self._num_rows, _ITERATED):
            yield from self[start : start + _ITERATED]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The whole column."""
        return np.asarray(self[:], dtype)

    def _in_range(self, rows: np.ndarray) -> np.ndarray:
        """Row numbers from 0 up; negative ones count from the end."""
        numbers = rows.astype(np.int64, casting="same_kind") if rows.size else rows.astype(np.int64)
        off = (numbers < -self._num_rows) | (numbers >= self._num_rows)
        if off.any():
            raise IndexError(f"row {numbers[off].flat[0]} of {self._num_rows}")
        return np.where(numbers < 0, numbers + self._num_rows, numbers)


class LazyTable:
    """The columns of one of our dataclasses, such as `sfm2tuples.index.schema.Images`, as `LazyColumn`.

    Parameters
    ----------
    file : LazyFile
    group : str
        Where the table lies in the file.
    table : type
        The dataclass: its fields are this object's attributes.
    """

    def __init__(self, file: LazyFile, group: str, table: type[Any]) -> None:
        self._file, self._group = file, group
        self._names = [field.name for field in fields(table)]

    def __getattr__(self, name: str) -> LazyColumn:
        """The column of a field."""
        if name.startswith("_") or name not in self._names:
            raise AttributeError(name)
        return self._file.column(f"{self._group}/{name}")

    def __dir__(self) -> list[str]:
        """The columns too."""
        return [*super().__dir__(), *self._names]


def _values(dataset: h5py.Dataset, rows: RowSelection) -> np.ndarray:
    if isinstance(rows, slice):
        return dataset[rows]
    width = dataset.dtype.itemsize * int(np.prod(dataset.shape[1:]))
    wanted, where = np.unique(rows, return_inverse=True)
    parts = [dataset[run[0] : run[-1] + 1][run - run[0]] for run in _runs(wanted, _NEAR // max(1, width))]
    return np.concatenate([dataset[:0], *parts])[where.ravel()]


def _strings(group: h5py.Group, rows: RowSelection) -> list[str]:
    if not isinstance(rows, slice):
        wanted, where = np.unique(rows, return_inverse=True)
        found: list[str] = []
        for run in _runs(wanted, _NEAR >> 6):
            texts = _strings(group, slice(run[0], run[-1] + 1))
            found += [texts[row] for row in (run - run[0]).tolist()]
        return [found[row] for row in where.ravel().tolist()]
    if rows.stop == rows.start:
        return []
    offsets = group["offsets"][rows.start : rows.stop + 1]
    return Utf8Strings(group["utf8"][offsets[0] : offsets[-1]], offsets - offsets[0]).tolist()


def _runs(wanted: np.ndarray, near: int) -> list[np.ndarray]:
    """Rising rows in parts, each of rows that lie near each other."""
    return [run for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > near) + 1) if len(run)]
