"""Our protocol on sparse models: images that share points are right, the rest of the place is neither.

method.md section 10: each image of a place that has a positive is a query; its positives share at least
`min_shared` points with it; other images of its place are junk; the database is all given places and distractors.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth, make_ground_truth
from retrieval.photos.sources import photos_of_rows
from retrieval.protocols.benchmark import MIN_SHARED, Benchmark, ProtocolChoice
from retrieval.protocols.photo_names import PhotoNames
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.columns import gather_rows, indptr_of
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import SPLITS, VAL
from sfm2tuples.ingest.options import LARGEST
from sfm2tuples.mining.tuple_file import TupleFile

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SfmTruth:
    """The protocol's database and ground truth."""

    photos: np.ndarray
    """(d,) int64, rising: photo of each database row; the same photo in two models is one row."""
    truth: GroundTruth
    """Over database rows."""


def sfm_ground_truth(
    place: np.ndarray,
    rows: np.ndarray,
    photo: np.ndarray,
    indptr: np.ndarray,
    neighbour: np.ndarray,
    shared: np.ndarray,
    min_shared: int = MIN_SHARED,
    place_names: Sequence[str] | None = None,
) -> SfmTruth:
    """Ground truth of the protocol from a co-visibility graph.

    Parameters
    ----------
    place : (n,) int64
        Place of each image of the index.
    rows : (m,) int64
        Images that take part, such as those of the validation places.
    photo : (n,) int64
        The same number for images that are the same photo. A query's positives are those of all its images; no
        photo is right for itself.
    indptr, neighbour, shared : (m + 1,) int64, (e,) int64, (e,) int32
        The graph of `rows` as CSR: the neighbours of each, which are rows of the index, and their shared points.
    min_shared : int
        Shared points that make a positive, at least 1.
    place_names : sequence of str, optional
        Names of the places; their numbers by default.

    Raises
    ------
    UsageError
        `min_shared` is below 1, or beyond what a pair of images can share.
    """
    if min_shared < 1:
        raise UsageError(f"min shared points {min_shared} is below 1: every image would be right")
    if min_shared > LARGEST:
        raise UsageError(f"min shared points {min_shared} is more than any pair of images shares")
    photos, item = np.unique(photo[rows], return_inverse=True)
    item_of = np.full(len(place), -1, np.int64)
    item_of[rows] = item
    query, positive = np.repeat(item, np.diff(indptr)), item_of[neighbour]
    keep = (shared >= min_shared) & (positive >= 0) & (positive != query)
    query, positive = np.unique(np.stack([query[keep], positive[keep]], axis=1), axis=0).T
    queries, starts = np.unique(query, return_index=True)
    positives = np.split(positive, starts[1:]) if len(queries) else []
    junk = _junk(queries, positives, item, place[rows])
    # A photo whose images are of two places is counted with the first.
    group_of = np.full(len(photos), -1, np.int64)
    group_of[item[::-1]] = place[rows][::-1]
    places, groups = np.unique(group_of[queries], return_inverse=True)
    names = [place_names[p] if place_names is not None else str(p) for p in places]
    return SfmTruth(photos, make_ground_truth(queries, positives, junk, groups, names))


def _junk(
    queries: np.ndarray, positives: Sequence[np.ndarray], item: np.ndarray, place_of_image: np.ndarray
) -> list[np.ndarray]:
    """Database rows of each query's places that are no positives, the query itself among them."""
    members = {place: np.unique(item[place_of_image == place]) for place in np.unique(place_of_image)}
    order = np.argsort(item, kind="stable")
    starts = np.searchsorted(item[order], queries)
    ends = np.searchsorted(item[order], queries, side="right")
    junk = []
    for start, end, own in zip(starts, ends, positives, strict=True):
        places = np.unique(place_of_image[order[start:end]])
        junk.append(np.setdiff1d(np.concatenate([members[place] for place in places]), own))
    return junk


def tuples_ground_truth(tuples: TupleFile, split: int = VAL, min_shared: int = MIN_SHARED) -> SfmTruth:
    """Ground truth of the protocol from a tuple file, whose candidates are the graph's strongest edges.

    `SfmTruth.photos` are rows of its image table, those of the split's places. An image beyond a query's candidates
    shares fewer points than they do, and is junk. Imported pairs, whose shared points are not known, are positives.
    """
    images, candidates = tuples.images, tuples.candidates[SPLITS[split]]
    if candidates.unknown.any():
        logger.warning(
            "%s: %s imported pairs have no count of shared points and are positives whatever min_shared is",
            tuples.path,
            f"{int(candidates.unknown.sum()):,}",
        )
    counts = np.zeros(len(images.key), np.int64)
    counts[candidates.query] = np.diff(candidates.indptr)
    rows = np.flatnonzero(tuples.image_split == split)
    return sfm_ground_truth(
        images.place,
        rows,
        np.arange(len(images.key)),
        indptr_of(counts[rows]),
        candidates.image,
        np.where(candidates.unknown, np.int32(min_shared), candidates.shared),
        min_shared,
        tuples.places.name,
    )


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Make the protocol of an index."""
    with open_index(choice.data) as index:
        return sfm_benchmark(index, SPLITS.index(choice.split), choice.min_shared)


def sfm_benchmark(
    index: OpenedIndex, split: int = VAL, min_shared: int = MIN_SHARED, described: Collection[str] | None = None
) -> Benchmark:
    """Make the protocol on the places of a split.

    Parameters
    ----------
    index : OpenedIndex
    split : int
        `VAL` by default: places unseen in training.
    min_shared : int
        Shared points that make a positive.
    described : collection of str, optional
        Keys of the photos that take part, such as those that could be read; all by default.

    Raises
    ------
    UsageError
        The split has no photos with positives.
    DataError
        No image of the split has a photo.
    """
    images, graph = index.images, index.graph
    in_split = images.split[:] == split
    rows = np.flatnonzero(in_split & images.has_photo[:])
    if in_split.any() and not len(rows):
        what = f"none of the {int(in_split.sum()):,} images of the {SPLITS[split]} places has a photo"
        raise DataError(index.path, what, "build the index again with --images DIR, where their names start")
    if described is not None:
        rows = _described(index, rows, described)
    indptr, edge = gather_rows(graph.indptr[:], rows)
    neighbours = indptr, graph.neighbour[edge], graph.shared[edge]
    found = sfm_ground_truth(images.place[:], rows, images.photo[:], *neighbours, min_shared, index.places.name)
    if len(found.truth.queries) == 0:
        raise UsageError(
            f"{index.path}: no photo of the {SPLITS[split]} places shares {min_shared} points with another; "
            f"give --split {SPLITS[1 - split]}, a lower --min-shared, or build the index with more places"
        )
    photos = photos_of_rows(index, found.photos)
    queries = [photos.keys[query] for query in found.truth.queries]
    return Benchmark(photos.keys, queries, {"sfm": found.truth}, photos=photos)


def _described(index: OpenedIndex, rows: np.ndarray, described: Collection[str]) -> np.ndarray:
    """The images among `rows` whose photo is described under the key of its first image."""
    keys = index.images.key[index.images.photo[rows]]
    return rows[np.fromiter((key in described for key in keys), bool, len(rows))]
