"""Which model a folder or a file holds: COLMAP's, Bundler's or VisualSFM's; and what looks like one and is none."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Literal

from sfm2tuples.errors import UsageError
from sfm2tuples.readers.nvm_sections import count_models

log = logging.getLogger(__name__)

Kind = Literal["colmap_binary", "colmap_text", "bundler", "nvm"]

PARTS = ("cameras", "images", "points3D")
"""The files that every COLMAP model has, as .bin or as .txt."""
WHAT_A_MODEL_IS = "cameras, images and points3D as .bin or .txt; bundle.out; *.nvm"
"""For messages."""
BUNDLER_HEADER = b"# Bundle file"
SQLITE_HEADER = b"SQLite format 3\0"


def model_kind(folder: Path) -> Kind | None:
    """Which of COLMAP's formats a folder holds, or None where it holds no file of a COLMAP model."""
    binary = [os.path.isfile(folder / f"{part}.bin") for part in PARTS]
    text = [os.path.isfile(folder / f"{part}.txt") for part in PARTS]
    if all(binary) or (any(binary) and not all(text)):
        return "colmap_binary"
    return "colmap_text" if any(text) else None


def models_in(folder: Path) -> list[tuple[Path, Kind]]:
    """Models that lie in a folder itself.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of (Path, Kind)
        A COLMAP model: the folder, and nothing else, since what lies beside it was made from it. Else Bundler's file
        (`bundle.out`; where there is none every `*.out` with Bundler's header), and each model of each `*.nvm`.
    """
    kind = model_kind(folder)
    if kind is not None:
        return [(folder, kind)]
    names = sorted(entry for entry in _listed(folder) if entry.endswith((".out", ".nvm")))
    files = [folder / name for name in names if os.path.isfile(folder / name)]
    bundler = [path for path in files if path.suffix == ".out" and _is_bundler(path) and not _is_copy(path)]
    main = [path for path in bundler if path.name == "bundle.out"]
    models = [model for path in main or bundler for model in models_of_file(path)]
    return models + [model for path in files if path.suffix == ".nvm" for model in models_of_file(path)]


def models_of_file(path: Path) -> list[tuple[Path, Kind]]:
    """Models of a file of Bundler's or VisualSFM's; none where it is another file.

    Model number k > 0 of an NVM file goes by the path FILE/k, as if the file were a folder.
    """
    if path.suffix == ".nvm":
        return [(path / str(number) if number else path, "nvm") for number in range(count_models(path))]
    return [(path, "bundler")] if _is_bundler(path) else []


def file_of_nvm(path: Path) -> tuple[Path, int]:
    """File and number of a model of VisualSFM: FILE is its number 0, FILE/k its number k."""
    return (path, 0) if path.suffix == ".nvm" else (path.parent, int(path.name))


def is_database(path: Path) -> bool:
    """Say whether a file is COLMAP's database of features and matches, or another SQLite file."""
    return path.suffix == ".db" and _begins_with(path, SQLITE_HEADER)


def database_refusal(path: Path) -> UsageError:
    """Explain why matches alone are not enough, and what to run."""
    mapper = f"colmap mapper --database_path {path} --image_path PHOTOS --output_path sparse"
    return UsageError(
        f"{path}: holds matches but no model; without 3D points there are neither shared points nor scale change; "
        f"run {mapper}, then give build-index the folder sparse"
    )


def _is_bundler(path: Path) -> bool:
    """`bundle.out` by its name, so that a damaged one is reported; others by their first line."""
    return path.name == "bundle.out" or (path.suffix == ".out" and _begins_with(path, BUNDLER_HEADER))


def _is_copy(path: Path) -> bool:
    """`pmvs/bundle.rd.out` is the model of `bundle/bundle.out` with undistorted photos."""
    scene = path.absolute().parent.parent
    copied = path.name == "bundle.rd.out" and any(
        os.path.isfile(original) for original in (scene / "bundle" / "bundle.out", scene / "bundle.out")
    )
    if copied:
        log.info("%s: passed over, an undistorted copy of the model beside it", path)
    return copied


def _begins_with(path: Path, start: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
