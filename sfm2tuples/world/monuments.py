"""Kinds of buildings that one travels to: churches, castles, temples, gates, domes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm2tuples.world import openings
from sfm2tuples.world.facades import Detail, Style, stamp_at
from sfm2tuples.world.painters import GLOOM, Painters, belfry, clock_on
from sfm2tuples.world.solids import Extent, Solids


def church(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """A nave with buttresses, a rose over the portal, a tower with a spire at the front or the side."""
    paint = Painters(random, style)
    wide, long = float(random.uniform(10, 13)), float(random.uniform(18, 24))
    eaves, rise = float(random.uniform(7.5, 9.5)), float(random.uniform(6, 8))
    tall = replace(style, window=replace(style.window, height=eaves * 0.5, shutters=None), storey=eaves * 0.92, bay=3.4)
    portal = openings.door(style.window.outline, 2.4, 4.0, style.door, style.trim)
    front = paint.bare(lambda width, _: (stamp_at(portal, width / 2, 0.0),))
    solids.box((0, 0, 0), (wide, long, eaves), {"front": front, "all": paint.wall(style=tall)})
    rose = openings.rose(3.2, style.trim)
    gable = paint.bare(lambda width, _: (stamp_at(rose, width / 2, 0.6),))
    solids.gabled_roof((0, 0, eaves), (wide, long, rise), "y", paint.roof(), gable)
    for y in np.linspace(-long / 2 + 1, long / 2 - 1, 6):
        for x in (-wide / 2 - 0.5, wide / 2 + 0.5):
            solids.box((x, float(y), 0), (1.0, 0.8, eaves * 0.75), {"all": paint.bare()}, paint.trim())
    size, high = float(random.uniform(4.6, 6)), eaves + rise + float(random.uniform(1, 5))
    x = float(random.choice([-1, 1])) * (wide + size) / 2
    y = -long / 2 + size / 2 + 0.5
    bells = belfry(style, size, 0.72, clock_on(random, size * 0.42, 0.55))
    solids.box((x, y, 0), (size, size, high), {"all": paint.wall("blank", 0, bells)})
    solids.round_roof(
        (x, y, high), size * 0.74, 0.0, float(random.uniform(5, 11)), 4 if random.random() < 0.5 else 8, paint.roof()
    )
    return Extent(wide + size, long, high + 3)


def castle(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """A keep with battlements, a lower wing, round corner towers with pointed roofs."""
    paint = Painters(random, style)
    wide, deep, high = float(random.uniform(18, 24)), float(random.uniform(12, 15)), float(random.uniform(7, 9))
    few = replace(style, bay=style.bay * 1.7)
    gate = openings.arch("round", 3.2, 4.2, style.trim, GLOOM, False)
    front = paint.wall("blank", None, lambda width, _: (stamp_at(gate, width * 0.55, 0.0),), style=few)
    solids.box((0, 0, 0), (wide, deep, high), {"front": front, "all": paint.wall(style=few)}, paint.trim())
    solids.battlements((0, 0, high), (wide, deep, 1.4), paint.bare())
    side = float(random.choice([-1, 1]))
    size, keep = float(random.uniform(6, 8)), high + float(random.uniform(6, 9))
    at = (side * wide * 0.22, deep * 0.1, 0.0)
    solids.box(at, (size, size, keep), {"all": paint.wall("blank", style=replace(few, bay=2.8))}, paint.trim())
    if random.random() < 0.5:
        solids.battlements((at[0], at[1], keep), (size + 0.5, size + 0.5, 1.5), paint.bare())
    else:
        solids.hipped_roof((at[0], at[1], keep), (size, size, size * 0.8), paint.roof())
    radius = float(random.uniform(2, 2.8))
    corners = [(-1, -1), (1, -1), (-side, 1)]
    for x, y in corners:
        tower = high + float(random.uniform(1.5, 4))
        foot = (x * wide / 2, y * deep / 2, 0.0)
        slit = replace(few, window=replace(style.window, width=0.7, height=1.5, border=0.1, shutters=None, hood="none"))
        solids.round_wall(foot, radius, tower, 10, paint.wall("blank", style=slit))
        solids.round_roof(
            (*foot[:2], tower), radius * 1.18, 0.0, radius * float(random.uniform(1.6, 2.6)), 10, paint.roof()
        )
    return Extent(wide + 2 * radius, deep, keep)


def temple(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """Steps, a row of columns under a pediment, a hall behind: museum, theatre or exchange."""
    paint = Painters(random, style)
    count = int(random.integers(2, 5)) * 2
    gap = float(random.uniform(2.3, 3.0))
    wide, deep, high = count * gap, float(random.uniform(14, 20)), float(random.uniform(7, 9))
    for step in range(4):
        solids.box(
            (0, -1.5 + step * 0.35, step * 0.35),
            (wide + 5 - step, deep + 7 - step, 0.35),
            {"all": paint.trim()},
            paint.trim(),
        )
    base = 1.4
    portal = openings.door("flat", 2.6, 4.6, style.door, style.trim)
    front = paint.bare(lambda width, _: (stamp_at(portal, width / 2, 0.0),), cornice=True)
    solids.box((0, 1, base), (wide, deep - 4, high), {"front": front, "all": paint.wall()})
    shaft = solids.atlas.add(paint.trim()(1.0, high).colour)
    y = -deep / 2 - 0.5
    for x in (np.arange(count) - (count - 1) / 2) * gap:
        solids.column((float(x), y, base), 0.55, high - 0.4, shaft)
        solids.box((float(x), y, base + high - 0.4), (1.5, 1.5, 0.4), {"all": paint.trim()})
    solids.box((0, (y + deep / 2) / 2 - 1, base + high), (wide + 0.8, deep + 1, 1.3), {"all": paint.bare(cornice=True)})
    rise = wide * float(random.uniform(0.16, 0.24))
    crest = openings.rose(rise * 0.6, style.trim)
    gable = paint.bare(lambda width, _: (stamp_at(crest, width / 2, rise * 0.12),))
    solids.gabled_roof((0, -1, base + high + 1.3), (wide + 0.8, deep + 1, rise), "y", paint.roof(), gable)
    if random.random() < 0.5:
        for x in (-1, 1):
            side = (x * (wide / 2 + 5), 2.0, 0.0)
            solids.box(side, (10, deep - 6, high), {"all": paint.wall()}, paint.trim())
        return Extent(wide + 20, deep, base + high + rise)
    return Extent(wide + 4, deep, base + high + rise)


def gatehouse(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """A town gate: two towers, an arch between them, pieces of the town wall."""
    paint = Painters(random, style)
    wide, deep, high = float(random.uniform(6, 8)), float(random.uniform(6, 8)), float(random.uniform(10, 13))
    gate = openings.arch(str(random.choice(["round", "pointed"])), wide * 0.5, 5.0, style.trim, GLOOM, False)

    def passage(width: float, height: float) -> tuple[Detail, ...]:
        pair = openings.window(replace(style.window, shutters=None), random)
        return (
            stamp_at(gate, width / 2, 0.0),
            *(stamp_at(pair, width * x, height * 0.62) for x in (0.3, 0.7)),
        )

    solids.box(
        (0, 0, 0), (wide, deep, high), {"front": paint.bare(passage), "back": paint.bare(passage), "all": paint.bare()}
    )
    solids.gabled_roof((0, 0, high), (wide, deep, wide * 0.55), "x", paint.roof(), paint.bare(), 0.2)
    radius, tower = float(random.uniform(2.6, 3.4)), high + float(random.uniform(2, 5))
    pointed = bool(random.random() < 0.6)
    slit = replace(style, window=replace(style.window, width=0.8, shutters=None, hood="none", border=0.12), bay=3.4)
    for x in (-1, 1):
        foot = (x * (wide / 2 + radius * 0.7), -deep / 2 + 1, 0.0)
        solids.round_wall(foot, radius, tower, 12, paint.wall("blank", style=slit))
        top = (foot[0], foot[1], tower)
        if pointed:
            solids.round_roof(top, radius * 1.15, 0.0, float(radius * 2), 12, paint.roof())
        else:
            solids.battlements(top, (radius * 1.7, radius * 1.7, 1.3), paint.bare())
        wall = (x * (wide / 2 + radius * 1.4 + 5), 0.5, 0.0)
        solids.box(wall, (10, 1.6, 5.5), {"all": paint.bare()}, paint.trim())
        solids.battlements((wall[0], wall[1], 5.5), (10, 1.6, 1.1), paint.bare())
    return Extent(wide + 4 * radius + 8, deep, tower + 2)


def domed_hall(random: np.random.Generator, style: Style, solids: Solids) -> Extent:
    """A square block with a drum, a dome and a lantern, a portico in front."""
    paint = Painters(random, style)
    wide, high = float(random.uniform(15, 19)), 2 * style.storey + 1
    solids.box((0, 0, 0), (wide, wide, high), {"front": paint.wall("door"), "all": paint.wall()}, paint.trim())
    solids.box((0, 0, high), (wide * 0.96, wide * 0.96, 0.7), {"all": paint.trim()}, paint.trim())
    radius, drum = wide * 0.36, float(random.uniform(3, 4.5))
    slim = replace(style, window=replace(style.window, outline="round", height=drum * 0.6, shutters=None, hood="none"))
    slim = replace(slim, storey=drum * 0.9, bay=style.window.width + 1.0)
    solids.round_wall((0, 0, high), radius, drum, 12, paint.wall(style=slim, storeys=1))
    low, foot = radius * 1.06, high + drum
    for share, rise in ((0.86, 0.42), (0.55, 0.34), (0.2, 0.16)):
        solids.round_roof((0, 0, foot), low, radius * share, radius * rise, 12, paint.roof())
        low, foot = radius * share, foot + radius * rise
    solids.round_wall((0, 0, foot), radius * 0.18, 1.8, 8, paint.trim())
    solids.round_roof((0, 0, foot + 1.8), radius * 0.22, 0.0, 1.6, 8, paint.roof())
    shaft = solids.atlas.add(paint.trim()(0.8, high * 0.7).colour)
    y = -wide / 2 - 2.2
    span = wide * 0.5
    for x in np.linspace(-span / 2, span / 2, int(random.integers(4, 7))):
        solids.column((float(x), y, 0), 0.42, high * 0.7, shaft)
    solids.box((0, y + 1, high * 0.7), (span + 1.4, 3.4, 0.9), {"all": paint.bare(cornice=True)}, paint.trim())
    solids.gabled_roof(
        (0, y + 1, high * 0.7 + 0.9), (span + 1.4, 3.4, span * 0.2), "y", paint.roof(), paint.bare(), 0.2
    )
    return Extent(wide, wide + 4, foot)
