"""`tuples.h5`: tuples with the evidence for each choice; all that training needs, photos included if packed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from sfm2tuples.files.container import Header, create_file, header_of, open_file
from sfm2tuples.files.lazy_file import LazyFile
from sfm2tuples.files.new_file import NewFile
from sfm2tuples.files.tables import read_table, write_table
from sfm2tuples.index.schema import SPLITS, TRAIN, VAL

__all__ = ["SPLITS", "TRAIN", "VAL", "Candidates", "ImageTable", "PlaceTable", "TupleFile", "TupleSet"]

FORMAT = "sfm2tuples-tuples"
VERSION = 1
LEFT_OUT = ("images/root",)
"""What the fingerprint does not cover: where photos lie on this machine."""
UNKNOWN_SHARED = np.int32(-1)
"""Shared points of a pair that came from elsewhere without evidence."""


@dataclass(frozen=True)
class ImageTable:
    """`/images`: every photo that mining may use, each once, in the order of the index."""

    key: list[str]
    """The photo's key, as in the index and in descriptor files."""
    root: list[str]
    """Folder of the photo on the machine that mined; the photo is `root` / `name`."""
    name: list[str]
    """Path of the photo below `root`."""
    place: np.ndarray
    """(n,) int64, row of `/places`."""
    size: np.ndarray
    """(n, 2) int64, width and height of the photo in pixels."""
    index_row: np.ndarray
    """(n,) int64, row in the index, or number in an imported file; -1 for a distractor, which has none."""

    def path(self, row: int) -> Path:
        """Where the photo lay when the tuples were mined."""
        return Path(self.root[row]) / self.name[row]


@dataclass(frozen=True)
class PlaceTable:
    """`/places`: name and split of each place."""

    name: list[str]
    """Name of the place."""
    split: np.ndarray
    """(k,) int8, `TRAIN` or `VAL`."""


@dataclass(frozen=True)
class Candidates:
    """`/train/candidates`, `/val/candidates`: M(q) of each possible query with evidence, as CSR.

    method.md section 4: the k images with most shared points, falling, ties by lower row. m1 and m3 choose from
    them anew in each round, without index or models.
    """

    query: np.ndarray
    """(c,) int64, rising rows of `/images` that have a candidate."""
    indptr: np.ndarray
    """(c + 1,) int64, where each query's candidates start."""
    image: np.ndarray
    """(k,) int64, row of the candidate."""
    shared: np.ndarray
    """(k,) int32, shared points; -1 for an imported pair, which came without evidence."""
    overlap: np.ndarray
    """(k,) float32, shared points over the query's points, or NaN."""
    scale_change: np.ndarray
    """(k,) float32, >= 1 or NaN."""
    angle: np.ndarray
    """(k,) float32, mean viewing angle in radians, or NaN."""

    @property
    def unknown(self) -> np.ndarray:
        """(k,) bool, which pairs came without evidence: whoever made them has chosen them."""
        return self.shared == UNKNOWN_SHARED


@dataclass(frozen=True)
class TupleSet:
    """`/train`, `/val`: the tuples of one round, row by row, with what speaks for each choice."""

    query: np.ndarray
    """(t,) int64, row of `/images`."""
    positive: np.ndarray
    """(t, P) int64, rows of `/images`; -1 where there are fewer."""
    negative: np.ndarray
    """(t, K) int64, most similar first; -1 where there are fewer (validation only)."""
    shared: np.ndarray
    """(t, P) int32, shared points of query and positive; -1 for an imported pair."""
    overlap: np.ndarray
    """(t, P) float32, shared points over the query's points, or NaN."""
    scale_change: np.ndarray
    """(t, P) float32, >= 1 or NaN."""
    angle: np.ndarray
    """(t, P) float32, mean viewing angle in radians, or NaN."""
    positive_similarity: np.ndarray
    """(t, P) float32, cosine of the descriptors used; -inf where there is none."""
    negative_similarity: np.ndarray
    """(t, K) float32, likewise of query and negative."""
    pool: np.ndarray
    """(s,) int64, rising rows that negatives were chosen from."""

    def take(self, rows: np.ndarray) -> TupleSet:
        """The tuples of some rows, with the whole pool."""
        columns = {column.name: getattr(self, column.name) for column in fields(TupleSet)}
        return TupleSet(**{name: value if name == "pool" else value[rows] for name, value in columns.items()})


@dataclass(frozen=True)
class TupleFile:
    """A whole tuple file without its packed photos, which `PackedPhotos` reads one at a time."""

    path: Path
    header: Header
    images: ImageTable
    places: PlaceTable
    tuples: dict[str, TupleSet]
    """By split name."""
    candidates: dict[str, Candidates]
    """By split name."""
    packed_size: int
    """Longest side of the packed photos in pixels; 0 where none are packed."""
    photo_indptr: np.ndarray = field(repr=False)
    """(n + 1,) int64, where each packed photo's JPEG bytes start; empty where none are packed."""
    searches: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By split name, fields of `ivf_search.SearchReport`: of the splits whose pool was searched by inverted lists."""

    @property
    def image_split(self) -> np.ndarray:
        """(n,) int8, split of each image."""
        return self.places.split[self.images.place]


def write_tuples(
    path: str | Path,
    images: ImageTable,
    places: PlaceTable,
    tuples: dict[str, TupleSet],
    candidates: dict[str, Candidates],
    options: dict[str, Any],
    parents: Sequence[str],
    photos: Iterable[bytes] | None = None,
    packed_size: int = 0,
    searches: Mapping[str, Mapping[str, Any]] | None = None,
    origins: Sequence[str] = (),
) -> None:
    """Write `tuples.h5`; `photos` gives the JPEG bytes of every image, in order, where they are to be packed.

    `searches`: by split name, how well its negatives were found, where they were searched by inverted lists.
    `origins`: whose photos these are, for the header.
    """
    with create_file(path, FORMAT, VERSION, options, parents, leave_out=LEFT_OUT, origins=origins) as file:
        write_table(file.create_group("images"), images)
        write_table(file.create_group("places"), places)
        for split in SPLITS:
            group = file.create_group(split)
            write_table(group, tuples[split])
            write_table(group.create_group("candidates"), candidates[split])
            if searches and split in searches:
                group.attrs["search"] = json.dumps(searches[split], sort_keys=True)
        if photos is not None:
            _write_photos(file, photos, packed_size)


def read_tuples(path: str | Path) -> TupleFile:
    """Read `tuples.h5`, all but the packed photos.

    Raises
    ------
    DataError, FileFormatError
        The file is absent, torn, of another format or newer than this program.
    """
    with open_file(path, FORMAT, VERSION) as file:
        packed = "photos" in file
        return TupleFile(
            path=Path(path),
            header=header_of(file),
            images=read_table(file["images"], ImageTable),
            places=read_table(file["places"], PlaceTable),
            tuples={split: read_table(file[split], TupleSet) for split in SPLITS},
            candidates={split: read_table(file[split]["candidates"], Candidates) for split in SPLITS},
            packed_size=int(file["photos"].attrs["size"]) if packed else 0,
            photo_indptr=file["photos/indptr"][()] if packed else np.zeros(0, np.int64),
            searches={s: json.loads(file[s].attrs["search"]) for s in SPLITS if "search" in file[s].attrs},
        )


class PackedPhotos:
    """The packed photos of a tuple file: JPEG bytes by row, read from the file in whichever process asks."""

    def __init__(self, tuples: TupleFile) -> None:
        # Without a cache: a tenth of the time of a photo, all of which other threads wait for HDF5's lock.
        self._file = LazyFile(tuples.path, FORMAT, VERSION, tuples.header.fingerprint, cache=False)
        self._indptr = tuples.photo_indptr

    def __getitem__(self, row: int) -> bytes:
        """JPEG bytes of one photo."""
        photo: np.ndarray = self._file.read("photos/jpeg", slice(self._indptr[row], self._indptr[row + 1]))
        return photo.tobytes()


def _write_photos(file: NewFile, photos: Iterable[bytes], size: int) -> None:
    """Append photo after photo, so that a collection larger than memory can be packed."""
    group = file.create_group("photos")
    jpeg = group.create_dataset("jpeg", (0,), np.uint8, maxshape=(None,), chunks=(1 << 18,))
    indptr = [0]
    for photo in photos:
        indptr.append(indptr[-1] + len(photo))
        jpeg.resize(indptr[-1], axis=0)
        jpeg[indptr[-2] :] = np.frombuffer(photo, np.uint8)
        file.check()
    group["indptr"] = np.array(indptr, np.int64)
    group.attrs["size"] = size
