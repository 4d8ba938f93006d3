"""Models whose files list the observations by point, Bundler's and VisualSFM's: parsed in blocks, regrouped by image.

Both measure from the principal point, and their files do not give the size of the photos. So cameras have the size
(0, 0) and the principal point (0, 0), and coordinates stay centred, x to the right and y down as in COLMAP. Projecting
with such a camera gives such coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.readers.assembly import assemble
from sfm2tuples.readers.raw_files import CUT
from sfm2tuples.readers.records import OBSERVATION, CameraRecords, ImageRecords, PointRecords, observation_bytes
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.readers.text_rows import TextRows

VIEW_COLUMNS = 4
"""Of an observation in a track: image, feature, x, y."""
LARGEST_SKEW = 1e-2
"""How far a rotation's rows may be off from unit length and right angles: some files hold four digits only."""
UNREGISTERED = "photos that are not registered"
NOT_REGISTERED = "observations in a camera that is not registered"


@dataclass(frozen=True)
class ListedObservations:
    """Observations in the order of the file."""

    point: np.ndarray
    """(m,) int64, row of the point."""
    image: np.ndarray
    """(m,) int64, row of the image in the file."""
    xy: np.ndarray
    """(m, 2) float64, pixels from the principal point as written."""


@dataclass(frozen=True)
class RegisteredCameras:
    """Images of a file with their cameras, one each."""

    ids: np.ndarray
    """(n,) int64, number of the image in the file, from 0."""
    model: int
    """COLMAP's camera model of all."""
    params: np.ndarray
    """(n, k) float64, in COLMAP's order."""
    rotations: np.ndarray
    """(n, 4) float64, quaternions wxyz, world to camera."""
    translations: np.ndarray
    """(n, 3) float64, world to camera."""
    names: list[bytes]
    """Names of the photos, relative."""


def parse_tracks(rows: TextRows, lead: int, num_images: int) -> tuple[np.ndarray, ListedObservations]:
    """Parse one row a point: `lead` columns, the last of which counts the observations that follow.

    Parameters
    ----------
    rows : TextRows
    lead : int
    num_images : int
        Images are numbered from 0 to less than this.

    Returns
    -------
    np.ndarray
        (rows, lead) float64, the columns before the observations.
    ListedObservations
    """
    heads, lengths, images, xys = [np.empty((0, lead))], [np.empty(0, np.int64)], [np.empty(0, np.int64)], []
    for block in rows.blocks():
        head, length, views = _parse_block(block, lead)
        heads.append(head)
        lengths.append(length)
        images.append(_image_rows(views[:, 0], length, num_images, block))
        xys.append(np.ascontiguousarray(views[:, 2:]))
    point = np.repeat(np.arange(len(rows)), np.concatenate(lengths))
    return np.concatenate(heads), ListedObservations(
        point, np.concatenate(images), np.concatenate([np.empty((0, 2)), *xys])
    )


def rotation_quaternions(matrices: np.ndarray, rows: TextRows) -> np.ndarray:
    """Quaternions wxyz (n, 4) of rotation matrices (n, 3, 3); `rows` are the lines of each, for messages."""
    quaternions, skew = nearest_rotations(matrices)
    rows.refuse(~(skew < LARGEST_SKEW), lambda _: "the matrix is no rotation")
    return quaternions


def nearest_rotations(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rotations nearest to matrices, and how far off these are.

    Parameters
    ----------
    matrices : np.ndarray
        (n, 3, 3) float64, finite.

    Returns
    -------
    np.ndarray
        (n, 4) float64, quaternions wxyz.
    np.ndarray
        (n,) float64, largest entry of M Mᵀ - 1; infinite where the matrix mirrors.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        skew = np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0.0)
        skew = np.where((np.linalg.det(matrices) > 0) & ~np.isnan(skew), skew, np.inf)
    # The eigenvector of this symmetric matrix's largest eigenvalue is the rotation nearest to a matrix that is slightly
    # off, whatever its angle (Bar-Itzhack 2000).
    m = np.where((skew < LARGEST_SKEW)[:, None, None], matrices, np.eye(3))
    k = np.zeros((len(m), 4, 4))
    k[:, 0, 0] = np.trace(m, axis1=1, axis2=2)
    k[:, 1:, 1:] = m + m.transpose(0, 2, 1) - k[:, :1, :1] * np.eye(3)
    axis = np.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], axis=1)
    k[:, 0, 1:] = k[:, 1:, 0] = axis
    quaternions = np.linalg.eigh(k)[1][:, :, -1]
    return quaternions * np.where(quaternions[:, :1] < 0, -1.0, 1.0), skew


def model_from_tracks(
    cameras: RegisteredCameras, points: np.ndarray, tracks: ListedObservations, num_images: int, path: Path
) -> SparseModel:
    """Regroup the observations by image and check what both formats share with COLMAP's.

    Parameters
    ----------
    cameras : RegisteredCameras
        The registered images.
    points : np.ndarray
        (p, 3) float64.
    tracks : ListedObservations
        Observations of images that are not registered are left out and counted.
    num_images : int
        Images of the file, those that are not registered included.
    path : Path
        For messages.

    Returns
    -------
    SparseModel
        Ids are numbers in the file, from 0. The files hold no reprojection errors: they are NaN.
    """
    there = np.zeros(num_images, bool)
    there[cameras.ids] = True
    kept = np.flatnonzero(there[tracks.image])
    kept = kept[np.argsort(tracks.image[kept], kind="stable")]
    buffer = observation_bytes(tracks.xy[kept], tracks.point[kept])
    counts = np.bincount(tracks.image[kept], minlength=num_images)[cameras.ids]
    starts = (np.cumsum(counts) - counts) * OBSERVATION.itemsize
    poses = np.hstack([cameras.rotations, cameras.translations])
    none = np.zeros(len(points), np.int64)
    model = assemble(
        CameraRecords(
            path,
            cameras.ids,
            np.full(len(cameras.ids), cameras.model, np.int32),
            np.zeros((len(cameras.ids), 2), np.int64),
            list(cameras.params),
        ),
        ImageRecords(path, cameras.ids, poses, cameras.ids, cameras.names, buffer, starts, counts),
        PointRecords(
            path, np.arange(len(points)), points, np.full(len(points), np.nan), np.empty(0, np.uint8), none, none
        ),
        None,
    )
    if len(kept) < len(tracks.image):
        model.dropped[NOT_REGISTERED] = len(tracks.image) - len(kept)
    return model


def _parse_block(rows: TextRows, lead: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns before the observations (rows, lead), numbers of observations (rows,), and observations (m, 4)."""
    values, fields = rows.parse()
    rows.refuse(fields < lead, lambda at: f"has {fields[at]} columns, at least {lead} belong there; {CUT}")
    columns = (np.cumsum(fields) - fields)[:, None] + np.arange(lead)
    head = values[columns]
    lengths = (fields - lead) // VIEW_COLUMNS
    rows.refuse(
        (head[:, -1] != lengths) | ((fields - lead) % VIEW_COLUMNS != 0),
        lambda at: f"claims {head[at, -1]:.15g} observations, has {fields[at] - lead} columns of 4 each; {CUT}",
    )
    inside = np.ones(len(values), bool)
    inside[columns.ravel()] = False
    views = values[inside].reshape(-1, VIEW_COLUMNS)
    infinite = ~np.isfinite(head).all(axis=1)
    infinite[np.repeat(np.arange(len(rows)), lengths)[~np.isfinite(views).all(axis=1)]] = True
    rows.refuse(infinite, lambda _: "holds a number that is not finite")
    return head, lengths, views


def _image_rows(values: np.ndarray, lengths: np.ndarray, num_images: int, rows: TextRows) -> np.ndarray:
    """Numbers of images as integers; one that is none of the file's is refused."""
    off = (values < 0) | (values >= num_images) | (values != np.floor(values))
    faulty = np.zeros(len(rows), bool)
    faulty[np.repeat(np.arange(len(rows)), lengths)[off]] = True
    rows.refuse(faulty, lambda _: f"names an image that is none of the {num_images:,} of the file")
    return values.astype(np.int64)
