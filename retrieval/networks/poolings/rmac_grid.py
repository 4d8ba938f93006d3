"""R-MAC's grid of square regions ([R16], method.md section 8), in integers: no torch, no rounding of floats."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

OVERLAP = Fraction(2, 5)
"""The overlap of neighbouring regions that the grid aims at on the long side."""
STEPS = range(2, 8)
"""Numbers of steps on the long side among which the grid chooses."""


def extra_regions(height: int, width: int) -> int:
    """How many regions the long side has beyond the level; 0 on a square map.

    Among 2 to 7 steps, the one whose overlap ``1 - b / w`` is nearest 0.4, where ``w`` is the short side and
    ``b = (long - w) / (steps - 1)``; ties go to the smaller.
    """
    short, long = min(height, width), max(height, width)
    if short == long:
        return 0
    # min keeps the first of equals, so a tie goes to fewer steps.
    steps = min(STEPS, key=lambda steps: abs(1 - Fraction(long - short, (steps - 1) * short) - OVERLAP))
    return steps - 1


@lru_cache(maxsize=1024)
def rmac_regions(height: int, width: int, levels: int = 3) -> tuple[tuple[int, int, int], ...]:
    """The regions of a map, level by level, row by row ([R16], method.md section 8).

    Level l has squares of side ``2 w // (l + 1)``, ``l + extra`` of them along the long side and l along the short
    one, spread evenly; levels of side 0 are skipped.

    Parameters
    ----------
    height, width : int
        Size of the map in cells, each at least 1.
    levels : int
        Number of levels.

    Returns
    -------
    tuple of (top, left, side)
        14 regions for a square map, 20 for 48 x 64, 38 for 20 x 64.
    """
    short = min(height, width)
    extra = extra_regions(height, width)
    regions = []
    for level in range(1, levels + 1):
        side = 2 * short // (level + 1)
        if side == 0:
            continue
        rows = level + (extra if height > width else 0)
        columns = level + (extra if width > height else 0)
        for top in _offsets(height, side, rows):
            regions += [(top, left, side) for left in _offsets(width, side, columns)]
    return tuple(regions)


def _offsets(length: int, side: int, count: int) -> list[int]:
    """Where `count` squares start along a side: evenly spread, rounded down; 0 for a single one."""
    if count == 1:
        return [0]
    return [k * (length - side) // (count - 1) for k in range(count)]
