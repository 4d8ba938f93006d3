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

import numpy as np

from sfm2tuples.errors import DataError
from sfm2tuples.files.checked_columns import CheckedColumns, RowSelection
from sfm2tuples.files.container import Header, header_of, open_file
from sfm2tuples.files.rules import Rules

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
    rules : Rules
        Of every dataset that is read.
    content : str
        What the `Header.content` of the file must be; "": any at first, and then always that one.
    cache : bool
        As in `open_file`.
    """

    def __init__(
        self, path: Path, format: str, version: int, rules: Rules, content: str = "", cache: bool = True
    ) -> None:
        self.path = Path(os.path.abspath(path))
        self._format, self._version, self._rules, self._content = format, version, rules, content
        self._cache = cache
        self._opened: tuple[Header, CheckedColumns] | None = None
        self._stack = ExitStack()
        self._process = 0
        self._closed = False

    def __reduce__(self) -> tuple[type[LazyFile], tuple[Path, str, int, Rules, str, bool]]:
        """Travel to another process as a path."""
        return type(self), (self.path, self._format, self._version, self._rules, self._content, self._cache)

    def open(self) -> tuple[Header, CheckedColumns]:
        """What the open file says of itself, and its columns.

        Raises
        ------
        DataError, FileFormatError
            It was closed, or it is absent, replaced, torn, of another format or newer than this program; a column is
            not as the rules say.
        """
        if self._closed:
            raise DataError(self.path, "was closed", "open it again")
        opened = self._opened if self._process == os.getpid() else None
        if opened is None:
            with _OpenLock.lock:
                opened = self._opened if self._process == os.getpid() else None
                if opened is None:
                    self._opened = None
                    self._stack.close()
                    self._stack = ExitStack()
                    file = self._stack.enter_context(open_file(self.path, self._format, self._version, self._cache))
                    header = header_of(self.path, file)
                    self._check_content(header.content)
                    opened = header, CheckedColumns(self.path, file, self._rules)
                    self._opened, self._process = opened, os.getpid()
        return opened

    def close(self) -> None:
        """Close the file for good."""
        self._closed = True
        self._opened = None
        self._stack.close()

    def header(self) -> Header:
        """What the file says of itself."""
        return self.open()[0]

    def has(self, name: str) -> bool:
        """Whether the file has a dataset that the rules let be absent."""
        return self.open()[1].has(name)

    def num_rows(self, name: str) -> int:
        """Rows of a column."""
        return self.open()[1].num_rows(name)

    def column(self, name: str) -> LazyColumn:
        """A column whose rows are read as they are asked for."""
        return LazyColumn(self.num_rows(name), partial(self.read, name))

    def read(self, name: str, rows: RowSelection) -> Any:
        """Read rows of a column, checked: see `CheckedColumns.read`."""
        return self.open()[1].read(name, rows)

    def _check_content(self, content: str) -> None:
        """Rows of one file must not be looked up in another that took its place."""
        if content != (self._content or content):
            raise DataError(self.path, "was replaced since it was first opened", "open it again")
        self._content = content


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
