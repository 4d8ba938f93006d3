"""Positives: the candidate set M(q) of each image, and the rules m1, m2, m3. method.md section 4."""

from __future__ import annotations

import numpy as np

from sfm2tuples.compute.random_draws import draw
from sfm2tuples.files.columns import gather_rows, indptr_of
from sfm2tuples.files.lazy_file import LazyTable
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.index.schema import overlaps
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.queries import rank_in_run
from sfm2tuples.mining.tuple_file import Candidates
from sfm2tuples.similarity.best_rows import pair_similarities
from sfm2tuples.similarity.rows import Matrix

OPPOSITE_VIEW = np.float32(np.pi / 2)
"""Angle between two optical axes, in radians, from which on two images look from opposite sides. The points that such
images share lie on a thin or transparent thing, or are wrong matches: the photos have nothing in common."""


Homes = np.ndarray | tuple[np.ndarray, np.ndarray]
"""Place of each row of the image table, (m,) int64, or two where it is another as a candidate than as a query."""


def find_candidates(index: OpenedIndex, table_row: np.ndarray, place: Homes, options: MiningOptions) -> Candidates:
    """M(q) of every image: the images with most shared points, with the evidence.

    Parameters
    ----------
    index : OpenedIndex
    table_row : (n,) int64
        Row of each index image in the image table; -1 for one without a photo. Images of the same photo have the same
        row: their candidates are merged, and of two entries of one photo the one with more shared points counts.
    place : (m,) int64, or two of them
        Place of each row of the image table: the candidates of an image are of its place. Where two are given, the
        second is each row's place as a candidate.
    options : MiningOptions
        `num_candidates` is the paper's k; `min_shared`, `max_angle` and `max_overlap` limit what is a candidate at all,
        as does `OPPOSITE_VIEW`. Ties in shared points: lower row first.

    Returns
    -------
    Candidates
        Of the queries that have any.
    """
    graph, observed = index.graph, index.num_observed()
    source = np.repeat(np.arange(len(table_row)), np.diff(graph.indptr[:]))
    query, image, shared = table_row[source], table_row[graph.neighbour[:]], graph.shared[:]
    edge = np.flatnonzero(_may_be_positive(graph, query, image, shared, place, options))
    if options.max_overlap is not None:
        edge = edge[~_near_duplicates(index, observed, source, query, image, edge, options.max_overlap)]
    query, image, shared = query[edge], image[edge], shared[edge]

    order = np.lexsort((edge, -shared, image, query))
    query, image, edge, shared = query[order], image[order], edge[order], shared[order]
    first = np.ones(len(edge), bool)
    first[1:] = (query[1:] != query[:-1]) | (image[1:] != image[:-1])
    query, image, edge, shared = query[first], image[first], edge[first], shared[first]

    order = np.lexsort((image, -shared, query))
    order = order[rank_in_run(query[order]) < options.num_candidates]
    query, edge, shared = query[order], edge[order], shared[order]
    rows, counts = np.unique(query, return_counts=True)
    return Candidates(
        query=rows.astype(np.int64),
        indptr=indptr_of(counts),
        image=image[order],
        shared=shared,
        overlap=overlaps(index.path, shared, observed[source[edge]]),
        scale_change=graph.scale_change[:][edge],
        angle=graph.angle[:][edge],
    )


def _may_be_positive(
    graph: LazyTable,
    query: np.ndarray,
    image: np.ndarray,
    shared: np.ndarray,
    place: Homes,
    options: MiningOptions,
) -> np.ndarray:
    """Which edges of the graph join two different photos of one place that see enough in common: (e,) bool."""
    keep = (query >= 0) & (image >= 0) & (query != image)
    keep &= shared >= options.min_shared
    keep &= graph.axis_angle[:] < OPPOSITE_VIEW
    if options.max_angle is not None:
        keep &= graph.angle[:] <= np.float32(np.radians(options.max_angle))
    of_query, of_image = place if isinstance(place, tuple) else (place, place)
    keep[keep] = of_query[query[keep]] == of_image[image[keep]]
    return keep


def count_near_duplicates(index: OpenedIndex, table_row: np.ndarray, place: Homes, options: MiningOptions) -> int:
    """How many pairs of photos `find_candidates` leaves out because of `max_overlap`; arguments as there."""
    if options.max_overlap is None:
        return 0
    graph = index.graph
    source = np.repeat(np.arange(len(table_row)), np.diff(graph.indptr[:]))
    query, image = table_row[source], table_row[graph.neighbour[:]]
    edge = np.flatnonzero(_may_be_positive(graph, query, image, graph.shared[:], place, options))
    edge = edge[_near_duplicates(index, index.num_observed(), source, query, image, edge, options.max_overlap)]
    low, high = np.minimum(query[edge], image[edge]), np.maximum(query[edge], image[edge])
    return len(np.unique(low * np.int64(table_row.max(initial=0) + 1) + high))


def _near_duplicates(
    index: OpenedIndex,
    observed: np.ndarray,
    source: np.ndarray,
    query: np.ndarray,
    image: np.ndarray,
    edge: np.ndarray,
    most: float,
) -> np.ndarray:
    """Which of some edges join two photos that see almost only the same points: (len(edge),) bool.

    The smaller overlap of both ways counts, so that a detail of a wide photo, which sees nothing else but is no
    duplicate of it, stays. Two photos that a model calls near-duplicates are so in all.
    """
    more = np.maximum(observed[source[edge]], observed[index.graph.neighbour[:][edge]])
    near = overlaps(index.path, index.graph.shared[:][edge], more) > np.float32(most)
    pair = query[edge] * np.int64(query.max(initial=0) + 1) + image[edge]
    return np.isin(pair, pair[near])


def allowed(candidates: Candidates, options: MiningOptions) -> np.ndarray:
    """Which candidates may be chosen: (k,) bool.

    m1 and m2 take any; m3 asks for ``overlap >= min_overlap`` and ``scale_change <= max_scale_change``, so that an
    undefined (NaN) scale change never passes. Imported pairs, which have no evidence at all, always pass.
    """
    if options.positives != "m3":
        return np.ones(len(candidates.image), bool)
    enough = candidates.overlap >= np.float32(options.min_overlap)
    return candidates.unknown | (enough & (candidates.scale_change <= np.float32(options.max_scale_change)))


def possible_queries(candidates: Candidates, options: MiningOptions) -> np.ndarray:
    """Rows of the images that have a positive under the rule: (e,) int64, rising."""
    query = np.repeat(candidates.query, np.diff(candidates.indptr))
    return np.unique(query[allowed(candidates, options)])


def choose_positives(
    candidates: Candidates,
    query: np.ndarray,
    image_number: np.ndarray,
    options: MiningOptions,
    round: int,
    descriptors: Matrix | None = None,
    row_of: np.ndarray | None = None,
) -> np.ndarray:
    """Choose the positives of each query.

    Parameters
    ----------
    candidates : Candidates
    query : (t,) int64
        Rising rows, all of them with candidates.
    image_number : (n,) uint64
        Number of every image in draws.
    round : int
        m3 draws anew in every round; a draw is named by seed, round, query and candidate. Where candidates say which
        are of another sequence than the query, it draws among those first.
    descriptors : (m, D) float32, optional
        For m1: current descriptors.
    row_of : (n,) int64, optional
        For m1: row in `descriptors` of every image.

    Returns
    -------
    (t, P) int64
        Positions in the candidates' columns; -1 where a query has fewer than `num_positives`. m1: most similar first;
        m2: most shared points first; m3: in the order drawn. Ties: lower row first.
    """
    indptr, position = gather_rows(candidates.indptr, np.searchsorted(candidates.query, query))
    of = np.repeat(np.arange(len(query)), np.diff(indptr))
    usable = allowed(candidates, options)[position]
    position, of = position[usable], of[usable]
    image = candidates.image[position]
    own = np.zeros(len(position), bool)
    if options.positives == "m3":
        if candidates.across is not None:
            own = ~candidates.across[position]
        key = draw(options.seed, round, "m3", image_number[query[of]], image_number[image])
    elif options.positives == "m2":
        key = -candidates.shared[position].astype(np.int64)
    else:
        if descriptors is None or row_of is None:
            raise ValueError("m1 chooses by descriptors, and none were given")
        key = -pair_similarities(descriptors, descriptors, row_of[query[of]], row_of[image])
    order = np.lexsort((image, key, own, of))
    position, of = position[order], of[order]
    rank = rank_in_run(of)
    chosen = np.full((len(query), options.num_positives), -1, np.int64)
    kept = rank < options.num_positives
    chosen[of[kept], rank[kept]] = position[kept]
    return chosen
