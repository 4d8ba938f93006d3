"""Which files are nerfstudio's or instant-ngp's: light enough to look for models."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from sfm2tuples.errors import DataError
from sfm2tuples.files.text import begins_with, read_json

log = logging.getLogger(__name__)

MAIN = "transforms.json"
MADE_FROM = ("colmap/sparse/0", "colmap/sparse", "sparse/0", "sparse", "colmap_sparse/0", "colmap_text")
"""Where nerfstudio and instant-ngp leave the COLMAP model that they made the file from."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".JPEG", ".PNG")
"""Of photos that the file names without one, in the order in which they are looked for."""
MOST_LOOKED_AT = 10
"""Photos that are asked for the size of all."""


def models_of(file: Path) -> list[Path]:
    """The model in a file: `transforms.json` by its name, so that a damaged one is reported; others by their start."""
    return [file] if file.name == MAIN or begins_with(file, b"{") else []


def choose_transforms(files: list[Path]) -> list[Path]:
    """Of the files of a folder `transforms.json`, else all (`transforms_train.json` …); none beside COLMAP's model.

    The model of COLMAP's that a file was made from has the same poses, and tracks.
    """
    if files and (made_from := _made_from(files[0].parent)) is not None:
        log.info("%s: passed over, it was made from %s", files[0], made_from)
        return []
    return [file for file in files if file.name == MAIN] or files


def _made_from(folder: Path) -> Path | None:
    for name in MADE_FROM:
        if any(os.path.isfile(folder / name / f"images.{suffix}") for suffix in ("bin", "txt")):
            return folder / name
    return None


def with_suffix(file: Path, name: str) -> str:
    """A photo's name; one without a suffix gets that of the photo that is there, else `.png`."""
    if Path(name).suffix:
        return name
    there = (suffix for suffix in SUFFIXES if os.path.isfile(file.parent / (name + suffix)))
    return name + next(there, SUFFIXES[0])


def sized_by(file: Path, names: Iterable[str]) -> list[Path]:
    """Photos that are asked, one after the other, for the size of all, where the file does not say it."""
    few = itertools.islice(names, MOST_LOOKED_AT)
    return [file.parent / name.strip().replace("\\", "/") for name in few]


def photos_looked_at(file: Path) -> list[Path]:
    """Photos that cameras or names of a file's model depend on; none of a file that cannot be read."""
    try:
        content = read_json(file)
        frames = [frame for frame in content["frames"] if isinstance(frame, dict)]
        listed = [name for frame in frames if isinstance(name := frame.get("file_path"), str) and "\0" not in name]
    except (DataError, KeyError, TypeError):
        return []
    names = [with_suffix(file, name) for name in listed]
    found = [file.parent / name for name, written in zip(names, listed, strict=True) if name != written]
    if any(frame.get(side, content.get(side)) is None for frame in frames for side in "wh"):
        found += sized_by(file, names)
    return found


def size_of_photo(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels as a photo's header says them; None of what is no photo that can be read."""
    from PIL import Image

    try:
        with Image.open(path) as photo:
            return photo.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
