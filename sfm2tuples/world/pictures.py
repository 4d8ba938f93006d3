"""Pictures drawn in metres: windows, doors and arches, clocks and roses, and whatever is cut out or painted on."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from sfm2tuples.world.styles import Style
from sfm2tuples.world.textures import GLASS, OPEN, SOLID, Colour, texels

FINE = 2
"""Pictures are drawn so many times larger and then reduced: smooth edges."""
RISES = {"flat": 0.0, "segment": 1 / 6, "round": 0.5, "pointed": 0.866}
"""Height of the arch of each outline, as a share of its width."""

Points = list[tuple[float, float]]


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

    def polygon(self, points: Points, colour: Colour, kind: int = SOLID) -> None:
        """Draw a polygon."""
        tall = self._image.height
        self._draw.polygon([(x * self._scale, tall - y * self._scale) for x, y in points], (*colour, kind))

    def box(self, left: float, foot: float, width: float, height: float, colour: Colour, kind: int = SOLID) -> None:
        """Draw an upright rectangle."""
        right, top = left + width, foot + height
        self.polygon([(left, foot), (right, foot), (right, top), (left, top)], colour, kind)

    def disc(self, x: float, y: float, radius: float, colour: Colour, kind: int = SOLID, flat: float = 1.0) -> None:
        """Draw a disc, or an ellipse that is `flat` times as high as wide."""
        x, y, wide = x * self._scale, self._image.height - y * self._scale, radius * self._scale
        self._draw.ellipse([x - wide, y - wide * flat, x + wide, y + wide * flat], (*colour, kind))

    def cut_out(self) -> np.ndarray:
        """The picture as a texture that is open around what was drawn."""
        texture = np.array(self._image.reduce(FINE))
        texture[..., 3] = np.where(texture[..., 3] < 128, OPEN, SOLID)
        return texture

    def over(self, texture: np.ndarray) -> np.ndarray:
        """The picture on top of a texture of the same size."""
        above = np.asarray(self._image.reduce(FINE))
        cover = above[..., 3:].astype(np.float32) / 255
        both = (texture * (1 - cover) + above * cover).astype(np.uint8)
        both[..., 3] = np.where(above[..., 3] == GLASS, GLASS, SOLID)
        return both


def _outline(kind: str, x: float, foot: float, width: float, height: float) -> Points:
    across = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 15))
    # A pointed arch is two arcs, each about the foot of the other.
    arc = np.sqrt(4 - (1 + abs(across)) ** 2) / 1.732 if kind == "pointed" else np.sqrt(1 - across**2)
    rise = RISES[kind] * width
    head = zip((x + across * width / 2).tolist(), (foot + height - rise + rise * arc).tolist(), strict=True)
    return [(x - width / 2, foot), *head, (x + width / 2, foot)]


def draw_opening(picture: Picture, random: np.random.Generator, style: Style, x: float, foot: float) -> None:
    """Draw an opening, the middle of its foot at `x`, `foot` metres."""
    wide, tall, edge = style.width, style.height, style.border
    picture.polygon(_outline(style.outline, x, foot, wide + 2 * edge, tall + edge), style.trim)
    half, top = wide / 2 + edge + 0.1, foot + tall + edge
    if style.hood == "pediment":
        picture.polygon([(x - half, top), (x, top + 0.5), (x + half, top)], style.trim)
    if style.hood != "none":
        picture.box(x - half, top + 0.06, 2 * half, 0.14, style.trim)
        picture.box(x - half, top, 2 * half, 0.06, darker(style.trim, 0.55))
    if style.shutters:
        for left in (x - wide - 0.04, x + wide / 2 + 0.04):
            picture.box(left, foot, wide / 2, tall, style.shutters)
            for slat in np.arange(0.1, tall - 0.1, 0.16):
                picture.box(left + 0.06, foot + slat, wide / 2 - 0.12, 0.06, darker(style.shutters, 0.72))
    picture.polygon(_outline(style.outline, x, foot, wide, tall), darker(style.frame, 0.45))
    straight = tall - RISES[style.outline] * wide
    if style.filling == "panes":
        _draw_panes(picture, random, style, x - wide / 2, foot, straight)
    elif style.filling == "leaves":
        picture.polygon(_outline(style.outline, x, foot, wide - 0.2, tall - 0.14), style.frame)
        for left in (x - wide / 2 + 0.2, x + 0.1):
            for low, high in ((0.08, 0.38), (0.45, 0.65)):
                picture.box(left, foot + tall * low, wide / 2 - 0.3, tall * (high - low), darker(style.frame, 0.75))
        picture.box(x - 0.03, foot, 0.06, straight, darker(style.frame, 0.5))
    else:
        picture.polygon(_outline(style.outline, x, foot, wide, tall), (24, 21, 19), GLASS)
        for share in (0.9, 0.6, 0.3):
            picture.box(x - wide / 2, foot, wide, straight * share, darker((66, 58, 52), 1 - 0.6 * share), GLASS)
        picture.box(x - wide / 2, foot, wide * 0.1, straight, darker(style.trim, 0.6))


def _draw_panes(
    picture: Picture, random: np.random.Generator, style: Style, left: float, foot: float, straight: float
) -> None:
    wide, tall, (columns, rows) = style.width, style.height, style.panes
    bright, dark = int(random.integers(75, 130)), int(random.integers(30, 60))
    pane = _outline(style.outline, left + wide / 2, foot + 0.06, wide - 0.12, tall - 0.18)
    picture.polygon(pane, (bright - 15, bright, bright + 12), GLASS)
    for share in (0.85, 0.6, 0.3):
        tone = int(dark + (bright - dark) * share * 0.8)
        picture.box(left + 0.06, foot + 0.06, wide - 0.12, (straight - 0.2) * share, (tone - 6, tone, tone + 6), GLASS)
    if random.random() < 0.35:
        curtain = darker((214, 206, 190), random.uniform(0.55, 0.9))
        for side in (left + 0.06, left + wide * 0.76 - 0.06):
            picture.box(side, foot + 0.06, wide * 0.24, straight - 0.2, curtain, GLASS)
    for column in range(1, columns):
        picture.box(left + wide * column / columns - 0.035, foot, 0.07, tall - 0.1, style.frame)
    for row in range(rows):
        picture.box(left + 0.05, foot + tall * row / rows, wide - 0.1, 0.06, style.frame)
    picture.box(left - 0.08, foot - 0.12, wide + 0.16, 0.12, style.trim)
    picture.box(left - 0.08, foot - 0.19, wide + 0.16, 0.07, darker(style.trim, 0.5))


def draw_dial(picture: Picture, x: float, y: float, radius: float, trim: Colour, hour: float | None) -> None:
    """Draw a clock around `x`, `y` metres that shows `hour`, or without an hour a rose window."""
    marks, reach, size = (8, 0.53, 0.2) if hour is None else (12, 0.74, 0.06)
    ink, kind = ((58, 60, 80), GLASS) if hour is None else ((30, 28, 26), SOLID)
    picture.disc(x, y, radius, trim)
    picture.disc(x, y, radius * 0.86, *((darker(trim, 0.6), SOLID) if hour is None else ((234, 228, 206), GLASS)))
    for angle in np.arange(marks) * 2 * np.pi / marks:
        spot = (x + radius * reach * np.sin(angle), y + radius * reach * np.cos(angle))
        picture.disc(*spot, radius * size, ink, kind)
    for turn, length in () if hour is None else ((hour / 12, 0.45), (hour % 1, 0.7)):
        sine, cosine = radius * np.sin(2 * np.pi * turn), radius * np.cos(2 * np.pi * turn)
        foot = [(x - 0.06 * cosine, y + 0.06 * sine), (x + 0.06 * cosine, y - 0.06 * sine)]
        picture.polygon([*foot, (x + length * sine, y + length * cosine)], ink)
