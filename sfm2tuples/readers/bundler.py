"""Bundler's `bundle.out` (version 0.3) with its list of photos: the format of the first internet collections.

Its cameras look along -z with y up, and it measures from the centre of the photo with y up. The reader turns both to
COLMAP's axes, z forward and y down.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError, first_three
from sfm2tuples.readers.bundler_files import find_list
from sfm2tuples.readers.by_tracks import (
    UNREGISTERED,
    ListedObservations,
    RegisteredCameras,
    model_from_tracks,
    parse_tracks,
    rotation_quaternions,
)
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS
from sfm2tuples.readers.raw_files import CUT
from sfm2tuples.readers.relative_names import relative_names
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.readers.text_rows import TextRows, check_last_line, read_lines

CAMERA_ROWS = 5
"""f k1 k2; three rows of R; t."""
POINT_ROWS = 3
"""Position; colour; observations."""
TO_COLMAP = np.array([1.0, -1.0, -1.0])
"""Bundler's camera axes to COLMAP's."""


def read(path: Path) -> SparseModel:
    """Read a file of Bundler's and its list of photos.

    Parameters
    ----------
    path : Path
        `bundle.out` or another file of its kind; `find_list` says where its list may lie.

    Returns
    -------
    SparseModel
        Cameras are RADIAL with size and principal point 0, coordinates are centred (see `by_tracks`). Cameras of focal
        length 0 are photos that were not registered: left out, and counted in `dropped`.

    Raises
    ------
    ModelError
        One line that names the file and the line at fault.
    """
    lines = read_lines(path)
    _check_header(lines[0], path)
    rows = TextRows.of(lines, path)
    num_cameras = _checked_cameras(rows)
    check_last_line(lines, path)
    del lines
    first_point = 1 + CAMERA_ROWS * num_cameras
    cameras = _cameras(rows[1:first_point], relative_names(*_listed(path, num_cameras)))
    points = rows[first_point::POINT_ROWS].table(3)
    rows[first_point + 1 :: POINT_ROWS].table(3)
    _, tracks = parse_tracks(rows[first_point + 2 :: POINT_ROWS], 1, num_cameras)
    tracks = ListedObservations(tracks.point, tracks.image, tracks.xy * [1.0, -1.0])
    model = model_from_tracks(cameras, points, tracks, num_cameras, path)
    if len(cameras.ids) < num_cameras:
        model.dropped[UNREGISTERED] = num_cameras - len(cameras.ids)
    return model


def _check_header(line: bytes, path: Path) -> None:
    version = re.match(rb"# Bundle file v(\S{1,10})\s*$", line)
    if version is None or version[1] != b"0.3":
        what = f"is version {version[1].decode(errors='replace')}" if version else "has not Bundler's header"
        raise ModelError(path, f"line 1: {what}; only '# Bundle file v0.3' is read")


def _checked_cameras(rows: TextRows) -> int:
    """Number of cameras; it and that of the points are held against the rows that are there."""
    if not len(rows):
        raise ModelError(rows.path, "line 2: ends before the numbers of cameras and points", CUT)
    row = rows.row(0)
    num_cameras, num_points = row.integer(), row.integer()
    row.finish()
    wanted = 1 + CAMERA_ROWS * num_cameras + POINT_ROWS * num_points
    if len(rows) < wanted:
        claim = f"claims {num_cameras:,} cameras and {num_points:,} points"
        raise row.error(f"{claim}, {wanted:,} rows, but has {len(rows):,}; {CUT}")
    if len(rows) > wanted:
        raise rows.row(wanted).error(f"comes after the last of {num_points:,} points")
    return num_cameras


def _listed(path: Path, num_cameras: int) -> tuple[list[bytes], Path]:
    """Names of the photos, one a camera, and the file they are from: the first list of the right length."""
    candidates = find_list(path)
    lengths = []
    for candidate in candidates:
        names = [_name(line) for line in read_lines(candidate) if line.strip()]
        if len(names) == num_cameras:
            return names, candidate
        lengths.append(f"{candidate.name} names {len(names):,}")
    if not candidates:
        what = f"there is no list of its photos (list.txt or {path.name}.list.txt) beside it or in the folder above"
        raise ModelError(path, what, "Bundler writes one; copy it there")
    raise ModelError(path, f"line 2: has {num_cameras:,} cameras, but {first_three(lengths)} photos")


def _name(line: bytes) -> bytes:
    """A line of a list: the name, and where it is known `0 FOCAL`."""
    return re.sub(rb"\s+[01]\s+[-+.0-9eE]+\s*$", b"", line)


def _cameras(rows: TextRows, names: list[bytes]) -> RegisteredCameras:
    """Registered cameras, turned to COLMAP's axes."""
    table = rows.table(3).reshape(-1, CAMERA_ROWS, 3)
    ids = np.flatnonzero(table[:, 0, 0] != 0)
    registered = table[ids]
    params = np.zeros((len(ids), 5))
    params[:, 0] = registered[:, 0, 0]
    params[:, 3:] = registered[:, 0, 1:]
    rotation_lines = [CAMERA_ROWS * row + 1 for row in ids.tolist()]
    return RegisteredCameras(
        ids=ids,
        model=CAMERA_MODEL_IDS["RADIAL"],
        params=params,
        rotations=rotation_quaternions(
            registered[:, 1:4] * TO_COLMAP[:, None],
            TextRows(rows.path, [rows.lines[at] for at in rotation_lines], rows.numbers[rotation_lines]),
        ),
        translations=registered[:, 4] * TO_COLMAP,
        names=[names[row] for row in ids.tolist()],
    )
