"""Pairs of images of one model of which nothing is proven: few steps apart, or one looks at what the other sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from sfm2tuples.compute.threads import over_blocks
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.relations.frusta import Frusta
from sfm2tuples.relations.projections import Projections, longer_copy

MOST_STEPS = 2
"""Images so many steps apart in the graph are not proven. [method.md section 12]"""
SHARE_OF = 20
"""Nor are images where more than one in so many points falls into the other's picture. [method.md section 12]"""
FARTHEST = float(np.finfo(np.float32).max)
"""Stands for any larger distance, as where a pose is absurd: the index's columns are finite."""


@dataclass(frozen=True)
class Graph:
    """Which images of a model share points, as CSR: symmetric, neighbours rising."""

    indptr: np.ndarray
    """(n + 1,) int64, where each image's neighbours start."""
    neighbour: np.ndarray
    """(e,) int64 or int32, row of the other image."""


@dataclass(frozen=True)
class UnknownPairs:
    """The unknown pairs of a model, as CSR: symmetric, rising; columns as in `sfm2tuples.index.schema.Inside`."""

    indptr: np.ndarray
    """(n + 1,) int64, where each image's pairs start."""
    other: np.ndarray
    """(u,) int64, row of the other image within the model."""
    hops: np.ndarray
    """(u,) uint8, steps apart; `MOST_STEPS` + 1 stands for more."""
    into: np.ndarray
    """(u,) float32, share of the image's sample that falls into the other's picture."""
    distance: np.ndarray
    """(u,) float32, distance of the centres over the median depth of the image; `FARTHEST` at most."""


def unknown_pairs(
    frusta: Frusta, projections: Projections, graph: Graph, shared: Graph, threads: int | None = None
) -> UnknownPairs:
    """The pairs of images that take part, are no edge of `graph`, and are not proven.

    Time O(sum over edges of the neighbours at their end + projections); memory O(projections + unknown pairs).

    Parameters
    ----------
    frusta : Frusta
    projections : Projections
    graph : Graph
        The graph that the index holds.
    shared : Graph
        The graph of all pairs that share a point: steps are counted in it. It is `graph` unless that lacks some.
    threads : int, optional
        See `sfm2tuples.compute.threads.over_blocks`; changes nothing but the time.

    Returns
    -------
    UnknownPairs
    """
    n = len(graph.indptr) - 1
    back_start = indptr_of(np.bincount(projections.image, minlength=n))
    camera, shown = _turned(projections.indptr, projections.image, projections.count, back_start)
    centre = frusta.centre

    def one_block(begin: int, end: int) -> tuple[np.ndarray, ...]:
        edges = (graph.indptr, graph.neighbour, shared.indptr, shared.neighbour)
        seen = (projections.indptr, projections.image, projections.count, back_start, camera, shown)
        return _pairs_of_block(begin, end, *edges, *seen, frusta.takes_part, frusta.size, centre, frusta.median)

    steps = indptr_of(_two_steps(shared.indptr, shared.neighbour) + np.diff(projections.indptr) + np.diff(back_start))
    blocks = over_blocks(one_block, steps, threads)
    counts, *columns = (np.concatenate(column) for column in zip(*blocks, strict=True))
    del blocks
    indptr = indptr_of(counts)
    return UnknownPairs(indptr, *_mirrored(indptr, *columns))


def _two_steps(indptr: np.ndarray, neighbour: np.ndarray) -> np.ndarray:
    """How many ways of two steps start at each image: (n,) int64."""
    reached = np.concatenate([[0], np.cumsum(np.diff(indptr)[neighbour])])
    ways: np.ndarray = np.diff(reached[indptr])
    return ways


@njit(nogil=True, cache=True)
def _turned(indptr, image, count, start):  # type: ignore[no-untyped-def]
    """From camera -> images to image -> cameras, with the counts; `start` says where each image's cameras start."""
    camera, shown, at = np.empty(len(image), np.int32), np.empty(len(image), np.uint8), start[:-1].copy()
    for j in range(len(indptr) - 1):
        for k in range(indptr[j], indptr[j + 1]):
            i = image[k]
            camera[at[i]], shown[at[i]] = j, count[k]
            at[i] += 1
    return camera, shown


@njit(nogil=True, cache=True)
def _mirrored(indptr, other, hops, into, distance):  # type: ignore[no-untyped-def]
    """Put each pair into the row of its other image. All pairs are there both ways, so rows keep their lengths; they
    are filled by rising images."""
    at = indptr[:-1].copy()
    first, steps = np.empty(len(other), np.int64), np.empty(len(other), np.uint8)
    share, away = np.empty(len(other), np.float32), np.empty(len(other), np.float32)
    for i in range(len(indptr) - 1):
        for k in range(indptr[i], indptr[i + 1]):
            place = at[other[k]]
            at[other[k]] += 1
            first[place], steps[place], share[place], away[place] = i, hops[k], into[k], distance[k]
    return first, steps, share, away


@njit(nogil=True, cache=True)
def _pairs_of_block(  # type: ignore[no-untyped-def]
    begin, end, edge_start, edge, shared_start, shared, seen_start, seen, seen_count, shown_start, shown, shown_count,
    takes_part, size, centre, median,
):  # fmt: skip
    """Of a block of images: how many unknown pairs each has; the other images, in no order; steps apart; and what the
    *other* image's row says of the pair: into and distance.

    Nothing is quadratic in the images: the counters of an image are dense, and only those that it touched are read.
    """
    n = len(takes_part)
    hops, away, back = np.zeros(n, np.uint8), np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    touched = np.empty(n, np.int32)
    made, made_by = 0, np.zeros(end - begin, np.int64)
    other, steps = np.empty(1024, np.int32), np.empty(1024, np.uint8)
    into, distance = np.empty(1024, np.float32), np.empty(1024, np.float32)
    for i in range(begin, end):
        if not takes_part[i]:
            continue
        hops[i] = 1
        num_touched = _step(i, shared_start, shared, hops, touched)
        num_touched = _look(i, shown_start, shown, shown_count, away, hops, touched, num_touched)
        num_touched = _look(i, seen_start, seen, seen_count, back, hops, touched, num_touched)
        # Edges of the index's graph are positive; where it lacks some, the others that share points are unknown.
        for k in range(edge_start[i], edge_start[i + 1]):
            hops[edge[k]] = 0
        num_unknown = 0
        for place in range(num_touched):
            j = touched[place]
            near = 0 < hops[j] <= MOST_STEPS
            seen_either_way = away[j] * SHARE_OF > size[i] or back[j] * SHARE_OF > size[j]
            if takes_part[j] and hops[j] > 0 and (near or seen_either_way):
                touched[num_unknown] = j
                num_unknown += 1
            else:
                hops[j], away[j], back[j] = 0, 0, 0
        if made + num_unknown > len(other):
            capacity = 2 * (made + num_unknown)
            other, steps = longer_copy(other, made, capacity), longer_copy(steps, made, capacity)
            into, distance = longer_copy(into, made, capacity), longer_copy(distance, made, capacity)
        for place in range(num_unknown):
            j = touched[place]
            a, b, c = centre[j, 0] - centre[i, 0], centre[j, 1] - centre[i, 1], centre[j, 2] - centre[i, 2]
            other[made], steps[made], into[made] = j, hops[j], back[j] / size[j]
            far = np.sqrt(a * a + b * b + c * c) / median[j]
            distance[made] = far if far < FARTHEST else FARTHEST
            made += 1
            hops[j], away[j], back[j] = 0, 0, 0
        hops[i] = 0
        made_by[i - begin] = num_unknown
    return made_by, other[:made].copy(), steps[:made].copy(), into[:made].copy(), distance[:made].copy()


@njit(nogil=True, cache=True)
def _step(i, start, shared, hops, touched):  # type: ignore[no-untyped-def]
    """Write down who is one and two steps away from an image; gives how many they are."""
    num_touched = 0
    for k in range(start[i], start[i + 1]):
        hops[shared[k]] = 1
        touched[num_touched] = shared[k]
        num_touched += 1
    for k in range(start[i], start[i + 1]):
        middle = shared[k]
        for m in range(start[middle], start[middle + 1]):
            if hops[shared[m]] == 0:
                hops[shared[m]] = MOST_STEPS
                touched[num_touched] = shared[m]
                num_touched += 1
    return num_touched


@njit(nogil=True, cache=True)
def _look(i, start, images, counts, count, hops, touched, num_touched):  # type: ignore[no-untyped-def]
    """Write down the counts of an image's points in pictures, or of others' in its own; who is new is far away."""
    for k in range(start[i], start[i + 1]):
        j = images[k]
        count[j] = counts[k]
        if hops[j] == 0:
            hops[j] = MOST_STEPS + 1
            touched[num_touched] = j
            num_touched += 1
    return num_touched
