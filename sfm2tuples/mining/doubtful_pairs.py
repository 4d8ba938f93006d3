"""Where descriptors and geometry disagree most: positives that look unlike, proven negatives that look alike.

Most are right and hard. Some of the first are doppelgangers, which a model has merged; some of the second show the same
thing, which it has not found. A person looks at them, and `left_out_pairs` takes a list. Faces of a building that look
the same to the descriptors too are not among the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sfm2tuples.files.columns import gather_rows
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.positives import OPPOSITE_VIEW
from sfm2tuples.mining.tuple_file import TupleFile
from sfm2tuples.relations.site import are_fragments_apart
from sfm2tuples.similarity.best_rows import pair_similarities

MOST_LISTED = 1000
"""Pairs of each kind that are listed."""
_BLOCK = 1 << 22
"""Pairs compared at once."""
_EVIDENCE = {"shared": np.int32(-1), "overlap": np.float32(np.nan), "angle": np.float32(np.nan)}
"""What a positive comes with, and how that reads where it is not known."""


@dataclass(frozen=True)
class DoubtfulPairs:
    """Pairs of images, each once, the most doubtful first."""

    first: np.ndarray
    """(k,) int64, row of the one image."""
    second: np.ndarray
    """(k,) int64, row of the other."""
    similarity: np.ndarray
    """(k,) float32, cosine of their descriptors."""
    shared: np.ndarray
    """(k,) int32, shared points; -1 where they are not known."""
    overlap: np.ndarray
    """(k,) float32, shared points over those of the first, in an index of the one that sees fewer; or NaN."""
    angle: np.ndarray
    """(k,) float32, mean viewing angle in radians, or NaN."""
    looked_at: int
    """How many pairs they were chosen from."""

    def shown(self, count: int) -> np.ndarray:
        """Positions of the first `count` pairs with no image twice, so that one odd photo does not fill a page."""
        used: set[int] = set()
        chosen: list[int] = []
        for position, pair in enumerate(zip(self.first.tolist(), self.second.tolist(), strict=True)):
            if len(chosen) < count and used.isdisjoint(pair):
                chosen.append(position)
                used.update(pair)
        return np.array(chosen, np.int64)


def unlike_positives(index: OpenedIndex, rows: np.ndarray, values: np.ndarray, options: MiningOptions) -> DoubtfulPairs:
    """The m3 positives of an index that look least alike.

    Parameters
    ----------
    index : OpenedIndex
    rows : (n,) int64
        Images that are described, rising.
    values : (n, D) float32
        Their descriptors, L2-normalised.
    options : MiningOptions
        Thresholds of m3; a pair that it allows in one direction is one.

    Returns
    -------
    DoubtfulPairs
        Least similar first; ties: lower rows first. Two images of one photo stand for the first of them.
    """
    graph, photo, observed = index.graph, index.images.photo[:], index.num_observed()
    source = np.repeat(np.arange(index.num_images), np.diff(graph.indptr[:]))
    neighbour, shared, scale = graph.neighbour[:], graph.shared[:], graph.scale_change[:]
    described = np.zeros(index.num_images, bool)
    described[rows] = True
    overlap = (shared / np.minimum(observed[source], observed[neighbour])).astype(np.float32)
    keep = (source < neighbour) & (photo[source] != photo[neighbour]) & (graph.axis_angle[:] < OPPOSITE_VIEW)
    keep &= described[source] & described[neighbour] & (shared >= options.min_shared)
    keep &= (overlap >= np.float32(options.min_overlap)) & (scale <= np.float32(options.max_scale_change))
    edge = np.flatnonzero(keep)
    first, second = source[edge], neighbour[edge]
    at = np.searchsorted(rows, first), np.searchsorted(rows, second)
    similarity = pair_similarities(values, values, *at)
    order = _once(photo[first], photo[second], np.lexsort((second, first, similarity)))
    listed = order[:MOST_LISTED]
    edge = edge[listed]
    columns = (first[listed], second[listed], similarity[listed].astype(np.float32))
    return DoubtfulPairs(*columns, shared[edge], overlap[edge], graph.angle[:][edge], len(order))


def alike_negatives(index: OpenedIndex, rows: np.ndarray, values: np.ndarray) -> DoubtfulPairs | None:
    """The proven negatives of an index that look most alike; None where it has no relations inside places.

    Parameters
    ----------
    index, rows, values
        As of `unlike_positives`.

    Returns
    -------
    DoubtfulPairs
        Most similar first; ties: lower rows first. Photos of which a place has several images are left out, since all
        of these would have to prove it.
    """
    inside, photo = index.inside, index.images.photo[:]
    if inside is None:
        return None
    single = np.bincount(photo, minlength=index.num_images)[photo[rows]] == 1
    usable = inside.takes_part[:][rows] & single
    home = index.images.place[rows] if are_fragments_apart(index) else index.images.model[rows]
    related = [(t.indptr[:], other[:]) for t, other in ((index.graph, index.graph.neighbour), (inside, inside.other))]
    looked_at, best = 0, _no_pairs()
    for one in np.unique(home[usable]).tolist():
        members = np.flatnonzero(usable & (home == one))
        for start, proven in _blocks_of_negatives(rows[members], related, index.num_images):
            i, j = np.nonzero(proven)
            looked_at += len(i)
            product = values[members[start : start + len(proven)]] @ values[members].T
            found = members[i + start], members[j], product[i, j]
            best = _most_similar(*(np.concatenate(both) for both in zip(best, found, strict=True)))
    first, second, _ = best
    first, second, similarity = _most_similar(first, second, pair_similarities(values, values, first, second))
    count = len(first)
    return DoubtfulPairs(
        first=rows[first],
        second=rows[second],
        similarity=similarity.astype(np.float32),
        shared=np.zeros(count, np.int32),
        overlap=np.zeros(count, np.float32),
        angle=np.full(count, np.nan, np.float32),
        looked_at=looked_at,
    )


def _no_pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)


def _most_similar(
    first: np.ndarray, second: np.ndarray, similarity: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if len(similarity) > MOST_LISTED:
        least = np.partition(similarity, -MOST_LISTED)[-MOST_LISTED]
        kept = np.flatnonzero(similarity >= least)
        first, second, similarity = first[kept], second[kept], similarity[kept]
    order = np.lexsort((second, first, -similarity))[:MOST_LISTED]
    return first[order], second[order], similarity[order]


def _blocks_of_negatives(
    rows: np.ndarray, related: Sequence[tuple[np.ndarray, np.ndarray]], num_images: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Which pairs of some images, each once, no CSR of `related` has: the first image of a block, (b, len(rows)) bool.

    `_BLOCK` pairs in memory, or those of one image where these are more.
    """
    size = max(1, _BLOCK // max(1, len(rows)))
    at = np.full(num_images, -1, np.int64)
    at[rows] = np.arange(len(rows))
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        proven = np.arange(len(rows)) > np.arange(start, start + len(block))[:, None]
        for indptr, other in related:
            bounds, position = gather_rows(indptr, block)
            of, known = np.repeat(np.arange(len(block)), np.diff(bounds)), at[other[position]]
            proven[of[known >= 0], known[known >= 0]] = False
        yield start, proven


def _once(first: np.ndarray, second: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The part of an order of pairs in which each pair stands once, in whichever direction; the first one counts."""
    low, high = np.minimum(first, second)[order], np.maximum(first, second)[order]
    _, kept = np.unique(low * (high.max(initial=0) + 1) + high, return_index=True)
    return order[np.sort(kept)]


def doubtful_of_tuples(file: TupleFile) -> dict[str, DoubtfulPairs]:
    """Of the tuples of a file: its positives that look least alike, and its negatives that look most alike.

    Returns
    -------
    dict of str to DoubtfulPairs
        ``positive`` and ``negative``, of both splits together; empty where no descriptors were looked at.
    """
    return {kind: _of_kind(file, kind) for kind in ("positive", "negative")}


def _of_kind(file: TupleFile, kind: str) -> DoubtfulPairs:
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("first", "second", "similarity", *_EVIDENCE)}
    for tuples in file.tuples.values():
        image, similarity = getattr(tuples, kind), getattr(tuples, f"{kind}_similarity")
        row, slot = np.nonzero((image >= 0) & np.isfinite(similarity))
        columns["first"].append(tuples.query[row])
        columns["second"].append(image[row, slot])
        columns["similarity"].append(similarity[row, slot])
        for name, unknown in _EVIDENCE.items():
            evidence = getattr(tuples, name)[row, slot] if kind == "positive" else np.full(len(row), unknown)
            columns[name].append(evidence)
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    rank = whole["similarity"] if kind == "positive" else -whole["similarity"]
    order = _once(whole["first"], whole["second"], np.lexsort((whole["second"], whole["first"], rank)))
    listed = order[:MOST_LISTED]
    return DoubtfulPairs(**{name: column[listed] for name, column in whole.items()}, looked_at=len(order))
