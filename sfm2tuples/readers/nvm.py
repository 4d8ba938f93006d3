"""VisualSFM's NVM files: quaternions and camera centres, measurements from the principal point with y down.

A file holds several models, each a reader's model of its own, and at its end the photos that are in none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.assembly import unit_poses
from sfm2tuples.readers.by_tracks import (
    UNREGISTERED,
    RegisteredCameras,
    model_from_tracks,
    parse_tracks,
    rotation_quaternions,
)
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS
from sfm2tuples.readers.nvm_sections import NvmHeader, file_and_number, split_sections
from sfm2tuples.readers.relative_names import relative_names
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.readers.text_rows import TextRows, check_last_line, read_lines

POINT_COLUMNS = 7
"""xyz, rgb and the number of observations, which follow."""
QUATERNION_COLUMNS = 10
"""After a name: focal length, quaternion, centre, radial distortion, 0."""
MATRIX_COLUMNS = 15
"""NVM_V3_R9T: focal length, rotation, translation, radial distortion, 0."""


def read(model: Path) -> SparseModel:
    """Read one model of an NVM file.

    Parameters
    ----------
    model : Path
        FILE, the first model of a file, or FILE/k, its model number k from 0. The file is NVM_V3 or NVM_V3_R9T, with
        or without FixedK. The photos at its end that are in no model are counted in `dropped` of the first.

    Returns
    -------
    SparseModel
        Cameras are SIMPLE_RADIAL (OPENCV under FixedK) with size and principal point 0, coordinates as written.
        VisualSFM's distortion goes from the photo to the ideal picture, COLMAP's the other way: the coefficient
        changes its sign, which is right to first order.

    Raises
    ------
    ModelError
        One line that names the file and the line at fault.
    """
    path, number = file_and_number(model)
    lines = read_lines(path)
    header, models, unregistered = split_sections(TextRows.of(lines, path))
    check_last_line(lines, path)
    if number >= len(models):
        what = f"holds {len(models)} models, number {number} (from 0) is not there" if models else "holds no model"
        raise ModelError(path, f"line {len(lines)}: {what}")
    del lines
    width = MATRIX_COLUMNS if header.matrices else QUATERNION_COLUMNS
    split = [_split_names(section.cameras, width) for section in models]
    # Over all models, so that a photo has one name in all of them.
    names = relative_names([name for listed, _ in split for name in listed], path)
    first = sum(len(listed) for listed, _ in split[:number])
    cameras = _cameras(split[number][1], names[first : first + len(split[number][0])], header)
    head, tracks = parse_tracks(models[number].points, POINT_COLUMNS, len(cameras.ids))
    read = model_from_tracks(cameras, np.ascontiguousarray(head[:, :3]), tracks, len(cameras.ids), path)
    if unregistered and number == 0:
        read.dropped[UNREGISTERED] = unregistered
    return read


def _split_names(rows: TextRows, width: int) -> tuple[list[bytes], TextRows]:
    """Names of the cameras, and their numbers. VisualSFM writes '"' for a space; others write the space."""
    names, numbers = [], []
    for at, line in enumerate(rows.lines):
        fields = line.rsplit(None, width)
        if len(fields) <= width:
            columns = f"{len(line.split())} columns, a name and {width} numbers belong there"
            raise rows.row(at).error(f"has {columns}")
        names.append(fields[0].strip().replace(b'"', b" "))
        numbers.append(b" ".join(fields[1:]))
    return names, TextRows(rows.path, numbers, rows.numbers)


def _cameras(rows: TextRows, names: list[bytes], header: NvmHeader) -> RegisteredCameras:
    table = rows.table(MATRIX_COLUMNS if header.matrices else QUATERNION_COLUMNS)
    if header.matrices:
        rotations = rotation_quaternions(table[:, 1:10].reshape(-1, 3, 3), rows)
        translations = table[:, 10:13]
    else:
        labels = [f"line {number}" for number in rows.numbers]
        rotations = unit_poses(table[:, 1:8], labels, rows.path)[:, :4]
        translations = -rotate(rotations, table[:, 5:8])
    model, params = _intrinsics(table[:, 0], table[:, -2], header)
    return RegisteredCameras(np.arange(len(rows)), CAMERA_MODEL_IDS[model], params, rotations, translations, names)


def _intrinsics(focal: np.ndarray, radial: np.ndarray, header: NvmHeader) -> tuple[str, np.ndarray]:
    """Camera model and parameters, the principal point at 0."""
    zero = np.zeros(len(focal))
    if header.fixed is None:
        return "SIMPLE_RADIAL", np.stack([focal, zero, zero, -radial], axis=1)
    fx, fy = (np.full(len(focal), value) for value in header.fixed)
    return "OPENCV", np.stack([fx, fy, zero, zero, -radial, zero, zero, zero], axis=1)


def rotate(quaternions: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rotate vectors (n, 3) by unit quaternions wxyz (n, 4)."""
    w, axis = quaternions[:, :1], quaternions[:, 1:]
    turned = np.cross(axis, vectors)
    return vectors + 2 * (w * turned + np.cross(axis, turned))
