"""Anybody's descriptors, checked: hloc's HDF5, or a NumPy array with a list of names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sfm2tuples.errors import UNREADABLE_ARRAYS, DataError, FileFormatError, UsageError
from sfm2tuples.files.descriptor_checks import NORM_TOLERANCE, check_names, row_norms, to_unit_rows
from sfm2tuples.files.descriptors import Descriptors, is_columnar, read_hloc_rows
from sfm2tuples.files.opening import is_hdf5, open_hdf5
from sfm2tuples.files.plain_items import plain_dataset, plain_item
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.text import filled_lines
from sfm2tuples.files.text_heaps import check_all_heaps


@dataclass(frozen=True)
class ForeignDescriptors:
    """Descriptors that were read, and what had to be done to them."""

    descriptors: Descriptors
    """Normalised, in single precision."""
    num_normalised: int
    """Rows whose length was not 1."""


def read_foreign_descriptors(
    source: str | Path, names: str | Path | None = None, columns: bool = False
) -> ForeignDescriptors:
    """Read descriptors of another program.

    Parameters
    ----------
    source : str or Path
        hloc's HDF5 (a ``global_descriptor`` for each image), HDF5 with the datasets ``names`` and ``descriptors``, or
        ``.npy``: (n, D) of floating point.
    names : str or Path, optional
        For ``.npy``: a text of n names, one a line, in the order of the rows; by default the ``.txt`` of the same name.
    columns : bool
        The array is (D, n), a descriptor a column, as cirtorch has them.

    Raises
    ------
    DataError
        A file is absent or torn; the count of names is another than that of rows; names twice; values that are not
        finite, rows of zeros.
    UsageError
        Neither HDF5 nor ``.npy``; a file of ours already; names or columns for HDF5.
    """
    source = listed_in = Path(source)
    require_file(source)
    if source.suffix == ".npy":
        listed_in = Path(names) if names else source.with_suffix(".txt")
        listed, values = _read_array(source, listed_in, columns)
    elif is_hdf5(source):
        if names is not None or columns:
            raise UsageError("--names and --columns go with a .npy array; HDF5 names its rows itself")
        listed, values = _read_datasets(source) or read_hloc_rows(source)
    else:
        raise UsageError(f"{source}: is neither HDF5 nor .npy; np.save an array, and its names as text")
    check_names(listed_in if listed else source, listed)
    norms = row_norms(source, listed, values)
    settings = {"imported": "npy" if source.suffix == ".npy" else "hloc"}
    return ForeignDescriptors(
        Descriptors(listed, to_unit_rows(values, norms), settings, str(source)),
        int(np.sum(np.abs(norms - 1) > NORM_TOLERANCE)),
    )


def _read_datasets(path: Path) -> tuple[list[str], np.ndarray] | None:
    """Two datasets, names and rows; None where the file is of another layout."""
    try:
        with open_hdf5(path) as file:
            if "format" in file.attrs:
                raise UsageError(f"{path}: is {file.attrs['format']}, a file of ours, which needs no import")
            if not is_columnar(path, file):
                return None
            names = plain_item(path, file, "names")
            if not isinstance(names, h5py.Dataset) or h5py.check_string_dtype(names.dtype) is None or names.ndim != 1:
                raise DataError(path, "has /descriptors, but no dataset of text /names beside")
            check_all_heaps(path, file)
            listed, values = [str(name) for name in names.asstr()[()]], plain_dataset(path, file, "descriptors")[()]
    except (OSError, KeyError, RuntimeError, UnicodeDecodeError) as error:
        raise FileFormatError(path, "torn or incomplete", "make it again") from error
    return listed, _checked(path, values, len(listed), "its /names")


def _checked(path: Path, values: np.ndarray, count: int, where: str, remedy: str = "one name a row") -> np.ndarray:
    """Rows of floating point, as many as there are names."""
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not values.shape[1] or values.dtype.kind != "f":
        raise DataError(path, "is no (n, D) array of floating point")
    if len(values) != count:
        raise DataError(path, f"{len(values):,} rows, but {count:,} names in {where}", remedy)
    return values


def _read_array(path: Path, names: Path, columns: bool) -> tuple[list[str], np.ndarray]:
    listed = _read_names(names, path)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE_ARRAYS as error:
        raise DataError(path, "is no whole .npy array of numbers", "np.save it again") from error
    turned = not columns and values.ndim == 2 and values.shape[1] == len(listed)
    remedy = "the descriptors are columns: give --columns" if turned else "one name a row"
    return listed, _checked(path, values.T if columns else values, len(listed), str(names), remedy)


def _read_names(path: Path, source: Path) -> list[str]:
    require_file(path, absent=f"no such file with the names of {source.name}", remedy="give it by --names")
    return filled_lines(path)
