"""kapture, the format of NAVER LABS Europe (versions 1.0 and 1.1, `kapture_format.adoc` of github.com/naver/kapture).

A folder of comma-separated tables: `sensors/sensors.txt` has the cameras in COLMAP's models, `records_camera.txt` the
photos, `trajectories.txt` the poses of sensors or rigs by time, world to device as in COLMAP, and `rigs.txt` the poses
of sensors in a rig, rig to sensor. `kapture_tracks` reads the points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.assembly import assemble, check_name
from sfm2tuples.readers.by_tracks import UNREGISTERED
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS, CAMERA_MODELS
from sfm2tuples.readers.frames import compose
from sfm2tuples.readers.posed.kapture_tracks import TrackTables, read_tracks
from sfm2tuples.readers.posed.tables import CsvRow, csv_rows
from sfm2tuples.readers.records import CameraRecords, ImageRecords
from sfm2tuples.readers.sparse_model import SparseModel

SENSORS, RECORDS = "sensors/sensors.txt", "sensors/records_camera.txt"
TRAJECTORIES, RIGS = "sensors/trajectories.txt", "sensors/rigs.txt"
UNKNOWN_CAMERA = "UNKNOWN_CAMERA"
"""A camera of which only the size is known: here a SIMPLE_PINHOLE of focal length 0, which means none."""

MOST_RIGS = 100
"""Rigs on rigs that are followed; kapture means one."""

Key = tuple[bytes, bytes]
"""Time and device."""


def read(folder: Path) -> SparseModel:
    """Read the kapture in a folder.

    Parameters
    ----------
    folder : Path
        Holds `sensors/` and perhaps `reconstruction/`.

    Returns
    -------
    SparseModel
        Images are the photos that have a pose, by themselves or through their rig; the others are counted in
        `dropped`. Ids of images and cameras are row numbers in their tables, from 0. Reprojection errors are NaN.

    Raises
    ------
    ModelError
        One line that names the file and the line at fault.
    """
    sensors = _Sensors(folder / SENSORS)
    devices = _Devices(folder)
    names: list[bytes] = []
    ids, cameras, poses = [], [], []
    records = folder / RECORDS
    listed = 0
    for row in csv_rows(records):
        time, device, name = row.word(), row.word(), row.word()
        row.finish()
        number = listed
        listed += 1
        if device not in sensors.row_of:
            raise row.error(f"names the sensor {shown_bytes(device)}, which is no camera of {SENSORS}")
        check_name(name, records)
        pose = devices.pose_of((time, device))
        if pose is not None:
            names.append(name)
            ids.append(number)
            cameras.append(sensors.row_of[device])
            poses.append(pose)
    tracks = read_tracks(folder, names, np.array(ids, np.int64))
    model = assemble(
        sensors.records(),
        ImageRecords(
            records,
            np.array(ids, np.int64),
            np.array(poses).reshape(-1, 7),
            np.array(cameras, np.int64),
            names,
            tracks.buffer,
            tracks.starts,
            tracks.counts,
        ),
        tracks.points,
        None,
    )
    return _counted(model, tracks, listed - len(names))


def shown_bytes(word: bytes) -> str:
    """A word of a table, for a message."""
    return repr(word[:80].decode("utf-8", "backslashreplace"))


def _counted(model: SparseModel, tracks: TrackTables, without_pose: int) -> SparseModel:
    model.dropped.update({reason: count for reason, count in tracks.dropped.items() if count})
    if without_pose:
        model.dropped[UNREGISTERED] = without_pose
    return model


@dataclass
class _Sensors:
    """The cameras of `sensors.txt`; sensors of other kinds are passed over."""

    path: Path
    row_of: dict[bytes, int] = field(default_factory=dict)
    models: list[int] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    params: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        seen: set[bytes] = set()
        for row in csv_rows(self.path):
            device, _, kind = row.word(), row.word(), row.word()
            if device in seen:
                raise row.error(f"sensor {shown_bytes(device)} comes twice")
            seen.add(device)
            if kind == b"camera":
                self.row_of[device] = len(self.models)
                self._add(row)

    def _add(self, row: CsvRow) -> None:
        name = row.word().decode("utf-8", "backslashreplace")
        known = "SIMPLE_PINHOLE" if name == UNKNOWN_CAMERA else name
        if known not in CAMERA_MODEL_IDS:
            raise row.error(f"is a camera of unknown model {name[:40]!r}")
        size = row.numbers(2)
        if not all(0 <= side < 2**31 and side == math.floor(side) for side in size):
            raise row.error(f"is a camera of {size[0]:.15g} x {size[1]:.15g} pixels")
        model = CAMERA_MODEL_IDS[known]
        if name == UNKNOWN_CAMERA:
            params = np.array([0.0, *(side / 2 for side in size)])
        else:
            params = np.array(row.numbers(CAMERA_MODELS[model].num_params))
        row.finish()
        self.models.append(model)
        self.sizes.append((int(size[0]), int(size[1])))
        self.params.append(params)

    def records(self) -> CameraRecords:
        """The cameras as a table."""
        ids = np.arange(len(self.models), dtype=np.int64)
        sizes = np.array(self.sizes, np.int64).reshape(-1, 2)
        return CameraRecords(self.path, ids, np.array(self.models, np.int32), sizes, self.params)


class _Devices:
    """Where devices are at a time: what `trajectories.txt` says of them, or of a rig that they are mounted on."""

    def __init__(self, folder: Path) -> None:
        self.poses: dict[Key, np.ndarray] = {}
        self.lost: set[Key] = set()
        self.mounted: dict[bytes, list[tuple[bytes, np.ndarray]]] = {}
        self.rigs = folder / RIGS
        for row in csv_rows(folder / TRAJECTORIES):
            key = row.word(), row.word()
            pose = _pose(row)
            if key in self.poses:
                raise row.error(f"device {shown_bytes(key[1])} has two poses at time {shown_bytes(key[0])}")
            if pose is not None:
                self.poses[key] = pose
        for row in csv_rows(self.rigs, optional=True):
            rig, device = row.word(), row.word()
            pose = _pose(row)
            if pose is not None:
                self.mounted.setdefault(device, []).append((rig, pose))

    def pose_of(self, key: Key, below: tuple[bytes, ...] = ()) -> np.ndarray | None:
        """World to device (7,), or None where it is not known; each device is asked once for a time."""
        if key in self.poses or key in self.lost:
            return self.poses.get(key)
        if key[1] in below:
            raise ModelError(self.rigs, f"the rigs that {shown_bytes(below[0])} is on hold each other")
        if len(below) > MOST_RIGS:
            raise ModelError(self.rigs, f"{shown_bytes(below[0])} is on more than {MOST_RIGS} rigs, one on the other")
        for rig, pose in self.mounted.get(key[1], ()):
            of_rig = self.pose_of((key[0], rig), (*below, key[1]))
            if of_rig is not None:
                self.poses[key] = np.asarray(compose(pose[None], of_rig[None])[0])
                return self.poses[key]
        self.lost.add(key)
        return None


def _pose(row: CsvRow) -> np.ndarray | None:
    """A pose (7,); None where a part of it is left blank, as kapture allows."""
    words = list(_rest(row))
    if len(words) != 7:
        raise row.error(f"has {len(words)} columns of a pose, 7 belong there")
    if not all(words):
        return None
    pose = np.array([row.number(word) for word in words])
    if not np.isfinite(pose).all():
        raise row.error("the pose is not finite")
    if not 1e-100 < np.linalg.norm(pose[:4]) < 1e100:
        raise row.error("the rotation is all zeros or out of range")
    return pose


def _rest(row: CsvRow) -> Iterator[bytes]:
    while row.left():
        yield row.word()
