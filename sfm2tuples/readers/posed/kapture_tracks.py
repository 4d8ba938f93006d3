"""Points and observations of a kapture: `reconstruction/points3d.txt`, `observations.txt` and keypoints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.assembly import DROPPED_TRACK_INDEX
from sfm2tuples.readers.by_tracks import NOT_REGISTERED
from sfm2tuples.readers.model_kinds import KEYPOINTS
from sfm2tuples.readers.posed.tables import CsvRow, csv_rows
from sfm2tuples.readers.raw_files import load_bytes
from sfm2tuples.readers.records import OBSERVATION, PointRecords, observation_bytes
from sfm2tuples.readers.text_rows import TextRows, check_last_line, read_lines

POINTS, OBSERVATIONS = "reconstruction/points3d.txt", "reconstruction/observations.txt"
NUMBERS = {"float16": "<f2", "float32": "<f4", "float64": "<f8", "float": "<f8"}
"""Types of keypoints, as kapture writes them."""
LARGEST_FEATURE = 2**31
MOST_COLUMNS = 4096
"""Of a keypoint."""


@dataclass
class TrackTables:
    """What `assembly` is to join, and what was left out."""

    points: PointRecords
    """Tracks are there for images whose keypoints are not."""
    buffer: np.ndarray
    """As in `ImageRecords`, of the images that were given."""
    starts: np.ndarray
    counts: np.ndarray
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Listed:
    """Observations in the order of the file."""

    point: np.ndarray
    """(m,) int64."""
    image: np.ndarray
    """(m,) int64, row of the image."""
    feature: np.ndarray
    """(m,) int64, row of the keypoint in its image's file."""
    kind: np.ndarray
    """(m,) int64, row of the type of keypoints in `kinds`."""
    kinds: list[str]
    """Folders of keypoints; "" before version 1.1, which has one kind alone."""
    strange: int
    """Observations in photos that have no pose."""


def read_tracks(folder: Path, names: Sequence[bytes], ids: np.ndarray) -> TrackTables:
    """Read the points and their observations.

    Parameters
    ----------
    folder : Path
        Of the kapture.
    names : sequence of bytes
        Photos that have a pose; checked: none leaves its root.
    ids : np.ndarray
        (n,) int64, their ids.

    Returns
    -------
    TrackTables
        Coordinates come from the keypoints' files; an observation whose image has no such file (it may lie in a tar,
        which is not read) has none. Point ids are row numbers in `points3d.txt`, from 0.

    Raises
    ------
    ModelError
        A file is off; the line, where it is text.
    """
    xyz = _points(folder / POINTS)
    listed = _observations(folder / OBSERVATIONS, names, len(xyz))
    xy, known, inside = _coordinates(folder / KEYPOINTS, names, listed)
    rows = np.flatnonzero(known & inside)
    rows = rows[np.argsort(listed.image[rows], kind="stable")]
    counts = np.bincount(listed.image[rows], minlength=len(names)).astype(np.int64)
    buffer = observation_bytes(xy[rows], listed.point[rows])
    # An image whose own rows name a point takes nothing from tracks: those of the others stand there.
    told = np.flatnonzero(~known)
    told = told[np.argsort(listed.point[told], kind="stable")]
    tracks = np.stack([ids[listed.image[told]], listed.feature[told]], axis=1).astype("<u4")
    lengths = np.bincount(listed.point[told], minlength=len(xyz)).astype(np.int64)
    points = PointRecords(
        folder / POINTS,
        np.arange(len(xyz), dtype=np.int64),
        xyz,
        np.full(len(xyz), np.nan),
        np.ascontiguousarray(tracks).reshape(-1).view(np.uint8),
        (np.cumsum(lengths) - lengths) * 8,
        lengths,
    )
    dropped = {NOT_REGISTERED: listed.strange, DROPPED_TRACK_INDEX: int((known & ~inside).sum())}
    return TrackTables(points, buffer, (np.cumsum(counts) - counts) * OBSERVATION.itemsize, counts, dropped)


def _points(path: Path) -> np.ndarray:
    """Positions (p, 3), of x, y, z and perhaps a colour."""
    if not path.is_file():
        return np.empty((0, 3))
    lines = read_lines(path)
    check_last_line(lines, path)
    rows = TextRows.of([line.replace(b",", b" ") for line in lines], path)
    if not len(rows):
        return np.empty((0, 3))
    width = len(rows.lines[0].split())
    if width not in (3, 6):
        raise rows.row(0).error(f"has {width} columns, x, y, z and r, g, b belong there")
    return np.ascontiguousarray(rows.table(width)[:, :3])


def _observations(path: Path, names: Sequence[bytes], num_points: int) -> _Listed:
    """Observations of images that have a pose."""
    row_of = {name: row for row, name in enumerate(names)}
    kinds: dict[bytes, int] = {}
    found: list[tuple[int, int, int, int]] = []
    strange = 0
    for row in csv_rows(path, optional=True):
        point = row.integer(row.word(), LARGEST_FEATURE)
        if point >= num_points:
            raise row.error(f"names point {point:,}; {Path(POINTS).name} has {num_points:,}")
        # Version 1.1 has the type of the keypoints here, 1.0 has not: so the number of columns is even or odd.
        kind = kinds.setdefault(_kind(row) if row.left() % 2 else b"", len(kinds))
        while row.left():
            image, feature = row_of.get(row.word()), row.integer(row.word(), LARGEST_FEATURE)
            if image is None:
                strange += 1
            else:
                found.append((point, image, feature, kind))
    point_column, image_column, feature_column, kind_column = np.array(found, np.int64).reshape(-1, 4).T
    folders = [kind.decode("utf-8", "surrogateescape") for kind in kinds]
    return _Listed(point_column, image_column, feature_column, kind_column, folders, strange)


def _kind(row: CsvRow) -> bytes:
    """The type of keypoints, the name of a folder."""
    kind = row.word()
    if not kind or b"/" in kind or b"\\" in kind or b"\0" in kind or kind in (b".", b".."):
        raise row.error("the type of its keypoints is no name of a folder")
    return kind


def _coordinates(root: Path, names: Sequence[bytes], listed: _Listed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where observations lie (m, 2), which of them an image's file of keypoints covers, and which of these it holds."""
    number = len(listed.point)
    xy, known, inside = np.full((number, 2), np.nan), np.zeros(number, bool), np.ones(number, bool)
    tables = [_keypoint_table(root / kind) for kind in listed.kinds]
    group = listed.image * max(1, len(tables)) + listed.kind
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if number else []:
        kind = int(listed.kind[rows[0]])
        path = root / listed.kinds[kind] / (os.fsdecode(names[listed.image[rows[0]]]) + ".kpt")
        table = tables[kind]
        if table is None or not os.path.isfile(path):
            continue
        values = _keypoints(path, *table)
        known[rows] = True
        inside[rows] = listed.feature[rows] < len(values)
        held = rows[inside[rows]]
        xy[held] = values[listed.feature[held], :2]
    # An image is told either by its keypoints or by tracks: where one type has no file, none of it has coordinates.
    torn = np.zeros(len(names), bool)
    torn[listed.image[~known]] = True
    known &= ~torn[listed.image]
    return xy, known, inside


def _keypoint_table(folder: Path) -> tuple[str, int] | None:
    """Type and number of the columns of keypoints; None where nothing says them."""
    for row in csv_rows(folder / "keypoints.txt", optional=True):
        row.word()
        kind, columns = row.word().decode("utf-8", "backslashreplace"), row.integer(row.word(), MOST_COLUMNS)
        if kind not in NUMBERS or columns < 2:
            known = ", ".join(NUMBERS)
            raise row.error(f"keypoints are {columns} columns of {kind[:40]!r}; 2 or more of {known} are read")
        return NUMBERS[kind], columns
    return None


def _keypoints(path: Path, kind: str, columns: int) -> np.ndarray:
    """Keypoints of an image (k, columns)."""
    data = load_bytes(path)
    size = np.dtype(kind).itemsize * columns
    if len(data) % size:
        raise ModelError(path, f"has {len(data):,} bytes, which are no whole number of keypoints of {size}")
    values = data.view(kind).reshape(-1, columns)
    if not np.isfinite(values[:, :2]).all():
        raise ModelError(path, "holds a coordinate that is not finite")
    return values
