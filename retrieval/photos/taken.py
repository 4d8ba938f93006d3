"""When and with which camera a photo was taken, by its EXIF."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from retrieval.photos.formats import readable_formats

EXIF_TABLE = 0x8769
MAKE, MODEL, CHANGED, TAKEN = 0x010F, 0x0110, 0x0132, 0x9003
SERIAL = 0xA431


def taken(path: Path) -> tuple[str, float | None]:
    """Camera (make, model and serial number) and time in seconds by a photo's EXIF.

    The clock's own time is taken for UTC, since only differences count.

    Returns
    -------
    camera : str
        Empty where it is not said, or the photo cannot be read.
    time : float or None
    """
    try:
        with Image.open(path, formats=readable_formats()) as image:
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
