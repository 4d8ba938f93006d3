"""The photos that a command is pointed at: a folder, a list, labels, an index or a tuple file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from retrieval.photos.labels import read_labels
from retrieval.photos.names import photos_below
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.index.schema import FORMAT as INDEX_FORMAT
from sfm2tuples.index.schema import read_index
from sfm2tuples.mining.tuple_file import FORMAT as TUPLES_FORMAT
from sfm2tuples.mining.tuple_file import PackedPhotos, TupleFile, read_tuples


@dataclass(frozen=True)
class PhotoSources:
    """Photos to describe, and the names that their descriptors get."""

    keys: list[str]
    """Name of each photo in a descriptor file."""
    sources: list[Path | Callable[[], bytes]]
    """Where its bytes come from."""
    same_as: np.ndarray
    """(n,) int64, the first position with the same content, so that each photo is described once."""
    origin: Path
    """The file or folder that named the photos."""
    parent: str = ""
    """Fingerprint of that file; empty for folders and lists."""

    def only(self, keys: Sequence[str]) -> PhotoSources:
        """The photos of these keys, in their order; all of them must be among the source's."""
        row_of = {key: row for row, key in enumerate(self.keys)}
        rows = [row_of[key] for key in keys]
        first: dict[int, int] = {}
        same_as = [first.setdefault(int(self.same_as[row]), position) for position, row in enumerate(rows)]
        sources = [self.sources[row] for row in rows]
        return PhotoSources(list(keys), sources, np.array(same_as, np.int64), self.origin, self.parent)

    def joined(self, others: PhotoSources) -> PhotoSources:
        """These photos and, behind them, those others whose keys are not here."""
        known = set(self.keys)
        more = others.only([key for key in others.keys if key not in known])
        same_as = np.concatenate([self.same_as, more.same_as + len(self.keys)])
        return PhotoSources(self.keys + more.keys, self.sources + more.sources, same_as, self.origin, self.parent)


def photos_of(source: Path, images: Path | None = None, size: int = 0) -> PhotoSources:
    """List the photos of a source.

    Parameters
    ----------
    source : Path
        A folder (all photos below it), a ``.txt`` list, a ``.csv`` of labels, an index or a tuple file.
    images : Path, optional
        Folder that the names of a list or of labels are relative to; the folder of the file itself by default.
    size : int
        Longest side wanted, in pixels: the packed photos of a tuple file serve where they are large enough.

    Raises
    ------
    DataError
        There is no such source, or it holds no photos.
    """
    if source.is_dir():
        return _of_paths(source, source, photos_below(source))
    if not source.is_file():
        raise DataError(source, "no such file or folder")
    if source.suffix == ".txt":
        names = [line.strip() for line in source.read_text(encoding="utf-8").splitlines()]
        return _of_paths(source, images or source.parent, [name for name in names if name and name[0] != "#"])
    if source.suffix == ".csv":
        return _of_paths(source, images or source.parent, read_labels(source).images)
    if not h5py.is_hdf5(source):
        raise UsageError(f"{source}: is no folder, .txt list, .csv of labels, index or tuple file")
    format = read_header(source).format
    if format == INDEX_FORMAT:
        return _of_index(source)
    if format == TUPLES_FORMAT:
        return photos_of_tuples(read_tuples(source), size)
    raise UsageError(f"{source}: is {format}, which names no photos; an index or a tuple file does")


def photos_of_tuples(tuples: TupleFile, size: int) -> PhotoSources:
    """The photos of a tuple file: the packed ones where they are at least `size` pixels, else the files."""
    count = len(tuples.images.key)
    sources: list[Path | Callable[[], bytes]]
    if tuples.packed_size >= size > 0:
        packed = PackedPhotos(tuples)
        sources = [_Packed(packed, row) for row in range(count)]
    else:
        sources = [tuples.images.path(row) for row in range(count)]
    return PhotoSources(tuples.images.key, sources, np.arange(count), tuples.path, tuples.header.fingerprint)


@dataclass(frozen=True)
class _Packed:
    """The bytes of one packed photo, read when they are asked for."""

    photos: PackedPhotos
    row: int

    def __call__(self) -> bytes:
        return self.photos[self.row]


def _of_index(path: Path) -> PhotoSources:
    """Photos of an index; a key that two models share, or two keys of one content, are described once."""
    index = read_index(path)
    rows = np.flatnonzero(index.images.has_photo)
    position: dict[str, int] = {}
    first: dict[int, int] = {}
    kept: list[int] = []
    same_as: list[int] = []
    for row in rows.tolist():
        if index.images.key[row] in position:
            continue
        place = position[index.images.key[row]] = len(kept)
        same_as.append(first.setdefault(int(index.images.photo[row]), place))
        kept.append(row)
    if not kept:
        raise DataError(path, "none of its images has a photo", "build the index again with --images")
    header = index.header
    return PhotoSources(
        [index.images.key[row] for row in kept],
        [index.photo_path(row) for row in kept],
        np.array(same_as, np.int64),
        path,
        header.fingerprint if header else "",
    )


def _of_paths(source: Path, root: Path, names: list[str]) -> PhotoSources:
    if not names:
        raise DataError(source, "names no photos")
    return PhotoSources(names, [root / name for name in names], np.arange(len(names)), source)
