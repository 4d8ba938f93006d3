"""What the page of a tuple file shows: the file itself, and tiles made of its photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.reports.inspection import split_counts
from retrieval.reports.options import ReportOptions
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.files.remote.address import AnyPath
from sfm2tuples.index.schema import SPLITS
from sfm2tuples.mining.doubtful_pairs import DoubtfulPairs, doubtful_of_tuples
from sfm2tuples.mining.tuple_file import PackedPhotos, read_tuples

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
    """A tuple file, its photos, and tiles made of them."""

    def __init__(self, path: Path, options: ReportOptions, thumbnails: Thumbnails) -> None:
        self.name = options.title or path.name
        self.tuples = read_tuples(path)
        self.options = options
        self.num_tuples = options.num_tuples
        self.thumbnails = thumbnails
        self.counts = {split: split_counts(self.tuples, split) for split in SPLITS}
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
