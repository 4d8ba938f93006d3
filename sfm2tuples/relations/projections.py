"""How many points of each image fall into the picture of each other one: the compiled loop over cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from sfm2tuples.compute.threads import ENTRIES_A_THREAD, over_blocks
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.relations.frusta import Frusta
from sfm2tuples.relations.point_tree import CHILDREN, LEAF, tree_of

SLACK = 1e-9
"""A box of points is passed over where it lies outside of a picture by more than this share of its coordinates."""
DEEPEST = 64 * CHILDREN
"""Boxes that wait to be looked at, at most."""


@dataclass(frozen=True)
class Projections:
    """By camera, the images some of whose points fall into its picture, as CSR; edges of the graph are left out."""

    indptr: np.ndarray
    """(n + 1,) int64, where each camera's images start."""
    image: np.ndarray
    """(e,) int32, in no order."""
    count: np.ndarray
    """(e,) uint8, how many points of the image's sample."""


def projections_of(
    frusta: Frusta, points: np.ndarray, indptr: np.ndarray, neighbour: np.ndarray, threads: int | None = None
) -> Projections:
    """Count the points of each image's sample that fall into each other picture.

    Both images take part and are no neighbours. Each camera asks the tree for the points that it sees, so time is
    O(points seen + images that have them in their sample), and grows with the pairs that overlap. Memory O(pairs).

    Parameters
    ----------
    frusta : Frusta
    points : (p, 3) float64
    indptr, neighbour : (n + 1,) int64, (e,) int64
        The graph.
    threads : int, optional
        See `sfm2tuples.compute.threads.over_blocks`; changes nothing but the time.

    Returns
    -------
    Projections
    """
    image, place = np.nonzero((frusta.sample >= 0) & frusta.takes_part[:, None])
    sampled, row = np.unique(frusta.sample[image, place], return_inverse=True)
    tree = tree_of(points[sampled])
    rank = np.empty(len(sampled), np.int64)
    rank[tree.order] = np.arange(len(sampled))
    in_tree = rank[row]
    by_point = np.argsort(in_tree, kind="stable")
    owner, owner_start = image[by_point].astype(np.int32), indptr_of(np.bincount(in_tree, minlength=len(sampled)))

    if not len(sampled):
        return Projections(np.zeros(len(indptr), np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8))

    def one_block(begin: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        told = (tree.xyz, tree.starts, tree.boxes, owner_start, owner, indptr, neighbour)
        seeing = (frusta.rotation, frusta.translation, frusta.box, frusta.is_wide, frusta.reach, frusta.takes_part)
        return _count_block(begin, end, *told, *seeing)

    work = np.arange(len(indptr)) * (ENTRIES_A_THREAD // 64)
    counts, images, seen = (np.concatenate(part) for part in zip(*over_blocks(one_block, work, threads), strict=True))
    return Projections(indptr_of(counts), images, seen)


@njit(nogil=True, cache=True)
def _count_block(  # type: ignore[no-untyped-def]
    begin, end, xyz, starts, boxes, owner_start, owner, indptr, neighbour, rotation, translation, box, is_wide, reach,
    takes_part
):  # fmt: skip
    """Of a block of cameras: how many images each sees points of; the images, and how many points of each."""
    n = len(takes_part)
    count, is_edge = np.zeros(n, np.int32), np.full(n, -1, np.int32)
    touched, seen = np.empty(n, np.int32), np.empty(len(xyz), np.int32)
    made, made_by = 0, np.zeros(end - begin, np.int64)
    images, counts = np.empty(1024, np.int32), np.empty(1024, np.uint8)
    waiting, planes = np.empty((DEEPEST, 2), np.int64), np.empty((6, 4))
    for j in range(begin, end):
        if not takes_part[j]:
            continue
        is_edge[j] = j
        for k in range(indptr[j], indptr[j + 1]):
            is_edge[neighbour[k]] = j
        num_planes = 0 if is_wide[j] else _planes(planes, rotation[j], translation[j], box[j], reach[j])
        view = (rotation[j], translation[j], box[j], is_wide[j], reach[j])
        num_touched = 0
        for place in range(_points_in(seen, waiting, xyz, starts, boxes, planes, num_planes, *view)):
            for k in range(owner_start[seen[place]], owner_start[seen[place] + 1]):
                i = owner[k]
                if is_edge[i] != j:
                    if count[i] == 0:
                        touched[num_touched] = i
                        num_touched += 1
                    count[i] += 1
        if made + num_touched > len(images):
            capacity = 2 * (made + num_touched)
            images, counts = longer_copy(images, made, capacity), longer_copy(counts, made, capacity)
        for place in range(num_touched):
            i = touched[place]
            images[made], counts[made] = i, count[i]
            made += 1
            count[i] = 0
        made_by[j - begin] = num_touched
    return made_by, images[:made].copy(), counts[:made].copy()


@njit(nogil=True, cache=True)
def _points_in(  # type: ignore[no-untyped-def]
    seen, waiting, xyz, starts, boxes, planes, num_planes, r, t, box, is_wide, reach
):  # fmt: skip
    """Fill `seen` with the points that a camera sees, from the top of the tree down; gives how many they are."""
    r00, r01, r02, r10, r11, r12 = r[0, 0], r[0, 1], r[0, 2], r[1, 0], r[1, 1], r[1, 2]
    r20, r21, r22, t0, t1, t2 = r[2, 0], r[2, 1], r[2, 2], t[0], t[1], t[2]
    left, right, top, bottom = box[0], box[1], box[2], box[3]
    num_seen, num_waiting = 0, 1
    waiting[0, 0], waiting[0, 1] = len(starts) - 2, 0
    while num_waiting > 0:
        num_waiting -= 1
        level, b = waiting[num_waiting, 0], waiting[num_waiting, 1]
        if _is_outside(boxes, starts[level] + b, planes, num_planes, r, t, reach):
            continue
        if level > 0:
            for child in range(b * CHILDREN, min((b + 1) * CHILDREN, starts[level] - starts[level - 1])):
                waiting[num_waiting, 0], waiting[num_waiting, 1] = level - 1, child
                num_waiting += 1
            continue
        for p in range(b * LEAF, min((b + 1) * LEAF, len(xyz))):
            u, v, w = xyz[p, 0], xyz[p, 1], xyz[p, 2]
            z = r20 * u + r21 * v + r22 * w + t2
            x = r00 * u + r01 * v + r02 * w + t0
            y = r10 * u + r11 * v + r12 * w + t1
            if is_wide:
                aside = np.sqrt(x * x + y * y)
                stretch = np.arctan2(aside, z) / aside if aside > 0 else 0.0
                # Angles stand for x / z and y / z, and the distance for the depth.
                x, y, z, away = x * stretch, y * stretch, 1.0, np.sqrt(x * x + y * y + z * z)
            else:
                away = z
            # Borders count as inside.
            if 0 < away <= reach and left * z <= x <= right * z and top * z <= y <= bottom * z:
                seen[num_seen] = p
                num_seen += 1
    return num_seen


@njit(nogil=True, cache=True)
def longer_copy(array, used, capacity):  # type: ignore[no-untyped-def]
    """A longer copy of an array's used part, for compiled loops."""
    copy = np.empty(capacity, array.dtype)
    for place in range(used):
        copy[place] = array[place]
    return copy


@njit(nogil=True, cache=True)
def _planes(planes, r, t, box, reach):  # type: ignore[no-untyped-def]
    """Fill the planes around what a camera sees: a point is inside where all six n . X + c are not negative."""
    for side in range(4):
        axis, sign = side // 2, 1.0 if side % 2 == 0 else -1.0
        for k in range(3):
            planes[side, k] = sign * (r[axis, k] - box[side] * r[2, k])
        planes[side, 3] = sign * (t[axis] - box[side] * t[2])
    for k in range(3):
        planes[4, k], planes[5, k] = r[2, k], -r[2, k]
    planes[4, 3], planes[5, 3] = t[2], reach - t[2]
    return 6


@njit(nogil=True, cache=True)
def _is_outside(boxes, b, planes, num_planes, r, t, reach):  # type: ignore[no-untyped-def]
    """Whether no point of a box can be seen: it lies behind a plane, or, for a wide camera, out of reach."""
    for side in range(num_planes):
        farthest, size = planes[side, 3], abs(planes[side, 3])
        for k in range(3):
            low, high = planes[side, k] * boxes[b, k], planes[side, k] * boxes[b, 3 + k]
            farthest += max(low, high)
            size += max(abs(low), abs(high))
        if farthest < -SLACK * size:
            return True
    if num_planes > 0:
        return False
    square, size = 0.0, 0.0
    for k in range(3):
        centre = -(r[0, k] * t[0] + r[1, k] * t[1] + r[2, k] * t[2])
        away = max(0.0, max(boxes[b, k] - centre, centre - boxes[b, 3 + k]))
        square += away * away
        size = max(size, max(abs(centre), max(abs(boxes[b, k]), abs(boxes[b, 3 + k]))))
    return np.sqrt(square) > reach + SLACK * size
