"""Which place of a tuple file each image of an index belongs to: its place, or its spot where places are few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.index.schema import TRAIN, VAL

HELD_OUT = " held out"
"""Ends the name of a spot's held-out images, where others of it are for training (`build-index --val-names`)."""


@dataclass(frozen=True)
class ImagePlaces:
    """The places of a tuple file, and which of an index's images belong to them."""

    place: np.ndarray
    """(n,) int64, the place of each image of the index, a row of `name`; -1 for one that is left out."""
    name: list[str]
    """Names of the places."""
    split: np.ndarray
    """(k,) int8, `TRAIN` or `VAL`."""
    num_left_out: int
    """Images with a photo that are left out: they take no part, or belong to neither split."""


def places_of_index(index: OpenedIndex) -> ImagePlaces:
    """The places as they are.

    Where a place is split inside, its held-out images and the buffer are left out: without relations nothing says
    which of the others are right for them, and they must not be trained on.
    """
    place, split = index.models.place[index.images.model[:]], index.images.split[:]
    of_place = index.places.split[place]
    split_inside = np.unique(place[(split == VAL) & (of_place == TRAIN)])
    away = np.isin(place, split_inside) & (split != of_place)
    place, left_out = _without(place, away, index)
    return ImagePlaces(place, list(index.places.name), index.places.split, left_out)


def spots_of_index(index: OpenedIndex) -> ImagePlaces:
    """The spots of an index that has them, in the part of places: ``PLACE#k``, k from 1 within each place.

    A spot whose images belong to both splits is two places. What `left_out_inside` says is left out.
    """
    if index.inside is None or index.spots is None:
        raise ValueError("the index has no spots")
    spot, split, away = index.inside.spot[:], index.images.split[:], left_out_inside(index)
    kept, place = np.unique(2 * spot[~away] + split[~away], return_inverse=True)
    row = np.full(len(spot), -1, np.int64)
    row[~away] = place
    of, of_split = np.divmod(kept, 2)
    both = np.isin(of, of[of_split == TRAIN]) & (of_split == VAL)
    name_of = index.spots.names(index.places.name)
    names = [name_of[s] + (HELD_OUT if mixed else "") for s, mixed in zip(of.tolist(), both.tolist(), strict=True)]
    row, left_out = _without(row, away, index)
    return ImagePlaces(row, names, of_split.astype(np.int8), left_out)


def left_out_inside(index: OpenedIndex) -> np.ndarray:
    """Images that are neither mined inside places nor searched: (n,) bool; none where the index has no relations.

    Those that take no part, those of neither split, and all images of a photo of which one is so, or which belong to
    different splits or places.
    """
    if index.inside is None:
        return np.zeros(index.num_images, bool)
    split, place, photo = index.images.split[:], index.images.place[:], index.images.photo[:]
    away = (index.inside.spot[:] < 0) | ((split != TRAIN) & (split != VAL))
    away |= (split != split[photo]) | (place != place[photo])
    of_photo = np.zeros(len(photo), bool)
    np.logical_or.at(of_photo, photo, away)
    return of_photo[photo]


def whole_place(spot: str) -> str:
    """Name of the place that a spot is of.

    Examples
    --------
    >>> whole_place("campus#12"), whole_place("campus#3 held out")
    ('campus', 'campus')
    """
    return spot.rpartition("#")[0]


def _without(place: np.ndarray, away: np.ndarray, index: OpenedIndex) -> tuple[np.ndarray, int]:
    return np.where(away, -1, place), int(np.count_nonzero(away & index.images.has_photo[:]))
