"""A dataclass of columns as a group of an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import h5py
import numpy as np

from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.columns import ColumnStream, Utf8Strings, allocate_column, write_strings

Column = list[str] | Utf8Strings | np.ndarray | ColumnStream
"""Strings, strings as they lie in a file, an array, or an array that is still to be gathered."""


def write_table(group: h5py.Group, table: Any) -> None:
    """Store a dataclass of columns: its lists of strings and its arrays; a field that is None has no column."""
    write_columns(group, {field.name: getattr(table, field.name) for field in fields(table)})


def read_table(columns: CheckedColumns, group: str, table: type[Any]) -> Any:
    """Read a dataclass of columns back from a group of a file; errors as of `CheckedColumns.read`.

    A field whose default is None may have no column.
    """
    there = [f.name for f in fields(table) if f.default is not None or columns.has(f"{group}/{f.name}")]
    return table(**{name: columns.read(f"{group}/{name}") for name in there})


def write_columns(group: h5py.Group, columns: Mapping[str, Column]) -> list[tuple[h5py.Dataset, ColumnStream]]:
    """Store strings, then the others in the order of their names, so that equal content gives equal bytes.

    Gives the streams with the datasets that have their place in the file and are still to be filled.
    """
    for name, column in columns.items():
        if isinstance(column, (list, Utf8Strings)):
            write_strings(group, name, column)
    streams = []
    for name in sorted(columns):
        column = columns[name]
        if isinstance(column, ColumnStream):
            streams.append((allocate_column(group, name, column), column))
        elif isinstance(column, np.ndarray):
            group[name] = np.ascontiguousarray(column)
    return streams
