"""What of a model of poses can be triangulated: photos that are there, with cameras in the pixels that they have now.

Photos may be smaller than a model's cameras say. Features are found in the photos' own pixels, where pycolmap's limits
in pixels mean what they should, and go back to the model's pixels in the end.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.photos.decoding import photo_size
from retrieval.reconstruction.cameras import PhotoCamera
from retrieval.reconstruction.photo_table import PhotoTable
from sfm2tuples.errors import PhotoError
from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.sparse_model import SparseModel

MOST_STRETCH = 0.02
"""How far a photo's sides may be from its camera's proportion: a size that was rounded is, a photo turned is not."""


@dataclass(frozen=True)
class PosedPhotos:
    """Photos of a model that take part; rows are those of `table`, from 0."""

    image: np.ndarray
    """(n,) int64, row of the model's image."""
    table: PhotoTable
    cameras: dict[int, PhotoCamera]
    """Row to camera, in pixels of the photo."""
    scale: np.ndarray
    """(n, 2) float64: pixels of the model for one of the photo."""
    shift: np.ndarray
    """(n, 2) float64: added to those: cameras without a size have their origin at the principal point."""
    left_out: list[str]
    """One line for each other image."""


def posed_photos(model: SparseModel, root: Path) -> PosedPhotos:
    """Look at the photos of a model.

    Parameters
    ----------
    model : SparseModel
    root : Path
        Folder that the names of its images start from.
    """
    rows: list[int] = []
    sizes, states, left = [], [], []
    for row, name in enumerate(model.image_names):
        try:
            status = os.stat(root / name)
            size = photo_size(root / name, name)
        except (OSError, ValueError) as error:
            left.append(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})")
            continue
        except PhotoError as error:
            left.append(str(error))
            continue
        why = _why_not(model, row, size)
        if why:
            left.append(f"{name}: {why}")
            continue
        rows.append(row)
        sizes.append(size)
        states.append((status.st_size, status.st_mtime_ns))
    image, pixels = np.array(rows, np.int64), np.array(sizes, np.int64).reshape(-1, 2)
    own = model.camera_sizes[model.image_cameras[image]]
    sized = (own > 0).all(axis=1)
    scale = np.where(sized[:, None], own / np.maximum(pixels, 1), 1.0)
    shift = np.where(sized[:, None], 0.0, -pixels / 2)
    table = PhotoTable(
        root,
        [model.image_names[row] for row in rows],
        np.array(states, np.int64).reshape(-1, 2),
        pixels,
        np.zeros(len(rows)),
        np.arange(len(rows)),
        {},
    )
    return PosedPhotos(image, table, _cameras(model, image, sizes), scale, shift, left)


def scaled_parameters(model: int, params: np.ndarray, own: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Parameters of a camera for photos of another size.

    Parameters
    ----------
    model : int
        Key of CAMERA_MODELS.
    params : (k,) float64
        In COLMAP's order, in pixels of its own size.
    own, size : (int, int)
        Width and height that they are of (0: unknown, the principal point being relative to the middle), and wanted.

    Returns
    -------
    (k,) float64
        Of one focal length both sides' mean scale is taken, as COLMAP does; coefficients of distortion have no unit.
    """
    number = CAMERA_MODELS[model].num_focal
    scaled = np.array(params, np.float64)
    if min(own) <= 0:
        scaled[number : number + 2] += np.array(size) / 2
        return scaled
    scale = np.array(size, np.float64) / np.array(own, np.float64)
    scaled[:number] *= scale if number == 2 else scale.mean()
    scaled[number : number + 2] *= scale
    return scaled


def _cameras(model: SparseModel, image: np.ndarray, sizes: Sequence[tuple[int, int]]) -> dict[int, PhotoCamera]:
    """Camera of each row; images of one camera whose photos have one size share it."""
    numbers: dict[tuple[int, int, int], int] = {}
    found = {}
    for row, (camera, size) in enumerate(zip(model.image_cameras[image].tolist(), sizes, strict=True)):
        number = numbers.setdefault((camera, *size), len(numbers))
        kind, own = int(model.camera_models[camera]), model.camera_sizes[camera].tolist()
        params = scaled_parameters(kind, _params(model, camera), own, size)
        found[row] = PhotoCamera(number, *size, tuple(params.tolist()), True, CAMERA_MODELS[kind].name)
    return found


def _params(model: SparseModel, camera: int) -> np.ndarray:
    return model.camera_params[model.camera_indptr[camera] : model.camera_indptr[camera + 1]]


def _why_not(model: SparseModel, row: int, size: tuple[int, int]) -> str:
    """Why an image takes no part; "" where it does."""
    camera = int(model.image_cameras[row])
    number = CAMERA_MODELS[int(model.camera_models[camera])].num_focal
    if not (_params(model, camera)[:number] > 0).all():
        return "its camera has no focal length"
    wide, high = model.camera_sizes[camera].tolist()
    if min(wide, high) > 0 and abs(size[0] * high / (size[1] * wide) - 1) > MOST_STRETCH:
        return f"it has {size[0]} x {size[1]} pixels and its camera {wide} x {high}, another proportion"
    return ""
