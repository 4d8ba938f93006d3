"""The relations of one model: which pairs of its images are positive, proven negative or unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.covisibility.pair_loops import pairs_of
from sfm2tuples.covisibility.tracks import tracks_of
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.relations.frusta import frusta_of
from sfm2tuples.relations.projections import projections_of
from sfm2tuples.relations.unknown_pairs import Graph, UnknownPairs, unknown_pairs


@dataclass(frozen=True)
class ModelRelations:
    """What a model proves of its images, by method.md section 12.

    A pair is positive where it is an edge of the graph, unknown where one of the two takes no part or `unknown` lists
    it, and a proven negative otherwise.
    """

    takes_part: np.ndarray
    """(n,) bool, see `sfm2tuples.relations.frusta.Frusta`."""
    unknown: UnknownPairs
    """The unknown pairs of images that take part."""
    observed: np.ndarray
    """(n,) int64, |P(i)|: different points that each image observes."""


def relations_of_model(
    model: SparseModel, graph: Graph, is_whole: bool = True, threads: int | None = None
) -> ModelRelations:
    """The relations of a model's images.

    Parameters
    ----------
    model : SparseModel
    graph : Graph
        Which pairs are positive.
    is_whole : bool
        Whether the graph has all pairs that share a point. Where it has not (`--min-shared`), they are counted anew:
        a pair that shares fewer points than the graph wants is unknown, and steps are counted along it too.
    threads : int, optional
        See `sfm2tuples.compute.threads.over_blocks`; changes nothing but the time.

    Returns
    -------
    ModelRelations
    """
    shared = graph
    if not is_whole:
        tracks = tracks_of(model.observation_indptr, model.observation_points, len(model.points), threads)
        pairs = pairs_of(tracks, 1, None, threads)
        shared = Graph(pairs.indptr, pairs.neighbour)
    frusta = frusta_of(model, threads)
    projections = projections_of(frusta, model.points, graph.indptr, graph.neighbour, threads)
    unknown = unknown_pairs(frusta, projections, graph, shared, threads)
    return ModelRelations(frusta.takes_part, unknown, frusta.observed)
