"""Which files are Bundler's, and where the list of their photos lies: light enough to look for models."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sfm2tuples.files.text import begins_with

log = logging.getLogger(__name__)

MAIN = "bundle.out"
HEADER = b"# Bundle file"


def models_of(file: Path) -> list[Path]:
    """The model in a file: `bundle.out` by its name, so that a damaged one is reported; others by their first line."""
    return [file] if file.name == MAIN or begins_with(file, HEADER) else []


def choose(files: list[Path]) -> list[Path]:
    """Of the files of a folder `bundle.out`; where there is none, all but undistorted copies."""
    originals = [file for file in files if not _is_copy(file)]
    return [file for file in originals if file.name == MAIN] or originals


def find_list(path: Path) -> list[Path]:
    """Files that may be the list of photos of a file of Bundler's, the likeliest first.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Path
        In the file's folder and in the one above: of the same name with `list` for `bundle` (`list.rd.txt` of
        `bundle.rd.out`), or with `.list.txt` behind it, as COLMAP's window writes it, `list.txt`, then every other
        `list*.txt`.
    """
    own = path.name.removesuffix(".out").replace("bundle", "list") + ".txt"
    found: list[Path] = []
    for folder in (path.parent, path.absolute().parent.parent):
        for name in (
            own,
            f"{path.name}.list.txt",
            "list.txt",
            *sorted(other.name for other in folder.glob("list*.txt")),
        ):
            if folder / name not in found and (folder / name).is_file():
                found.append(folder / name)
    return found


def _is_copy(file: Path) -> bool:
    """`pmvs/bundle.rd.out` is the model of `bundle/bundle.out` with undistorted photos."""
    scene = file.absolute().parent.parent
    copied = file.name == "bundle.rd.out" and any(
        os.path.isfile(original) for original in (scene / "bundle" / MAIN, scene / MAIN)
    )
    if copied:
        log.info("%s: passed over, an undistorted copy of the model beside it", file)
    return copied
