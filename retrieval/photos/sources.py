"""The photos that a command is pointed at: a folder, a list, labels, an index or a tuple file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import overload

import numpy as np

from retrieval.photos.decoding import PhotoSource
from retrieval.photos.labels import Labels, read_labels
from retrieval.photos.names import photos_below
from sfm2tuples.errors import DataError, UsageError, first_three, told_of
from sfm2tuples.files.columns import rows_of_names
from sfm2tuples.files.container import read_header
from sfm2tuples.files.opening import is_hdf5
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.remote.address import Address, AnyPath, is_folder, path_or_address
from sfm2tuples.files.text import filled_lines
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import FORMAT as INDEX_FORMAT
from sfm2tuples.mining.tuple_file import FORMAT as TUPLES_FORMAT
from sfm2tuples.mining.tuple_file import PackedPhotos, TupleFile, read_tuples


@dataclass(frozen=True)
class SourceColumns(Sequence[PhotoSource]):
    """Where photos lie, as columns: a photo's path, or what reads its packed bytes, is made when it is asked for."""

    roots: list[AnyPath | PackedPhotos]
    """Folders, here or elsewhere, and tuple files with packed photos; few for many photos."""
    root: np.ndarray
    """(n,) int64, which of `roots` has the photo."""
    name: list[str]
    """Its path below a folder."""
    row: np.ndarray
    """(n,) int64, its row in a tuple file."""

    @classmethod
    def below(cls, roots: Sequence[str | AnyPath], root: np.ndarray, name: list[str]) -> SourceColumns:
        """Photos in folders."""
        folders = [path_or_address(folder) if isinstance(folder, str) else folder for folder in roots]
        return cls([*folders], root, name, np.arange(len(name)))

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.name)

    @overload
    def __getitem__(self, row: int) -> PhotoSource: ...
    @overload
    def __getitem__(self, row: slice) -> list[PhotoSource]: ...
    def __getitem__(self, row: int | slice) -> PhotoSource | list[PhotoSource]:
        """The source of one photo, or of several."""
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        root = self.roots[self.root[row]]
        packed = isinstance(root, PackedPhotos)
        return partial(root.__getitem__, int(self.row[row])) if packed else root / self.name[row]

    def take(self, rows: np.ndarray) -> SourceColumns:
        """The sources of chosen rows."""
        return SourceColumns(self.roots, self.root[rows], [self.name[row] for row in rows.tolist()], self.row[rows])

    def portable(self, rows: np.ndarray) -> SourceColumns:
        """The sources of chosen rows with nothing of the others, under absolute paths: for another machine."""
        some = self.take(rows)
        used, root = np.unique(some.root, return_inverse=True)
        roots, row = [self.roots[number] for number in used.tolist()], some.row.copy()
        for number, place in enumerate(roots):
            if isinstance(place, PackedPhotos):
                here = np.flatnonzero(root == number)
                roots[number], row[here] = place.take(some.row[here]), np.arange(len(here))
            elif isinstance(place, Path):
                roots[number] = place.absolute()
        return SourceColumns(roots, root, some.name, row)

    def __add__(self, others: SourceColumns) -> SourceColumns:
        """These and, behind them, those."""
        root = np.concatenate([self.root, others.root + len(self.roots)])
        row = np.concatenate([self.row, others.row])
        return SourceColumns(self.roots + others.roots, root, self.name + others.name, row)


@dataclass(frozen=True)
class PhotoSources:
    """Photos to describe, and the names that their descriptors get."""

    keys: list[str]
    """Name of each photo in a descriptor file."""
    sources: SourceColumns
    """Where its bytes come from."""
    same_as: np.ndarray
    """(n,) int64, the first position with the same content, so that each photo is described once."""
    origin: AnyPath
    """The file or folder that named the photos."""
    parent: str = ""
    """Fingerprint of that file; empty for folders and lists."""

    def only(self, keys: Sequence[str], what: str = "photos are not here", remedy: str = "") -> PhotoSources:
        """The photos of these keys, in their order; DataError says `what` where some are absent."""
        rows = rows_of_names(self.keys, keys, str(self.origin), what, remedy)
        return PhotoSources(
            list(keys), self.sources.take(rows), _first_with(self.same_as[rows]), self.origin, self.parent
        )

    def joined(self, others: PhotoSources) -> PhotoSources:
        """These photos and, behind them, those others whose keys are not here."""
        known = set(self.keys)
        more = others.only([key for key in others.keys if key not in known])
        same_as = np.concatenate([self.same_as, more.same_as + len(self.keys)])
        return PhotoSources(self.keys + more.keys, self.sources + more.sources, same_as, self.origin, self.parent)


def photos_of(source: AnyPath, images: AnyPath | None = None, size: int = 0) -> PhotoSources:
    """List the photos of a source.

    Parameters
    ----------
    source : Path or Address
        A folder (all photos below it), a ``.txt`` list, a ``.csv`` of labels, an index or a tuple file. What lies
        elsewhere is a folder.
    images : Path or Address, optional
        Folder that the names of a list or of labels are relative to; the folder of the file itself by default.
    size : int
        Longest side wanted, in pixels: the packed photos of a tuple file serve where they are large enough.

    Raises
    ------
    DataError
        There is no such source, it holds no photos, or a list names one twice.
    """
    if isinstance(source, Address) or source.is_dir():
        return _of_paths(source, source, photos_below(source))
    require_file(source, absent="no such file or folder")
    if source.suffix == ".txt":
        names = [name for name in filled_lines(source) if name[0] != "#"]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(
                source,
                f"{told_of(len(twice), 'names occur more than once')}, first {first_three(twice)}",
                "keep each once",
            )
        return _of_paths(source, images or source.parent, names)
    if source.suffix == ".csv":
        return photos_of_labels(read_labels(source), source, images)
    if not is_hdf5(source):
        raise UsageError(f"{source}: is no folder, .txt list, .csv of labels, index or tuple file")
    format = read_header(source).format
    if format == INDEX_FORMAT:
        with open_index(source) as index:
            return _of_index(index)
    if format == TUPLES_FORMAT:
        return photos_of_tuples(read_tuples(source), size)
    raise UsageError(f"{source}: is {format}, which names no photos; an index or a tuple file does")


def photos_of_tuples(tuples: TupleFile, size: int) -> PhotoSources:
    """The photos of a tuple file: the packed ones where they are at least `size` pixels, else the files."""
    images = tuples.images
    everything = np.arange(len(images.key))
    if tuples.packed_size >= size > 0:
        sources = SourceColumns([PackedPhotos(tuples)], np.zeros_like(everything), images.key, everything)
    else:
        number = {root: position for position, root in enumerate(dict.fromkeys(images.root))}
        sources = SourceColumns.below(list(number), np.array([number[root] for root in images.root]), images.name)
    return PhotoSources(images.key, sources, everything, tuples.path, tuples.header.fingerprint)


def photos_of_labels(labels: Labels, data: AnyPath, images: AnyPath | None) -> PhotoSources:
    """The photos of a table of labels, which was read from a CSV or from a folder of folders."""
    return _of_paths(data, data if is_folder(data) else images or data.parent, labels.images)


def photos_of_rows(index: OpenedIndex, rows: np.ndarray) -> PhotoSources:
    """The photos of some images of an index, whose keys differ."""
    images = index.images
    sources = SourceColumns.below(index.models.photo_root, images.model[rows], images.name[rows])
    return PhotoSources(
        images.key[rows], sources, _first_with(images.photo[rows]), index.path, index.header.fingerprint
    )


def _of_index(index: OpenedIndex) -> PhotoSources:
    """Photos of an index; a key that two models share, or two keys of one content, are described once."""
    rows = np.flatnonzero(index.images.has_photo[:])
    row_of: dict[str, int] = {}
    for key, row in zip(index.images.key[rows], rows.tolist(), strict=True):
        row_of.setdefault(key, row)
    if not row_of:
        raise DataError(index.path, "none of its images has a photo", "build the index again with --images")
    return photos_of_rows(index, np.fromiter(row_of.values(), np.int64))


def _of_paths(source: AnyPath, root: AnyPath, names: list[str]) -> PhotoSources:
    if not names:
        raise DataError(source, "names no photos")
    sources = SourceColumns.below([root], np.zeros(len(names), np.int64), names)
    return PhotoSources(names, sources, np.arange(len(names)), source)


def _first_with(content: np.ndarray) -> np.ndarray:
    """For each photo the first position that has its content."""
    _, first, which = np.unique(content, return_index=True, return_inverse=True)
    return first[which]
