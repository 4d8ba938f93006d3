"""Histograms as inline SVG, so that a page needs nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 420, 216
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 26, 44
BINS = 24


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


def histogram(series: Sequence[Series], axis: str, decimals: int = 2) -> Markup:
    """Draw groups of values over one axis, each as shares of its own group, with its median as a dashed line.

    Parameters
    ----------
    series : sequence of Series
        Groups, drawn over each other.
    axis : str
        Label of the axis, with its unit.
    decimals : int
        Digits after the point of the medians and bin limits.

    Returns
    -------
    Markup
        One `svg` element; bars and medians carry CSS classes, colours come from the page.
    """
    drawn = [s for s in series if s.finite.size]
    if not drawn:
        return _frame(axis, [text_at(WIDTH / 2, HEIGHT / 2, "no values", "middle")])
    low, high, ticks = _axis(min(s.finite.min() for s in drawn), max(s.finite.max() for s in drawn))
    edges = np.linspace(low, high, BINS + 1)
    counts = [np.histogram(s.finite, edges)[0] for s in drawn]
    top = max(float((c / c.sum()).max()) for c in counts)
    parts = _grid(low, high, ticks, top)
    for s, count in zip(drawn, counts, strict=True):
        parts += _bars(s, count, edges, top, decimals)
    for s in drawn:
        parts += _median(s, low, high)
    return _frame(axis, parts)


def _axis(low: float, high: float) -> tuple[float, float, np.ndarray]:
    """Round limits and ticks around the values: at least four steps of 1, 2 or 5 times a power of ten."""
    span = (high - low) or max(abs(high), 1.0) * 0.1
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = max(power * factor for factor in (1, 2, 5) if power * factor <= span / 4 or factor == 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = np.arange(first, max(last, first + 1) + 1) * step
    return float(ticks[0]), float(ticks[-1]), ticks


def _x(value: float, low: float, high: float) -> float:
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def _y(share: float, top: float) -> float:
    return HEIGHT - BOTTOM - share / top * (HEIGHT - TOP - BOTTOM)


def _grid(low: float, high: float, ticks: np.ndarray, top: float) -> list[Markup]:
    parts = []
    for share in (0.0, top / 2, top):
        y = _y(share, top)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            LEFT, WIDTH - RIGHT, y, y))  # fmt: skip
        parts.append(text_at(LEFT - 6, y + 4, f"{100 * share:.0f} %", "end"))
    parts += [text_at(_x(tick, low, high), HEIGHT - BOTTOM + 16, f"{tick:g}", "middle") for tick in ticks.round(10)]
    return parts


def _bars(series: Series, count: np.ndarray, edges: np.ndarray, top: float, decimals: int) -> list[Markup]:
    total, parts = int(count.sum()), []
    for n, a, b in zip(count.tolist(), edges[:-1], edges[1:], strict=True):
        if n == 0:
            continue
        x, right, y = _x(a, edges[0], edges[-1]), _x(b, edges[0], edges[-1]), _y(n / total, top)
        parts.append(Markup(
            '<rect class="bar {}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        ).format(
            series.css or series.name, x + 0.5, y, right - x - 1, HEIGHT - BOTTOM - y,
            f"{series.name}, {a:.{decimals}f} to {b:.{decimals}f}: {n} of {total} ({100 * n / total:.1f} %)",
        ))  # fmt: skip
    return parts


def _median(series: Series, low: float, high: float) -> list[Markup]:
    x = _x(series.median, low, high)
    line = '<line class="median {}" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>'
    return [Markup(line).format(series.css or series.name, x, x, TOP - 8, HEIGHT - BOTTOM)]


def text_at(x: float, y: float, text: str, anchor: str) -> Markup:
    """Text in a drawing; `anchor` is SVG's ``start``, ``middle`` or ``end``."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _frame(axis: str, parts: Sequence[Markup]) -> Markup:
    label = text_at(LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 8, axis, "middle")
    return Markup('<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, f"Histogram of {axis}", Markup("").join([*parts, label])
    )
