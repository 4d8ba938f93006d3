"""Straight lines through what was measured at several sizes, in logarithms: 1 is linear, 2 is quadratic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import numpy as np

FIGURES = ("seconds", "cpu_seconds", "peak_mb", "bytes")
"""What has a slope."""
NAMES = {"cpu_seconds": "of CPUs", "peak_mb": "peak MB", "bytes": "MB on disk"}
"""What the table calls them."""
BENT = 1.15
"""Slope between two sizes from which on a figure is said to bend: start-up makes slopes smaller, not larger."""


def figure(run: dict[str, Any], name: str) -> float:
    """A figure of a run; of the peaks that of the largest process."""
    if name == "peak_mb":
        return max((peak["peak_mb"] for peak in run["peaks"].values()), default=0.0)
    return float(run.get(name, 0.0))


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the straight line through the logarithms (least squares); NaN where there are no two points above 0."""
    points = [(np.log(size), np.log(value)) for size, value in zip(sizes, values, strict=True) if value > 0]
    if len(points) < 2:
        return float("nan")
    x, y = np.array(points).T
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def bends(sizes: Sequence[int], values: Sequence[float]) -> tuple[int, float] | None:
    """The first size from which the slope to the next is above `BENT`, and that slope; None where none is."""
    for k in range(1, len(sizes)):
        local = slope(sizes[k - 1 : k + 1], values[k - 1 : k + 1])
        if local > BENT:
            return sizes[k], local
    return None


def marginal(sizes: Sequence[int], values: Sequence[float]) -> list[float]:
    """What each further image costs between two sizes: start-up is in none of them, so that a bend shows early."""
    return [(values[k] - values[k - 1]) / max(1, sizes[k] - sizes[k - 1]) for k in range(1, len(sizes))]


def print_slopes(runs: Sequence[dict[str, Any]]) -> None:
    """A table for each number of observations and way to build, and what bends."""
    kinds = ("observations", "dimension", "flags", "val_images")
    for kind in dict.fromkeys(tuple(run.get(name) for name in kinds) for run in runs):
        found = [run for run in runs if tuple(run.get(name) for name in kinds) == kind and run["end"] == "done"]
        click.echo("\n" + ", ".join(f"{name} {value}" for name, value in zip(kinds, kind, strict=True)))
        bent: list[tuple[int, float, str]] = []
        for step in dict.fromkeys(run["step"] for run in found):
            rows = sorted((run for run in found if run["step"] == step), key=lambda run: run["images"])
            sizes = [run["images"] for run in rows]
            for name in FIGURES:
                values = [figure(run, name) for run in rows]
                if not all(values):
                    continue
                unit = 1e6 if name == "bytes" else 1.0
                shown = " ".join(f"{value / unit:10,.1f}" for value in values)
                more = " ".join(f"{1e6 * value / unit:9,.1f}" for value in marginal(sizes, values))
                words = f"{step:12} {NAMES.get(name, name):12} {shown}  slope {slope(sizes, values):5.2f}"
                click.echo(f"{words}  a million images more: {more}")
                where = bends(sizes, values)
                if where is not None:
                    bent.append((*where, f"{step}, {name}"))
        for size, steepness, what in sorted(bent):
            click.echo(f"bends: {what}: slope {steepness:.2f} up to {size:,} images")
