"""When and with which camera a photo was taken, by its EXIF."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from retrieval.photos.elsewhere import photo_bytes
from retrieval.photos.formats import readable_formats
from sfm2tuples.files.remote.address import Address, AnyPath

EXIF_TABLE = 0x8769
MAKE, MODEL, CHANGED, TAKEN = 0x010F, 0x0110, 0x0132, 0x9003
SERIAL = 0xA431


def taken(path: AnyPath) -> tuple[str, float | None]:
    """Camera (make, model and serial number) and time in seconds by a photo's EXIF.

    The clock's own time is taken for UTC, since only differences count.

    Returns
    -------
    camera : str
        Empty where it is not said, or the photo cannot be read.
    time : float or None
    """
    try:
        file = io.BytesIO(photo_bytes(path, start_alone=True)) if isinstance(path, Address) else path
        with Image.open(file, formats=readable_formats()) as image:
            exif = image.getexif()
            inner = exif.get_ifd(EXIF_TABLE)
            return _camera(exif, inner), _seconds(inner.get(TAKEN) or exif.get(CHANGED))
    except Exception:  # Pillow raises anything on a hostile table, and a photo is as good without it.
        return "", None


def _camera(exif: Mapping[int, Any], inner: Mapping[int, Any]) -> str:
    parts = [exif.get(MAKE), exif.get(MODEL), inner.get(SERIAL)]
    return " ".join(part.strip("\0 ") for part in parts if isinstance(part, str)).strip()


def _seconds(text: Any) -> float | None:
    try:
        return datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
