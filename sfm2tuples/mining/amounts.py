"""How much is mined where tuples come from inside a place: the amounts follow the photos. method.md section 12.

On one site the amount of training decides first: rounds of about 80 tuples with one or two negatives gained on
`gardens_point` (about 400 photos for training), and rounds of 200 with five ended below their start. A round of the
first kind looks at each photo about once, one of the second more than three times. So a round looks at each photo once.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from sfm2tuples.errors import UsageError
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.index.schema import TRAIN
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.tuple_file import ImageTable, PlaceTable

NUM_NEGATIVES = 2
"""Negatives of a tuple: "one or two" of the gentle rounds (method.md section 12)."""
LOOKS_PER_ROUND = 1.0
"""How often a round looks at each photo for training: gentle 80 x 4 of 400 photos gains, full 200 x 7 harms (there)."""


def settled(options: MiningOptions, index: OpenedIndex, chosen: Collection[str] | None) -> MiningOptions:
    """Decide whether tuples are mined inside places, and put the amounts of one site in place of what nobody chose.

    Parameters
    ----------
    options : MiningOptions
    index : OpenedIndex
    chosen : collection of str or None
        Fields of `options` that somebody chose; None: all of them.

    Raises
    ------
    UsageError
        `inside` is asked of an index without relations.
    """
    there = index.inside is not None
    if options.inside and not there:
        what = "has no relations inside its places, so that no negative of the same place is proven"
        raise UsageError(f"{index.path}: {what}; build it again with --inside, or leave out --inside here")
    inside = there and _places(index) < options.num_negatives + 1 if options.inside is None else options.inside
    options = replace(options, inside=inside)
    if not inside or chosen is None:
        return options
    options = options.for_one_site()
    if "num_negatives" not in chosen:
        options = replace(options, num_negatives=NUM_NEGATIVES)
    if "query_share" not in chosen:
        options = replace(options, query_share=min(1.0, LOOKS_PER_ROUND / _looks(options)))
    return options


def with_queries(
    options: MiningOptions, images: ImageTable, places: PlaceTable, chosen: Collection[str] | None
) -> MiningOptions:
    """Limit the queries of a round that is mined inside so that it looks at each photo for training once.

    `chosen` is as in `settled`.
    """
    if not options.inside or chosen is None or "num_queries" in chosen:
        return options
    photos = int(np.count_nonzero((places.split[images.place] == TRAIN) & (images.index_row >= 0)))
    return replace(options, num_queries=queries_of_round(photos, options.num_positives, options.num_negatives))


def queries_of_round(photos: int, num_positives: int, num_negatives: int) -> int:
    """Queries of a round that is mined inside: with its positives and negatives it looks at each photo once."""
    return max(1, round(LOOKS_PER_ROUND * photos / (1 + num_positives + num_negatives)))


def _looks(options: MiningOptions) -> int:
    """Photos of a tuple."""
    return 1 + options.num_positives + options.num_negatives


def _places(index: OpenedIndex) -> int:
    """Places for training that have photos."""
    images = index.images
    place = images.place[np.flatnonzero(images.has_photo[:])]
    return int(np.count_nonzero(index.places.split[np.unique(place)] == TRAIN))
