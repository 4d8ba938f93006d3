"""What the page of an index shows: its models seen from above, its places, and places that look alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from retrieval.photos.decoding import photo_size
from retrieval.photos.origins import refuse_others
from retrieval.reports.inspection import inspect_file
from retrieval.reports.matrices import shared_matrix
from retrieval.reports.options import ReportOptions
from retrieval.reports.pair_drawings import DrawnPair, PagePhoto, PairDrawings
from retrieval.reports.plan_views import PlanView, plan_view
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.errors import DataError, first_three
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.mining.doubtful_pairs import DoubtfulPairs, alike_negatives, unlike_positives
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.suspicious_places import SuspiciousPair, suspicious_places

MAX_POINTS = 20_000
"""Points of a model that are drawn, evenly spread."""
GOLDEN_ANGLE = 137.508
"""Degrees between the colours of two places that follow each other: neighbours in the list differ most."""


@dataclass(frozen=True)
class AlikePhotos:
    """Two photos of different places that look alike."""

    first: int
    """Row of the one."""
    second: int
    """Row of the other."""
    similarity: float
    """Cosine of their descriptors."""


@dataclass(frozen=True)
class PlaceDrawings:
    """The shared points of a place's images."""

    matrix: Markup
    """Of all pairs."""
    size: int
    """How many images those are."""
    typical: DrawnPair | None
    """A pair with the median of shared points; None where no pair with photos can be drawn."""


@dataclass(frozen=True)
class DescribedImages:
    """Those images of an index that are described."""

    rows: np.ndarray
    """(k,) int64, their rows, rising."""
    values: np.ndarray
    """(k, D) float32, their descriptors."""


class IndexPage:
    """An index, and drawings made of it.

    Raises
    ------
    DataError, FileFormatError
        A file is absent, torn, or of another format; the descriptors are of none of the index's photos.
    """

    def __init__(self, path: Path, options: ReportOptions, thumbnails: Thumbnails) -> None:
        self.name = options.title or path.name
        self.options = options
        self.thumbnails = thumbnails
        self.facts = inspect_file(path)
        self.index = open_index(path)
        self._drawings = PairDrawings(self.index, thumbnails) if self.index.has_points else None
        self.described = None if options.descriptors is None else _described(options.descriptors, self.index)

    def head(self) -> dict[str, Any]:
        """What the template of the page's head shows."""
        return {"name": self.name, "content": self.facts["content"]}

    @cached_property
    def largest_models(self) -> list[int]:
        """Rows of the models that are drawn: those with the most images."""
        sizes = np.diff(self.index.models.image_start)
        return np.argsort(-sizes, kind="stable")[: self.options.num_models].tolist()

    @cached_property
    def largest_places(self) -> list[int]:
        """Rows of the places that are drawn: those with the most images."""
        sizes = np.bincount(self.index.images.place[:], minlength=len(self.index.places.name))
        return np.argsort(-sizes, kind="stable")[: self.options.num_places].tolist()

    def hue(self, place: int) -> float:
        """The colour of a place, in degrees."""
        return (place * GOLDEN_ANGLE) % 360

    def plan_of(self, model: int) -> PlanView:
        """A model seen from above."""
        index, rows = self.index, self.index.rows_of_model(model)
        first, last = index.models.point_start[model : model + 2].tolist()
        step = max(1, -(-(last - first) // MAX_POINTS))
        graph = index.covisibility(model=model).tocoo()
        once = graph.row < graph.col
        edges = np.stack([graph.row[once], graph.col[once]], axis=1)
        xyz = np.asarray(index.points.xyz[first:last:step]) if index.has_points else np.zeros((0, 3))
        return plan_view(index.poses(rows), xyz, edges, graph.data[once], index.images.name[rows], self._name(model))

    def _name(self, model: int) -> str:
        return self.index.models.name[model]

    def drawings_of(self, place: int) -> PlaceDrawings:
        """The shared points of a place's images, all and those of a typical pair."""
        index, rows = self.index, self.index.rows_of_place(place)
        graph = index.covisibility(place=place).tocoo()
        size = graph.shape[0]
        drawing = shared_matrix(graph.row, graph.col, graph.data, size, index.places.name[place])
        has_photo, photo = index.images.has_photo[rows], index.images.photo[rows]
        can_be_seen = (graph.row < graph.col) & has_photo[graph.row] & has_photo[graph.col]
        pairs = np.flatnonzero(can_be_seen & (photo[graph.row] != photo[graph.col]))
        if not len(pairs):
            return PlaceDrawings(drawing, size, None)
        order = np.lexsort((graph.col[pairs], graph.row[pairs], graph.data[pairs]))
        middle = pairs[order[len(order) // 2]]
        return PlaceDrawings(drawing, size, self.drawn(int(rows[graph.row[middle]]), int(rows[graph.col[middle]])))

    def drawn(self, first: int, second: int) -> DrawnPair | None:
        """The points that two images both see, drawn over their photos; None of a lean index too."""
        return None if self._drawings is None else self._drawings.draw(self._shown(first), self._shown(second))

    def _shown(self, row: int) -> PagePhoto:
        photo = self.photo(row)
        return PagePhoto(photo["url"], photo["key"], (row,), lambda: photo_size(self.index.photo_path(row)))

    def alike_places(self) -> list[SuspiciousPair]:
        """Pairs of places that look alike, the most alike first; none without descriptors."""
        if self.described is None:
            return []
        return suspicious_places(self.described.values, self.index.images.place[self.described.rows])

    def alike_photos(self, pair: SuspiciousPair, count: int) -> list[AlikePhotos]:
        """Of two places the photos that look most alike, each photo once, the most alike first."""
        if self.described is None:
            return []
        rows, values = self.described.rows, self.described.values
        place = self.index.images.place[rows]
        sides = [np.flatnonzero(place == side) for side in (pair.first, pair.second)]
        similarity = values[sides[0]] @ values[sides[1]].T
        found = []
        for _ in range(min(count, *similarity.shape)):
            a, b = np.unravel_index(int(similarity.argmax()), similarity.shape)
            found.append(AlikePhotos(int(rows[sides[0][a]]), int(rows[sides[1][b]]), float(similarity[a, b])))
            similarity[a, :], similarity[:, b] = -np.inf, -np.inf
        return found

    @cached_property
    def doubtful_pairs(self) -> dict[str, DoubtfulPairs | None]:
        """Where descriptors and models disagree most, by ``positive`` and ``negative``; nothing without descriptors."""
        if self.described is None:
            return {}
        index, rows, values = self.index, self.described.rows, self.described.values
        positive = unlike_positives(index, rows, values, MiningOptions())
        return {"positive": positive, "negative": alike_negatives(index, rows, values)}

    @property
    def keys(self) -> Sequence[str]:
        """Key of each image."""
        return self.index.images.key[:]

    def photo(self, row: int) -> dict[str, str]:
        """Address and key of an image's picture."""
        key = self.index.images.key[row]
        return {"url": self.thumbnails.url(row, key, self.index.photo_path), "key": key, "role": "photo"}


def _described(path: Path, index: OpenedIndex) -> DescribedImages:
    described = read_descriptors(path)
    refuse_others(described, index.path, index.header.fingerprint)
    row_of = {name: row for row, name in enumerate(described.names)}
    found = [(row, row_of[key]) for row, key in enumerate(index.images.key[:]) if key in row_of]
    if not found:
        what = f"describes none of the index's photos; its first names are {first_three(described.names)}"
        raise DataError(path, what, "give the file that extract wrote of this index")
    rows, descriptor_rows = np.array(found, np.int64).T
    return DescribedImages(rows, described.values[descriptor_rows])
