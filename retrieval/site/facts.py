"""What an index says that decides how to go on: how many places and photos, what can be held out, how photos match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.photos.decoding import photo_size
from retrieval.protocols.benchmark import MIN_SHARED
from retrieval.protocols.sfm import sfm_benchmark
from retrieval.whitening.matching_pairs import MatchingPairs, pairs_of_index
from retrieval.whitening.options import WhiteningOptions
from sfm2tuples.errors import DataError, PhotoError, UsageError, counted
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.index.schema import TRAIN, VAL
from sfm2tuples.mining.options import MiningOptions

LEAST_SHARED = (MIN_SHARED, 5, 1)
"""Shared points of a positive among held-out photos: the first with any query is taken."""
OVERLAPS = (MiningOptions.min_overlap, 0.1, 0.05)
"""Least overlap of a positive: the first by which half of the photos have one is taken."""
ENOUGH = 0.5
"""Share of photos with a positive that is enough."""
LOOKED_AT = 50
"""Photos whose sizes are read."""


@dataclass(frozen=True)
class Facts:
    """Counts of an index; a photo of two models counts once, and what has no photo does not count."""

    train_places: int
    """Places for training."""
    val_places: int
    """Places held out."""
    train_photos: int
    """Photos of the places for training."""
    val_photos: int
    """Photos of the places held out."""
    queries: int
    """Held-out photos that have a positive."""
    min_shared: int
    """Shared points that make one."""
    min_overlap: float
    """Least overlap of a positive for training."""
    matched: int
    """Photos of the places for training that have such a positive ..."""
    matched_places: int
    """... and places of these."""
    longest: int
    """Median of the photos' longest sides in pixels."""
    distractors: int = 0
    """Photos in no model that are known to show none of the places."""
    spots: int = 0
    """Spots for training, where the places for training are too few to tell apart and the models prove which photos of
    one place show different things (method.md section 12); 0 where places are told apart."""
    left_out: int = 0
    """Photos that belong to neither split: between a held-out part of a place and the rest, or with too few points."""

    @property
    def places(self) -> int:
        """Places with photos."""
        return self.train_places + self.val_places

    @property
    def is_inside(self) -> bool:
        """Whether tuples are mined inside places."""
        return self.spots > 0

    def sentence(self) -> str:
        """What is for training and what is held out."""
        places = counted(self.places, "place")
        if self.is_inside and not self.val_places:
            between = f", {self.left_out:,} neither (between them, or with few points)" if self.left_out else ""
            train = f"{counted(self.train_photos, 'photo')} of {counted(self.spots, 'spot')} for training"
            return f"{places}: {train}, {self.val_photos:,} held out{between}"
        spots = f" of {counted(self.spots, 'spot')}" if self.is_inside else ""
        train = f"{self.train_places} for training with {counted(self.train_photos, 'photo')}{spots}"
        return f"{places}: {train}, {self.val_places} held out with {self.val_photos:,}"

    @property
    def photos(self) -> int:
        """Photos of all places."""
        return self.train_photos + self.val_photos


def facts_of(index: OpenedIndex, distractors: int = 0) -> Facts:
    """Count what an index holds; `distractors` are photos besides it that show none of its places.

    Raises
    ------
    DataError
        None of its images has a photo.
    """
    images = index.images
    there, split, place, photo = images.has_photo[:], images.split[:], images.place[:], images.photo[:]
    if not there.any():
        what = f"none of the {len(there):,} images of the models has a photo"
        raise DataError(index.path, what, "name their folder by --images [ROOT=]DIR")
    of_split = [there & (split == one) for one in (TRAIN, VAL)]
    photos = [len(np.unique(photo[rows])) for rows in of_split]
    of_place = index.places.split[place]
    places = [len(np.unique(place[rows & (of_place == one)])) for one, rows in zip((TRAIN, VAL), of_split, strict=True)]
    queries, min_shared = _queries(index)
    overlap, pairs = _pairs(index, photos[TRAIN])
    matched = np.unique(pairs.pairs[:, 0])
    return Facts(
        *(places[TRAIN], places[VAL], photos[TRAIN], photos[VAL], queries, min_shared),
        *(overlap, len(matched), len(np.unique(pairs.places[matched]))),
        _longest(index, np.flatnonzero(there).tolist()),
        distractors,
        _spots(index, of_split[TRAIN]) if places[TRAIN] + distractors < 2 else 0,
        len(np.unique(photo[there])) - sum(photos),
    )


def _spots(index: OpenedIndex, rows: np.ndarray) -> int:
    """Spots of some images, (n,) bool; 0 where the index has no relations, or fewer than two."""
    if index.inside is None:
        return 0
    spot = index.inside.spot[:][rows]
    count = len(np.unique(spot[spot >= 0]))
    return count if count > 1 else 0


def _queries(index: OpenedIndex) -> tuple[int, int]:
    """Held-out queries, and the shared points that make a positive of theirs."""
    for least in LEAST_SHARED:
        try:
            return len(sfm_benchmark(index, VAL, least).queries), least
        except (UsageError, DataError):
            continue
    return 0, MIN_SHARED


def _pairs(index: OpenedIndex, photos: int) -> tuple[float, MatchingPairs]:
    """Least overlap, and the pairs for training that have it."""
    found = [(overlap, pairs_of_index(index, WhiteningOptions(min_overlap=overlap))) for overlap in OVERLAPS[:1]]
    for overlap in OVERLAPS[1:]:
        if len(np.unique(found[-1][1].pairs[:, 0])) >= ENOUGH * photos:
            break
        found.append((overlap, pairs_of_index(index, WhiteningOptions(min_overlap=overlap))))
    return found[-1]


def _longest(index: OpenedIndex, rows: Sequence[int]) -> int:
    """Median of the longest sides of some photos, evenly spread; 0 where none can be read."""
    sides = []
    for row in rows[:: -(-len(rows) // LOOKED_AT)]:
        try:
            sides.append(max(photo_size(index.photo_path(row))))
        except PhotoError:
            continue
    return int(np.median(sides)) if sides else 0
