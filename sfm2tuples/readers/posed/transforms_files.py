"""Which files are nerfstudio's or instant-ngp's: light enough to look for models."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sfm2tuples.files.text import begins_with

log = logging.getLogger(__name__)

MAIN = "transforms.json"
MADE_FROM = ("colmap/sparse/0", "colmap/sparse", "sparse/0", "sparse", "colmap_sparse/0", "colmap_text")
"""Where nerfstudio and instant-ngp leave the COLMAP model that they made the file from."""


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
