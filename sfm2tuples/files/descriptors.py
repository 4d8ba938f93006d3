"""Files of descriptors: our columns (the default) and hloc's layout for global features; both are read everywhere.

Columnar: ``/names`` (a string column) and ``/descriptors`` (n, D) float32. hloc's: one group per image name, whose
"/" make nested groups, with the dataset ``global_descriptor`` (float16 by default there). The header of ours lies on
the root of either and carries the settings that made the descriptors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfm2tuples.errors import DataError, FileFormatError, UsageError, first_three, refuse_some, told_of
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.columns import ColumnStream, mapped_column, rows_of_names, write_strings
from sfm2tuples.files.container import create_file, header_of, open_file
from sfm2tuples.files.descriptor_checks import LARGEST_DIMENSION, check_matrix, check_values, normalise_rows
from sfm2tuples.files.descriptor_checks import check_names as check_names
from sfm2tuples.files.layouts import LAYOUTS as LAYOUTS
from sfm2tuples.files.opening import is_hdf5, open_hdf5
from sfm2tuples.files.plain_items import plain_item, reading, walk
from sfm2tuples.files.room import require_room
from sfm2tuples.files.rules import Rule, Rules, text_rules

FORMAT = "sfm2tuples-descriptors"
VERSION = 1
MAPPED_FROM = 1 << 28
"""Bytes of descriptors from which on a file of ours is mapped, not read."""

RULES: Rules = {**text_rules("names", "names"), "descriptors": Rule(("names", "dimensions"), "float")}
"""What is true of our columns; that rows are finite and of length 1 is looked at by `check_values`."""


@dataclass(frozen=True)
class Descriptors:
    """The descriptors of named images."""

    names: list[str]
    """The images' keys, unique; row i of `values` belongs to name i."""
    values: np.ndarray
    """(n, D) float32, L2-normalised rows."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What made them: network, size, scales, ...; empty for a foreign file."""
    path: str = ""
    """The file they were read from, for messages."""
    fingerprint: str = ""
    """Fingerprint of that file's content; empty for a foreign file."""
    origins: tuple[str, ...] = ()
    """The header's: whose photos these are."""


@dataclass(frozen=True)
class DescriptorStream:
    """Descriptors that need not fit into memory: they are written as they come."""

    names: list[str]
    """As of `Descriptors`."""
    values: ColumnStream
    """(n, D) float32, L2-normalised rows."""
    settings: dict[str, Any] = field(default_factory=dict)
    """As of `Descriptors`."""
    path: str = ""
    """As of `Descriptors`."""
    origins: tuple[str, ...] = ()
    """As of `Descriptors`."""


def read_descriptors(path: str | Path) -> Descriptors:
    """Read a descriptor file of either layout.

    Parameters
    ----------
    path : str or Path
        A columnar file of ours, or a file of hloc's global features, ours or anybody's.

    Returns
    -------
    Descriptors
        Rows of hloc's layout are cast to float32 and normalised again.

    Raises
    ------
    DataError
        No such file; values that are not finite, zero or not normalised rows, duplicate names, unequal lengths.
    FileFormatError
        The file is torn, of another format, or newer than this program.
    """
    path = Path(path)
    if _is_foreign(path):
        return _read_foreign(path)
    with open_file(path, FORMAT, VERSION) as file:
        header = header_of(path, file)
        if is_columnar(path, file):
            names, values = _read_columns(path, file)
        else:
            names, values = _read_groups(path, file)
            values = normalise_rows(path, names, values)
    return Descriptors(names, values, header.options, str(path), header.fingerprint, header.origins)


def write_descriptors(
    path: str | Path,
    descriptors: Descriptors | DescriptorStream,
    layout: str = "columnar",
    parents: Sequence[str] = (),
) -> None:
    """Write a descriptor file; equal descriptors give equal bytes, whether they are an array or a stream.

    Parameters
    ----------
    path : str or Path
        The file to make; written beside and renamed.
    descriptors : Descriptors or DescriptorStream
        Its settings and origins become the header's.
    layout : {"columnar", "hloc"}
        hloc's layout holds float16, as hloc writes it.
    parents : sequence of str
        Fingerprints of the files that these were made from.

    Raises
    ------
    DataError
        The rows or names are not fit to be written (see `read_descriptors`).
    UsageError
        An unknown layout.
    """
    check_layout(path, descriptors.names, layout)
    check_names(path, descriptors.names)
    if isinstance(descriptors, Descriptors):
        check_values(path, descriptors.names, descriptors.values)
    write = _write_columns if layout == "columnar" else _write_groups
    with create_file(path, FORMAT, VERSION, descriptors.settings, parents, origins=descriptors.origins) as file:
        write(file, descriptors.names, descriptors.values.shape, _checked_blocks(path, descriptors))
        file.check()


def check_layout(path: str | Path, names: Sequence[str], layout: str) -> None:
    """Refuse an unknown layout, and names that cannot be written in it; `path` is the file to be made.

    Raises
    ------
    DataError, UsageError
        See above; call it before the work whose result is to be written.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout}; choose from {', '.join(LAYOUTS)}")
    if layout == "hloc":
        _check_group_names(path, names)


def require_room_for(path: str | Path, count: int, dimension: int, layout: str = "columnar") -> None:
    """Refuse work whose descriptors will not fit on the disk (`require_room`): 4 bytes a value, 2 in hloc's layout."""
    require_room(path, count * dimension * (4 if layout == "columnar" else 2))


def align(descriptors: Descriptors, keys: Sequence[str], path_of_index: str | Path) -> np.ndarray:
    """Rows of the descriptors that belong to the images of another file.

    Parameters
    ----------
    descriptors : Descriptors
    keys : sequence of str
        The images' keys, in the wanted order.
    path_of_index : str or Path
        The file that the keys are from, for the message.

    Returns
    -------
    (len(keys),) int64
        ``descriptors.values[rows]`` are the images' descriptors.

    Raises
    ------
    DataError
        Some keys have no row.
    """
    what, remedy = f"names in {path_of_index} have no row here", "was it extracted under another root?"
    return rows_of_names(descriptors.names, keys, descriptors.path or "descriptors", what, remedy)


def read_hloc_rows(path: Path) -> tuple[list[str], np.ndarray]:
    """Names and rows (n, D) float64 of hloc's layout, as long as they are in the file.

    Raises
    ------
    DataError, FileFormatError
        The file is absent, torn, or holds no global descriptors.
    """
    try:
        with open_hdf5(path) as file:
            return _read_groups(path, file)
    except (OSError, KeyError, RuntimeError) as error:
        raise FileFormatError(path, "torn or incomplete", "make it again") from error


def _is_foreign(path: Path) -> bool:
    """Whether a readable HDF5 file has no header of ours; everything else is left to `open_file` and its errors."""
    if not is_hdf5(path):
        return False
    try:
        with open_hdf5(path) as file, reading(path, "its header"):
            return "format" not in file.attrs
    except FileFormatError:
        return False


def _read_foreign(path: Path) -> Descriptors:
    try:
        with open_hdf5(path) as file:
            if is_columnar(path, file):
                raise FileFormatError(
                    path, "has /descriptors but no header", "use import-descriptors, which writes a file of ours"
                )
            names, values = _read_groups(path, file)
            values = normalise_rows(path, names, values)
    except (OSError, KeyError, RuntimeError) as error:
        raise FileFormatError(path, "torn or incomplete", "make it again") from error
    return Descriptors(names, values, {}, str(path), "")


def is_columnar(path: str | Path, file: h5py.File) -> bool:
    """Tell our columns from hloc's layout: an image may be called "descriptors" there too, but is a group then."""
    return isinstance(plain_item(path, file, "descriptors"), h5py.Dataset)


def _checked_blocks(path: str | Path, descriptors: Descriptors | DescriptorStream) -> Iterator[np.ndarray]:
    """The rows in blocks; those of a stream are looked at as they come, those of an array were before."""
    if isinstance(descriptors, Descriptors):
        yield descriptors.values
        return
    start = 0
    for block in descriptors.values.blocks():
        check_values(path, descriptors.names[start : start + len(block)], block)
        yield block
        start += len(block)


def _write_columns(file: h5py.File, names: Sequence[str], shape: tuple[int, ...], blocks: Iterator[np.ndarray]) -> None:
    write_strings(file, "names", names)
    dataset = file.create_dataset("descriptors", shape, np.float32)
    start = 0
    for block in blocks:
        dataset[start : start + len(block)] = np.ascontiguousarray(block, np.float32)
        start += len(block)


def _read_columns(path: Path, file: h5py.File) -> tuple[list[str], np.ndarray]:
    columns = CheckedColumns(path, file, RULES)
    names, dataset = columns.read("names"), columns.dataset("descriptors")
    check_names(path, names)
    check_matrix(path, len(names), dataset.shape, dataset.dtype)
    values = _mapped(dataset)
    with np.errstate(over="ignore"):  # Too large for float32 is infinite, and is refused as such.
        values = columns.read("descriptors").astype(np.float32, copy=False) if values is None else values
    check_values(path, names, values)
    return names, values


def _mapped(dataset: h5py.Dataset) -> np.ndarray | None:
    """A large dataset mapped into memory, so that it may be larger than that; None where it cannot be or need not."""
    if dataset.dtype != np.float32 or dataset.size * 4 < MAPPED_FROM:
        return None
    return mapped_column(dataset)


def _write_groups(file: h5py.File, names: Sequence[str], shape: tuple[int, ...], blocks: Iterator[np.ndarray]) -> None:
    for name, row in zip(names, chain.from_iterable(blocks), strict=True):
        file.create_dataset(f"{name}/global_descriptor", data=row.astype(np.float16))


def _check_group_names(path: str | Path, names: Sequence[str]) -> None:
    """Names that HDF5 takes for another path, that are not UTF-8, or where a dataset would have to hold a group."""
    odd = [name for name in names if not name.isascii() and name != name.encode("utf-8", "ignore").decode()]
    odd += [name for name in names if any(part in ("", ".") for part in name.split("/")) or "\0" in name]
    odd += [name for name in names if "global_descriptor" in name.split("/")]
    if odd:
        what = told_of(len(odd), "names cannot stand in hloc's layout")
        raise DataError(path, f"{what}, first {first_three(odd)}", "use the columnar layout")


def _read_groups(path: Path, file: h5py.File) -> tuple[list[str], np.ndarray]:
    rows: dict[str, np.ndarray] = {}
    for image, item in hloc_datasets(path, file).items():
        with reading(path, item.name):
            rows[image] = np.ravel(item[()])
    return list(rows), _stack(path, rows)


def hloc_datasets(path: str | Path, file: h5py.File) -> dict[str, h5py.Dataset]:
    """The dataset of each image in hloc's layout; DataError where one has none of numbers, or not as many."""
    found: dict[str, h5py.Dataset] = {}
    others: set[str] = set()
    for name, item in walk(path, file):
        image, _, column = name.rpartition("/")
        if item is None:
            others.add(name)
            continue
        with reading(path, name):
            usable = item.shape is not None and item.dtype.kind in "fiu" and item.size <= LARGEST_DIMENSION
        if column == "global_descriptor" and usable:
            found[image] = item
        else:
            others.add(image)
    if not found:
        raise DataError(path, "holds no global_descriptor", "a file of local features, or no file of descriptors")
    absent = sorted(others - set(found))
    refuse_some(path, absent, len(absent) + len(found), "images have no usable global_descriptor")
    dimension, count = Counter(item.size for item in found.values()).most_common(1)[0]
    other = [name for name, item in found.items() if item.size != dimension]
    if other:
        raise DataError(
            path, f"{count:,} descriptors have {dimension} values, {len(other):,} have not, first {first_three(other)}"
        )
    return found


def _stack(path: Path, rows: dict[str, np.ndarray]) -> np.ndarray:
    """The rows as one array of double precision, as long as they are in the file."""
    names = list(rows)
    check_names(path, names)
    first = rows[names[0]]
    check_matrix(path, len(names), (len(names), len(first)), first.dtype)
    # In double, because the squares of half-precision values near the ends of their range leave single precision.
    return np.stack([row.astype(np.float64) for row in rows.values()])
