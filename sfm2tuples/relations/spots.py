"""Spots: parts of a place whose images see much the same. They take the part that places have in a large collection."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from sfm2tuples.relations.louvain import communities
from sfm2tuples.relations.unknown_pairs import Graph

RESOLUTION, LEAST_WEIGHT = 2.0, 0.05
"""Of the communities, and what an edge must weigh more than to count. [method.md section 12]"""
MOST_IMAGES, LEAST_IMAGES = 100, 3
"""A spot has at most so many images. One with fewer than so many joins the spot that it shares most with."""


def spots_of(graph: Graph, shared: np.ndarray, observed: np.ndarray, takes_part: np.ndarray, seed: int) -> np.ndarray:
    """The spot of each image.

    An edge weighs n / min(|P(i)|, |P(j)|), the shared points over those of the image that has fewer.

    Parameters
    ----------
    graph : Graph
        Of all images of the index.
    shared : (e,) int
        Shared points of each edge.
    observed : (n,) int
        |P(i)|.
    takes_part : (n,) bool
        The others have no spot.
    seed : int

    Returns
    -------
    (n,) int64
        Numbers from 0 in the order of the spots' first images; -1 where an image takes no part.
    """
    n = len(takes_part)
    first, other = np.repeat(np.arange(n), np.diff(graph.indptr)), graph.neighbour
    weight = shared / np.minimum(observed[first], observed[other])
    row = np.cumsum(takes_part) - 1
    both = takes_part[first] & takes_part[other]
    entries = (weight[both], (row[first[both]], row[other[both]]))
    weights = csr_matrix(entries, (int(takes_part.sum()),) * 2)
    strong = weights.copy()
    strong.data[strong.data <= LEAST_WEIGHT] = 0
    strong.eliminate_zeros()
    spot = np.full(n, -1, np.int64)
    spot[takes_part] = _without_small(communities(strong, RESOLUTION, MOST_IMAGES, seed), weights)
    return spot


def _without_small(spot: np.ndarray, weights: csr_matrix) -> np.ndarray:
    """Join each small spot, the smallest first, to the one that it has most weight with, where there is one with room.

    Numbers stay in the order of the spots' first images.
    """
    count = int(spot.max(initial=-1)) + 1
    belongs = csr_matrix((np.ones(len(spot)), (spot, np.arange(len(spot)))), (count, len(spot)))
    between = (belongs @ weights @ belongs.T).tocsr()
    between.sort_indices()
    size, joined = np.bincount(spot, minlength=count), np.arange(count)
    for small in np.argsort(size, kind="stable").tolist():
        if size[joined == joined[small]].sum() >= LEAST_IMAGES:
            continue
        part = slice(between.indptr[small], between.indptr[small + 1])
        weight = np.bincount(joined[between.indices[part]], between.data[part], count)
        full = np.bincount(joined, size, count) + size[joined == joined[small]].sum() > MOST_IMAGES
        weight[full] = 0
        weight[joined[small]] = 0
        if weight.any():
            joined[joined == joined[small]] = int(weight.argmax())
    _, first, group = np.unique(joined[spot], return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[group.ravel()]
