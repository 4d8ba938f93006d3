"""What changes from round to round, as inline SVG: lines over the rounds of a training run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from retrieval.reports.drawings import Frame, line, round_ticks, text

FRAME = Frame(420, 216, 52, 14, 16, 44)
MOST_ROUNDS, MOST_TICKS = 8, 6
"""Rounds that are named along one axis, values along the other."""


@dataclass(frozen=True)
class Curve:
    """One line."""

    name: str
    """What the legend calls it."""
    values: Sequence[float]
    """A value for each round; NaN where there is none."""
    css: str
    """Its CSS class, which gives the colour."""


def curves(rounds: Sequence[int], drawn: Sequence[Curve], axis: str, marked: int | None = None) -> Markup:
    """Draw lines over the rounds.

    Parameters
    ----------
    rounds : sequence of int
        Numbers of the rounds, rising.
    drawn : sequence of Curve
        A value for each round.
    axis : str
        What the values are, with their unit.
    marked : int, optional
        The round under a dashed line: the one that is used.

    Returns
    -------
    Markup
        One `svg` element.
    """
    finite = [value for curve in drawn for value in curve.values if math.isfinite(value)]
    if not finite:
        none = text(FRAME.width / 2, FRAME.height / 2, "no values", "middle")
        return FRAME.drawing("histogram", f"{axis} by round", [none])
    lowest, highest = min(finite), max(finite)
    # A flat line stands at the top: above 100 per cent there is nothing.
    ticks = round_ticks(0.9 * lowest if lowest == highest > 0 else lowest, highest)
    ticks = ticks[:: -(-len(ticks) // MOST_TICKS)]
    low, high = float(ticks[0]), max(float(ticks[-1]), *finite)
    first, last = rounds[0], max(rounds[-1], rounds[0] + 1)

    def x(number: int) -> float:
        return FRAME.x((number - first) / (last - first))

    def y(value: float) -> float:
        return FRAME.y((value - low) / (high - low))

    parts = []
    for tick in ticks.tolist():
        parts += [line("grid", FRAME.x(0), FRAME.x(1), y(tick), y(tick))]
        parts += [text(FRAME.x(0) - 6, y(tick) + 4, f"{round(tick, 10):g}", "end")]
    step = -(-len(rounds) // MOST_ROUNDS)
    parts += [text(x(number), FRAME.y(0) + 16, str(number), "middle") for number in rounds[::step]]
    if marked is not None:
        parts.append(line("median val", x(marked), x(marked), FRAME.y(1), FRAME.y(0)))
    for curve in drawn:
        there = [(n, value) for n, value in zip(rounds, curve.values, strict=True) if math.isfinite(value)]
        path = "L".join(f"{x(n):.1f} {y(value):.1f}" for n, value in there)
        if path:
            parts.append(Markup('<path class="curve {}" d="M{}"/>').format(curve.css, path))
        for n, value in there:
            dot = Markup('<circle class="point {}" cx="{:.1f}" cy="{:.1f}" r="3.5"><title>{}</title></circle>')
            parts.append(dot.format(curve.css, x(n), y(value), f"{curve.name}, round {n}: {value:.4g}"))
    parts.append(text(FRAME.x(0.5), FRAME.height - 8, f"{axis}, by round", "middle"))
    return FRAME.drawing("histogram", f"{axis} by round", parts)
