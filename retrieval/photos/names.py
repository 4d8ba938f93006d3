"""Names of photos: which files are photos, and how lists call them."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Files that are taken for photos, whatever their case."""


def photos_below(folder: Path) -> list[str]:
    """Paths of all photos below a folder, relative to it, in the order of their bytes; hidden folders are skipped."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + name for name in files if name.lower().endswith(SUFFIXES)]
    return sorted(found, key=os.fsencode)


def short_name(name: str) -> str:
    """A photo's name without folders and without a photo's suffix, as ground truth calls it."""
    base = name.rsplit("/", 1)[-1]
    stem, dot, suffix = base.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else base
