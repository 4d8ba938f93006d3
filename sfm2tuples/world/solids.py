"""Buildings as rectangles in space, some with parts cut away: boxes, roofs, round towers, columns, battlements.

Metres; x to the right and y away for someone before the front, z up. A panel is seen from the side its normal,
right x up, points to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sfm2tuples.world.atlas import Atlas
from sfm2tuples.world.facades import Painted

BUILDING, GROUND, EXTRA = 0, 1, 2
"""What a panel belongs to; only buildings, and the ground a little, carry points."""

Painter = Callable[[float, float], Painted]
Corners = list[tuple[float, float]]

X, Y, Z = np.eye(3)


@dataclass(frozen=True)
class Extent:
    """How much room a building takes, in metres."""

    width: float
    """Along x."""
    depth: float
    """Along y."""
    height: float
    """Of what fills a photo; thin spires may stand above."""


@dataclass(frozen=True)
class Panels:
    """Rectangles in space as columns; `texture` is a row of the atlas's table."""

    corner: np.ndarray
    """(n, 3) float64, lower left."""
    right: np.ndarray
    """(n, 3) float64, unit vectors along the width."""
    up: np.ndarray
    """(n, 3) float64, unit vectors along the height."""
    size: np.ndarray
    """(n, 2) float64, width and height in metres."""
    texture: np.ndarray
    """(n,) int64."""
    kind: np.ndarray
    """(n,) int64: BUILDING, GROUND or EXTRA."""
    two_sided: np.ndarray
    """(n,) bool."""
    tile: np.ndarray
    """(n,) float64, side in metres of a texture that repeats; 0 where one copy covers the panel."""

    def joined(self, other: Panels) -> Panels:
        """These panels and then those of `other`."""
        columns = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__dict__}
        return Panels(**columns)


class Solids:
    """Collects the panels of a place."""

    def __init__(self, atlas: Atlas) -> None:
        self.atlas = atlas
        self._rows: list[tuple] = []

    def finish(self) -> Panels:
        """The panels as columns."""
        corner, right, up, size, texture, kind, two_sided, tile = zip(*self._rows, strict=True)
        return Panels(
            corner=np.asarray(corner, np.float64),
            right=np.asarray(right, np.float64),
            up=np.asarray(up, np.float64),
            size=np.asarray(size, np.float64),
            texture=np.asarray(texture),
            kind=np.asarray(kind),
            two_sided=np.asarray(two_sided),
            tile=np.asarray(tile, np.float64),
        )

    def panel(
        self,
        corner: np.ndarray,
        right: np.ndarray,
        up: np.ndarray,
        size: tuple[float, float],
        texture: int,
        *,
        kind: int = BUILDING,
        two_sided: bool = False,
        tile: float = 0.0,
    ) -> None:
        """Add one rectangle."""
        right, up = right / np.linalg.norm(right), up / np.linalg.norm(up)
        self._rows.append((np.asarray(corner, float), right, up, size, texture, kind, two_sided, tile))

    def cut(self, painted: Painted, corners: Corners | None = None) -> int:
        """Put a texture into the atlas, only what lies inside `corners` (shares of width and height, y upwards)."""
        if corners is None:
            return self.atlas.add(painted.colour, painted.glass)
        height, width = painted.glass.shape
        cover = Image.new("L", (width, height))
        ImageDraw.Draw(cover).polygon([(x * width, (1 - y) * height) for x, y in corners], 255)
        return self.atlas.add(painted.colour, painted.glass, np.asarray(cover) > 127)

    def box(
        self,
        at: tuple[float, float, float],
        size: tuple[float, float, float],
        sides: dict[str, Painter],
        top: Painter | None = None,
    ) -> None:
        """Four walls and perhaps a flat top.

        Parameters
        ----------
        at : (float, float, float)
            Middle of the foot.
        size : (float, float, float)
            Along x, y and z.
        sides : dict
            Painter of "front", "right", "back", "left"; "all" for those that are not named.
        top : Painter, optional
            Of the flat roof.
        """
        x, y, z = at
        wide, deep, high = size
        low = {
            "front": ((x - wide / 2, y - deep / 2, z), X, wide),
            "right": ((x + wide / 2, y - deep / 2, z), Y, deep),
            "back": ((x + wide / 2, y + deep / 2, z), -X, wide),
            "left": ((x - wide / 2, y + deep / 2, z), -Y, deep),
        }
        for side, (corner, right, length) in low.items():
            painter = sides.get(side) or sides["all"]
            self.panel(np.asarray(corner), right, Z, (length, high), self.cut(painter(length, high)))
        if top:
            foot = np.asarray([x - wide / 2, y - deep / 2, z + high])
            self.panel(foot, X, Y, (wide, deep), self.cut(top(wide, deep)))

    def gabled_roof(
        self,
        at: tuple[float, float, float],
        size: tuple[float, float, float],
        ridge: str,
        roof: Painter,
        gable: Painter,
        over: float = 0.4,
    ) -> None:
        """Two slopes and two gables; `at` is the middle at the eaves, `size` along x, y and the rise."""
        along, across = (X, Y) if ridge == "x" else (Y, -X)
        length, span = (size[0], size[1]) if ridge == "x" else (size[1], size[0])
        rise, middle = size[2], np.asarray(at)
        drop = over * rise / (span / 2)
        slant = float(np.hypot(span / 2 + over, rise + drop))
        long = length + 2 * over
        for turn in (1, -1):
            corner = middle - turn * (long / 2 * along + (span / 2 + over) * across) - drop * Z
            up = turn * span / 2 * across + rise * Z
            self.panel(corner, turn * along, up, (long, slant), self.cut(roof(long, slant)), two_sided=True)
            foot = middle - turn * (length / 2 * along - span / 2 * across)
            texture = self.cut(gable(span, rise), [(0, 0), (0.5, 1), (1, 0)])
            self.panel(foot, -turn * across, Z, (span, rise), texture)

    def hipped_roof(
        self, at: tuple[float, float, float], size: tuple[float, float, float], roof: Painter, over: float = 0.5
    ) -> None:
        """Four slopes, a ridge along the longer side; a pyramid on a square."""
        x, y, z = at
        wide, deep, rise = size[0] + 2 * over, size[1] + 2 * over, size[2]
        half = min(wide, deep) / 2
        slant = float(np.hypot(half, rise))
        sides = [(X, Y, wide, deep), (Y, -X, deep, wide), (-X, -Y, wide, deep), (-Y, X, deep, wide)]
        for right, inwards, length, across in sides:
            corner = np.asarray([x, y, z]) - length / 2 * right - across / 2 * inwards
            inset = half / length
            corners = [(0.0, 0.0), (inset, 1.0), (1 - inset, 1.0), (1.0, 0.0)]
            texture = self.cut(roof(length, slant), corners)
            self.panel(corner, right, half * inwards + rise * Z, (length, slant), texture, two_sided=True)

    def round_wall(
        self, at: tuple[float, float, float], radius: float, height: float, sides: int, painter: Painter
    ) -> None:
        """A prism of `sides` walls, one painting around all of it."""
        width = 2 * radius * np.sin(np.pi / sides)
        around = painter(width * sides, height)
        columns = np.linspace(0, around.glass.shape[1], sides + 1).round().astype(int)
        for side in range(sides):
            part = slice(columns[side], columns[side + 1])
            texture = self.cut(Painted(around.colour[:, part], around.glass[:, part]))
            self._around(at, radius, radius, (width, height), side, sides, texture)

    def round_roof(
        self, at: tuple[float, float, float], low: float, high: float, rise: float, sides: int, roof: Painter
    ) -> None:
        """A ring that narrows from radius `low` to `high` over `rise`; `high` 0 makes a cone or spire."""
        width = 2 * low * np.sin(np.pi / sides)
        slant = float(np.hypot((low - high) * np.cos(np.pi / sides), rise))
        inset = (1 - high / low) / 2
        texture = self.cut(roof(width, slant), [(0, 0), (inset, 1), (1 - inset, 1), (1, 0)])
        for side in range(sides):
            self._around(at, low, high, (width, slant), side, sides, texture, rise)

    def _around(
        self,
        at: tuple[float, float, float],
        low: float,
        high: float,
        size: tuple[float, float],
        side: int,
        sides: int,
        texture: int,
        rise: float = 1.0,
    ) -> None:
        angle = 2 * np.pi * (side + 0.5) / sides - np.pi / 2
        outwards = np.asarray([np.cos(angle), np.sin(angle), 0])
        right = np.asarray([-np.sin(angle), np.cos(angle), 0])
        inner = np.cos(np.pi / sides)
        corner = np.asarray(at) + low * inner * outwards - size[0] / 2 * right
        up = (high - low) * inner * outwards + rise * Z
        self.panel(corner, right, up, size, texture, two_sided=low != high)

    def column(
        self, at: tuple[float, float, float], radius: float, height: float, texture: int, sides: int = 6
    ) -> None:
        """A column; `texture` is shared by all its sides and by all columns."""
        width = 2 * radius * np.sin(np.pi / sides)
        for side in range(sides):
            self._around(at, radius, radius, (width, height), side, sides, texture)

    def battlements(
        self, at: tuple[float, float, float], size: tuple[float, float, float], painter: Painter, merlon: float = 0.9
    ) -> None:
        """A parapet with gaps around a flat top."""
        x, y, z = at
        wide, deep, high = size
        for side, (right, length, across) in enumerate(
            [(X, wide, deep), (Y, deep, wide), (-X, wide, deep), (-Y, deep, wide)]
        ):
            inwards = (Y, -X, -Y, X)[side]
            corner = np.asarray([x, y, z]) - length / 2 * right - across / 2 * inwards
            painted = painter(length, high)
            rows, columns = painted.glass.shape
            teeth = max(3, int(length / merlon) // 2 * 2 + 1)
            gap = (np.arange(columns) * teeth // columns) % 2 == 1
            cover = ~(gap[None, :] & (np.arange(rows) < rows // 2)[:, None])
            texture = self.atlas.add(painted.colour, painted.glass, cover)
            self.panel(corner, right, Z, (length, high), texture, two_sided=True)
