"""Two figures of many things against each other, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from retrieval.reports.histograms import text_at

SIDE, EDGE = 300, 56
"""Side of the square of points, and the space around it, in units of the drawing."""
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
CELLS = 100
"""A side in cells; points of one cell are drawn as one, so that thousands stay a small drawing."""
RADIUS, MAX_RADIUS = 4.5, 18.0
"""Of one point, and of any number; the area tells how many."""
NAMED = 3
"""Names of a point that stands for several."""


def scatter(points: Sequence[tuple[float, float, str]], across: str, up: str, top: float = 1.0) -> Markup:
    """Draw points in a square, with the diagonal on which both are equal.

    Parameters
    ----------
    points : sequence of (x, y, name)
        Both in 0..`top`; the name appears where the pointer rests.
    across, up : str
        Labels of the axes.
    top : float
        Where the axes end.

    Returns
    -------
    Markup
        One `svg` element; points above the diagonal carry the class ``first``, those below it ``second``.
    """
    size = SIDE + 2 * EDGE
    parts = [Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_x(0), _y(0), _x(1), _y(1))]
    for tick in TICKS:
        parts.append(
            Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_x(0), _y(tick), _x(1), _y(tick))
        )
        parts.append(text_at(_x(0) - 6, _y(tick) + 4, f"{top * tick:g}", "end"))
        parts.append(text_at(_x(tick), _y(0) + 16, f"{top * tick:g}", "middle"))
    parts += [_point(together, top) for together in _cells(points, top)]
    parts.append(text_at(_x(0.5), size - 14, across, "middle"))
    parts.append(
        Markup('<text transform="translate(16 {}) rotate(-90)" text-anchor="middle">{}</text>').format(_y(0.5), up)
    )
    return Markup('<svg class="histogram scatter" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        size, size, f"{up} against {across}", Markup("").join(parts)
    )


def _cells(points: Sequence[tuple[float, float, str]], top: float) -> list[list[tuple[float, float, str]]]:
    """Points that are drawn as one; those of different sides of the diagonal never are."""
    cells: dict[tuple[str, int, int], list[tuple[float, float, str]]] = {}
    for x, y, name in points:
        key = (_side(x, y), round(CELLS * x / top), round(CELLS * y / top))
        cells.setdefault(key, []).append((x, y, name))
    return list(cells.values())


def _side(x: float, y: float) -> str:
    return "first" if y > x else "second" if y < x else "junk"


def _point(together: list[tuple[float, float, str]], top: float) -> Markup:
    x, y, _ = together[0]
    names = ", ".join(name for _, _, name in together[:NAMED])
    if len(together) > NAMED:
        names = f"{len(together):,} queries, first {names}"
    return Markup('<circle class="point {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(
        _side(x, y),
        _x(x / top),
        _y(y / top),
        min(RADIUS * math.sqrt(len(together)), MAX_RADIUS),
        f"{names}: {x:.3f} across, {y:.3f} up",
    )


def _x(value: float) -> float:
    return EDGE + value * SIDE


def _y(value: float) -> float:
    return EDGE + (1 - value) * SIDE
