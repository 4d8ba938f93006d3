"""What an index of one site says of pairs inside its places: relations, spots, and a split inside a place."""

from __future__ import annotations

import fnmatch
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfm2tuples.errors import UsageError, counted
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.tables import Column
from sfm2tuples.index.schema import Inside, Places, Spots
from sfm2tuples.index.splits import LEFT_OUT, TRAIN, VAL
from sfm2tuples.ingest.jobs import Wanted, read_again
from sfm2tuples.ingest.merging import MergedIndex, StoredModel
from sfm2tuples.ingest.options import APART, GRAPH, IngestOptions
from sfm2tuples.ingest.photo_sizes import lacks_sizes, with_photo_sizes
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.relations.held_out import MOST_BUFFER, hold_out_models, hold_out_spots
from sfm2tuples.relations.model_relations import relations_of_model
from sfm2tuples.relations.site import SiteRelations, site_relations
from sfm2tuples.relations.spots import spots_of
from sfm2tuples.relations.unknown_pairs import Graph

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InsideSummary:
    """What was found inside the places, for people."""

    positive: int
    """Pairs of images of one place that share points."""
    proven: int
    """Pairs that are proven negatives."""
    unknown: int
    """All other pairs of images of one place."""
    taking_part: int
    """Images that can have proven negatives."""
    spots: int
    """Parts of the places."""
    train: int
    """Images for training."""
    val: int
    """Images for validation."""
    buffer_share: float
    """Share of the images that take part, and are left out because they are not proven negative to the other side."""


@dataclass(frozen=True)
class InsideTables:
    """The two groups of the index, and what to say of them."""

    inside: Inside
    spots: Spots
    summary: InsideSummary

    def columns(self) -> dict[str, dict[str, Column]]:
        """By group, the columns by name."""
        return {"inside": vars(self.inside), "spots": vars(self.spots)}


def inside_tables(
    models: Sequence[StoredModel], merged: MergedIndex, options: IngestOptions, fixed: bool, threads: int | None = None
) -> InsideTables:
    """Compute the relations of each model, the spots, and the split of each image.

    Parameters
    ----------
    models : sequence of StoredModel
        In the order of their rows.
    merged : MergedIndex
        What they were merged into.
    options : IngestOptions
    fixed : bool
        Whether the places file says which side a place is on: then nothing is held out of a place by `val_share`.
    threads : int, optional
        Changes nothing but the time.

    Raises
    ------
    UsageError
        `val_names` fits no image that takes part, or all.
    """
    images, apart = merged.images, options.fragments == APART
    roots: Any = merged.tables["models"]["photo_root"]
    found = _all_models(models, roots, Wanted(options.min_shared, options.keep == GRAPH), threads)
    place = merged.grouping.place[images.model]
    spot = spots_of(found.graph, found.shared, found.observed, found.takes_part, options.seed)
    spot, spots = _numbered_by_place(spot, place)
    relations = site_relations(place, images.model, images.photo, found.takes_part, found.graph, found.unknown, apart)
    names = list(itertools.chain.from_iterable(model.image_names for model in models))

    def positive_only() -> SiteRelations:
        nothing = Graph(np.zeros(len(place) + 1, np.int64), np.zeros(0, np.int64))
        return site_relations(place, images.model, images.photo, found.takes_part, found.graph, nothing, True)

    both = _Relations(relations, positive_only)
    split, buffer_share = _split(both, spot, names, images.key, merged.places, options, fixed)
    inside = Inside(
        takes_part=found.takes_part,
        spot=spot,
        split=split,
        indptr=found.unknown.indptr,
        other=found.unknown.neighbour,
        **found.evidence,
    )
    positive, proven, unknown = _count_pairs(found, merged, apart)
    summary = InsideSummary(
        positive=positive,
        proven=proven,
        unknown=unknown,
        taking_part=int(found.takes_part.sum()),
        spots=len(spots.place),
        train=int((split == TRAIN).sum()),
        val=int((split == VAL).sum()),
        buffer_share=buffer_share,
    )
    return InsideTables(inside, spots, summary)


@dataclass(frozen=True)
class _AllModels:
    """The relations of all models; rows are those of the index."""

    takes_part: np.ndarray
    """(n,) bool."""
    observed: np.ndarray
    """(n,) int64, different points that each image observes."""
    graph: Graph
    """The graph of the index."""
    shared: np.ndarray
    """(e,) int32, shared points of each of its edges."""
    unknown: Graph
    """The unknown pairs of images of one model."""
    evidence: dict[str, np.ndarray]
    """Columns of the unknown pairs, by their names in `Inside`."""
    proven: int
    """Proven pairs of images of one model."""


def _all_models(
    models: Sequence[StoredModel], photo_roots: Sequence[str], wanted: Wanted, threads: int | None
) -> _AllModels:
    """The relations of each model, one after the other: the points of one are in memory at a time."""
    parts, graphs, shared, proven = [], [], [], 0
    for stored, root in zip(models, photo_roots, strict=True):
        model = read_again(stored.location, wanted, stored.record.key) if wanted.lean else _read(stored)
        if lacks_sizes(model):
            model = with_photo_sizes(model, root, stored.image_names, stored.location.called())
        graph, own_shared = _graph_of(stored)
        part = relations_of_model(model, graph, wanted.min_shared == 1, threads)
        first = np.repeat(np.arange(len(part.takes_part)), np.diff(graph.indptr))
        edges = int((part.takes_part[first] & part.takes_part[graph.neighbour]).sum())
        proven += (_pairs(int(part.takes_part.sum())) - edges - len(part.unknown.other)) // 2
        parts.append(part)
        graphs.append(graph)
        shared.append(own_shared)
    return _AllModels(
        takes_part=_column([part.takes_part for part in parts], bool),
        observed=_column([part.observed for part in parts], np.int64),
        graph=_joined([(graph.indptr, graph.neighbour) for graph in graphs]),
        shared=_column(shared, np.int32),
        unknown=_joined([(part.unknown.indptr, part.unknown.other) for part in parts]),
        evidence={name: _column([getattr(p.unknown, name) for p in parts], kind) for name, kind in EVIDENCE.items()},
        proven=proven,
    )


EVIDENCE = {"hops": np.uint8, "into": np.float32, "distance": np.float32}
"""Columns of an unknown pair, and their types."""


def _read(stored: StoredModel) -> SparseModel:
    """A model's columns as far as relations need them, from a part that has its points; xy where no size is there."""

    def column(name: str, kind: str) -> np.ndarray:
        return _column_of(stored, name, kind)

    sizes = column("cameras/size", "cameras")
    return SparseModel(
        camera_ids=column("cameras/id", "cameras"),
        camera_models=column("cameras/model", "cameras"),
        camera_sizes=sizes,
        camera_indptr=indptr_of(column("cameras/num_params", "cameras")),
        camera_params=column("cameras/params", "params"),
        image_ids=column("images/id", "images"),
        image_names=stored.image_names,
        image_cameras=column("images/camera", "images"),
        quaternions=column("images/quaternion", "images"),
        translations=column("images/translation", "images"),
        observation_indptr=indptr_of(column("images/num_observations", "images")),
        observation_points=column("observations/point", "observations"),
        observation_xy=np.zeros((0, 2), np.float32) if sizes.any() else column("observations/xy", "observations"),
        point_ids=column("points/id", "points"),
        points=column("points/xyz", "points"),
        point_errors=column("points/error", "points"),
    )


def _graph_of(stored: StoredModel) -> tuple[Graph, np.ndarray]:
    """A model's graph, and the shared points of its edges."""
    indptr = indptr_of(_column_of(stored, "images/num_neighbours", "images"))
    neighbour, shared = (_column_of(stored, f"covisibility/{name}", "edges") for name in ("neighbour", "shared"))
    return Graph(indptr, neighbour), shared


def _column_of(stored: StoredModel, name: str, kind: str) -> np.ndarray:
    start, stop = stored.part.starts[kind][stored.row : stored.row + 2]
    return stored.part.read(name, int(start), int(stop))


def _column(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts])


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> Graph:
    """CSR columns of consecutive models as one; rows count from the first model's first image."""
    counts = _column([np.diff(indptr) for indptr, _ in parts], np.int64)
    starts = indptr_of(np.array([len(indptr) - 1 for indptr, _ in parts], np.int64))
    rows = [other + start for (_, other), start in zip(parts, starts.tolist(), strict=False)]
    return Graph(indptr_of(counts), _column(rows, np.int64))


def _numbered_by_place(spot: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, Spots]:
    """Spots in the order of their places, then of their first images; no spot has images of two places."""
    some = np.flatnonzero(spot >= 0)
    _, first = np.unique(spot[some], return_index=True)
    place_of = place[some[first]]
    order = np.argsort(place_of, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return np.where(spot >= 0, np.append(rank, -1)[spot], -1), Spots(place_of[order].astype(np.int64))


@dataclass(frozen=True)
class _Relations:
    """What may bar an image from both sides of a split."""

    whole: SiteRelations
    """Whatever is not proven negative."""
    positive: Callable[[], SiteRelations]
    """Gives those of shared points alone, which are seldom asked for."""


def _split(
    relations: _Relations,
    spot: np.ndarray,
    names: Sequence[str],
    keys: Sequence[str],
    places: Places,
    options: IngestOptions,
    fixed: bool,
) -> tuple[np.ndarray, float]:
    """The split of each image, and the share that the buffer costs."""
    place, takes_part = relations.whole.place, spot >= 0
    by_place = places.split[place].astype(np.int8)
    if options.val_names is not None:
        named = _named(options.val_names, names, keys, takes_part)
        split = np.where(named, VAL, by_place)
        return np.where(takes_part, split, LEFT_OUT).astype(np.int8), 0.0
    with_spots = np.unique(place[takes_part])
    if len(with_spots) != 1 or fixed or places.split[with_spots[0]] == VAL:
        return by_place, 0.0
    own = np.where(place == with_spots[0], spot, -1)
    held = hold_out_spots(relations.whole, own, options.val_share, options.seed)
    if held.buffer_share > MOST_BUFFER:
        return _second_best(relations, own, options, held.buffer_share)
    return held.split, held.buffer_share


def _second_best(
    relations: _Relations, spot: np.ndarray, options: IngestOptions, whole_buffer: float
) -> tuple[np.ndarray, float]:
    """The split where the whole buffer would cost too much, and the share that its buffer costs; it says what it is.

    Of several models whole ones are held out. Of one model spots are, with those that share points with them as the
    buffer.
    """
    split = hold_out_models(relations.whole, spot, options.val_share, options.seed)
    held = int((split == VAL).sum())
    if held:
        log.warning(
            "whole models are held out, %s images: no spots are proven to be apart from the rest, and nothing proves "
            "that these models are; say --fragments apart if the models of this place show different parts of it",
            f"{held:,}",
        )
        return split, 0.0
    narrow = hold_out_spots(relations.positive(), spot, options.val_share, options.seed)
    if narrow.buffer_share > MOST_BUFFER or not (narrow.split == VAL).any():
        log.warning(
            "nothing is held out for validation: %.0f %% of the images would be left out as a buffer, %.0f %% if only "
            "those were that share points with the held-out ones; give --val-names to hold out a walk",
            100 * whole_buffer,
            100 * narrow.buffer_share,
        )
        return narrow.split, 0.0
    log.warning(
        "the buffer is what shares points with the %s held-out images; images of which nothing is proven are trained "
        "on, for a buffer of those too would cost %.0f %% of all",
        f"{int((narrow.split == VAL).sum()):,}",
        100 * whole_buffer,
    )
    return narrow.split, narrow.buffer_share


def _named(pattern: str, names: Sequence[str], keys: Sequence[str], takes_part: np.ndarray) -> np.ndarray:
    """Which images a pattern fits, (n,) bool; refuses one after which nothing is held out, or nothing is left."""
    named = np.array([_fits(pattern, *pair) for pair in zip(names, keys, strict=True)], bool)
    usable, fits = int((named & takes_part).sum()), ""
    if named.all() or not named.any():
        fits = f"{'all' if named.any() else 'none'} of {len(named):,} images, such as {names[0]}"
    elif not usable:
        fits = f"{counted(int(named.sum()), 'image')}, none of which takes part (15 points, a focal length, a size)"
    elif usable == takes_part.sum():
        fits = f"all of the {usable:,} images that take part, so that none is left for training"
    if fits:
        raise UsageError(f"--val-names '{pattern}' fits {fits}; give a pattern that fits one walk, as 'night/*'")
    return named


def _fits(pattern: str, name: str, key: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(key, pattern)


def _count_pairs(found: _AllModels, merged: MergedIndex, apart: bool) -> tuple[int, int, int]:
    """Positive, proven and unknown pairs of rows of one place."""
    model, place = merged.images.model, merged.grouping.place
    proven = found.proven
    if apart:
        parting = np.bincount(model[found.takes_part], minlength=len(place))
        by_place = np.bincount(place, parting).astype(np.int64)
        proven += (sum(map(_pairs, by_place.tolist())) - sum(map(_pairs, parting.tolist()))) // 2
    positive = len(found.graph.neighbour) // 2
    everything = sum(map(_pairs, np.bincount(place[model]).tolist())) // 2
    return positive, proven, everything - positive - proven


def _pairs(images: int) -> int:
    """Ordered pairs of different ones."""
    return images * (images - 1)
