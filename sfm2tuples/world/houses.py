"""Kinds of buildings that one lives, works and governs in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm2tuples.world import openings
from sfm2tuples.world.facades import Style, stamp_at
from sfm2tuples.world.painters import Details, Painters, belfry, clock_on
from sfm2tuples.world.solids import Extent, Solids
from sfm2tuples.world.styles import draw_style


def town_hall(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """A long block, a gabled bay in the middle, a turret with a clock on the ridge."""
    paint = Painters(random, style)
    wide, deep = float(random.uniform(20, 26)), float(random.uniform(11, 14))
    storeys = int(random.integers(2, 4))
    eaves, rise = storeys * style.storey + 0.9, float(random.uniform(4, 5.5))
    first = str(random.choice(["arcade", "windows"]))
    solids.box((0, 0, 0), (wide, deep, eaves), {"front": paint.wall(first), "all": paint.wall("door")})
    solids.hipped_roof((0, 0, eaves), (wide, deep, rise), paint.roof())
    bay = wide * 0.3
    front = -deep / 2 - 0.8
    solids.box((0, front + 1.6, 0), (bay, 3.2, eaves + 0.6), {"front": paint.wall("door"), "all": paint.bare()})
    clock = clock_on(random, 2.0, 0.28)
    solids.gabled_roof((0, front + 3.6, eaves + 0.6), (bay, 7.2, bay * 0.62), "y", paint.roof(), paint.bare(clock), 0.2)
    size, foot = float(random.uniform(2.6, 3.4)), eaves + rise - 1.5
    high = float(random.uniform(4, 6))
    bells = belfry(style, size, 0.45, lambda width, height: ())
    solids.box((0, 0, foot), (size, size, high), {"all": paint.bare(bells, cornice=True)})
    solids.round_roof((0, 0, foot + high), size * 0.74, 0.0, float(random.uniform(2.5, 5)), 8, paint.roof())
    return Extent(wide, deep, foot + high)


def _attic(stamp: openings.Stamp) -> Details:
    return lambda width, height: (stamp_at(stamp, width / 2, height * 0.12),)


def house_row(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """Narrow houses side by side, gables to the street, shops below, each in a paint of its own."""
    count = int(random.integers(3, 5))
    widths = random.uniform(5.5, 8, count)
    deep, left = float(random.uniform(9, 12)), -float(widths.sum()) / 2
    top = 0.0
    for number, wide in enumerate(widths.tolist()):
        own = draw_style(random, int(random.integers(7)), ("flat", "segment"))
        own = replace(own, cover=style.cover, roof=style.roof, trim=style.trim)
        paint = Painters(random, own)
        eaves = int(random.integers(2, 5)) * own.storey + 0.8
        middle = left + wide / 2
        front = paint.wall(str(random.choice(["shop", "door", "shop"])))
        solids.box(
            (middle, 0, 0), (wide, deep, eaves), {"front": front, "back": paint.wall("door"), "all": paint.bare()}
        )
        rise = wide * float(random.uniform(0.5, 0.85))
        small = openings.window(replace(own.window, shutters=None, hood="none"), random)
        gable = paint.bare(_attic(small))
        ridge = "y" if random.random() < 0.75 else "x"
        solids.gabled_roof((middle, 0, eaves), (wide, deep, rise), ridge, paint.roof(), gable, 0.15)
        if number % 2:
            solids.box((middle + 1.2, 1.5, eaves), (0.8, 1.1, rise + 1), {"all": paint.bare()}, paint.trim())
        left += wide
        top = max(top, eaves + rise)
    return Extent(float(widths.sum()), deep, top)


def palace(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """Three storeys in a long row, pavilions with steep roofs at the ends, dormers."""
    paint = Painters(random, style)
    wide, deep = float(random.uniform(24, 30)), float(random.uniform(10, 13))
    storeys = int(random.integers(2, 4))
    eaves, rise = storeys * style.storey + 0.8, float(random.uniform(3, 4))
    first = str(random.choice(["arcade", "door", "windows"]))
    solids.box(
        (0, 0, 0), (wide, deep, eaves), {"front": paint.wall(first), "back": paint.wall("door"), "all": paint.wall()}
    )
    solids.hipped_roof((0, 0, eaves), (wide, deep, rise), paint.roof())
    size = float(random.uniform(6.5, 8.5))
    for x in (-1, 1):
        foot = (x * (wide / 2 - size / 2 + 0.6), -0.3, 0.0)
        solids.box(foot, (size, deep + 2.4, eaves + 1), {"front": paint.wall("door"), "all": paint.wall()})
        solids.hipped_roof((foot[0], foot[1], eaves + 1), (size, deep + 2.4, float(rise * 1.6)), paint.roof(), 0.4)
    dormer = openings.window(replace(style.window, shutters=None, hood="none", height=1.3), random)
    for x in np.linspace(-wide * 0.24, wide * 0.24, int(random.integers(3, 6))):
        wall = paint.bare(lambda width, _: (stamp_at(dormer, width / 2, 0.1),))
        at = (float(x), -deep / 2 + 1.4, eaves + 0.3)
        solids.box(at, (2.0, 2.6, 1.9), {"all": wall})
        solids.gabled_roof((at[0], at[1], at[2] + 1.9), (2.0, 2.6, 0.9), "y", paint.roof(), paint.bare(), 0.15)
    return Extent(wide, deep + 2, eaves + rise * 1.4)


def works(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """A mill: a long hall with gables, a lower annexe, a chimney stack."""
    paint = Painters(random, style)
    wide, deep = float(random.uniform(20, 28)), float(random.uniform(12, 15))
    grid = replace(
        style.window, outline="segment", width=2.0, height=2.3, columns=4, rows=4, shutters=None, hood="none"
    )
    large = replace(style, window=grid, storey=3.7, bay=3.2)
    eaves, rise = int(random.integers(2, 4)) * 3.7 + 0.9, float(random.uniform(3, 4.5))
    sides = {"front": paint.wall("door", style=large), "all": paint.wall(style=large)}
    solids.box((0, 0, 0), (wide, deep, eaves), sides)
    solids.gabled_roof((0, 0, eaves), (wide, deep, rise), "x", paint.roof(), paint.bare(clock_on(random, 1.9, 0.2)))
    side = float(random.choice([-1, 1]))
    annexe = (side * (wide / 2 + 4.5), -1.5, 0.0)
    solids.box(annexe, (9, deep * 0.7, 4.6), {"front": paint.wall("shop", style=large), "all": paint.wall(style=large)})
    solids.gabled_roof((annexe[0], annexe[1], 4.6), (9, deep * 0.7, 2.6), "y", paint.roof(), paint.bare())
    stack = eaves + float(random.uniform(10, 14))
    solids.round_wall((-side * wide * 0.3, deep / 2 + 2, 0), 1.5, stack, 8, paint.bare(cornice=True))
    solids.box((0.15 * wide, -deep / 2 - 0.6, 0), (3, 1.2, eaves + rise), {"all": paint.wall(storeys=0)}, paint.trim())
    return Extent(wide + 9, deep, eaves + rise + 3)


def villa(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """Two wings at right angles, one with a gable to the front, a porch, a chimney, perhaps timbered above."""
    paint = Painters(random, style)
    upper = (
        replace(style, material="timber", wall=(228, 218, 196), quoins=False, courses=False)
        if random.random() < 0.6
        else style
    )
    wide, deep = float(random.uniform(11, 15)), float(random.uniform(8, 10))
    eaves, rise = 2 * style.storey + 0.5, float(random.uniform(4, 5))
    solids.box((0, 0, 0), (wide, deep, eaves), {"front": paint.wall("door"), "all": paint.wall()})
    solids.gabled_roof(
        (0, 0, eaves), (wide, deep, rise), "x", paint.roof(), paint.wall(storeys=0, style=upper, cornice=False)
    )
    side = float(random.choice([-1, 1]))
    wing, out = float(random.uniform(5.5, 7)), float(random.uniform(3, 5))
    at = (side * (wide - wing) / 2, -deep / 2 - out / 2 + 1, 0.0)
    solids.box(at, (wing, out + 2, eaves), {"all": paint.wall(style=upper)})
    stamp = openings.window(replace(style.window, hood="none"), random)
    gable = paint.wall(
        storeys=0, style=upper, cornice=False, details=lambda width, _: (stamp_at(stamp, width / 2, 0.3),)
    )
    roof = (at[0], at[1] + 2.5, eaves)
    solids.gabled_roof(roof, (wing, out + 7, wing * 0.6), "y", paint.roof(), gable, 0.5)
    solids.box((-side * wide * 0.3, 0.8, eaves), (1, 1.4, rise + 1.2), {"all": paint.bare()}, paint.trim())
    post = solids.atlas.add(paint.trim()(0.6, 2.8).colour)
    for x in (-1.6, 1.6):
        solids.column((-side * wide * 0.1 + x, -deep / 2 - 1.8, 0), 0.18, 2.8, post)
    solids.box((-side * wide * 0.1, -deep / 2 - 1, 2.8), (4, 2.2, 0.3), {"all": paint.trim()}, paint.trim())
    return Extent(wide, deep + out, eaves + rise)
