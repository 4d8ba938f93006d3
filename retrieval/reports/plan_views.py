"""Models seen from above as inline SVG: where cameras stand and look, a map of the points, edges of the graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT, MARGIN = 420, 320, 16
"""Size of a drawing and the empty space around it, in its own units."""
CELL = 3.0
"""Side of the squares in which points are counted."""
SHADES = 4
"""How many steps of density are told apart; each holds about as many squares as the others."""
OUTLIERS = 4.0
"""Per cent of the points on each side that may fall outside the drawing: a few lie far away by a wrong match."""
MAX_CAMERAS, MAX_EDGES = 400, 600
"""Cameras are drawn evenly spread, and of edges those with the most shared points, up to this number."""
LEVEL = 0.3
"""Length of the cameras' mean up from which on it is believed: they may be held in any direction."""


@dataclass(frozen=True)
class PlanView:
    """A model as a map."""

    svg: Markup
    """One `svg` element."""
    cameras: int
    """Cameras drawn."""
    edges: int
    """Pairs of cameras drawn."""


def plan_view(
    pose: np.ndarray, points: np.ndarray, edges: np.ndarray, shared: np.ndarray, names: list[str], label: str
) -> PlanView:
    """Draw a model from above.

    Parameters
    ----------
    pose : (n, 3, 4) float64
        World-to-camera.
    points : (p, 3) float64
    edges : (e, 2) int64
        Pairs of cameras that share points, each once.
    shared : (e,) int
        How many.
    names : list of str
        Of the cameras, shown where the pointer rests.
    label : str
        What the drawing is of, for those who do not see it.

    Returns
    -------
    PlanView
        Up is the mean of the cameras' own up; where they do not agree on one, the normal of the plane in which
        they lie. The longer extent of the cameras runs across.
    """
    centres = -np.einsum("nij,ni->nj", pose[:, :, :3], pose[:, :, 3])
    axes = ground_axes(pose, centres)
    at, seen = centres @ axes.T, points[np.isfinite(points).all(axis=1)] @ axes.T
    scale, middle = _fit(at, seen)
    canvas = np.array([WIDTH / 2, HEIGHT / 2])

    def place(across_up: np.ndarray) -> np.ndarray:
        return canvas + (across_up - middle) * scale * [1, -1]

    strongest = np.argsort(-shared, kind="stable")[:MAX_EDGES]
    drawn = (np.arange(min(len(at), MAX_CAMERAS)) * len(at)) // max(min(len(at), MAX_CAMERAS), 1)
    # The optical axis is the third row of the rotation.
    ahead = pose[:, 2, :3] @ axes.T * [1, -1]
    parts = [*_density(place(seen)), _edges(place(at)[edges[strongest]])]
    parts += [_camera(point, direction, names[row]) for row, point, direction in zip(
        drawn.tolist(), place(at)[drawn], ahead[drawn], strict=True
    )]  # fmt: skip
    svg = Markup('<svg class="plan" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, f"{label} seen from above", Markup("").join(parts)
    )
    return PlanView(svg, len(drawn), len(strongest))


def ground_axes(pose: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Directions across and up of a map of the ground: (2, 3) float64, orthonormal.

    Parameters
    ----------
    pose : (n, 3, 4) float64
        World-to-camera.
    centres : (n, 3) float64
        Where the cameras are.
    """
    spread = np.linalg.svd(centres - centres.mean(axis=0), full_matrices=True)[2]
    # A camera's y axis points down: the second row of the rotation.
    up = -pose[:, 1, :3].mean(axis=0)
    up = spread[2] if np.linalg.norm(up) < LEVEL else up / np.linalg.norm(up)
    flat = spread - np.outer(spread @ up, up)
    across = flat[0] if np.linalg.norm(flat[0]) > 1e-6 else flat[1]
    across = across / np.linalg.norm(across)
    return np.stack([across, np.cross(up, across)])


def _fit(cameras: np.ndarray, points: np.ndarray) -> tuple[float, np.ndarray]:
    """Scale and middle by which all cameras and nearly all points lie in the drawing."""
    limits = [cameras.min(axis=0), cameras.max(axis=0)]
    if len(points):
        limits += list(np.percentile(points, [OUTLIERS, 100 - OUTLIERS], axis=0))
    low, high = np.min(limits, axis=0), np.max(limits, axis=0)
    room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
    extent = np.maximum(high - low, 1e-12 * max(1.0, float(np.abs(high).max())))
    return float((room / extent).min()), (low + high) / 2


def _density(points: np.ndarray) -> list[Markup]:
    """Squares that hold points, those with more of them darker; one path a shade."""
    inside = ((points >= 0) & (points < [WIDTH, HEIGHT])).all(axis=1)
    cells, count = np.unique((points[inside] // CELL).astype(np.int64), axis=0, return_counts=True)
    if not len(cells):
        return []
    limits = np.unique(np.percentile(count, np.linspace(0, 100, SHADES + 1)[1:-1]))
    shade = np.searchsorted(limits, count, side="right")
    paths = []
    for step in np.unique(shade).tolist():
        squares = "".join(f"M{x * CELL:g} {y * CELL:g}h{CELL:g}v{CELL:g}h-{CELL:g}z" for x, y in cells[shade == step])
        paths.append(Markup('<path class="points" opacity="{:.2f}" d="{}"/>').format((step + 1) / SHADES, squares))
    return paths


def _edges(ends: np.ndarray) -> Markup:
    lines = "".join(f"M{a[0]:.1f} {a[1]:.1f}L{b[0]:.1f} {b[1]:.1f}" for a, b in ends)
    return Markup('<path class="edges" d="{}"/>').format(lines)


def _camera(point: np.ndarray, direction: np.ndarray, name: str) -> Markup:
    """A triangle at the camera that opens in the direction in which it looks; a dot where it looks up or down."""
    length = float(np.linalg.norm(direction))
    title = Markup("<title>{}</title>").format(name)
    if length < 0.2:
        return Markup('<circle class="camera" cx="{:.1f}" cy="{:.1f}" r="3">{}</circle>').format(*point, title)
    ahead = direction / length * 11
    aside = np.array([-ahead[1], ahead[0]]) * 0.5
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point, point + ahead + aside, point + ahead - aside))
    return Markup('<polygon class="camera" points="{}">{}</polygon>').format(corners, title)
