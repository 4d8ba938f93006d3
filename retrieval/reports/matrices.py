"""How many points the images of a place share, as inline SVG: a square for each pair, darker for more."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

SIDE = 360
"""Side of the drawing, in its own units."""
MOST = 120
"""Rows of a drawing; of a larger place neighbours are drawn as one, by the most that any two of them share."""
SHADES = 6
"""How many steps of shared points are told apart, even in their logarithm."""


def shared_matrix(rows: np.ndarray, columns: np.ndarray, shared: np.ndarray, size: int, label: str) -> Markup:
    """Draw the shared points of a place.

    Parameters
    ----------
    rows, columns : (e,) int64
        Pairs of images, in both orders, in 0..size - 1.
    shared : (e,) int
        Points that both see, at least 1.
    size : int
        Number of images.
    label : str
        What the drawing is of, for those who do not see it.

    Returns
    -------
    Markup
        One `svg` element.
    """
    binned = binned_matrix(rows, columns, shared, size)
    drawn, cell = len(binned), SIDE / max(len(binned), 1)
    top = np.log1p(max(float(binned.max(initial=0)), 1.0))
    shade = np.ceil(np.log1p(binned) / top * SHADES).astype(np.int64)
    parts = [Markup('<rect class="well" width="{0}" height="{0}"/>').format(SIDE)]
    for step in range(1, SHADES + 1):
        squares = "".join(
            f"M{c * cell:.2f} {r * cell:.2f}h{cell:.2f}v{cell:.2f}h-{cell:.2f}z" for r, c in np.argwhere(shade == step)
        )
        if squares:
            parts.append(Markup('<path class="points" opacity="{:.2f}" d="{}"/>').format(step / SHADES, squares))
    return Markup('<svg class="plan matrix" viewBox="0 0 {0} {0}" role="img" aria-label="{1}">{2}</svg>').format(
        SIDE, f"Shared points of {label}, {drawn} rows", Markup("").join(parts)
    )


def binned_matrix(rows: np.ndarray, columns: np.ndarray, shared: np.ndarray, size: int) -> np.ndarray:
    """The most shared points of each square: (m, m) int64, m at most `MOST`; parameters as of `shared_matrix`."""
    together = -(-size // MOST) if size else 1
    count = -(-size // together)
    binned = np.zeros((count, count), np.int64)
    np.maximum.at(binned, (rows // together, columns // together), shared)
    return binned
