"""The part of a query's photo that a protocol asks for: which ways there are, and the cut of the picture."""

from __future__ import annotations

import numpy as np

from retrieval.photos.choices import BILINEAR
from retrieval.photos.decoding import resize_photo
from sfm2tuples.errors import UsageError


def cut_picture(photo: np.ndarray, box: np.ndarray, size: int, resize_filter: str = BILINEAR) -> np.ndarray:
    """Crop_I: cut the box out of a photo and bring it to the scale that the whole photo would have.

    Parameters
    ----------
    photo : (H, W, 3) uint8
        At its stored size.
    box : (4,) float
        Left, top, right, bottom; rounded to whole pixels and held inside the photo.
    size : int
        Longest side that the whole photo would be brought to.
    resize_filter : str
        One of `decoding.FILTERS`.

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
    return resize_photo(part, max(1, round(size * share)), resize_filter)
