"""How the three tables of a model (`records`) are checked against each other and joined into a `SparseModel`.

Every reader ends here, so that each check is made once and in the same words.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.errors import ModelError, first_three
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.readers import kernels
from sfm2tuples.readers.frames import Frames
from sfm2tuples.readers.missing_observations import with_missing_observations
from sfm2tuples.readers.records import CameraRecords, ImageRecords, PointRecords
from sfm2tuples.readers.sparse_model import SparseModel

DROPPED_TRACK_IMAGE = "track elements that name an absent image"
DROPPED_TRACK_INDEX = "track elements that name an observation its image lacks"
DROPPED_POINT = "observations of an absent point"
LARGEST_COUNT = 1 << 32
"""More than any observation's number in a track."""


def assemble(
    cameras: CameraRecords,
    images: ImageRecords,
    points: PointRecords,
    frames: Frames | None,
    threads: int | None = None,
) -> SparseModel:
    """Check the tables against each other and join them.

    Parameters
    ----------
    cameras, images, points, frames
        The tables as read, and rigs and frames where the model has them (COLMAP 3.12 and later).
    threads : int, optional

    Returns
    -------
    SparseModel
        Images in the order of their names' bytes, points and cameras in that of their ids. An image none of whose
        observations names a point has those that the tracks give it (`missing_observations`). A track element or an
        observation whose other end is absent is left out and counted in `dropped`.

    Raises
    ------
    ModelError
        An id or a name that comes twice, a name that leaves its root, an absent camera, a pose, a parameter or a point
        that is not finite, a rotation of zeros.
    """
    camera_order = _sorted_once(cameras.ids, "camera id", cameras.path)
    camera_params = [cameras.params[row] for row in np.arange(len(cameras.ids))[camera_order]]
    _check_finite(np.array([np.isfinite(p).all() for p in cameras.params], bool), "camera", cameras.ids, cameras.path)
    names, image_order = names_in_order(images)
    image_cameras = _camera_rows(images, names, cameras.ids[camera_order])
    poses = _poses(images, names, frames)
    point_order = _sorted_once(points.ids, "point id", points.path)
    if not np.isfinite(points.xyz).all():
        _check_finite(np.isfinite(points.xyz).all(axis=1), "point", points.ids, points.path)
    point_ids = points.ids[point_order]
    images, named, taken = with_missing_observations(images, points, threads)
    dropped = _count_strays(images, points, taken, threads)
    indptr, rows, xy = _observations(images, names, image_order, named, taken, point_ids, dropped, threads)
    return SparseModel(
        camera_ids=cameras.ids[camera_order],
        camera_models=cameras.models[camera_order],
        camera_sizes=cameras.sizes[camera_order],
        camera_indptr=np.cumsum([0] + [len(p) for p in camera_params], dtype=np.int64),
        camera_params=np.concatenate([np.empty(0), *camera_params]),
        image_ids=images.ids[image_order],
        image_names=[names[row] for row in image_order],
        image_cameras=image_cameras[image_order],
        quaternions=np.ascontiguousarray(poses[image_order, :4]),
        translations=np.ascontiguousarray(poses[image_order, 4:]),
        observation_indptr=indptr,
        observation_points=rows,
        observation_xy=xy,
        point_ids=point_ids,
        points=points.xyz[point_order],
        point_errors=points.errors[point_order],
        dropped=dropped,
    )


def names_in_order(images: ImageRecords) -> tuple[list[str], np.ndarray]:
    """Names of the images, checked, in the order of the file; and the order that sorts them, which is a model's."""
    names = [check_name(name, images.path) for name in images.names]
    return names, _order_by_name(names, images.path)


def check_name(name: bytes, path: Path) -> str:
    """An image's name with slashes for backslashes; bytes that are not UTF-8 are kept as Python keeps those of a path.

    Raises
    ------
    ModelError
        It is empty, or could lead out of the photo root.
    """
    text = name.decode("utf-8", "surrogateescape")
    if not text:
        raise ModelError(path, "an image has an empty name")
    if "\0" in text:
        raise ModelError(path, f"image name {text!r} holds a NUL character")
    # Some tools write folders so on Windows.
    relative = text.replace("\\", "/")
    if relative[0] == "/" or re.match(r"[A-Za-z]:/", relative):
        raise ModelError(path, f"image name {text!r} is an absolute path", "names are relative to the photo root")
    if ".." in relative.split("/"):
        raise ModelError(path, f"image name {text!r} leaves the photo root", "names may not hold '..'")
    return relative


def unit_poses(poses: np.ndarray, labels: list[str], path: Path) -> np.ndarray:
    """Normalise the quaternions of poses (n, 7); refuse what is not finite and rotations of zeros."""
    finite = np.isfinite(poses).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise ModelError(
            path, f"{len(bad)} of {len(poses)} poses are not finite: {first_three([labels[row] for row in bad])}"
        )
    # Scaled first, so that neither tiny nor huge quaternions under- or overflow when squared.
    largest = np.abs(poses[:, :4]).max(axis=1, initial=0.0)
    if (largest == 0).any():
        bad = np.flatnonzero(largest == 0)
        raise ModelError(
            path, f"{len(bad)} of {len(poses)} rotations are all zeros: {first_three([labels[row] for row in bad])}"
        )
    scaled = poses[:, :4] / largest[:, None]
    return np.hstack([scaled / np.linalg.norm(scaled, axis=1, keepdims=True), poses[:, 4:]])


def _sorted_once(ids: np.ndarray, what: str, path: Path) -> np.ndarray | slice:
    """Order of the ids, a slice where they rise as they stand; one that is out of range or comes twice is an error."""
    if ids.size and ids.min() < 0:
        raise ModelError(path, f"a {what} is out of range")
    if (ids[1:] > ids[:-1]).all():
        return slice(None)
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(np.diff(ids[order]) == 0)
    if twice.size:
        raise ModelError(path, f"{what} {ids[order[twice[0]]]} comes twice")
    return order


def _order_by_name(names: list[str], path: Path) -> np.ndarray:
    """Rows in the order of the names' bytes; each name once."""
    order = sorted(range(len(names)), key=lambda row: names[row].encode("utf-8", "surrogateescape"))
    for first, second in itertools.pairwise(order):
        if names[first] == names[second]:
            raise ModelError(path, f"two images are named {names[first]!r}")
    return np.array(order, np.int64)


def _check_finite(finite: np.ndarray, what: str, ids: np.ndarray, path: Path) -> None:
    if not finite.all():
        bad = ids[~finite]
        raise ModelError(path, f"{len(bad)} of {len(ids)} {what}s are not finite, first {what} {bad[0]}")


def _camera_rows(images: ImageRecords, names: list[str], camera_ids: np.ndarray) -> np.ndarray:
    """Row of each image's camera."""
    rows = np.searchsorted(camera_ids, images.cameras)
    found = np.zeros(len(names), bool)
    inside = rows < len(camera_ids)
    found[inside] = camera_ids[rows[inside]] == images.cameras[inside]
    if not found.all():
        bad = int(np.flatnonzero(~found)[0])
        raise ModelError(images.path, f"image {names[bad]!r} names camera {images.cameras[bad]}, which is not there")
    return rows


def _poses(images: ImageRecords, names: list[str], frames: Frames | None) -> np.ndarray:
    """Poses (n, 7) of the images: their frames' where they have one, else their own."""
    _sorted_once(images.ids, "image id", images.path)
    poses = unit_poses(images.poses, names, images.path)
    if frames is None:
        return poses
    return frames.apply(images.ids, images.cameras, poses)


def _count_strays(images: ImageRecords, points: PointRecords, taken: np.ndarray, threads: int | None) -> dict[str, int]:
    """Count the track elements that lead nowhere, by reason; those of `taken` images have become observations."""
    order = np.argsort(images.ids)
    ids, counts = images.ids[order], np.where(taken, LARGEST_COUNT, images.counts)[order]
    table = kernels.row_table(ids)

    def one_block(begin: int, end: int) -> tuple[int, int]:
        return kernels.count_stray_tracks(begin, end, points.buffer, points.starts, points.lengths, ids, table, counts)

    absent, outside = np.sum(over_blocks(one_block, indptr_of(points.lengths), threads), axis=0).tolist()
    strays = {DROPPED_TRACK_IMAGE: absent, DROPPED_TRACK_INDEX: outside}
    return {reason: count for reason, count in strays.items() if count}


def _observations(
    images: ImageRecords,
    names: list[str],
    order: np.ndarray,
    named: np.ndarray,
    taken: np.ndarray,
    point_ids: np.ndarray,
    dropped: dict[str, int],
    threads: int | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations that have a point, in CSR by image row; those of an absent point are counted in `dropped`.

    Of `taken` images the coordinates may be unknown.
    """
    starts, counts = images.starts[order], images.counts[order]
    indptr = indptr_of(named[order])
    rows, xy = np.empty(indptr[-1], np.int64), np.empty((indptr[-1], 2), np.float64)
    table = kernels.row_table(point_ids)

    def one_block(begin: int, end: int) -> tuple[int, bool]:
        return kernels.gather_observations(
            begin, end, images.buffer, starts, counts, indptr, point_ids, table, rows, xy
        )

    blocks = over_blocks(one_block, indptr, threads)
    absent, finite = sum(block[0] for block in blocks), all(block[1] for block in blocks)
    if not finite:
        faulty = order[np.searchsorted(indptr, np.flatnonzero(~np.isfinite(xy).all(axis=1)), side="right") - 1]
        for row in faulty[~taken[faulty]][:1].tolist():
            raise ModelError(images.path, f"image {names[row]!r} has an observation that is not finite")
    if absent:
        dropped[DROPPED_POINT] = absent
        there = rows >= 0
        indptr = indptr_of(there)[indptr]
        rows, xy = rows[there], xy[there]
    return indptr, rows, xy
