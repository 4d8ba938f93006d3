"""Drawings as inline SVG, so that a page needs nothing from elsewhere: histograms, and figures against each other.

A drawing carries CSS classes; its colours come from the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

BINS = 24
TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of a scatter plot, as shares of its axes."""
CELLS = 100
"""Cells along a side of a scatter plot; it draws the points of one cell as one, so that thousands stay small."""
RADIUS, MAX_RADIUS = 4.5, 18.0
"""Radius of one point, and of any number of points. The area tells how many there are."""
NAMED = 3
"""So many names are told of a point that stands for several."""
Point = tuple[float, float, str]
"""Across, up, and the name that appears where the pointer rests."""


@dataclass(frozen=True)
class Series:
    """One group of values in a histogram."""

    name: str
    """What the legend calls it."""
    values: np.ndarray
    """(n,) float; what is not finite is left out."""
    css: str = ""
    """Its CSS class; its name where left out."""

    @property
    def finite(self) -> np.ndarray:
        """The values that can be drawn, as float64."""
        values = np.asarray(self.values, np.float64).ravel()
        return values[np.isfinite(values)]

    @property
    def median(self) -> float:
        """Median of the finite values; NaN where there is none."""
        return float(np.median(self.finite)) if self.finite.size else math.nan


@dataclass(frozen=True)
class Frame:
    """The area of a drawing in which both axes run from 0 to 1, and its margins, in units of the drawing."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int

    def x(self, share: float) -> float:
        """Where a share of the width lies."""
        return self.left + share * (self.width - self.left - self.right)

    def y(self, share: float) -> float:
        """Where a share of the height lies."""
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def drawing(self, css: str, label: str, parts: Sequence[Markup]) -> Markup:
        """The `svg` element of parts; the label is for those who do not see it."""
        return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            css, self.width, self.height, label, Markup("").join(parts)
        )


_HISTOGRAM = Frame(420, 216, 46, 14, 26, 44)
_SCATTER = Frame(412, 412, 56, 56, 56, 56)


def histogram(series: Sequence[Series], axis: str, decimals: int = 2) -> Markup:
    """Draw groups of values over one axis, each as shares of its own group, with its median as a dashed line.

    Parameters
    ----------
    series : sequence of Series
        Groups, drawn over each other.
    axis : str
        Label of the axis, with its unit.
    decimals : int
        Digits after the point of the bins' limits.

    Returns
    -------
    Markup
        One `svg` element.
    """
    frame = _HISTOGRAM
    drawn = [s for s in series if s.finite.size]
    if drawn:
        parts = _bars_and_medians(drawn, decimals)
    else:
        parts = [text(frame.width / 2, frame.height / 2, "no values", "middle")]
    parts.append(text(frame.x(0.5), frame.height - 8, axis, "middle"))
    return frame.drawing("histogram", f"Histogram of {axis}", parts)


def _bars_and_medians(drawn: Sequence[Series], decimals: int) -> list[Markup]:
    ticks = round_ticks(min(s.finite.min() for s in drawn), max(s.finite.max() for s in drawn))
    low, high = float(ticks[0]), float(ticks[-1])
    edges = np.linspace(low, high, BINS + 1)
    # A tick is a product, which rounding may put behind the value that it stands for: 3 x 0.1 is more than 0.3.
    counts = [np.histogram(s.finite.clip(low, high), edges)[0] for s in drawn]
    top = max(float((c / c.sum()).max()) for c in counts)

    def x(value: float) -> float:
        return _HISTOGRAM.x((value - low) / (high - low))

    parts = []
    for share in (0.0, top / 2, top):
        y = _HISTOGRAM.y(share / top)
        parts += [line("grid", x(low), x(high), y, y), text(x(low) - 6, y + 4, f"{100 * share:.0f} %", "end")]
    parts += [text(x(tick), _HISTOGRAM.y(0) + 16, f"{tick:g}", "middle") for tick in ticks.round(10)]
    for s, count in zip(drawn, counts, strict=True):
        parts += _bars(s, count, edges, x, top, decimals)
    for s in drawn:
        middle = x(s.median)
        parts.append(line(f"median {s.css or s.name}", middle, middle, _HISTOGRAM.top - 8, _HISTOGRAM.y(0)))
    return parts


def round_ticks(low: float, high: float) -> np.ndarray:
    """Round ticks around the values: at least four steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or max(abs(high), 1.0) * 0.1
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = max(power * factor for factor in (1, 2, 5) if power * factor <= span / 4 or factor == 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return np.arange(first, max(last, first + 1) + 1) * step


def _bars(
    series: Series, count: np.ndarray, edges: np.ndarray, x: Callable[[float], float], top: float, decimals: int
) -> list[Markup]:
    total, parts = int(count.sum()), []
    for n, a, b in zip(count.tolist(), edges[:-1], edges[1:], strict=True):
        if n == 0:
            continue
        y = _HISTOGRAM.y(n / total / top)
        parts.append(Markup(
            '<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        ).format(
            series.css or series.name, x(a) + 0.5, y, x(b) - x(a) - 1, _HISTOGRAM.y(0) - y,
            f"{series.name}, {a:.{decimals}f} to {b:.{decimals}f}: {n} of {total} ({100 * n / total:.1f} %)",
        ))  # fmt: skip
    return parts


def scatter(points: Sequence[Point], across: str, up: str, top: float = 1.0) -> Markup:
    """Draw points in a square, with the diagonal on which both figures are equal.

    Parameters
    ----------
    points : sequence of Point
        Both figures lie in 0..`top`.
    across, up : str
        Labels of the axes.
    top : float
        Where the axes end.

    Returns
    -------
    Markup
        One `svg` element; points above the diagonal carry the class ``first``, those below it ``second``.
    """
    frame = _SCATTER
    left, right, bottom = frame.x(0), frame.x(1), frame.y(0)
    parts = [line("grid", left, right, bottom, frame.y(1))]
    for tick in TICKS:
        y = frame.y(tick)
        parts.append(line("grid", left, right, y, y))
        parts.append(text(left - 6, y + 4, f"{top * tick:g}", "end"))
        parts.append(text(frame.x(tick), bottom + 16, f"{top * tick:g}", "middle"))
    parts += [_point(together, top) for together in _cells(points, top)]
    parts.append(text(frame.x(0.5), frame.height - 14, across, "middle"))
    upright = Markup('<text transform="translate(16 {}) rotate(-90)" text-anchor="middle">{}</text>')
    parts.append(upright.format(frame.y(0.5), up))
    return frame.drawing("histogram scatter", f"{up} against {across}", parts)


def _cells(points: Sequence[Point], top: float) -> list[list[Point]]:
    """Group the points that are drawn as one; points of different sides of the diagonal never are."""
    cells: dict[tuple[str, int, int], list[Point]] = {}
    for x, y, name in points:
        key = (_side(x, y), round(CELLS * x / top), round(CELLS * y / top))
        cells.setdefault(key, []).append((x, y, name))
    return list(cells.values())


def _side(x: float, y: float) -> str:
    return "first" if y > x else "second" if y < x else "junk"


def _point(together: list[Point], top: float) -> Markup:
    x, y, _ = together[0]
    names = ", ".join(name for _, _, name in together[:NAMED])
    if len(together) > NAMED:
        names = f"{len(together):,} queries, first {names}"
    return Markup('<circle class="point {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(
        _side(x, y),
        _SCATTER.x(x / top),
        _SCATTER.y(y / top),
        min(RADIUS * math.sqrt(len(together)), MAX_RADIUS),
        f"{names}: {x:.3f} across, {y:.3f} up",
    )


def line(css: str, x1: float, x2: float, y1: float, y2: float) -> Markup:
    """A straight line of a drawing."""
    element = '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>'
    return Markup(element).format(css, x1, x2, y1, y2)


def text(x: float, y: float, words: str, anchor: str) -> Markup:
    """Text in a drawing; `anchor` is SVG's ``start``, ``middle`` or ``end``."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, words)
