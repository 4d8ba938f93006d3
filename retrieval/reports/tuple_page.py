"""What the page of a tuple file shows: the file itself, and tiles made of its photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.photos.origins import SHOWN
from retrieval.reports.inspection import split_counts
from retrieval.reports.options import ReportOptions
from retrieval.reports.pair_drawings import DrawnPair, PagePhoto, PairDrawings
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.errors import DataError
from sfm2tuples.files.remote.address import AnyPath
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import SPLITS
from sfm2tuples.mining.doubtful_pairs import DoubtfulPairs, doubtful_of_tuples
from sfm2tuples.mining.tuple_file import PackedPhotos, TupleFile, read_tuples

TITLES = {"train": "Training", "val": "Validation"}
"""Splits as people call them."""


@dataclass(frozen=True)
class Tile:
    """One photo of a tuple with the numbers under it."""

    role: str
    """``query``, ``positive`` or ``negative``; also its CSS class."""
    url: str = ""
    """Address of the picture; empty where the photo cannot be shown."""
    key: str = ""
    """The photo's key; empty where the tuple has no image here (-1)."""
    place: str = ""
    """Name of its place."""
    similarity: float | None = None
    """Cosine to the query; None where it is not known."""
    numbers: tuple[tuple[str, str], ...] = ()
    """Label and value of each number."""


class TuplePage:
    """A tuple file, its photos, and tiles made of them.

    Raises
    ------
    DataError, FileFormatError
        A file is absent, torn, or of another format; the index is another than the tuples were mined from, or lean.
    """

    def __init__(self, path: Path, options: ReportOptions, thumbnails: Thumbnails) -> None:
        self.name = options.title or path.name
        self.tuples = read_tuples(path)
        self.options = options
        self.num_tuples = options.num_tuples
        self.thumbnails = thumbnails
        self.counts = {split: split_counts(self.tuples, split) for split in SPLITS}
        self._index = None if options.index is None else _index_of(self.tuples, options.index)
        self._drawings = None if self._index is None else PairDrawings(self._index, thumbnails)
        self._source: Callable[[int], AnyPath | bytes] = (
            PackedPhotos(self.tuples).__getitem__ if self.tuples.packed_size else self.tuples.images.path
        )

    def head(self) -> dict[str, Any]:
        """What the template of the page's head shows."""
        return {
            "name": self.name,
            "num_images": len(self.tuples.images.key),
            "num_places": len(self.tuples.places.name),
            "counts": self.counts,
        }

    @property
    def doubtful_pairs(self) -> dict[str, DoubtfulPairs | None]:
        """Where the descriptors disagree most with the choice, by ``positive`` and ``negative``."""
        return dict(doubtful_of_tuples(self.tuples))

    @cached_property
    def _photo_numbers(self) -> np.ndarray:
        """(n,) int64, of the index's images: the same number for those of one photo."""
        return np.zeros(0, np.int64) if self._index is None else self._index.images.photo[:]

    @property
    def is_drawn(self) -> bool:
        """Whether shared points are drawn: the index is at hand."""
        return self._drawings is not None

    def drawn(self, first: int, second: int) -> DrawnPair | None:
        """The points that two photos both see, drawn over them; None without an index too."""
        index_row = self.tuples.images.index_row
        if self._drawings is None or min(first, second) < 0 or min(index_row[first], index_row[second]) < 0:
            return None
        return self._drawings.draw(self._shown(first), self._shown(second))

    def _shown(self, row: int) -> PagePhoto:
        """A photo, and all images of the index that show it: mining merges what they share."""
        images, tile = self.tuples.images, self.photo(row)
        width, height = images.size[row].tolist()
        rows = np.flatnonzero(self._photo_numbers == self._photo_numbers[images.index_row[row]])
        return PagePhoto(tile.url, tile.key, rows.tolist(), lambda: (width, height))

    @property
    def keys(self) -> Sequence[str]:
        """Key of each image."""
        return self.tuples.images.key

    def photo(self, row: int) -> Tile:
        """An image's picture and key."""
        return self.tile("photo", row)

    def tile(
        self, role: str, row: int, similarity: float | None = None, numbers: tuple[tuple[str, str], ...] = ()
    ) -> Tile:
        """The tile of an image; an empty one where there is none (-1)."""
        if row < 0:
            return Tile(role)
        images = self.tuples.images
        return Tile(
            role=role,
            url=self.thumbnails.url(row, images.key[row], self._source),
            key=images.key[row],
            place=self.tuples.places.name[int(images.place[row])],
            similarity=similarity if similarity is not None and np.isfinite(similarity) else None,
            numbers=numbers,
        )


def _index_of(tuples: TupleFile, path: Path) -> OpenedIndex:
    """Open the index that a tuple file was mined from.

    Raises
    ------
    DataError
        It is another.
    """
    index = open_index(path)
    is_parent = index.header.fingerprint in tuples.header.parents
    if not is_parent or tuples.images.index_row.max(initial=-1) >= index.num_images:
        what = f"is another index ({index.header.fingerprint[:SHOWN]}) than {tuples.path} was mined from"
        raise DataError(path, what, "give the one that mine-tuples read; inspect shows what a file was made from")
    return index
