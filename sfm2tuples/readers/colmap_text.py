"""COLMAP's text models: the same columns as from the binary ones, numbers parsed many rows at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError
from sfm2tuples.readers import kernels
from sfm2tuples.readers.assembly import assemble
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS, CAMERA_MODELS
from sfm2tuples.readers.frames import CAMERA_SENSOR, IDENTITY, IMU_SENSOR, Frames, Sensor, find_frames
from sfm2tuples.readers.raw_files import CUT
from sfm2tuples.readers.records import CameraRecords, ImageRecords, PointRecords, observation_bytes
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.readers.text_rows import (
    LARGEST_EXACT,
    TextRow,
    TextRows,
    check_claim,
    data_rows,
    is_data,
    read_lines,
    whole_numbers,
)

SENSOR_TYPES = {"CAMERA": CAMERA_SENSOR, "IMU": IMU_SENSOR}
POINT_COLUMNS = 8
"""Id, xyz, rgb and error; the track follows."""


def read(folder: Path, threads: int | None = None) -> SparseModel:
    """Read the text model in a folder, as `colmap_binary.read` does.

    The folder holds cameras.txt, images.txt, points3D.txt and, since COLMAP 3.12, rigs.txt and frames.txt. A file with
    fewer rows than its header comment says is refused: cut between two rows, it looks whole.
    """
    return assemble(
        _read_cameras(folder / "cameras.txt"),
        frames=_read_frames(folder),
        images=_read_images(folder / "images.txt"),
        points=_read_points(folder / "points3D.txt"),
        threads=threads,
    )


def _read_cameras(path: Path) -> CameraRecords:
    ids, models, sizes, params = [], [], [], []
    for row in data_rows(path):
        ids.append(row.integer())
        name = row.word()
        if name not in CAMERA_MODEL_IDS:
            raise row.error(f"camera {ids[-1]} is of unknown model {name[:40]!r}")
        models.append(CAMERA_MODEL_IDS[name])
        sizes.append((row.integer(2**31 - 1), row.integer(2**31 - 1)))
        wanted = CAMERA_MODELS[models[-1]].num_params
        if row.left() != wanted:
            raise row.error(f"camera {ids[-1]} has {row.left()} parameters, {name} has {wanted}")
        params.append(row.numbers(wanted))
    sizes_column = np.array(sizes, np.int64).reshape(-1, 2)
    return CameraRecords(path, np.array(ids, np.int64), np.array(models, np.int32), sizes_column, params)


def _read_images(path: Path) -> ImageRecords:
    """Rows come in pairs: the image, then its observations, a row that may be blank."""
    lines = read_lines(path)
    ids, cameras, poses, names = [], [], [], []
    observations: list[int] = []
    at = 0
    while at < len(lines):
        at += 1
        if not is_data(lines[at - 1]):
            continue
        fields = lines[at - 1].strip().split(None, 9)
        row = TextRow(path, at, b" ".join(fields[:9]))
        ids.append(row.integer())
        poses.append(row.numbers(7))
        cameras.append(row.integer())
        # The name is the rest of the row, since it may hold spaces.
        names.append(fields[9] if len(fields) > 9 else b"")
        at += 1
        if at > len(lines):
            raise ModelError(path, f"ends after the row of image {ids[-1]}, without its observations", CUT)
        observations.append(at)
    check_claim(lines, len(ids), path)
    rows = TextRows(path, [lines[number - 1] for number in observations], np.array(observations, np.int64))
    buffer, counts = _observations(rows, names)
    starts = (np.cumsum(counts) - counts) * kernels.OBSERVATION_BYTES
    image_ids, camera_ids = np.array(ids, np.int64), np.array(cameras, np.int64)
    return ImageRecords(path, image_ids, np.array(poses).reshape(-1, 7), camera_ids, names, buffer, starts, counts)


def _observations(rows: TextRows, names: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Observations as the records of a binary model, and how many each image has."""
    values, fields = rows.parse()

    def fault(at: int) -> str:
        name = names[at].decode("utf-8", "backslashreplace")
        return f"the observations of image {name!r} are not in threes (x, y, point id)"

    rows.refuse(fields % 3 != 0, fault)
    triples = values.reshape(-1, 3)
    points = whole_numbers(triples[:, 2], -1, LARGEST_EXACT)
    if points is None:
        raise ModelError(rows.path, "an observation's point id is not a whole number, or out of range")
    return observation_bytes(triples[:, :2], points), fields // 3


def _read_points(path: Path) -> PointRecords:
    lines = read_lines(path)
    rows = TextRows.of(lines, path)
    values, fields = rows.parse()
    rows.refuse(
        (fields < POINT_COLUMNS) | (fields % 2 == 1),
        lambda at: f"has {fields[at]} columns; a point has {POINT_COLUMNS} and a track of pairs",
    )
    check_claim(lines, len(rows), path)
    first = np.cumsum(fields) - fields
    in_track = np.ones(len(values), bool)
    in_track[(first[:, None] + np.arange(POINT_COLUMNS)).ravel()] = False
    ids = whole_numbers(values[first], 0, LARGEST_EXACT)
    track = whole_numbers(values[in_track], 0, 2**32 - 1)
    if ids is None or track is None:
        what = "point id" if ids is None else "track element"
        raise ModelError(path, f"a {what} is not a whole number, or out of range")
    lengths = (fields - POINT_COLUMNS) // 2
    starts = (np.cumsum(lengths) - lengths) * kernels.TRACK_BYTES
    xyz = values[first[:, None] + np.arange(1, 4)]
    return PointRecords(path, ids, xyz, values[first + 7], track.astype("<u4").view(np.uint8), starts, lengths)


def _read_frames(folder: Path) -> Frames | None:
    """Rigs and frames, or None where the model is older than they are."""
    frames = find_frames(folder, ".txt")
    if frames is None:
        return None
    for row in data_rows(frames.rigs_path):
        frames.add_rig(row.integer(), _sensors(row, row.integer()))
        row.finish()
    for row in data_rows(frames.frames_path):
        frame, rig, pose = row.integer(), row.integer(), row.numbers(7)
        data = [(_sensor(row), row.integer(LARGEST_EXACT)) for _ in range(row.integer())]
        row.finish()
        frames.add_frame(frame, rig, pose, data)
    return frames


def _sensors(row: TextRow, count: int) -> list[tuple[Sensor, np.ndarray | None]]:
    """Sensors of a rig: the reference first, which lies at the origin."""
    sensors: list[tuple[Sensor, np.ndarray | None]] = []
    for index in range(count):
        sensor = _sensor(row)
        if index == 0:
            sensors.append((sensor, IDENTITY))
        else:
            sensors.append((sensor, row.numbers(7) if row.integer(1) else None))
    return sensors


def _sensor(row: TextRow) -> Sensor:
    kind = row.word()
    if kind not in SENSOR_TYPES:
        raise row.error(f"{kind[:40]!r} is no type of sensor ({' or '.join(SENSOR_TYPES)})")
    return SENSOR_TYPES[kind], row.integer()
