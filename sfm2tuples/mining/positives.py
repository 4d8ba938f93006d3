"""Positives: the candidate set M(q) of each image, and the rules m1, m2, m3. method.md section 4."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm2tuples.compute.random_draws import draw
from sfm2tuples.files.columns import gather_rows, indptr_of
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
EDGES_AT_ONCE = 1 << 20
"""Edges of the graph that are looked at together: about 100 MB, whatever the index has."""
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
    observed, indptr = index.num_observed(), index.graph.indptr[:]
    bounds = np.searchsorted(indptr, np.arange(0, indptr[-1], EDGES_AT_ONCE))
    bounds = np.unique(np.append(bounds, len(table_row))).tolist()
    # A photo that several images show gets candidates from all of them, which may lie in any block: these come last.
    several = np.bincount(table_row[table_row >= 0], minlength=1) > 1
    parts: dict[str, list[np.ndarray]] = {name: [] for name in _CANDIDATE_COLUMNS}
    waiting = [_Edges.none()]

    def keep(edges: _Edges) -> None:
        kept = _strongest(edges, options)
        for name in parts:
            is_overlap = name == "overlap"
            parts[name].append(overlaps(index.path, kept.shared, kept.observed) if is_overlap else getattr(kept, name))

    for start, stop in itertools.pairwise([0, *bounds] if bounds[0] else bounds):
        edges = _Edges.of_images(index, table_row, observed, slice(start, stop), place, options)
        late = several[edges.query]
        keep(edges.take(~late))
        waiting.append(edges.take(late))
    keep(_Edges.joined(waiting))
    # One column after the other, so that no more than one is in memory twice.
    columns = {name: np.concatenate(parts.pop(name)) for name in _CANDIDATE_COLUMNS}
    query = columns.pop("query")
    if (query[1:] < query[:-1]).any():
        order = np.argsort(query, kind="stable")
        query, columns = query[order], {name: column[order] for name, column in columns.items()}
    rows, counts = np.unique(query, return_counts=True)
    return Candidates(query=rows.astype(np.int64), indptr=indptr_of(counts), **columns)


_CANDIDATE_COLUMNS = ("query", "image", "shared", "overlap", "scale_change", "angle")
"""What is known of a candidate."""


@dataclass(frozen=True)
class _Edges:
    """Some edges of the graph as columns of (e,): what may become candidates of their queries."""

    query: np.ndarray
    """int64, rows of the image table."""
    image: np.ndarray
    """int64, rows of the image table."""
    shared: np.ndarray
    """int32, shared points."""
    observed: np.ndarray
    """int64, points that the query's image sees."""
    scale_change: np.ndarray
    """float32."""
    angle: np.ndarray
    """float32."""
    near: np.ndarray
    """bool, whether the two see almost only the same points in this model."""

    @classmethod
    def none(cls) -> _Edges:
        """No edges."""
        kinds = (np.int64, np.int64, np.int32, np.int64, np.float32, np.float32, bool)
        return cls(*(np.zeros(0, kind) for kind in kinds))

    @classmethod
    def of_images(
        cls,
        index: OpenedIndex,
        table_row: np.ndarray,
        observed: np.ndarray,
        images: slice,
        place: Homes,
        options: MiningOptions,
    ) -> _Edges:
        """Those of consecutive images of the index that join two different photos of one place, as far as allowed."""
        graph = index.graph
        indptr = graph.indptr[images.start : images.stop + 1]
        part = slice(int(indptr[0]), int(indptr[-1]))
        source = np.repeat(np.arange(images.start, images.stop), np.diff(indptr))
        neighbour, shared, angle = graph.neighbour[part], graph.shared[part], graph.angle[part]
        query, image = table_row[source], table_row[neighbour]
        axis_angle = graph.axis_angle[part]
        edge = np.flatnonzero(_may_be_positive(query, image, shared, angle, axis_angle, place, options))
        query, image, shared, source = query[edge], image[edge], shared[edge], source[edge]
        near = np.zeros(len(edge), bool)
        if options.max_overlap is not None:
            more = np.maximum(observed[source], observed[neighbour[edge]])
            near = overlaps(index.path, shared, more) > np.float32(options.max_overlap)
        return cls(query, image, shared, observed[source], graph.scale_change[part][edge], angle[edge], near)

    @classmethod
    def joined(cls, parts: Sequence[_Edges]) -> _Edges:
        """Parts one after the other."""
        return cls(*(np.concatenate(columns) for columns in zip(*(vars(p).values() for p in parts), strict=True)))

    def take(self, which: np.ndarray) -> _Edges:
        """Some of the edges: a mask or positions."""
        return _Edges(*(column[which] for column in vars(self).values()))

    def near_duplicates(self) -> np.ndarray:
        """Which join photos that any model calls near-duplicates: (e,) bool.

        The smaller overlap of both ways counts, so that a detail of a wide photo, which sees nothing else but is no
        duplicate of it, stays.
        """
        pair = self.query * np.int64(max(self.query.max(initial=0), self.image.max(initial=0)) + 1) + self.image
        return np.isin(pair, pair[self.near])


def _strongest(edges: _Edges, options: MiningOptions) -> _Edges:
    """Of all edges of some queries those with most shared points, in the order of candidates; O(e log e)."""
    if options.max_overlap is not None:
        edges = edges.take(~edges.near_duplicates())
    # Of two entries of one pair the one with more shared points, of equal ones the first, counts.
    order = np.lexsort((-edges.shared, edges.image, edges.query))
    query, image = edges.query[order], edges.image[order]
    first = np.ones(len(order), bool)
    first[1:] = (query[1:] != query[:-1]) | (image[1:] != image[:-1])
    edges = edges.take(order[first])
    order = np.lexsort((edges.image, -edges.shared, edges.query))
    return edges.take(order[rank_in_run(edges.query[order]) < options.num_candidates])


def _may_be_positive(
    query: np.ndarray,
    image: np.ndarray,
    shared: np.ndarray,
    angle: np.ndarray,
    axis_angle: np.ndarray,
    place: Homes,
    options: MiningOptions,
) -> np.ndarray:
    """Which edges of the graph join two different photos of one place that see enough in common: (e,) bool."""
    keep = (query >= 0) & (image >= 0) & (query != image)
    keep &= shared >= options.min_shared
    keep &= axis_angle < OPPOSITE_VIEW
    if options.max_angle is not None:
        keep &= angle <= np.float32(np.radians(options.max_angle))
    of_query, of_image = place if isinstance(place, tuple) else (place, place)
    keep[keep] = of_query[query[keep]] == of_image[image[keep]]
    return keep


def count_near_duplicates(index: OpenedIndex, table_row: np.ndarray, place: Homes, options: MiningOptions) -> int:
    """How many pairs of photos `find_candidates` leaves out because of `max_overlap`; arguments as there."""
    if options.max_overlap is None:
        return 0
    edges = _Edges.of_images(index, table_row, index.num_observed(), slice(0, len(table_row)), place, options)
    edges = edges.take(edges.near_duplicates())
    low, high = np.minimum(edges.query, edges.image), np.maximum(edges.query, edges.image)
    return len(np.unique(low * np.int64(table_row.max(initial=0) + 1) + high))


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
