"""COLMAP's binary models: bytes straight into columns, without a loop over points or observations in Python."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError
from sfm2tuples.readers import kernels
from sfm2tuples.readers.assembly import assemble
from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.frames import IDENTITY, Frames, Sensor, find_frames
from sfm2tuples.readers.raw_files import CUT, load_bytes
from sfm2tuples.readers.records import CameraRecords, ImageRecords, PointRecords
from sfm2tuples.readers.sparse_model import SparseModel


def read(folder: Path, threads: int | None = None) -> SparseModel:
    """Read the binary model in a folder.

    Parameters
    ----------
    folder : Path
        Holds cameras.bin, images.bin, points3D.bin and, since COLMAP 3.12, rigs.bin and frames.bin.
    threads : int, optional
        By default `sfm2tuples.compute.threads.default_threads()`; changes nothing but the time.

    Returns
    -------
    SparseModel
        See there for order and dtypes.

    Raises
    ------
    ModelError
        One line that names the file, for whatever is wrong with it. Every size in a file is checked against the
        file's length before memory is taken.
    """
    return assemble(
        _read_cameras(folder / "cameras.bin"),
        frames=_read_frames(folder),
        images=read_images(folder / "images.bin"),
        points=_read_points(folder / "points3D.bin"),
        threads=threads,
    )


IMAGE = np.dtype([("id", "<u4"), ("pose", "<f8", 7), ("camera", "<u4")])
"""The first bytes of an image."""


class _Cursor:
    """Reads fixed-size records from a small file's bytes, and says in one line where it ends too early."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = load_bytes(path).data
        self.at = 0

    def take(self, layout: str, where: str) -> tuple:
        """Values of a `struct` layout (little endian, packed)."""
        size = struct.calcsize("<" + layout)
        if self.at + size > len(self.data):
            raise ModelError(self.path, f"ends inside {where}, after {len(self.data):,} bytes", CUT)
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += size
        return values

    def count(self, what: str, smallest: int) -> int:
        """Read the number of rows at the start; each takes at least `smallest` bytes."""
        (number,) = self.take("Q", f"the number of {what}")
        return _checked_count(number, len(self.data) - self.at, smallest, what, self.path)

    def finish(self) -> None:
        """Refuse bytes after the last row."""
        _check_end(self.at, len(self.data), self.path)


def _read_cameras(path: Path) -> CameraRecords:
    cursor = _Cursor(path)
    count = cursor.count("cameras", 24)
    ids, models, sizes, params = [], [], [], []
    for row in range(count):
        camera, model, width, height = cursor.take("IiQQ", f"camera {row + 1} of {count}")
        if model not in CAMERA_MODELS:
            raise ModelError(
                path, f"camera {camera} is of unknown model {model}", f"known are 0 to {max(CAMERA_MODELS)}"
            )
        if max(width, height) >= 2**31:
            raise ModelError(path, f"camera {camera} is {width} x {height} pixels")
        ids.append(camera)
        models.append(model)
        sizes.append((width, height))
        params.append(np.array(cursor.take(f"{CAMERA_MODELS[model].num_params}d", f"camera {row + 1} of {count}")))
    cursor.finish()
    sizes_column = np.array(sizes, np.int64).reshape(-1, 2)
    return CameraRecords(path, np.array(ids, np.int64), np.array(models, np.int32), sizes_column, params)


def read_images(path: Path) -> ImageRecords:
    """Read images.bin: where its images start is found in one pass, their observations stay where they are."""
    buffer = load_bytes(path)
    if buffer.size < 8:
        raise ModelError(path, f"ends inside the number of images, after {buffer.size:,} bytes", CUT)
    number = int.from_bytes(buffer[:8].tobytes(), "little")
    count = _checked_count(number, buffer.size - 8, kernels.IMAGE_BYTES + 9, "images", path)
    starts, ends, counts = (np.empty(count, np.int64) for _ in range(3))
    rows, end = kernels.find_images(buffer, starts, ends, counts)
    if rows < count:
        if counts[rows] == -1:
            raise ModelError(path, f"ends inside image {rows + 1:,} of {count:,}", CUT)
        name = _names(buffer, starts[rows : rows + 1], ends[rows : rows + 1])[0]
        what = f"observations of image {name.decode('utf-8', 'surrogateescape')!r}"
        _checked_count(int(counts[rows].view(np.uint64)), buffer.size - end, kernels.OBSERVATION_BYTES, what, path)
    _check_end(end, buffer.size, path)
    head = buffer[starts[:, None] + np.arange(kernels.IMAGE_BYTES)].view(IMAGE)[:, 0]
    ids, cameras = head["id"].astype(np.int64), head["camera"].astype(np.int64)
    names = _names(buffer, starts, ends)
    return ImageRecords(path, ids, head["pose"].astype(np.float64), cameras, names, buffer, ends + 9, counts)


def _names(buffer: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
    """Names of images as written."""
    begins = (starts + kernels.IMAGE_BYTES).tolist()
    return [bytes(buffer.data[begin:end]) for begin, end in zip(begins, ends.tolist(), strict=True)]


def _read_points(path: Path) -> PointRecords:
    buffer = load_bytes(path)
    if buffer.size < 8:
        raise ModelError(path, f"ends inside the number of points, after {buffer.size:,} bytes", CUT)
    number = int.from_bytes(buffer[:8].tobytes(), "little")
    count = _checked_count(number, buffer.size - 8, kernels.POINT_BYTES, "points", path)
    ids, starts, lengths = (np.empty(count, np.int64) for _ in range(3))
    xyz, errors = np.empty((count, 3)), np.empty(count)
    rows, end = kernels.scan_points(buffer, ids, xyz, errors, starts, lengths)
    if rows < count:
        raise ModelError(
            path, f"ends inside point {rows + 1:,} of {count:,} or its track, after {buffer.size:,} bytes", CUT
        )
    _check_end(end, buffer.size, path)
    return PointRecords(path, ids, xyz, errors, buffer, starts, lengths)


def _read_frames(folder: Path) -> Frames | None:
    """Rigs and frames, or None where the model is older than they are."""
    frames = find_frames(folder, ".bin")
    if frames is None:
        return None
    _read_rigs(frames)
    cursor = _Cursor(frames.frames_path)
    count = cursor.count("frames", 68)
    for row in range(count):
        where = f"frame {row + 1} of {count}"
        frame, rig, *pose, number = cursor.take("II7dI", where)
        data: list[tuple[Sensor, int]] = []
        for _ in range(number):
            kind, sensor, image = cursor.take("iIQ", where)
            data.append(((kind, sensor), image))
        frames.add_frame(frame, rig, np.array(pose), data)
    cursor.finish()
    return frames


def _read_rigs(frames: Frames) -> None:
    cursor = _Cursor(frames.rigs_path)
    count = cursor.count("rigs", 8)
    for row in range(count):
        where = f"rig {row + 1} of {count}"
        rig, number = cursor.take("II", where)
        sensors: list[tuple[Sensor, np.ndarray | None]] = []
        for index in range(number):
            sensor = cursor.take("iI", where)
            if index == 0:
                sensors.append((sensor, IDENTITY))
                continue
            (has_pose,) = cursor.take("B", where)
            sensors.append((sensor, np.array(cursor.take("7d", where)) if has_pose else None))
        frames.add_rig(rig, sensors)
    cursor.finish()


def _checked_count(number: int, room: int, smallest: int, what: str, path: Path) -> int:
    """Refuse a number of rows that `room` bytes cannot hold at `smallest` bytes a row."""
    if number > room // smallest:
        raise ModelError(path, f"claims {number:,} {what}, but has room for at most {room // smallest:,}", CUT)
    return number


def _check_end(at: int, size: int, path: Path) -> None:
    """Refuse bytes after the last row, which mean that the rows before were misread."""
    if at != size:
        raise ModelError(path, f"has {size - at:,} bytes after its last row")
