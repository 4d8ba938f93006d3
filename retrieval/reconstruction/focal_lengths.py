"""How long a photo's focal length is by EXIF."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from retrieval.photos.decoding import photo_size
from retrieval.photos.formats import readable_formats

EXIF_TABLE = 0x8769
FOCAL_35_MM, FOCAL_MM = 0xA405, 0x920A
PLANE_RESOLUTION, PLANE_UNIT, EXIF_WIDTH, EXIF_HEIGHT = 0xA20E, 0xA210, 0xA002, 0xA003
MM_OF_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}
"""EXIF's units of the resolution of a sensor."""
FILM_WIDTH = 36.0
"""Millimetres of the film that equivalent focal lengths are of."""
PLAUSIBLE = (0.3, 10.0)
"""Focal lengths over the longest side that are believed."""


def size_and_focal(path: Path, name: str) -> tuple[int, int, float]:
    """Width and height of a photo as it is stored, and its focal length in pixels by EXIF, 0 where it says nothing.

    Raises
    ------
    PhotoError
        Absent, or no photo.
    """
    width, height = photo_size(path, name)
    return width, height, focal_in_pixels(_exif_of(path), width, height)


def focal_in_pixels(exif: Mapping[int, Any], width: int, height: int) -> float:
    """Focal length by the tags of EXIF: the equivalent on film, else millimetres and the resolution of the sensor.

    Parameters
    ----------
    exif : mapping
        Tag to value.
    width, height : int
        Of the photo in pixels; it may be smaller than the one that the camera took, and turned.

    Returns
    -------
    float
        Pixels; 0 where the tags are absent or say something impossible.
    """
    longest = max(width, height)
    unit = MM_OF_UNIT.get(int(_number(exif, PLANE_UNIT)) or 2, 0.0)
    taken = _number(exif, EXIF_WIDTH), _number(exif, EXIF_HEIGHT)
    # Whoever turns a photo's pixels often leaves the sides as they were: the longest stays the longest.
    shrunk = longest / max(taken) if all(taken) else width / (taken[0] or width)
    for focal in (
        _number(exif, FOCAL_35_MM) / FILM_WIDTH * longest,
        _number(exif, FOCAL_MM) * _number(exif, PLANE_RESOLUTION) / unit * shrunk if unit else 0.0,
    ):
        if PLAUSIBLE[0] * longest <= focal <= PLAUSIBLE[1] * longest:
            return focal
    return 0.0


def _exif_of(path: Path) -> dict[int, Any]:
    """Tags of a photo's EXIF; none where they cannot be read."""
    try:
        with Image.open(path, formats=readable_formats()) as image:
            return dict(image.getexif().get_ifd(EXIF_TABLE))
    except Exception:  # Pillow raises anything on a hostile table, and a photo is as good without it.
        return {}


def _number(exif: Mapping[int, Any], tag: int) -> float:
    """A tag's value; 0 where it is absent, or no positive number."""
    try:
        value = float(exif.get(tag, 0))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0
