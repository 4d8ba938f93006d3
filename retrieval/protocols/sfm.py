"""Our protocol on sparse models: images that share points are right, the rest of the place is neither.

METHOD.md section 10: each image of a place that has a positive is a query; its positives share at least
`min_shared` points with it; other images of its place are junk; the database is all given places and distractors.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth, make_ground_truth
from retrieval.metrics.results import Evaluation, evaluate_descriptors
from retrieval.protocols.benchmark import Benchmark
from sfm2tuples.errors import UsageError
from sfm2tuples.files.columns import gather_rows, indptr_of
from sfm2tuples.files.descriptors import Descriptors, align
from sfm2tuples.index.schema import SPLITS, VAL, Index
from sfm2tuples.mining.tuple_file import TupleFile

logger = logging.getLogger(__name__)

MIN_SHARED = 15
"""Shared points that make a positive unless said otherwise; the method names no number."""


@dataclass(frozen=True)
class SfmTruth:
    """The protocol's database and ground truth."""

    photos: np.ndarray
    """(d,) int64, rising: photo of each database row; the same photo in two models is one row."""
    truth: GroundTruth
    """Over database rows."""


def sfm_ground_truth(
    place: np.ndarray,
    indptr: np.ndarray,
    neighbour: np.ndarray,
    shared: np.ndarray,
    rows: np.ndarray,
    photo: np.ndarray,
    min_shared: int = MIN_SHARED,
    place_names: Sequence[str] | None = None,
) -> SfmTruth:
    """Ground truth of the protocol from a co-visibility graph.

    Parameters
    ----------
    place : (n,) int64
        Place of each image of the index.
    indptr, neighbour, shared : (n + 1,) int64, (e,) int64, (e,) int32
        The graph as CSR: image to neighbour, and their shared points.
    rows : (m,) int64
        Images that take part, such as those of the validation places.
    photo : (n,) int64
        The same number for images that are the same photo. A query's positives are those of all its images; no
        photo is right for itself.
    min_shared : int
        Shared points that make a positive, at least 1.
    place_names : sequence of str, optional
        Names of the places; their numbers by default.

    Raises
    ------
    UsageError
        `min_shared` is below 1.
    """
    if min_shared < 1:
        raise UsageError(f"min shared points {min_shared} is below 1: every image would be right")
    photos, item = np.unique(photo[rows], return_inverse=True)
    item_of = np.full(len(place), -1, np.int64)
    item_of[rows] = item
    query, positive = _positive_pairs(indptr, neighbour, shared, rows, item_of, min_shared)
    queries, starts = np.unique(query, return_index=True)
    positives = np.split(positive, starts[1:]) if len(queries) else []
    junk = _junk(queries, positives, item, place[rows])
    # A photo whose images are of two places is counted with the first.
    group_of = np.full(len(photos), -1, np.int64)
    group_of[item[::-1]] = place[rows][::-1]
    places, groups = np.unique(group_of[queries], return_inverse=True)
    names = [place_names[p] if place_names is not None else str(p) for p in places]
    return SfmTruth(photos, make_ground_truth(queries, positives, junk, groups, names))


def _positive_pairs(
    indptr: np.ndarray,
    neighbour: np.ndarray,
    shared: np.ndarray,
    rows: np.ndarray,
    item_of: np.ndarray,
    min_shared: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different database rows that share enough points, each once, rising by query and positive."""
    chosen, positions = gather_rows(indptr, rows)
    query = np.repeat(item_of[rows], np.diff(chosen))
    positive = item_of[neighbour[positions]]
    keep = (shared[positions] >= min_shared) & (positive >= 0) & (positive != query)
    pairs = np.unique(np.stack([query[keep], positive[keep]], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


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
        indptr_of(counts),
        candidates.image,
        np.where(candidates.unknown, np.int32(min_shared), candidates.shared),
        rows,
        np.arange(len(images.key)),
        min_shared,
        tuples.places.name,
    )


def sfm_benchmark(
    index: Index, split: int = VAL, min_shared: int = MIN_SHARED, path_of_index: str = "index.h5"
) -> Benchmark:
    """Make the protocol on the places of a split.

    Parameters
    ----------
    index : Index
    split : int
        `VAL` by default: places unseen in training.
    min_shared : int
        Shared points that make a positive.
    path_of_index : str
        For messages.

    Raises
    ------
    UsageError
        The split has no photos with positives.
    """
    rows = np.flatnonzero((index.image_split == split) & index.images.has_photo)
    graph = index.covisibility
    found = sfm_ground_truth(
        index.image_place,
        graph.indptr,
        graph.neighbour,
        graph.shared,
        rows,
        index.images.photo,
        min_shared,
        index.places.name,
    )
    if len(found.truth.queries) == 0:
        raise UsageError(
            f"{path_of_index}: no photo of the {SPLITS[split]} places shares {min_shared} points with another; "
            f"give --split {SPLITS[1 - split]}, a lower --min-shared, or build the index with more places"
        )
    keys = [index.images.key[photo] for photo in found.photos]
    return Benchmark(keys, [keys[query] for query in found.truth.queries], {"sfm": found.truth})


def evaluate_index(
    index: Index,
    descriptors: Descriptors,
    split: int = VAL,
    min_shared: int = MIN_SHARED,
    distractors: Descriptors | None = None,
    path_of_index: str = "index.h5",
) -> Evaluation:
    """Evaluate descriptors on the places of a split.

    Parameters
    ----------
    index, split, min_shared, path_of_index
        As `sfm_benchmark`.
    descriptors : Descriptors
        Holds at least the photos of the split, by key; one row a photo is enough.
    distractors : Descriptors, optional
        Added to the database after the split's photos; never right.

    Raises
    ------
    DataError
        Photos have no descriptor.
    UsageError
        The split has no photos with positives, or distractors of another dimension.
    """
    benchmark = sfm_benchmark(index, split, min_shared, path_of_index)
    keys, truth = benchmark.database, benchmark.setups["sfm"]
    database = descriptors.values[align(descriptors, keys, path_of_index)]
    queries = database[truth.queries]
    if distractors is not None:
        if distractors.values.shape[1] != database.shape[1]:
            raise UsageError(
                f"distractors have {distractors.values.shape[1]} dimensions, the descriptors {database.shape[1]}"
            )
        database = np.concatenate([database, distractors.values])
        keys += distractors.names
    return replace(evaluate_descriptors(queries, database, truth), names=tuple(keys))
