"""Sizes for cameras whose model says none, Bundler's and VisualSFM's: those of the photos, where these fit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sfm2tuples.files.remote.address import is_address
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS
from sfm2tuples.readers.posed.transforms_files import size_of_photo
from sfm2tuples.readers.sparse_model import SparseModel

MIDDLE = [CAMERA_MODEL_IDS[name] for name in ("SIMPLE_RADIAL", "RADIAL")]
"""Camera models that both formats have where they hold the middle of the photo to be the principal point. Under
FixedK, which gives OPENCV, it is elsewhere."""
SLACK = 1.0
"""Pixels that an observation may lie outside of its photo."""

log = logging.getLogger(__name__)


def lacks_sizes(model: SparseModel) -> bool:
    """Whether no camera of a model has a size, and photos may tell it."""
    none = not model.camera_sizes.any() and len(model.camera_sizes) > 0
    return none and bool(np.isin(model.camera_models, MIDDLE).all())


def with_photo_sizes(model: SparseModel, root: str, photos: Sequence[str], name: str) -> SparseModel:
    """A model whose cameras have the sizes of their photos, and the principal point in the middle; O(observations).

    Photos of another size than those that the model was made from would prove what is not true. So every observation
    has to lie inside of its photo, counted from the middle, or from the upper left corner as COLMAP's converter writes
    them. Where one does not, the model stays as it is, and a line of the log says so.

    Parameters
    ----------
    model : SparseModel
        `lacks_sizes`; each image has a camera of its own.
    root : str
        Folder of its photos; "" or an address where none is on this machine.
    photos : sequence of str
        By image, the name of its photo below. Where there is none, the camera stays without a size.
    name : str
        What to call the model.
    """
    files = [Path(root, photo) for photo in photos] if root and not is_address(root) else []
    found = [size_of_photo(file) if file.is_file() else None for file in files] or [None] * len(photos)
    size = np.array([pair or (0, 0) for pair in found], np.int64).reshape(-1, 2)
    of = np.repeat(np.arange(len(size)), np.diff(model.observation_indptr))
    xy, whole = model.observation_xy[size[of, 0] > 0], size[of][size[of, 0] > 0]
    centred = np.abs(xy) <= whole / 2 + SLACK
    from_corner = (xy >= -SLACK) & (xy <= whole + SLACK)
    if not (centred.all() or from_corner.all()):
        what = "%s: says no size of its photos, and has observations outside of those that are here: nothing is proven"
        log.warning(what, name)
        return model
    sizes, params = np.zeros((len(model.camera_ids), 2), np.int64), model.camera_params.copy()
    sizes[model.image_cameras] = size
    for axis in range(2):
        params[model.camera_indptr[:-1] + 1 + axis] = sizes[:, axis] / 2
    return replace(model, camera_sizes=sizes, camera_params=params)
