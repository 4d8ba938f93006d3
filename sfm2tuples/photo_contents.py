"""Which photos are there, and which of them have the same bytes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def number_photos(files: Sequence[str], keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Number photos by content.

    A file is read only where another one has the same size. An empty file is no photo: else all of them would be one.

    Parameters
    ----------
    files : sequence of str
        Path of each row's photo; "" where no folder of photos is known.
    keys : sequence of str
        Key of each row; tells photos that are missing apart.

    Returns
    -------
    photo : (n,) int64
        First row that has the same content.
    has_photo : (n,) bool
        Whether the photo is there and can be opened.
    """
    contents = _contents({file for file in files if file})
    numbers: dict[tuple[str, object], int] = {}
    photo = np.empty(len(files), np.int64)
    has_photo = np.zeros(len(files), bool)
    for row, (file, key) in enumerate(zip(files, keys, strict=True)):
        content = contents.get(file)
        has_photo[row] = content is not None
        photo[row] = numbers.setdefault(("missing", key) if content is None else ("content", content), row)
    return photo, has_photo


def _contents(files: set[str]) -> dict[str, object]:
    """For each file that can be read something equal only for equal bytes: its path, or a hash where sizes collide."""
    by_size: dict[int, list[str]] = defaultdict(list)
    for file in files:
        size = _size(file)
        if size > 0:
            by_size[size].append(file)
    contents: dict[str, object] = {}
    for same_size in by_size.values():
        for file in same_size:
            content = file if len(same_size) == 1 else _hash(file)
            if content is not None:
                contents[file] = content
    return contents


def _size(file: str) -> int:
    """Bytes of a regular file that can be opened, else 0."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) and os.access(file, os.R_OK) else 0


def _hash(file: str) -> bytes | None:
    """SHA-256 of the file's bytes, or None where it cannot be read."""
    try:
        digest = hashlib.sha256()
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.digest()
    except OSError:
        return None
