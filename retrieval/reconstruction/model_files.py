"""A sparse model as COLMAP's binary files, written from its columns."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np

from sfm2tuples.readers.records import observation_bytes
from sfm2tuples.readers.sparse_model import SparseModel

GREY = (128, 128, 128)
"""Colour of every point: columns have none."""


def write_binary_model(folder: Path, model: SparseModel) -> None:
    """Write cameras.bin, images.bin and points3D.bin, as COLMAP's documentation has them ("Output format", binary).

    Parameters
    ----------
    folder : Path
        Must be there; rigs and frames are not written, so every image counts as a rig of its own.
    model : SparseModel
        Observations are numbered as they stand in an image's columns.
    """
    with (folder / "cameras.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(model.camera_ids)))
        for row, number in enumerate(model.camera_ids.tolist()):
            width, height = model.camera_sizes[row].tolist()
            file.write(struct.pack("<IiQQ", number, int(model.camera_models[row]), width, height))
            params = model.camera_params[model.camera_indptr[row] : model.camera_indptr[row + 1]]
            file.write(params.astype("<f8").tobytes())
    with (folder / "images.bin").open("wb") as file:
        file.write(struct.pack("<Q", len(model.image_names)))
        cameras = model.camera_ids[model.image_cameras].tolist()
        for row, number in enumerate(model.image_ids.tolist()):
            own = slice(model.observation_indptr[row], model.observation_indptr[row + 1])
            pose = np.concatenate([model.quaternions[row], model.translations[row]]).astype("<f8")
            file.write(struct.pack("<I", number) + pose.tobytes() + struct.pack("<I", cameras[row]))
            file.write(model.image_names[row].encode("utf-8", "surrogateescape") + b"\0")
            file.write(struct.pack("<Q", own.stop - own.start))
            points = model.point_ids[model.observation_points[own]]
            file.write(observation_bytes(model.observation_xy[own], points).tobytes())
    _write_points(folder / "points3D.bin", model)


def sync_folder(folder: Path) -> None:
    """Bring the files of a folder onto the disk, before its name says that it is whole."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write_points(path: Path, model: SparseModel) -> None:
    """Points with their tracks: elements in the order of the images."""
    counts = np.diff(model.observation_indptr)
    image = np.repeat(model.image_ids, counts)
    number = np.arange(len(model.observation_points)) - np.repeat(model.observation_indptr[:-1], counts)
    order = np.argsort(model.observation_points, kind="stable")
    elements = np.stack([image[order], number[order]], axis=1).astype("<u4")
    lengths = np.bincount(model.observation_points, minlength=len(model.points))
    ends = np.cumsum(lengths).tolist()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(model.points)))
        columns = zip(model.point_ids.tolist(), model.points.tolist(), model.point_errors.tolist(), strict=True)
        for (number_of, xyz, error), length, end in zip(columns, lengths.tolist(), ends, strict=True):
            file.write(struct.pack("<Q3d3BdQ", number_of, *xyz, *GREY, error, length))
            file.write(elements[end - length : end].tobytes())
