"""Solids: rectangles in space with textures. All are rings of walls that may lean inwards.

Metres; x to the right and y away for someone before the front, z up. A texture is an array ``(h, w, 4) uint8``, the
first row on top: an sRGB colour and opacity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw

RESOLUTION, LEVELS = 28, 6
"""Texels per metre of every surface; a texture and its copies reduced by 2, 4, ..."""
SOLID, FINE = 128, 2
"""A texel is there where its opacity is at least this. Pictures are drawn larger and then reduced: smooth edges."""
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
Paints = Sequence[Paint | None] | Paint
Extent = tuple[float, float, float]
"""Width, depth and height of a building in metres; thin spires may stand above the height."""
Colour = tuple[int, int, int]
MATERIALS = {
    # course, block: metres; variation between blocks; joint: brightness; slope within a course; spots; grain
    "brick": (0.14, 0.36, 0.12, 1.18, 0.0, 0.05, 0.03),
    "stone": (0.5, 0.95, 0.09, 0.72, 0.0, 0.05, 0.03),
    "plaster": (0, 0, 0, 0, 0, 0.05, 0.02),
    "tiles": (0.42, 0.3, 0.1, 0.68, 0.34, 0.08, 0.03),
    "slate": (0.3, 0.4, 0.14, 0.66, 0.3, 0.08, 0.02),
    "metal": (99, 0.6, 0.03, 0.75, 0.0, 0.09, 0.02),
    "cobbles": (0.22, 0.26, 0.12, 0.6, 0.0, 0.08, 0.04),
    "slabs": (0.9, 1.2, 0.06, 0.7, 0.0, 0.05, 0.03),
    "grass": (0, 0, 0, 0, 0, 0.14, 0.16),
    "gravel": (0, 0, 0, 0, 0, 0.08, 0.12),
    "asphalt": (0, 0, 0, 0, 0, 0.08, 0.08),
}


def texels(metres: float) -> int:
    """Length in texels, at least one."""
    return max(1, round(metres * RESOLUTION))


def noise(random: np.random.Generator, height: int, width: int, grain: float, octaves: int = 3) -> np.ndarray:
    """Smooth noise ``(height, width) float32`` of about -1..1; `grain` is the size of the coarsest spots in texels."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        spot = max(1.0, grain / 2**octave)
        grid = random.uniform(-1, 1, (max(2, round(height / spot) + 1), max(2, round(width / spot) + 1)))
        picture = Image.fromarray(grid.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        total += 0.55**octave * np.asarray(picture)
    return total


def surface(random: np.random.Generator, material: str, colour: Colour, width: float, height: float) -> np.ndarray:
    """Texture of `width` x `height` metres of one of the `MATERIALS`, blocks in bond where it has any."""
    course, block, variation, joint, slope, spots, grain = MATERIALS[material]
    shape = texels(height), texels(width)
    bright = 1 + spots * noise(random, *shape, 70) + grain * random.standard_normal(shape, np.float32)
    if course:
        tall, long = texels(course), texels(block)
        row, within = np.divmod(np.arange(shape[0])[:, None], tall)
        column, along = np.divmod(np.arange(shape[1])[None, :] + (row % 2) * (long // 2), long)
        shade = random.normal(0, variation, (int(row.max()) + 1, int(column.max()) + 1))
        bright = bright + shade[row, column] + slope * (within / tall - 0.6)
        bright = np.where((within == 0) | (along == 0), joint, bright)
    texture = np.full((*shape, 4), 255, np.uint8)
    texture[..., :3] = np.clip(bright[..., None] * np.asarray(colour, np.float32), 0, 255)
    return texture


def pick(random: np.random.Generator, choices: Any) -> Any:
    """One of some choices."""
    return choices[int(random.integers(len(choices)))]


def tint(random: np.random.Generator, codes: tuple[str, ...]) -> Colour:
    """The colour of one of some codes like "9c4c38"."""
    return ImageColor.getrgb(f"#{pick(random, codes)}")[:3]


def darker(colour: Colour, share: float) -> Colour:
    """The colour times `share`."""
    red, green, blue = (min(255, int(channel * share)) for channel in colour)
    return red, green, blue


class Picture:
    """A picture of some metres, y upwards, transparent where nothing is drawn."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height, self._scale = width, height, texels(1.0) * FINE
        self._image = Image.new("RGBA", (texels(width) * FINE, texels(height) * FINE))
        self._draw = ImageDraw.Draw(self._image)

    def draw(self, colour: Colour, *at: float) -> None:
        """Draw a disc (x, y, radius), a box (left, foot, width, height) or a polygon (x, y, x, y, ...)."""
        if len(at) == 3:
            x, y, radius = at[0] * self._scale, self._image.height - at[1] * self._scale, at[2] * self._scale
            self._draw.ellipse([x - radius, y - radius, x + radius, y + radius], colour)
            return
        if len(at) == 4:
            right, top = at[0] + at[2], at[1] + at[3]
            at = (at[0], at[1], right, at[1], right, top, at[0], top)
        down = self._image.height
        points = [(x * self._scale, down - y * self._scale) for x, y in zip(at[::2], at[1::2], strict=True)]
        self._draw.polygon(points, colour)

    def texture(self) -> np.ndarray:
        """The picture as a texture."""
        return np.asarray(self._image.reduce(FINE))

    def over(self, texture: np.ndarray) -> np.ndarray:
        """The picture on top of a texture of the same size."""
        above = self.texture()
        cover = above[..., 3:].astype(np.float32) / 255
        return (texture * (1 - cover) + above * cover).astype(np.uint8)


class Texels(NamedTuple):
    """All textures with their reduced copies, so that a photo is shaded by one gather.

    The texels are (n, 4) uint8; the layout, (textures, LEVELS, 3) int64, has a level's first texel, height and width.
    """

    texel: np.ndarray
    layout: np.ndarray


class Solids:
    """Collects the panels and the textures of a place."""

    def __init__(self) -> None:
        self._textures: list[np.ndarray] = []
        self._panels: list[tuple] = []

    def panels(self) -> np.ndarray:
        """All panels so far: (n,) PANEL."""
        return np.asarray(self._panels, PANEL)

    def texels(self) -> Texels:
        """The table of all textures and their reduced copies."""
        whole = [Image.fromarray(texture) for texture in self._textures]
        copies = [np.asarray(picture.reduce(2**level)) for picture in whole for level in range(LEVELS)]
        shapes = np.asarray([copy.shape[:2] for copy in copies])
        sizes = shapes.prod(axis=1)
        layout = np.column_stack([np.cumsum(sizes) - sizes, shapes]).reshape(-1, LEVELS, 3)
        return Texels(np.concatenate([copy.reshape(-1, 4) for copy in copies]), layout)

    def texture(self, picture: np.ndarray) -> int:
        """Add a texture, and return its number."""
        self._textures.append(picture)
        return len(self._textures) - 1

    def panel(
        self, corner: np.ndarray, right: np.ndarray, up: np.ndarray, size: Sequence[float], texture: int, kind: int
    ) -> None:
        """Add one rectangle."""
        self._panels.append((corner, right / np.linalg.norm(right), up / np.linalg.norm(up), size, texture, kind))

    def flat(self, middle: np.ndarray, size: tuple[float, float], texture: int, kind: int) -> None:
        """Add a rectangle that lies flat."""
        self.panel(middle - [size[0] / 2, size[1] / 2, 0], X, Y, size, texture, kind)

    def ring(
        self, at: np.ndarray, foot: np.ndarray, shrink: Sequence[float], rise: float, paints: Paints, kind: int = WALL
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
    picture[np.asarray(cover) == 0, 3] = 0
    return picture


def corners(width: float, depth: float, sides: int = 4) -> np.ndarray:
    """Foot ``(sides, 2)`` for `Solids.ring`: a rectangle, or with other than four sides a regular polygon."""
    if sides == 4:
        return np.asarray([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, depth / 2]
    angles = 2 * np.pi * (np.arange(sides) - 0.5) / sides - np.pi / 2
    return width / 2 * np.column_stack([np.cos(angles), np.sin(angles)])
