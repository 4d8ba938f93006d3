"""Local features of many photos, as columns in a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.columns import gather_rows, mapped_column, rows_of_names, write_strings
from sfm2tuples.files.container import create_file, header_of, open_file
from sfm2tuples.files.descriptor_settings import differing
from sfm2tuples.files.rules import Rule, Rules, text_rules

FORMAT = "sfm2tuples-features"
VERSION = 1
DIMENSIONS = 128
RULES: Rules = {
    **text_rules("names", "photos"),
    "size": Rule(("photos", 2), "int32", least=1),
    "zoom": Rule(("photos",), "float64", finite=True),
    "indptr": Rule(("photos + 1",), "int64", starts_of="features"),
    "keypoints": Rule(("features", 4), "float32", finite=True),
    "descriptors": Rule(("features", DIMENSIONS), "uint8"),
}
"""What is true of every column."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LocalFeatures:
    """Features of photos; those of photo i are the rows ``indptr[i]:indptr[i + 1]``."""

    names: list[str]
    """Keys of the photos."""
    size: np.ndarray
    """(n, 2) int32: width and height of each photo's file in pixels."""
    zoom: np.ndarray
    """(n,) float64: pixels of the file that a pixel of the photo was that was looked at, 1 or more."""
    indptr: np.ndarray
    """(n + 1,) int64: where each photo's features start."""
    keypoints: np.ndarray
    """(m, 4) float32: x, y and scale in pixels of the file, orientation in radians."""
    descriptors: np.ndarray
    """(m, 128) uint8: RootSIFT times 512."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How they were found."""
    path: str = ""
    """The file that they were read from, for messages."""
    fingerprint: str = ""
    """Fingerprint of that file."""

    def of(self, photo: int) -> slice:
        """Rows of a photo's features."""
        return slice(int(self.indptr[photo]), int(self.indptr[photo + 1]))

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """Rows of photos, (n,) int64; DataError where some have no features here."""
        return rows_of_names(self.names, names, self.path or "features", "photos have no features")

    def only(self, names: Sequence[str]) -> LocalFeatures:
        """Keep the photos of these names, in their order; DataError as in `rows_of`."""
        rows = self.rows_of(names)
        indptr, positions = gather_rows(self.indptr, rows)
        return LocalFeatures(
            list(names),
            self.size[rows],
            self.zoom[rows],
            indptr,
            self.keypoints[positions],
            self.descriptors[positions],
            self.settings,
            self.path,
            self.fingerprint,
        )


def inside(keypoints: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Features whose centre is inside a box, its sides included.

    Parameters
    ----------
    keypoints : (m, 4) float32
        See `LocalFeatures.keypoints`.
    box : (4,) or (m, 4) float64
        Left, top, right, bottom in pixels of the files; one for all features, or one each.

    Returns
    -------
    (m,) bool
    """
    x, y = keypoints[:, 0], keypoints[:, 1]
    return (x >= box[..., 0]) & (y >= box[..., 1]) & (x <= box[..., 2]) & (y <= box[..., 3])


def warn_if_found_otherwise(features: LocalFeatures, others: LocalFeatures) -> None:
    """Warn in one line where the features of two files, which are to be compared, were not found alike."""
    names = [name for name, _, _ in differing(features.settings, others.settings)]
    if names:
        logger.warning("%s: found otherwise than in %s: %s", features.path, others.path, ", ".join(names))


def write_features(path: str | Path, features: LocalFeatures, parents: Sequence[str] = ()) -> None:
    """Write features; `parents` are fingerprints of the files that named the photos."""
    with create_file(path, FORMAT, VERSION, features.settings, parents) as file:
        store_features(file, features)


def read_features(path: str | Path) -> LocalFeatures:
    """Read features; errors as of `open_file`, and FileFormatError for columns that do not fit together."""
    with open_file(path, FORMAT, VERSION) as file:
        header = header_of(path, file)
        return load_features(CheckedColumns(path, file, RULES), header.options, header.fingerprint)


def map_features(path: str | Path) -> LocalFeatures:
    """`read_features`, with keypoints and descriptors that stay in the file until rows of them are asked for."""
    with open_file(path, FORMAT, VERSION) as file:
        header = header_of(path, file)
        return load_features(CheckedColumns(path, file, RULES), header.options, header.fingerprint, _mapped_or_whole)


def store_features(group: h5py.Group, features: LocalFeatures) -> None:
    """Put the columns into a group of a file."""
    write_strings(group, "names", features.names)
    group["size"] = np.asarray(features.size, np.int32).reshape(-1, 2)
    group["zoom"] = np.asarray(features.zoom, np.float64)
    group["indptr"] = np.asarray(features.indptr, np.int64)
    group["keypoints"] = np.asarray(features.keypoints, np.float32).reshape(-1, 4)
    group["descriptors"] = np.asarray(features.descriptors, np.uint8).reshape(-1, DIMENSIONS)


def _mapped_or_whole(columns: CheckedColumns, name: str) -> np.ndarray:
    values = mapped_column(columns.dataset(name))
    return np.asarray(columns.read(name)) if values is None else values


def load_features(
    columns: CheckedColumns,
    settings: dict[str, Any],
    fingerprint: str,
    load: Callable[[CheckedColumns, str], np.ndarray] = CheckedColumns.read,
) -> LocalFeatures:
    """Read the columns of a file; `load` says how the two large ones, keypoints and descriptors.

    Raises
    ------
    FileFormatError
        A value is none that the rules allow; those of a large column that is mapped are not looked at.
    """
    names, size, zoom, indptr = (columns.read(name) for name in ("names", "size", "zoom", "indptr"))
    keypoints, descriptors = load(columns, "keypoints"), load(columns, "descriptors")
    return LocalFeatures(names, size, zoom, indptr, keypoints, descriptors, settings, str(columns.path), fingerprint)
