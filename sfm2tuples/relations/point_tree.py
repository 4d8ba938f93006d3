"""Points in a tree of boxes: which of them a camera may see is asked of boxes first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAF, CHILDREN = 32, 8
"""Points of a box at the bottom, and boxes in a box above."""
BITS = 21
"""Of each axis in the order of the points."""
MOST, MARGIN = 98, 2.0
"""Where so many percent of the points lie along each axis, the order tells apart what lies in a cube of so many times
their longest extent; points farther away count as on its surface."""


@dataclass(frozen=True)
class PointTree:
    """Points in an order in which near ones are near, and the boxes of consecutive ones, level by level."""

    order: np.ndarray
    """(p,) int64, row of each point as it was given."""
    xyz: np.ndarray
    """(p, 3) float64, the points in this order."""
    starts: np.ndarray
    """(l + 1,) int64, where the boxes of each level start; level 0 is the bottom: box b has the points from LEAF b.

    Box b of a higher level has the boxes from CHILDREN b of the level below it."""
    boxes: np.ndarray
    """(b, 6) float64, least x, y, z, then largest."""


def tree_of(xyz: np.ndarray) -> PointTree:
    """Put points (p, 3) float64 in a tree: O(p log p).

    Their order is that of a curve through a cube around most of them, so a few points far away make few boxes large.
    """
    order = np.argsort(_along_the_curve(xyz), kind="stable")
    points = np.ascontiguousarray(xyz[order])
    levels: list[np.ndarray] = []
    low, high, group = points, points, LEAF
    while len(low) > 1 or not levels:
        first = np.arange(0, len(low), group)
        if not len(first):
            break
        low, high = np.minimum.reduceat(low, first), np.maximum.reduceat(high, first)
        levels.append(np.concatenate([low, high], axis=1))
        group = CHILDREN
    starts = np.concatenate([[0], np.cumsum([len(level) for level in levels])]).astype(np.int64)
    return PointTree(order, points, starts, np.concatenate([np.zeros((0, 6)), *levels]))


def _along_the_curve(xyz: np.ndarray) -> np.ndarray:
    """Place of each point on Morton's curve: (p,) uint64."""
    code = np.zeros(len(xyz), np.uint64)
    if not len(xyz):
        return code
    low, high = np.percentile(xyz, [(100 - MOST) / 2, (100 + MOST) / 2], axis=0)
    side = MARGIN * (high - low).max() or 1.0
    within = np.clip((xyz - (low + high) / 2) / side + 0.5, 0, 1)
    cell = np.minimum(within * (1 << BITS), (1 << BITS) - 1).astype(np.uint64)
    for axis in range(3):
        code |= _spread(cell[:, axis]) << np.uint64(axis)
    return code


def _spread(cell: np.ndarray) -> np.ndarray:
    """Put two zeros between the bits of numbers of `BITS` bits."""
    for shift, mask in SPREADING:
        cell = (cell | cell << np.uint64(shift)) & np.uint64(mask)
    return cell


SPREADING = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)
"""Steps of `_spread`: each moves the upper half of every group of bits, and keeps these."""
