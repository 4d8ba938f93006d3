"""The work of `whiten`: from the matching images of an index or tuple file to a whitening."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from retrieval.photos.sources import PhotoSources, photos_of_rows, photos_of_tuples
from retrieval.whitening.learning import learn_lw, learn_pca
from retrieval.whitening.linear_algebra import refuse_beyond_memory
from retrieval.whitening.options import ALL_SPLITS, WhiteningOptions
from retrieval.whitening.projection import Whitening, cut
from retrieval.whitening.shrinkage import ShrinkageCurve, choose_shrinkage
from sfm2tuples.errors import UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, align
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import FORMAT as INDEX_FORMAT
from sfm2tuples.index.schema import SPLITS
from sfm2tuples.mining.positives import allowed, find_candidates
from sfm2tuples.mining.tuple_file import FORMAT as TUPLES_FORMAT
from sfm2tuples.mining.tuple_file import Candidates, TupleFile, read_tuples
from sfm2tuples.similarity.rows import select

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MatchingPairs:
    """The images of a set and which of them match."""

    photos: PhotoSources
    """The images of the set."""
    places: np.ndarray
    """(n,) int64, place of each."""
    pairs: np.ndarray
    """(m, 2) int64, rows of `photos`: every query with every partner that the rule allows it, in both orders where both
    are allowed."""

    def only(self, keys: Collection[str]) -> MatchingPairs:
        """The images of these keys, such as those that could be read, and the pairs among them."""
        kept = np.fromiter((key in keys for key in self.photos.keys), bool, len(self.photos.keys))
        number = np.cumsum(kept) - 1
        pairs = number[self.pairs[kept[self.pairs].all(axis=1)]]
        return MatchingPairs(
            self.photos.only([key for key in self.photos.keys if key in keys]), self.places[kept], pairs
        )


def read_pairs(path: Path, options: WhiteningOptions, size: int = 0) -> MatchingPairs:
    """The matching pairs of an index or of a tuple file, whichever the file is.

    Parameters
    ----------
    path : Path
    options : WhiteningOptions
    size : int
        Longest side wanted of the photos, see `photos_of_tuples`.

    Raises
    ------
    DataError, FileFormatError
        The file is absent or torn.
    UsageError
        It is another file of ours, without pairs.
    """
    format = read_header(path).format
    if format == INDEX_FORMAT:
        with open_index(path) as index:
            pairs = pairs_of_index(index, options)
    elif format == TUPLES_FORMAT:
        pairs = pairs_of_tuples(read_tuples(path), options, size)
    else:
        raise UsageError(f"{path}: is {format}; matching pairs are in an index or a tuple file")
    if not len(pairs.photos.keys):
        others = " or ".join(split for split in (*SPLITS, ALL_SPLITS) if split != options.split)
        raise UsageError(f"{path}: there are no photos in the split {options.split}; give --split {others}")
    return pairs


def pairs_of_index(index: OpenedIndex, options: WhiteningOptions) -> MatchingPairs:
    """All ordered m3 pairs among the photos of an index's places; the same photo in two models is one image."""
    images = index.images
    rows = np.flatnonzero(_in_split(images.split[:], options) & images.has_photo[:])
    photos, item = np.unique(images.photo[rows], return_inverse=True)
    table_row = np.full(index.num_images, -1, np.int64)
    table_row[rows] = item
    places = np.zeros(len(photos), np.int64)
    places[item[::-1]] = images.place[rows][::-1]
    candidates = find_candidates(index, table_row, places, options.mining)
    return MatchingPairs(photos_of_rows(index, photos), places, _pairs(candidates, options))


def pairs_of_tuples(tuples: TupleFile, options: WhiteningOptions, size: int = 0) -> MatchingPairs:
    """All ordered m3 pairs among a tuple file's images, from its candidates; distractors are images without pairs.

    A pair of a held-out walk's image and an image for training is of no split alone. Spots of one place are one place,
    since images of two of them may show the same.
    """
    kept = _in_split(tuples.image_split, options)
    splits = SPLITS if options.split == ALL_SPLITS else (options.split,)
    unknown = sum(int(tuples.candidates[split].unknown.sum()) for split in splits)
    if unknown:
        logger.warning(
            "%s: %s imported pairs have no overlap and scale change and are used whatever their limits are",
            tuples.path,
            f"{unknown:,}",
        )
    pairs = np.concatenate([_pairs(tuples.candidates[split], options) for split in splits])
    pairs = pairs[kept[pairs].all(axis=1)]
    number = np.cumsum(kept) - 1
    rows = np.flatnonzero(kept)
    photos = photos_of_tuples(tuples, size).only([tuples.images.key[row] for row in rows])
    return MatchingPairs(photos, tuples.image_place[rows], number[pairs])


def learn_whitening(
    descriptors: Descriptors, matching: MatchingPairs, options: WhiteningOptions
) -> tuple[Whitening, ShrinkageCurve | None]:
    """Learn a whitening that carries the settings of the descriptors.

    Parameters
    ----------
    descriptors : Descriptors
        Hold at least the images of `matching`.
    matching : MatchingPairs
    options : WhiteningOptions

    Returns
    -------
    whitening : Whitening
    curve : ShrinkageCurve or None
        What each λ reached, where it was chosen automatically.

    Raises
    ------
    DataError
        Images have no descriptor.
    UsageError
        The descriptors are whitened already; no pairs, or pairs of one place only; more dimensions asked than there
        are, or than this machine has memory for.
    """
    if "whitening" in descriptors.settings:
        raise UsageError(f"{descriptors.path}: whitened already; learn from descriptors extracted without --whitening")
    refuse_beyond_memory(descriptors.values.shape[1])
    keys, origin = matching.photos.keys, str(matching.photos.origin)
    values = select(descriptors.values, align(descriptors, keys, origin))
    curve = None
    if options.method == "pca":
        whitening = learn_pca(values, options.shrinkage or 0.0)
    else:
        if len(matching.pairs) == 0:
            raise UsageError(
                f"{origin}: none of {len(keys):,} images has a partner with overlap at least "
                f"{options.min_overlap:g} and scale change at most {options.max_scale_change:g}; use --method pca"
            )
        shrinkage = options.shrinkage
        if shrinkage is None:
            curve = choose_shrinkage(values, matching.pairs, matching.places, dim=options.dim)
            shrinkage = curve.best
        whitening = learn_lw(values, matching.pairs, shrinkage)
    if options.dim is not None:
        whitening = cut(whitening, options.dim)
    return replace(whitening, settings=descriptors.settings), curve


def _in_split(split: np.ndarray, options: WhiteningOptions) -> np.ndarray:
    return np.ones(len(split), bool) if options.split == ALL_SPLITS else split == SPLITS.index(options.split)


def _pairs(candidates: Candidates, options: WhiteningOptions) -> np.ndarray:
    query = np.repeat(candidates.query, np.diff(candidates.indptr))
    keep = allowed(candidates, options.mining)
    return np.stack([query[keep], candidates.image[keep]], axis=1).astype(np.int64)
