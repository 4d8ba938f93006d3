"""Rigs and frames (COLMAP 3.12 and later): the pose of an image as that of its frame times that of its sensor."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError

CAMERA_SENSOR = 0
"""COLMAP's sensor type of a camera."""
IMU_SENSOR = 1
"""The other type, which takes no photo."""

Sensor = tuple[int, int]
IDENTITY = np.array([1.0, 0, 0, 0, 0, 0, 0])


@dataclass
class Frames:
    """What rigs and frames say about poses; a reader fills it, one call a row."""

    rigs_path: Path
    """The file of the rigs."""
    frames_path: Path
    """The file of the frames."""
    sensors: dict[int, dict[Sensor, np.ndarray | None]] = field(default_factory=dict)
    """Rig id to its sensors: pose of the sensor in the rig (7,), None where it is unknown."""
    poses: dict[int, np.ndarray] = field(default_factory=dict)
    """Image id to the pose of its frame (7,) float64, world to rig, as written."""
    rig_of: dict[int, int] = field(default_factory=dict)
    """Image id to the rig of its frame."""
    frame_ids: set[int] = field(default_factory=set)
    """The frames seen so far."""

    def add_rig(self, rig: int, sensors: list[tuple[Sensor, np.ndarray | None]]) -> None:
        """Add a rig; the first sensor is the reference and lies at the rig's origin."""
        if rig in self.sensors:
            raise ModelError(self.rigs_path, f"rig id {rig} comes twice")
        for sensor, pose in sensors:
            if pose is not None:
                _check_pose(pose, f"sensor {sensor[1]} of rig {rig}", self.rigs_path)
        self.sensors[rig] = dict(sensors)

    def add_frame(self, frame: int, rig: int, pose: np.ndarray, data: list[tuple[Sensor, int]]) -> None:
        """Add a frame of a rig, its pose world to rig (7,) and what was taken in it: (sensor, image id)."""
        if frame in self.frame_ids:
            raise ModelError(self.frames_path, f"frame id {frame} comes twice")
        if rig not in self.sensors:
            raise ModelError(self.frames_path, f"frame {frame} names rig {rig}, which is not in {self.rigs_path.name}")
        _check_pose(pose, f"frame {frame}", self.frames_path)
        self.frame_ids.add(frame)
        for (kind, _), image in data:
            if kind != CAMERA_SENSOR:
                continue
            if image in self.poses:
                raise ModelError(self.frames_path, f"image {image} belongs to two frames")
            self.poses[image] = pose
            self.rig_of[image] = rig

    def apply(self, image_ids: np.ndarray, camera_ids: np.ndarray, poses: np.ndarray) -> np.ndarray:
        """Pose of each image: sensor_from_rig * rig_from_world, as COLMAP composes them.

        Parameters
        ----------
        image_ids, camera_ids : np.ndarray
            (n,) int64.
        poses : np.ndarray
            (n, 7) float64, the images' own poses, kept where an image belongs to no frame or its sensor's pose in the
            rig is unknown.

        Returns
        -------
        np.ndarray
            (n, 7) float64, quaternions normalised.

        Raises
        ------
        ModelError
            Where a frame holds an image of a camera that is not in the frame's rig.
        """
        sensor_from_rig = np.tile(IDENTITY, (len(image_ids), 1))
        rig_from_world = poses.copy()
        for row, (image, camera) in enumerate(zip(image_ids.tolist(), camera_ids.tolist(), strict=True)):
            if image not in self.poses:
                continue
            rig = self.sensors[self.rig_of[image]]
            sensor = (CAMERA_SENSOR, camera)
            if sensor not in rig:
                what = f"image {image} of camera {camera} belongs to a frame of rig {self.rig_of[image]}"
                raise ModelError(self.frames_path, f"{what}, which lacks that camera")
            pose = rig[sensor]
            if pose is not None:
                sensor_from_rig[row] = pose
                rig_from_world[row] = self.poses[image]
        return compose(sensor_from_rig, rig_from_world)


def find_frames(folder: Path, suffix: str) -> Frames | None:
    """Paths of a model's rigs and frames, nothing read yet; None where the model is older than they are."""
    frames = Frames(folder / f"rigs{suffix}", folder / f"frames{suffix}")
    if not os.path.lexists(frames.frames_path):
        return None
    if not os.path.lexists(frames.rigs_path):
        raise ModelError(frames.rigs_path, f"is missing, and {frames.frames_path.name} refers to it")
    return frames


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Poses `second * first` (n, 7): first the one, then the other; quaternions wxyz are normalised."""
    a = second[:, :4] / np.linalg.norm(second[:, :4], axis=1, keepdims=True)
    b = first[:, :4] / np.linalg.norm(first[:, :4], axis=1, keepdims=True)
    scalar = a[:, :1] * b[:, :1] - np.sum(a[:, 1:] * b[:, 1:], axis=1, keepdims=True)
    vector = a[:, :1] * b[:, 1:] + b[:, :1] * a[:, 1:] + np.cross(a[:, 1:], b[:, 1:])
    quaternion = np.hstack([scalar, vector])
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    # v + 2 w (u x v) + 2 u x (u x v): a rotation without building matrices.
    uv = np.cross(a[:, 1:], first[:, 4:])
    rotated = first[:, 4:] + 2 * (a[:, :1] * uv + np.cross(a[:, 1:], uv))
    return np.hstack([quaternion, rotated + second[:, 4:]])


def _check_pose(pose: np.ndarray, what: str, path: Path) -> None:
    if not np.isfinite(pose).all():
        raise ModelError(path, f"the pose of {what} is not finite")
    if not 1e-100 < np.linalg.norm(pose[:4]) < 1e100:
        raise ModelError(path, f"the rotation of {what} is all zeros or out of range")
