"""Buildings as rectangles in space, some with parts cut away. All solids are rings of walls that may lean inwards.

Metres; x to the right and y away for someone before the front, z up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sfm2tuples.world.textures import OPEN

WALL, SHEET, GROUND, EXTRA = range(4)
"""What a panel is: a wall, which is seen from outside; a roof or parapet, seen from both sides; ground; a cut-out."""
PANEL = np.dtype(
    [("corner", "f8", 3), ("right", "f8", 3), ("up", "f8", 3), ("size", "f8", 2), ("texture", "i8"), ("kind", "i8")]
)
"""A rectangle: its lower left, unit vectors along its width and height, and its size; wall panels are seen from the
side that right x up points to."""
X, Y, Z = np.eye(3)

Paint = Callable[[float, float], np.ndarray]
"""Makes the texture of a surface of some width and height in metres."""


class Extent(NamedTuple):
    """How much room a building takes, in metres; thin spires may stand above the height."""

    width: float
    depth: float
    height: float


class Solids:
    """Collects the panels and the textures of a place."""

    def __init__(self) -> None:
        self.textures: list[np.ndarray] = []
        self._panels: list[tuple] = []

    def panels(self) -> np.ndarray:
        """All panels so far: (n,) PANEL."""
        return np.asarray(self._panels, PANEL)

    def texture(self, picture: np.ndarray) -> int:
        """Add a texture, and return its number."""
        self.textures.append(picture)
        return len(self.textures) - 1

    def panel(
        self, corner: np.ndarray, right: np.ndarray, up: np.ndarray, size: Sequence[float], texture: int, kind: int
    ) -> None:
        """Add one rectangle."""
        self._panels.append((corner, right / np.linalg.norm(right), up / np.linalg.norm(up), size, texture, kind))

    def move(self, shift: np.ndarray) -> None:
        """Move all panels so far."""
        self._panels = [(corner + shift, *rest) for corner, *rest in self._panels]

    def ring(
        self,
        at: np.ndarray,
        foot: np.ndarray,
        shrink: Sequence[float],
        rise: float,
        paints: Sequence[Paint | None] | Paint,
        kind: int = WALL,
    ) -> None:
        """Add a ring of walls or slopes that narrows towards its top.

        Its foot has corners ``(n, 2)`` counter-clockwise around `at`, the front side first. `shrink` is what is left
        of the width and the depth at the top: 1, 1 for walls; 0, 0 for a spire; 1, 0 for a gabled roof. `paints` has
        one for each side, None leaves it open. One paint alone is laid around upright walls, and repeated on slopes.
        """
        low = np.column_stack([foot, np.zeros(len(foot))])
        high = low * [*shrink, 0] + rise * Z
        strips: list[np.ndarray] = []
        for side in range(len(foot)):
            after = (side + 1) % len(foot)
            right = low[after] - low[side]
            width = float(np.linalg.norm(right))
            start, end = ((high[row] - low[side]) @ right / width**2 for row in (side, after))
            up = high[side] - low[side] - start * right
            size = (width, float(np.linalg.norm(up)))
            if callable(paints):
                around = len(foot) if tuple(shrink) == (1, 1) else 1
                strips = strips or np.array_split(paints(width * around, size[1]), around, axis=1)
                picture = strips[side % around]
            elif paint := paints[side]:
                picture = paint(*size)
            else:
                continue
            if start > 0.001 or end < 0.999:
                picture = _cut(picture, [(0, 0), (start, 1), (end, 1), (1, 0)])
            self.panel(at + low[side], right, up, size, self.texture(picture), kind)


def _cut(picture: np.ndarray, corners: list[tuple[float, float]]) -> np.ndarray:
    """What of a texture lies inside `corners`, shares of its width and height."""
    height, width = picture.shape[:2]
    cover = Image.new("L", (width, height))
    ImageDraw.Draw(cover).polygon([(x * width, (1 - y) * height) for x, y in corners], 255)
    picture = picture.copy()
    picture[np.asarray(cover) == 0, 3] = OPEN
    return picture


def corners(width: float, depth: float, sides: int = 4) -> np.ndarray:
    """Foot ``(sides, 2)`` for `Solids.ring`: a rectangle, or with other than four sides a regular polygon."""
    if sides == 4:
        return np.asarray([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, depth / 2]
    angles = 2 * np.pi * (np.arange(sides) - 0.5) / sides - np.pi / 2
    return width / 2 * np.column_stack([np.cos(angles), np.sin(angles)])
