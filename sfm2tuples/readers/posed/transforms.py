"""`transforms.json` of nerfstudio, instant-ngp and apps that write it (NeRFCapture, converted Polycam): poses alone.

As documented at docs.nerf.studio ("Data conventions") and in instant-ngp's `docs/nerf_dataset_tips.md`: a list
`frames`, each with `file_path` and `transform_matrix`, which takes points of the camera to the world. The camera's
axes are OpenGL's: x to the right, y up, it looks along -z. Intrinsics stand in the frame or, for all, beside the list:
`w h fl_x fl_y cx cy k1 k2 k3 k4 p1 p2` in pixels, with COLMAP's origin, and `camera_model` (or `is_fisheye`); or
`camera_angle_x`, `camera_angle_y`: the whole angle of view in radians; or `x_fov`, `y_fov`: in degrees, as instant-ngp
reads them. Where one axis alone has a focal length, pixels are square.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sfm2tuples.errors import DataError, ModelError, first_three, shown
from sfm2tuples.files.text import read_json
from sfm2tuples.readers.assembly import assemble
from sfm2tuples.readers.by_tracks import LARGEST_SKEW, nearest_rotations
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS
from sfm2tuples.readers.nvm import rotate
from sfm2tuples.readers.posed.transforms_files import size_of_photo, sized_by, with_suffix
from sfm2tuples.readers.records import CameraRecords, ImageRecords, PointRecords
from sfm2tuples.readers.relative_names import relative_names
from sfm2tuples.readers.sparse_model import SparseModel

TO_COLMAP = np.array([1.0, -1.0, -1.0])
"""OpenGL's camera axes to COLMAP's."""
PERSPECTIVE = ("", "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
FISHEYE, AROUND = "OPENCV_FISHEYE", "EQUIRECTANGULAR"
LARGEST_SIDE = 2**31

Frame = dict[str, Any]
Camera = tuple[str, int, int, tuple[float, ...]]
"""COLMAP's name of its model, width and height in pixels, parameters in COLMAP's order."""


def read(path: Path) -> SparseModel:
    """Read a `transforms.json`.

    Parameters
    ----------
    path : Path

    Returns
    -------
    SparseModel
        Without points: nothing in the file says which image sees what, and the points of `ply_file_path`, depths and
        meshes are not read. Ids are positions in the list of frames, from 0. Frames of equal intrinsics share a
        camera: PINHOLE where nothing distorts, else OPENCV, FULL_OPENCV (k3), OPENCV_FISHEYE or EQUIRECTANGULAR. The
        world is the file's: `applied_transform` and `applied_scale`, by which nerfstudio turned it, are not undone.
        A photo that is named without a suffix has that of the file that is there, else `.png`.

    Raises
    ------
    ModelError
        One line that names the file and the frame at fault.
    """
    content = _content(path)
    frames = content["frames"]
    labels = [_label(row, frame) for row, frame in enumerate(frames)]
    listed = [_name(path, label, frame) for label, frame in zip(labels, frames, strict=True)]
    names = relative_names(listed, path)
    reader = _Cameras(path, content, listed)
    cameras = [reader.camera_of(label, frame) for label, frame in zip(labels, frames, strict=True)]
    each = list(dict.fromkeys(cameras))
    row_of = {camera: row for row, camera in enumerate(each)}
    rows = np.arange(len(frames), dtype=np.int64)
    none = np.zeros(len(frames), np.int64)
    return assemble(
        CameraRecords(
            path,
            np.arange(len(each), dtype=np.int64),
            np.array([CAMERA_MODEL_IDS[camera[0]] for camera in each], np.int32),
            np.array([camera[1:3] for camera in each], np.int64).reshape(-1, 2),
            [np.array(camera[3]) for camera in each],
        ),
        ImageRecords(
            path,
            rows,
            _poses(path, labels, frames),
            np.array([row_of[camera] for camera in cameras], np.int64),
            names,
            np.empty(0, np.uint8),
            none,
            none,
        ),
        PointRecords(
            path, none[:0], np.empty((0, 3)), np.empty(0), np.empty(0, np.uint8), none[:0], none[:0]
        ),
        None,
    )  # fmt: skip


def _content(path: Path) -> dict[str, Any]:
    """The file, whose frames are objects."""
    try:
        content = read_json(path, "was it copied in full?")
    except DataError as error:
        raise ModelError(error.path, error.what, error.remedy) from error
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list):
        raise ModelError(path, "holds no list 'frames'", "a transforms.json of nerfstudio or instant-ngp has one")
    for row, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise ModelError(path, f"frame {row} is no object, but {shown(frame)}")
    return content


def _label(row: int, frame: Frame) -> str:
    """What messages call a frame: its position and its photo."""
    name = frame.get("file_path")
    return f"frame {row} ({name[:80]})" if isinstance(name, str) else f"frame {row}"


def _name(path: Path, label: str, frame: Frame) -> bytes:
    """Name of a frame's photo."""
    name = frame.get("file_path")
    if not isinstance(name, str) or not name.strip():
        raise ModelError(path, f"{label} has no file_path")
    return with_suffix(path, name).encode("utf-8", "surrogateescape")


def _poses(path: Path, labels: Sequence[str], frames: Sequence[Frame]) -> np.ndarray:
    """World to camera (n, 7), quaternions wxyz and translations, of camera to world in OpenGL's axes."""
    matrices = np.empty((len(frames), 3, 4))
    for row, (label, frame) in enumerate(zip(labels, frames, strict=True)):
        matrices[row] = _matrix(path, label, frame.get("transform_matrix"))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # A scale of the world may stand in the matrix; it moves nothing in the picture.
        scale = np.cbrt(np.linalg.det(matrices[:, :, :3]))
        rotations = (matrices[:, :, :3] / scale[:, None, None] * TO_COLMAP).transpose(0, 2, 1)
        quaternions, skew = nearest_rotations(np.where(np.isfinite(rotations), rotations, 0.0))
    faulty = np.flatnonzero(~((skew < LARGEST_SKEW) & (scale > 0)))
    if faulty.size:
        which = first_three([labels[row] for row in faulty.tolist()])
        what = f"{len(faulty)} of {len(frames)} matrices turn nothing (singular, skewed or mirrored): {which}"
        raise ModelError(path, what, "transform_matrix takes the camera to the world, with OpenGL's axes")
    return np.hstack([quaternions, -rotate(quaternions, matrices[:, :, 3])])


def _matrix(path: Path, label: str, value: Any) -> np.ndarray:
    """The upper three rows of a frame's matrix."""
    if value is None:
        raise ModelError(path, f"{label} has no transform_matrix")
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise ModelError(path, f"the transform_matrix of {label} is not 4 x 4 (or 3 x 4) numbers")
    if not np.isfinite(matrix).all():
        raise ModelError(path, f"the transform_matrix of {label} holds a number that is not finite")
    if len(matrix) == 4 and np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise ModelError(path, f"the last row of the transform_matrix of {label} is not 0 0 0 1")
    return matrix[:3]


class _Cameras:
    """The cameras of frames: what stands in the frame counts before what stands beside the list.

    `names` are those of the photos as the file writes them, which may lead to another folder than the file's.
    """

    def __init__(self, path: Path, content: dict[str, Any], names: Sequence[bytes]) -> None:
        self.path = path
        self.content = content
        self.names = names
        self._photo_size: tuple[int, int] | None = None

    def camera_of(self, label: str, frame: Frame) -> Camera:
        """The camera of a frame."""
        kind = frame.get("camera_model", self.content.get("camera_model", ""))
        if frame.get("is_fisheye", self.content.get("is_fisheye", False)) is True:
            kind = FISHEYE
        if kind not in (*PERSPECTIVE, FISHEYE, AROUND):
            known = ", ".join((*PERSPECTIVE[1:], FISHEYE, AROUND))
            raise ModelError(self.path, f"{label} is of camera_model {shown(kind)}", f"known are {known}")
        width, height = self._size(label, frame)
        if kind == AROUND:
            return AROUND, width, height, (float(width), float(height))
        given = (self._focal(label, frame, "x", width), self._focal(label, frame, "y", height))
        focals = [focal for focal in given if focal is not None]
        if not focals:
            raise ModelError(self.path, f"{label} has no fl_x, x_fov or camera_angle_x", "one of them is needed")
        centre = [self._number(label, frame, key) for key in ("cx", "cy")]
        middle = [half if given is None else given for given, half in zip(centre, (width / 2, height / 2), strict=True)]
        lens = {key: self._number(label, frame, key) or 0.0 for key in ("k1", "k2", "k3", "k4", "p1", "p2")}
        params = (focals[0], focals[-1], *middle)
        return self._distorted(label, kind, (width, height), params, lens)

    def _distorted(
        self, label: str, kind: str, size: tuple[int, int], params: tuple[float, ...], lens: dict[str, float]
    ) -> Camera:
        """COLMAP's camera of some coefficients of OpenCV's."""
        k1, k2, k3, k4, p1, p2 = lens.values()
        if kind == FISHEYE:
            return FISHEYE, *size, (*params, k1, k2, k3, k4)
        if k4:
            what = f"{label} is no fisheye and has k4, which no camera model of COLMAP's has in this sense"
            raise ModelError(self.path, what, "undistort the photos, or fit k1 to k3")
        if k3:
            return "FULL_OPENCV", *size, (*params, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)
        if any(lens.values()):
            return "OPENCV", *size, (*params, k1, k2, p1, p2)
        return "PINHOLE", *size, params

    def _focal(self, label: str, frame: Frame, axis: str, side: int) -> float | None:
        """Focal length in pixels; None where neither it nor the angle of view is there."""
        focal = self._number(label, frame, f"fl_{axis}")
        angles = ((f"{axis}_fov", 180.0, "180 degrees"), (f"camera_angle_{axis}", math.pi, "pi radians"))
        for key, half_turn, end in angles:
            angle = self._number(label, frame, key) if focal is None else None
            if angle is not None and not 0 < angle < half_turn:
                raise ModelError(self.path, f"{key} of {label} is {angle:g}, not within 0 to {end}")
            if angle is not None:
                focal = side / 2 / math.tan(angle * (math.pi / half_turn) / 2)
        if focal is not None and focal <= 0:
            raise ModelError(self.path, f"fl_{axis} of {label} is {focal:g}, which is not positive")
        return focal

    def _size(self, label: str, frame: Frame) -> tuple[int, int]:
        """Width and height: given, or of the first photo that is there, or twice the principal point."""
        given = [self._number(label, frame, key) for key in ("w", "h")]
        if None in given:
            found = self._size_of_photos()
            if found is not None:
                return found
            given = [self._number(label, frame, key) for key in ("cx", "cy")]
            if None in given:
                what = f"{label} has no w and h, and none of the photos that would tell is there"
                raise ModelError(self.path, what, "write w and h into the file, or put the photos where it names them")
            given = [round(2 * value) for value in given if value is not None]
        for value in given:
            if value is None or not 1 <= value < LARGEST_SIDE or value != int(value):
                raise ModelError(self.path, f"{label} is {given[0]:.15g} x {given[1]:.15g} pixels")
        return int(given[0] or 0), int(given[1] or 0)

    def _size_of_photos(self) -> tuple[int, int] | None:
        """Size of the first photo of the file, or of a few that follow; all are held to have it."""
        if self._photo_size is None:
            files = sized_by(self.path, (os.fsdecode(name) for name in self.names))
            sizes = (size_of_photo(file) for file in files if os.path.isfile(file))
            self._photo_size = next((size for size in sizes if size is not None), None)
        return self._photo_size

    def _number(self, label: str, frame: Frame, key: str) -> float | None:
        """A number of a frame, or of all frames; None where there is none."""
        value = frame.get(key, self.content.get(key))
        if value is None:
            return None
        try:
            number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
        except OverflowError:
            number = math.nan
        if not math.isfinite(number):
            raise ModelError(self.path, f"{key} of {label} is {shown(value)}, no finite number")
        return number
