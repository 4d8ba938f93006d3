"""The three tables of a model as they stand in its files: what a reader fills, and `assembly` joins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.readers import kernels

OBSERVATION = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
"""An observation as in COLMAP's images.bin; point -1: there is none."""


@dataclass(frozen=True)
class CameraRecords:
    """The cameras of a model in the order of their file."""

    path: Path
    """The file they come from."""
    ids: np.ndarray
    """(c,) int64."""
    models: np.ndarray
    """(c,) int32, keys of CAMERA_MODELS."""
    sizes: np.ndarray
    """(c, 2) int64, width and height in pixels."""
    params: list[np.ndarray]
    """c arrays of float64."""


@dataclass(frozen=True)
class ImageRecords:
    """The images of a model in the order of their file; observations lie in a byte buffer."""

    path: Path
    """The file they come from."""
    ids: np.ndarray
    """(n,) int64."""
    poses: np.ndarray
    """(n, 7) float64, quaternion wxyz and translation, world to camera, as written."""
    cameras: np.ndarray
    """(n,) int64, camera ids."""
    names: list[bytes]
    """n names as written."""
    buffer: np.ndarray
    """uint8; observations are records of `OBSERVATION`."""
    starts: np.ndarray
    """(n,) int64, byte where an image's observations start."""
    counts: np.ndarray
    """(n,) int64, number of observations, those without a point included."""


@dataclass(frozen=True)
class PointRecords:
    """The points of a model in the order of their file; tracks lie in a byte buffer."""

    path: Path
    """The file they come from."""
    ids: np.ndarray
    """(p,) int64."""
    xyz: np.ndarray
    """(p, 3) float64."""
    errors: np.ndarray
    """(p,) float64, pixels."""
    buffer: np.ndarray
    """uint8; track elements are records of image id and observation index (uint32)."""
    starts: np.ndarray
    """(p,) int64, byte where a point's track starts."""
    lengths: np.ndarray
    """(p,) int64, number of track elements."""


def observation_bytes(xy: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Observations (m, 2) of points (m,) as the bytes of records, as `ImageRecords.buffer` holds them."""
    records = np.empty(len(points), OBSERVATION)
    records["x"], records["y"], records["point"] = xy[:, 0], xy[:, 1], points
    return records.view(np.uint8)


def observations_with_point(images: ImageRecords, order: np.ndarray, threads: int | None) -> np.ndarray:
    """Where the observations of the images in `order` start, those without a point left out: (n + 1,) int64."""
    starts, counts = images.starts[order], images.counts[order]
    named = np.empty(len(order), np.int64)

    def one_block(begin: int, end: int) -> None:
        kernels.count_with_point(begin, end, images.buffer, starts, counts, named)

    over_blocks(one_block, indptr_of(counts), threads)
    return indptr_of(named)
