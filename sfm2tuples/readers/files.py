"""What the files of both kinds of COLMAP models have in common: how they are opened, and when they are too short."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError

CUT = "was it copied in full?"


def load_bytes(path: Path) -> np.ndarray:
    """Bytes of a file of a model as (n,) uint8."""
    try:
        return np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise ModelError(path, "is missing", "a model needs cameras, images and points3D") from None
    except OSError as error:
        raise ModelError(path, f"cannot be read ({error.strerror or error})") from None


def checked_count(number: int, room: int, smallest: int, what: str, path: Path) -> int:
    """Refuse a number of rows that `room` bytes cannot hold at `smallest` bytes a row."""
    if number > room // smallest:
        raise ModelError(path, f"claims {number:,} {what}, but has room for at most {room // smallest:,}", CUT)
    return number


def check_end(at: int, size: int, path: Path) -> None:
    """Refuse bytes after the last row, which mean that the rows before were misread."""
    if at != size:
        raise ModelError(path, f"has {size - at:,} bytes after its last row")
