"""Descriptors of the part of a photo that a protocol asks for: cut from the picture (Crop_I) or the map (Crop_X)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from retrieval.descriptors.extraction import (
    ExtractionOptions,
    at_scales,
    combine_scales,
    describing,
    extract_settings,
    feature_map,
    scale_exponent,
    seen_by,
)
from retrieval.descriptors.receptive_fields import cell_centres, cells_in
from retrieval.descriptors.soundness import require_finite
from retrieval.networks.devices import autocast
from retrieval.networks.network import Network
from retrieval.photos.choices import CROPS, EXIF
from retrieval.photos.cropping import cut_picture
from retrieval.photos.decoding import PhotoSource, load_oriented, photo_name, photo_size, turned, turned_box
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import PhotoError, UsageError
from sfm2tuples.files.descriptors import Descriptors

UNBOUNDED = 1 << 30
"""A longest side that no photo has: decoded as it is."""


def describe_crops(
    network: Network,
    sources: Sequence[PhotoSource],
    names: Sequence[str],
    boxes: np.ndarray,
    crop: str,
    options: ExtractionOptions,
    progress: str | None = "queries",
) -> Descriptors:
    """Describe the boxes of photos.

    Parameters
    ----------
    network : Network
    sources, names : sequences of length q
        The photos, and what their descriptors are called.
    boxes : (q, 4) float
        Left, top, right, bottom in pixels of the photo as it is stored.
    crop : str
        ``image``: the box is cut out and keeps the scale that the whole photo would have, image size x longest side
        of the box / longest side of the photo [C]. ``activations``: the photo is seen whole, and the activations whose
        receptive fields have their centre in the box are pooled ([E16] section 4).
    options : ExtractionOptions
    progress : str, optional
        Title of the progress bar; none without.

    Raises
    ------
    PhotoError
        A photo is absent or cannot be decoded, its box lies outside, or is too small for the backbone.
    UsageError
        An unknown crop, or Crop_X of a network that does not see the photo in its own shape.
    NotFiniteError
        The network's descriptor of a box is not finite.
    """
    check_crop(network, crop)
    values = np.empty((len(sources), network.dimension), np.float32)
    bar = ProgressBar(sources, desc=progress, unit="photo", disable=progress is None)
    # One context for all boxes: the weights are cast once.
    with describing(network), autocast(network.device, options.precision):
        for row, source in enumerate(bar):
            maps = crop_maps(network, source, names[row], boxes[row], crop, options)
            scales = torch.stack([network.describe_map(features) for features in maps])
            found = combine_scales(scales, scale_exponent(network, options)).cpu().numpy()
            values[row] = require_finite(found, names[row : row + 1], options.precision)[0]
    return Descriptors(list(names), values, extract_settings(network, options) | {"crop": crop})


def check_crop(network: Network, crop: str) -> None:
    """Refuse an unknown crop, and Crop_X of a network whose map's parts do not describe parts of the photo.

    Raises
    ------
    UsageError
    """
    if crop not in CROPS[1:]:
        raise UsageError(f"no crop is called {crop}; there are {', '.join(CROPS)}")
    if crop == "activations" and not network.describes_parts:
        raise UsageError(f"{network.whole_photos_only}: use --crop image")


def crop_maps(
    network: Network, source: PhotoSource, name: str, box: np.ndarray, crop: str, options: ExtractionOptions
) -> list[Tensor]:
    """Maps (1, K, h, w) of the box of a photo at each scale, as `describe_crops` pools them."""
    maps = _of_cut_picture if crop == "image" else _of_activations
    return maps(network, source, name, box, seen_by(network, options))


def _of_cut_picture(
    network: Network, source: PhotoSource, name: str, box: np.ndarray, options: ExtractionOptions
) -> list[Tensor]:
    photo, orientation = load_oriented(source, UNBOUNDED, name)
    try:
        cut = cut_picture(photo, box, options.image_size, options.resize_filter)
    except UsageError as error:
        raise PhotoError(photo_name(source, name), str(error)) from error
    if options.upright == EXIF:
        cut = turned(cut, orientation)
    return [_checked_map(network, level, name, options) for level in at_scales(cut, options)]


def _of_activations(
    network: Network, source: PhotoSource, name: str, box: np.ndarray, options: ExtractionOptions
) -> list[Tensor]:
    width, height = photo_size(source, name)
    if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
        raise PhotoError(name, f"the box {box.tolist()} lies outside of the photo of {width} x {height} pixels")
    photo, orientation = load_oriented(source, options.image_size, name, options.resize_filter)
    if options.upright == EXIF:
        photo, box = turned(photo, orientation), turned_box(box, width, height, orientation)
        width, height = (height, width) if orientation >= 5 else (width, height)
    found = []
    for level in at_scales(photo, options):
        features = _checked_map(network, level, name, options)
        rows, columns = (
            cells_in(
                cell_centres(network.backbone, level.shape[axis], features.shape[2 + axis]),
                float(box[1 - axis]) * level.shape[axis] / pixels,
                float(box[3 - axis]) * level.shape[axis] / pixels,
            )
            for axis, pixels in ((0, height), (1, width))
        )
        found.append(features[:, :, rows, columns])
    return found


def _checked_map(network: Network, photo: np.ndarray, name: str, options: ExtractionOptions) -> Tensor:
    side = min(photo.shape[:2])
    if side < network.backbone.smallest:
        raise PhotoError(name, f"{side} pixels on its short side; the backbone needs {network.backbone.smallest}")
    return feature_map(network, [photo], options)
