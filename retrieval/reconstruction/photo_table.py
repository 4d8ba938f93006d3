"""The photos that models are made of: the state of their files, sizes, focal lengths and copies."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.photos.names import leaves_root
from retrieval.photos.sources import PhotoSources, SourceColumns, photos_of
from retrieval.reconstruction.focal_lengths import size_and_focal
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import DataError, PhotoError, UsageError, refuse_some
from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.files.text import read_csv
from sfm2tuples.places.photo_contents import number_photos

COLUMNS = ("name", "bytes", "mtime", "width", "height", "focal")
_State = tuple[int, int]
"""Bytes and time of change in nanoseconds of a file."""
_Look = tuple[int, int, float]
"""Width, height, focal length."""


@dataclass(frozen=True)
class PhotoTable:
    """Photos in an order that stays when others come, so that row + 1 is a photo's number in COLMAP's database."""

    root: Path
    """Folder that names are relative to."""
    names: list[str]
    """Path of each photo below it."""
    state: np.ndarray
    """(n, 2) int64: bytes and time of change (ns) of each file."""
    size: np.ndarray
    """(n, 2) int64: width and height in pixels."""
    focal: np.ndarray
    """(n,) float64: focal length in pixels by EXIF; 0 where it says nothing."""
    same_as: np.ndarray
    """(n,) int64: the first row of the same content; a copy takes part in nothing."""
    unreadable: dict[str, str]
    """Photos that are not in the table: name to message."""

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.names)

    @property
    def distinct(self) -> np.ndarray:
        """(m,) int64: rows of photos that are no copies, rising."""
        return np.flatnonzero(self.same_as == np.arange(len(self)))

    def sources(self) -> PhotoSources:
        """The photos, to be described and looked at."""
        files = SourceColumns.below([self.root], np.zeros(len(self), np.int64), self.names)
        return PhotoSources(self.names, files, self.same_as, self.root)

    def write(self, path: Path) -> None:
        """Write what `read_known` reads."""
        with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(COLUMNS)
            writer.writerows(
                [name, *state, *size, repr(focal)]
                for name, state, size, focal in zip(
                    self.names, self.state.tolist(), self.size.tolist(), self.focal.tolist(), strict=True
                )
            )


def listed_photos(source: Path, images: Path | None) -> tuple[Path, list[str]]:
    """The folder of the photos that a folder or list names, and their names.

    Raises
    ------
    DataError
        It names no photos, one twice, or one outside of the folder.
    UsageError
        It is an index or a tuple file.
    """
    photos = photos_of(source, images)
    root = photos.sources.roots[0]
    if len(photos.sources.roots) > 1 or not isinstance(root, Path) or photos.parent:
        raise UsageError(f"{source}: models are made of a folder of photos, or of a .txt list of their names")
    names = [name.replace("\\", "/") for name in photos.keys]
    outside = [name for name in names if leaves_root(name)]
    what = f"names lead out of {root}"
    refuse_some(source, outside, len(names), what, "name photos below it, or give --images FOLDER")
    unfit = [name for name in names if not _is_text(name)]
    refuse_some(source, unfit, len(names), "names are no text in UTF-8, or hold a line break", "rename the photos")
    return root.absolute(), list(dict.fromkeys(os.path.normpath(name) for name in names))


def read_known(path: Path) -> dict[str, tuple[_State, _Look]]:
    """Photos of an earlier run, in their order; none where there was none, or its table is damaged."""
    try:
        return {
            row["name"]: (
                (int(row["bytes"]), int(row["mtime"])),
                (int(row["width"]), int(row["height"]), float(row["focal"])),
            )
            for row in read_csv(path, COLUMNS)
        }
    except (DataError, TypeError, ValueError):
        return {}


def table_of_photos(
    root: Path, names: list[str], known: dict[str, tuple[_State, _Look]], held: dict[int, str]
) -> tuple[PhotoTable, list[str]]:
    """Look at the photos.

    Parameters
    ----------
    root, names
        From `listed_photos`.
    known : dict
        From `read_known`: what is known of a photo whose file has not changed is not read again.
    held : dict
        Row to name of the photos that a database holds: they keep their rows.

    Returns
    -------
    table : PhotoTable
    changed : list of str
        Held photos that are gone, or whose file is another one than it was; where there are any, or no table of these
        rows can be, the table is one without held photos.
    """
    unreadable: dict[str, str] = {}
    looked = {name: (state, look) for name, state, look in _look_at(root, names, known, unreadable)}
    changed = [name for name in held.values() if name not in looked or looked[name][0] != known.get(name, (None,))[0]]
    order = None if changed else _in_rows(list(looked), held)
    if order is None:
        changed = changed or sorted(held.values())
        order, held = list(looked), {}
    files = [str(root / name) for name in order]
    content, _ = number_photos(files, order)
    # Of photos of the same content the one that the database holds stands for all, else the first.
    stands_for = dict(sorted(((int(content[row]), row) for row in range(len(order))), reverse=True))
    stands_for |= {int(content[row]): row for row in held}
    same_as = np.array([stands_for[number] for number in content.tolist()], np.int64)
    states = np.array([looked[name][0] for name in order], np.int64).reshape(-1, 2)
    sizes = np.array([looked[name][1][:2] for name in order], np.int64).reshape(-1, 2)
    focal = np.array([looked[name][1][2] for name in order], np.float64)
    return PhotoTable(root, order, states, sizes, focal, same_as, unreadable), changed


def _in_rows(names: list[str], held: dict[int, str]) -> list[str] | None:
    """The names with some at given rows and the others in their order; None where there are too few of them."""
    fixed = set(held.values())
    others = [name for name in names if name not in fixed]
    if max(held, default=-1) >= len(names):
        return None
    waiting = iter(others)
    return [held[row] if row in held else next(waiting) for row in range(len(names))]


def _look_at(
    root: Path, names: list[str], known: dict[str, tuple[_State, _Look]], unreadable: dict[str, str]
) -> Iterator[tuple[str, _State, _Look]]:
    """Each photo that can be opened, with the state of its file, its size and focal length."""
    for name in ProgressBar(names, "photos", unit="photo", leave=False):
        try:
            status = os.stat(root / name)
            state = (status.st_size, status.st_mtime_ns)
            before = known.get(name)
            look = before[1] if before is not None and before[0] == state else size_and_focal(root / name, name)
        except PhotoError as error:
            unreadable[name] = str(error)
        except OSError as error:
            unreadable[name] = str(PhotoError(name, f"cannot be read ({error.strerror})"))
        else:
            yield name, state, look


def _is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8 on a line; letters that are not shown may be in it."""
    return not any(unicodedata.category(letter) in ("Cs", "Cc") for letter in name)
