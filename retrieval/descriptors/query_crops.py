"""Descriptors of the part of a photo that a protocol asks for: cut from the picture (Crop_I) or the map (Crop_X)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from retrieval.descriptors.extraction import (
    ExtractionOptions,
    combine_scales,
    describing,
    extract_settings,
    feature_map,
    scale_exponent,
)
from retrieval.descriptors.receptive_fields import cell_centres, cells_in
from retrieval.networks.network import Network
from retrieval.photos.decoding import PhotoSource, load_photo, photo_name, photo_size, resize_photo
from sfm2tuples.errors import PhotoError, UsageError
from sfm2tuples.files.descriptors import Descriptors

CROPS = ("none", "image", "activations")
"""The whole photo; the box cut out of the picture (Crop_I); the activations whose centres lie in the box (Crop_X)."""
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
    """
    check_crop(network, crop)
    values = np.empty((len(sources), network.dimension), np.float32)
    bar = tqdm(sources, desc=progress, unit="photo", disable=True if progress is None else None)
    with describing(network):
        for row, source in enumerate(bar):
            maps = crop_maps(network, source, names[row], boxes[row], crop, options)
            scales = torch.stack([network.describe_map(features) for features in maps])
            values[row] = combine_scales(scales, scale_exponent(network, options))[0].cpu().numpy()
    return Descriptors(list(names), values, extract_settings(network, options) | {"crop": crop})


def check_crop(network: Network, crop: str) -> None:
    """Refuse an unknown crop, and Crop_X of a network that does not see the photo in its own shape.

    Raises
    ------
    UsageError
    """
    if crop not in CROPS[1:]:
        raise UsageError(f"no crop is called {crop}; there are {', '.join(CROPS)}")
    if crop == "activations" and not network.pool.keeps_aspect:
        raise UsageError("neural codes see photos warped to a square, which has no such box: use --crop image")


def crop_maps(
    network: Network, source: PhotoSource, name: str, box: np.ndarray, crop: str, options: ExtractionOptions
) -> list[Tensor]:
    """Maps (1, K, h, w) of the box of a photo at each scale, as `describe_crops` pools them."""
    maps = _of_cut_picture if crop == "image" else _of_activations
    return maps(network, source, name, box, options)


def cut_picture(photo: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Crop_I: cut the box out of a photo and bring it to the scale that the whole photo would have.

    Parameters
    ----------
    photo : (H, W, 3) uint8
        At its stored size.
    box : (4,) float
        Left, top, right, bottom; rounded to whole pixels and held inside the photo.
    size : int
        Longest side that the whole photo would be brought to.

    Returns
    -------
    (h, w, 3) uint8
        Its longest side is ``size x longest side of the box / longest side of the photo`` at most [C].

    Raises
    ------
    UsageError
        The box has no pixel in the photo.
    """
    height, width = photo.shape[:2]
    left, top, right, bottom = (round(float(corner)) for corner in box)
    part = photo[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    if part.size == 0:
        raise UsageError(f"the box {box.tolist()} lies outside of the photo of {width} x {height} pixels")
    share = max(part.shape[:2]) / max(height, width)
    return resize_photo(part, max(1, round(size * share)))


def _of_cut_picture(
    network: Network, source: PhotoSource, name: str, box: np.ndarray, options: ExtractionOptions
) -> list[Tensor]:
    """Map of the cut picture at each scale."""
    photo = load_photo(source, UNBOUNDED, name)
    try:
        cut = cut_picture(photo, box, options.image_size)
    except UsageError as error:
        raise PhotoError(photo_name(source, name), str(error)) from error
    longest = max(cut.shape[:2])
    levels = [resize_photo(cut, max(1, round(scale * longest))) for scale in options.scales]
    return [_checked_map(network, level, name, options) for level in levels]


def _of_activations(
    network: Network, source: PhotoSource, name: str, box: np.ndarray, options: ExtractionOptions
) -> list[Tensor]:
    """The box's activations at each scale."""
    width, height = photo_size(source, name)
    if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
        raise PhotoError(name, f"the box {box.tolist()} lies outside of the photo of {width} x {height} pixels")
    photo = load_photo(source, options.image_size, name)
    longest = max(photo.shape[:2])
    found = []
    for scale in options.scales:
        level = resize_photo(photo, max(1, round(scale * longest)))
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
