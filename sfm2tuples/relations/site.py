"""What the models of a whole index prove: images that may not be negatives of each other, and pairs that may."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix, identity

from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.relations.unknown_pairs import Graph

APART = "apart"
"""What the option `fragments` of an index says where images of two models of one place are proven negatives."""


@dataclass(frozen=True)
class SiteRelations:
    """By image, what is known about it and the other images of its place.

    Images of two places are negatives of each other, as ever. Two images of one place are unknown where one has the
    fragment -1 or their fragments differ. Else they are positive or unknown where `barred` says so, and proven
    negatives where it does not. A photo that several rows of the index have is one image here: what holds of it holds
    of all its rows.
    """

    place: np.ndarray
    """(n,) int64, row of each image's place."""
    fragment: np.ndarray
    """(n,) int64: what has a common frame, or is known to be apart; -1: unknown to all images of its place."""
    indptr: np.ndarray
    """(n + 1,) int64, where each image's barred images start."""
    barred: np.ndarray
    """(b,) int64, images of the same place that may not be its negatives: positive or unknown; rising, symmetric."""

    def is_proven(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether each of some pairs of images is a negative: of two places, or proven by a model of their place.

        Parameters
        ----------
        first, second : int arrays that broadcast
            Rows of the index.

        Returns
        -------
        bool array
        """
        i, j = np.broadcast_arrays(np.asarray(first, np.int64), np.asarray(second, np.int64))
        place, fragment, n = self.place, self.fragment, len(self.place)
        known = (fragment[i] == fragment[j]) & (fragment[i] >= 0) & (i != j)
        at = np.searchsorted(self._listed, i * n + j)
        is_barred = np.append(self._listed, -1)[at] == i * n + j
        proven: np.ndarray = (place[i] != place[j]) | (known & ~is_barred)
        return proven

    @cached_property
    def _listed(self) -> np.ndarray:
        """One number for each barred pair, rising: it is asked for again and again."""
        listed: np.ndarray = np.repeat(np.arange(len(self.place)), np.diff(self.indptr)) * len(self.place) + self.barred
        return listed


def relations_of(index: OpenedIndex) -> SiteRelations | None:
    """What the models of an index prove; None where the index does not say.

    Parameters
    ----------
    index : OpenedIndex

    Returns
    -------
    SiteRelations or None

    Raises
    ------
    FileFormatError
        As `unknown_within_models`.
    """
    inside = index.inside
    if inside is None:
        return None
    images, graph = index.images, index.graph
    return site_relations(
        images.place[:],
        images.model[:],
        images.photo[:],
        inside.takes_part[:],
        Graph(graph.indptr[:], graph.neighbour[:]),
        unknown_within_models(index),
        are_fragments_apart(index),
    )


def unknown_within_models(index: OpenedIndex) -> Graph:
    """The unknown pairs of one model each, as the index lists them.

    Raises
    ------
    FileFormatError
        A pair is there one way alone, or images do not rise: a negative that is not proven would come of it.
    """
    if index.inside is None:
        raise ValueError("the index has no relations inside its places")
    graph, n = Graph(index.inside.indptr[:], index.inside.other[:]), index.num_images
    first = np.repeat(np.arange(n), np.diff(graph.indptr))
    listed = first * n + graph.neighbour
    if (np.diff(listed) <= 0).any() or (np.sort(graph.neighbour * n + first) != listed).any():
        what = "inside/other is not symmetric, or does not rise within an image's rows"
        raise FileFormatError(index.path, what, "build the index again")
    return graph


def are_fragments_apart(index: OpenedIndex) -> bool:
    """Whether images of two models of one place are proven negatives (`build-index --fragments apart`)."""
    return bool(index.header.options.get("fragments") == APART)


def site_relations(
    place: np.ndarray,
    model: np.ndarray,
    photo: np.ndarray,
    takes_part: np.ndarray,
    positive: Graph,
    unknown: Graph,
    apart: bool,
) -> SiteRelations:
    """Put the relations of all models together.

    Parameters
    ----------
    place, model, photo : (n,) int64
        As of the images of an index.
    takes_part : (n,) bool
    positive, unknown : Graph
        Rows of the index.
    apart : bool
        Whether two models of one place are known to show different parts of it.
    """
    n, number = len(place), np.unique(photo, return_inverse=True)[1].ravel()
    pairs = _matrix(positive, n) + _matrix(unknown, n)
    photos = int(number.max(initial=-1)) + 1
    if photos < n:
        of_photo = csr_matrix((np.ones(n, np.int32), (number, np.arange(n))), (photos, n))
        by_photo = of_photo @ pairs @ of_photo.T + identity(photos, np.int32, "csr")
        pairs = of_photo.T @ by_photo @ of_photo
    pairs = pairs.tocsr()
    pairs.sort_indices()
    first, other = np.repeat(np.arange(n), np.diff(pairs.indptr)), pairs.indices.astype(np.int64)
    kept = (first != other) & (place[first] == place[other])
    # The least and the largest model of each photo: where they differ, its rows are in several models.
    lowest, highest = np.full(photos, n), np.full(photos, -1)
    np.minimum.at(lowest, number, model)
    np.maximum.at(highest, number, model)
    joins_in = np.ones(photos, bool)
    np.logical_and.at(joins_in, number, takes_part)
    known = joins_in if apart else joins_in & (lowest == highest)
    fragment = np.where(known[number], place if apart else model, -1)
    return SiteRelations(place, fragment, indptr_of(np.bincount(first[kept], minlength=n)), other[kept])


def _matrix(graph: Graph, n: int) -> csr_matrix:
    return csr_matrix((np.ones(len(graph.neighbour), np.int32), graph.neighbour, graph.indptr), (n, n))
