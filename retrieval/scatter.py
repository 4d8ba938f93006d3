"""Two figures of many things against each other, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from retrieval.histograms import text_at

SIDE, EDGE = 300, 56
"""Side of the square of points, and the space around it, in units of the drawing."""
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


def scatter(points: Sequence[tuple[float, float, str]], across: str, up: str) -> Markup:
    """Draw points in the unit square, with the diagonal on which both are equal.

    Parameters
    ----------
    points : sequence of (x, y, name)
        Both in 0..1; the name appears where the pointer rests.
    across, up : str
        Labels of the axes.

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
        parts.append(text_at(_x(0) - 6, _y(tick) + 4, f"{tick:g}", "end"))
        parts.append(text_at(_x(tick), _y(0) + 16, f"{tick:g}", "middle"))
    for x, y, name in points:
        side = "first" if y > x else "second" if y < x else "junk"
        parts.append(
            Markup('<circle class="point {}" cx="{:.1f}" cy="{:.1f}" r="4.5"><title>{}</title></circle>').format(
                side, _x(x), _y(y), f"{name}: {x:.3f} across, {y:.3f} up"
            )
        )
    parts.append(text_at(_x(0.5), size - 14, across, "middle"))
    parts.append(
        Markup('<text transform="translate(16 {}) rotate(-90)" text-anchor="middle">{}</text>').format(_y(0.5), up)
    )
    return Markup('<svg class="histogram scatter" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        size, size, f"{up} against {across}", Markup("").join(parts)
    )


def _x(value: float) -> float:
    return EDGE + value * SIDE


def _y(value: float) -> float:
    return EDGE + (1 - value) * SIDE
