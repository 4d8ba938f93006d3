"""Painters of one building's walls and roofs, and details that several kinds share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sfm2tuples.world import facades, materials, openings
from sfm2tuples.world.facades import Detail, Painted, Style, stamp_at
from sfm2tuples.world.materials import texels
from sfm2tuples.world.solids import Painter

Details = Callable[[float, float], tuple[Detail, ...]]
"""What a wall of some width and height carries beside its windows."""
GLOOM = (66, 58, 52)
"""Inside of arches, at the foot."""


class Painters:
    """Painters of one building's walls and roofs."""

    def __init__(self, random: np.random.Generator, style: Style) -> None:
        self.random = random
        self.style = style

    def wall(
        self,
        first: str = "windows",
        storeys: int | None = None,
        details: Details | None = None,
        cornice: bool = True,
        style: Style | None = None,
    ) -> Painter:
        """A painter of walls; `details` is told the wall's width and height."""

        def painter(width: float, height: float) -> Painted:
            extra = details(width, height) if details else ()
            return facades.paint(
                self.random,
                style or self.style,
                width,
                height,
                storeys=storeys,
                first=first,
                details=extra,
                cornice=cornice,
            )

        return painter

    def bare(self, details: Details | None = None, cornice: bool = False) -> Painter:
        """A painter of walls without windows in rows."""
        return self.wall(storeys=0, details=details, cornice=cornice)

    def roof(self) -> Painter:
        """A painter of roofs."""

        def painter(width: float, height: float) -> Painted:
            shape = (texels(height), texels(width))
            colour = materials.roofing(self.random, shape, self.style.roof, self.style.cover)
            return Painted(colour, np.zeros(shape, bool))

        return painter

    def trim(self) -> Painter:
        """A painter of plain smooth stone: columns, steps, parapets."""

        def painter(width: float, height: float) -> Painted:
            shape = (texels(height), texels(width))
            return Painted(materials.plaster(self.random, shape, self.style.trim), np.zeros(shape, bool))

        return painter


def clock_on(random: np.random.Generator, size: float, share: float) -> Details:
    """A clock of `size` metres in the middle of a wall, its foot at a `share` of the height."""
    stamp = openings.clock(size, (234, 228, 206), float(random.uniform(0, 12)))
    return lambda width, height: (stamp_at(stamp, width / 2, height * share),)


def belfry(style: Style, size: float, share: float, clock: Details) -> Details:
    """Two bell openings on a wall of `size` metres from a `share` of its height, and what `clock` adds."""
    opening = openings.arch(style.window.outline, size * 0.2, size * 0.5, style.trim, GLOOM, True)

    def details(width: float, height: float) -> tuple[Detail, ...]:
        pair = tuple(stamp_at(opening, width * x, height * share) for x in (0.32, 0.68))
        return (*pair, *clock(width, height))

    return details
