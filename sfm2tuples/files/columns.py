"""Columns in HDF5: strings as one UTF-8 blob with offsets, ragged rows as values with `indptr` (CSR)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sfm2tuples.errors import refuse_some
from sfm2tuples.files.new_file import NewFile


@dataclass(frozen=True)
class ColumnStream:
    """A column that is too large to hold: its type and shape are known, its rows come in blocks."""

    dtype: np.dtype
    """Type of the values."""
    shape: tuple[int, ...]
    """Rows, and what a row holds."""
    blocks: Callable[[], Iterator[np.ndarray]]
    """Gives consecutive blocks of rows, all rows together."""
    bounds: tuple[int, int] | None = None
    """Of whole numbers: none is lower than the first or higher than the second, where that is known."""


@dataclass(frozen=True)
class Utf8Strings:
    """Strings as they lie in a file."""

    utf8: np.ndarray
    """(sum,) uint8, one after the other."""
    offsets: np.ndarray
    """(n + 1,) int64, where each starts."""

    @classmethod
    def of(cls, strings: Sequence[str]) -> Utf8Strings:
        """Encode strings; a name on disk that is not UTF-8 keeps its bytes."""
        encoded = [s.encode("utf-8", "surrogateescape") for s in strings]
        lengths = np.array([len(e) for e in encoded], np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), indptr_of(lengths))

    def tolist(self) -> list[str]:
        """Decode them."""
        blob = self.utf8.tobytes()
        return [blob[a:b].decode("utf-8", "surrogateescape") for a, b in itertools.pairwise(self.offsets.tolist())]


def write_strings(group: h5py.Group, name: str, strings: Sequence[str] | Utf8Strings) -> None:
    """Store strings as ``name/utf8`` (uint8) and ``name/offsets`` (n + 1, int64)."""
    encoded = strings if isinstance(strings, Utf8Strings) else Utf8Strings.of(strings)
    column = group.create_group(name)
    column["utf8"] = encoded.utf8
    column["offsets"] = encoded.offsets


def mapped_column(dataset: h5py.Dataset) -> np.ndarray | None:
    """A column mapped into memory read-only, so that it may be larger than that; None where it cannot be.

    It stays readable when the file that it came by is closed.
    """
    offset = dataset.id.get_offset()
    if offset is None or not dataset.dtype.isnative or dataset.size == 0:
        return None
    return np.memmap(dataset.file.filename, dataset.dtype, "r", offset, dataset.shape)


def allocate_column(group: h5py.Group, name: str, column: ColumnStream) -> h5py.Dataset:
    """Make an empty dataset whose place in the file is taken at once, so that bytes do not depend on who fills it."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    kind, space = h5py.h5t.py_create(column.dtype, logical=True), h5py.h5s.create_simple(column.shape)
    return h5py.Dataset(h5py.h5d.create(group.id, name.encode(), kind, space, plan))


def fill_column(file: NewFile, dataset: h5py.Dataset, column: ColumnStream) -> str:
    """Write the blocks of a column one after the other; gives the SHA-256 of its bytes as hex digits.

    The bytes go straight to the dataset's place in the file. HDF5 lets one thread write at a time; this way several
    datasets of a file are filled by as many threads.
    """
    digest = hashlib.sha256()
    at = dataset.id.get_offset() or 0
    for block in column.blocks():
        content = np.ascontiguousarray(block, column.dtype).reshape(-1).view(np.uint8).data
        digest.update(content)
        file.write_at(content, at)
        at += len(content)
    return digest.hexdigest()


def indptr_of(counts: np.ndarray) -> np.ndarray:
    """Row starts of a CSR column from the rows' lengths: (n,) to (n + 1,) int64."""
    indptr = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr


def rows_of_names(
    names: Sequence[str], wanted: Sequence[str], path: str | Path, what: str, remedy: str = ""
) -> np.ndarray:
    """Row of each wanted name in a column of names: (m,) int64.

    Raises
    ------
    DataError
        Some are not there: `path` is the file at fault, `what` what they are, ``photos have no features``.
    """
    row_of = {name: row for row, name in enumerate(names)}
    refuse_some(path, [name for name in wanted if name not in row_of], len(wanted), what, remedy)
    return np.fromiter((row_of[name] for name in wanted), np.int64, len(wanted))


def gather_rows(indptr: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the values of chosen CSR rows, in the rows' order.

    Parameters
    ----------
    indptr : (n + 1,) int64
    rows : (m,) int64

    Returns
    -------
    indptr : (m + 1,) int64
        Row starts of the selection.
    positions : (k,) int64
        Where the selection's values lie in the whole.
    """
    counts = np.diff(indptr)[rows]
    chosen = indptr_of(counts)
    return chosen, np.arange(chosen[-1]) + np.repeat(indptr[:-1][rows] - chosen[:-1], counts)
