"""Our protocol on sparse models: images that share points are right, the rest of the place is neither.

method.md section 10: each image of a place that has a positive is a query; its positives share at least
`min_shared` points with it; other images of its place are junk; the database is all given places and distractors.
Where the relations inside places are known (section 12), only what is unknown is junk: proven negatives are wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

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
from sfm2tuples.mining.barred import VAL_NAMES, Barred, barred_of_index
from sfm2tuples.mining.spots import left_out_inside
from sfm2tuples.mining.tuple_file import TupleFile

logger = logging.getLogger(__name__)


JunkOf = Callable[[int], np.ndarray]
"""Gives the database rows that are neither right nor wrong for one of them, itself among them."""


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
    junk_of: JunkOf | None = None,
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
    junk_of : callable, optional
        Gives the rows of `photos` that are neither right nor wrong for one of them; all of its places by default.
        Positives are taken out.

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
    if junk_of is None:
        junk = _junk(queries, positives, item, place[rows])
    else:
        junk = [np.setdiff1d(junk_of(q), own) for q, own in zip(queries.tolist(), positives, strict=True)]
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
    by_place = np.argsort(place_of_image, kind="stable")
    places, first = np.unique(place_of_image[by_place], return_index=True)
    # In 32 bits, as the ground truth has them: a query has as many as its place has images.
    of_place = np.split(item[by_place].astype(np.int32), first[1:])[: len(places)]
    members = {place: np.unique(rows) for place, rows in zip(places.tolist(), of_place, strict=True)}
    order = np.argsort(item, kind="stable")
    starts = np.searchsorted(item[order], queries)
    ends = np.searchsorted(item[order], queries, side="right")
    junk = []
    for start, end, own in zip(starts, ends, positives, strict=True):
        asked = np.unique(place_of_image[order[start:end]]).tolist()
        junk.append(np.setdiff1d(np.concatenate([members[place] for place in asked]), own.astype(np.int32)))
    return junk


def tuples_ground_truth(tuples: TupleFile, split: int = VAL, min_shared: int = MIN_SHARED) -> SfmTruth:
    """Ground truth of the protocol from a tuple file, whose candidates are the graph's strongest edges.

    `SfmTruth.photos` are rows of its image table: those of the split's places, or of all places where the split has
    only one, since among itself nothing is wrong. An image beyond a query's candidates shares fewer points than they
    do, and is junk. Imported pairs, whose shared points are not known, are positives. Of tuples that were mined inside
    (method.md section 12) the database is all images, and what is barred is junk; images of a held-out walk are junk
    for each other.
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
    in_split = tuples.image_split == split
    rows = np.flatnonzero(in_split)
    if searches_all(tuples, split):
        rows = np.arange(len(images.key))
    walk = (tuples.image_split == VAL) & bool(tuples.header.options.get(VAL_NAMES))
    return sfm_ground_truth(
        images.place,
        rows,
        np.arange(len(images.key)),
        indptr_of(counts[rows]),
        candidates.image,
        np.where(candidates.unknown, np.int32(min_shared), candidates.shared),
        min_shared,
        tuples.places.name,
        None if tuples.barred is None else junk_inside(tuples.barred, walk),
    )


def searches_all(tuples: TupleFile, split: int = VAL) -> bool:
    """Whether the photos of a split are searched among all of a tuple file, and not among its own places alone."""
    return tuples.barred is not None or len(np.unique(tuples.images.place[tuples.image_split == split])) == 1


def junk_inside(barred: Barred, walk: np.ndarray) -> JunkOf:
    """Junk where the relations inside places are known: what is barred, and for an image of a held-out walk the others.

    Parameters
    ----------
    barred : Barred
        Of all rows of the database.
    walk : (d,) bool
        The images of the held-out walk; all False where none is held out by its names.
    """
    others = np.flatnonzero(walk)
    return lambda row: np.union1d(barred.of(row), others) if walk[row] else barred.of(row)


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Make the protocol of an index, which stays open."""
    with ExitStack() as held:
        index = held.enter_context(open_index(choice.local_data))
        benchmark = replace(sfm_benchmark(index, SPLITS.index(choice.split), choice.min_shared), index=index)
        held.pop_all()
    return benchmark


def sfm_benchmark(
    index: OpenedIndex, split: int = VAL, min_shared: int = MIN_SHARED, described: Collection[str] | None = None
) -> Benchmark:
    """Make the protocol on the places of a split, or on what is held out inside places (method.md section 12).

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
    images = index.images
    in_split = images.split[:] == split
    rows = np.flatnonzero(in_split & images.has_photo[:])
    if in_split.any() and not len(rows):
        what = f"none of the {int(in_split.sum()):,} images of the {SPLITS[split]} places has a photo"
        raise DataError(index.path, what, "build the index again with --images DIR, where their names start")
    rows = _database(index, rows)
    if described is not None:
        rows = _described(index, rows, described)
    found = _truth_of_index(index, rows, in_split, min_shared)
    if len(found.truth.queries) == 0:
        raise UsageError(
            f"{index.path}: no photo of the {SPLITS[split]} places shares {min_shared} points with another; give "
            f"--split {SPLITS[1 - split]}, a lower --min-shared, or build the index with --val-names or more places"
        )
    photos = photos_of_rows(index, found.photos)
    queries = [photos.keys[query] for query in found.truth.queries]
    left_out = frozenset() if index.inside is None else frozenset(index.images.key[:]).difference(photos.keys)
    return Benchmark(photos.keys, queries, {"sfm": found.truth}, photos=photos, left_out=left_out)


def _database(index: OpenedIndex, rows: np.ndarray) -> np.ndarray:
    """The images that those of a split are searched among: themselves where they are of several places.

    Among the images of one place nothing is wrong, so that all photos are searched. Where the relations inside places
    are known, all images are searched that take part.
    """
    images = index.images
    place = np.unique(images.place[rows])
    if index.inside is None and len(place) != 1:
        return rows
    return np.flatnonzero(images.has_photo[:] & ~left_out_inside(index))


def _truth_of_index(index: OpenedIndex, rows: np.ndarray, in_split: np.ndarray, min_shared: int) -> SfmTruth:
    """Ground truth among some images, of which those of the split are queries."""
    images, graph = index.images, index.graph
    asking = in_split[rows]
    counts = np.zeros(len(rows), np.int64)
    starts, edge = gather_rows(graph.indptr[:], rows[asking])
    counts[asking] = np.diff(starts)
    neighbour, shared, junk_of = graph.neighbour[edge], graph.shared[edge], None
    if index.inside is not None:
        photos, item = np.unique(images.photo[rows], return_inverse=True)
        row_of = np.full(index.num_images, -1, np.int64)
        row_of[rows] = item
        walk = np.zeros(len(photos), bool)
        if index.header.options.get(VAL_NAMES):
            of_walk = images.split[:] == VAL
            walk[item[of_walk[rows]]] = True
            # A held-out walk is searched for among the others: its own images are no positives.
            within = of_walk[neighbour] & np.repeat(of_walk[rows], counts)
            shared = np.where(within, 0, shared)
        junk_of = junk_inside(barred_of_index(index, row_of, len(photos)), walk)
    return sfm_ground_truth(
        images.place[:],
        rows,
        images.photo[:],
        indptr_of(counts),
        neighbour,
        shared,
        min_shared,
        index.places.name,
        junk_of,
    )


def _described(index: OpenedIndex, rows: np.ndarray, described: Collection[str]) -> np.ndarray:
    """The images among `rows` whose photo is described under the key of its first image."""
    keys = index.images.key[index.images.photo[rows]]
    return rows[np.fromiter((key in described for key in keys), bool, len(rows))]
