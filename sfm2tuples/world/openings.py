"""Windows, doors, arches and clocks as small pictures that are stamped onto walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sfm2tuples.world.materials import Colour, texels

_FINE = 3
"""Stamps are drawn so many times larger and then reduced: smooth edges."""


@dataclass(frozen=True)
class WindowStyle:
    """How all windows of a building look."""

    outline: str
    """Upper end: "flat", "segment", "round" or "pointed"."""
    width: float
    """Of the opening, in metres."""
    height: float
    """Of the opening, in metres."""
    columns: int
    """Panes side by side."""
    rows: int
    """Panes above each other."""
    frame: Colour
    """Of the frame and the mullions."""
    surround: Colour
    """Of the moulding around the opening."""
    border: float
    """Width of the moulding, in metres; 0 for none."""
    shutters: Colour | None
    """Colour of the shutters, or none."""
    hood: str
    """Above the window: "none", "cornice" or "pediment"."""


def outline_points(kind: str, left: float, top: float, width: float, height: float) -> list[tuple[float, float]]:
    """Corners of an opening from its lower left clockwise; `kind` as in `WindowStyle.outline`."""
    angle = np.linspace(np.pi, 0, 17)
    middle = left + width / 2
    if kind == "round":
        arc = [(middle + width / 2 * np.cos(a), top + width / 2 - width / 2 * np.sin(a)) for a in angle]
    elif kind == "segment":
        arc = [(middle + width / 2 * np.cos(a), top + width / 6 - width / 6 * np.sin(a)) for a in angle]
    elif kind == "pointed":
        rise = width * 0.87
        climb = np.linspace(0, np.pi / 3, 9)
        arc = [(left + width - width * np.cos(a), top + rise - width * np.sin(a)) for a in climb]
        arc += [(left + width * np.cos(a), top + rise - width * np.sin(a)) for a in climb[::-1]]
    else:
        arc = [(left, top), (left + width, top)]
    return [(left, top + height), *((float(x), float(y)) for x, y in arc), (left + width, top + height)]


@dataclass(frozen=True)
class Stamp:
    """A small picture: texels, where they cover the wall, and which are glass (it glows in the evening)."""

    colour: Image.Image
    cover: Image.Image
    glass: Image.Image

    def put(self, wall: Wall, x: float, y: float) -> None:
        """Stamp with the lower middle at `x` metres from the wall's left and `y` metres above its foot."""
        left = round(x * texels(1.0) - self.colour.width / 2)
        top = round(wall.colour.height - y * texels(1.0) - self.colour.height)
        wall.colour.paste(self.colour, (left, top), self.cover)
        wall.glass.paste(self.glass, (left, top), self.cover)


@dataclass(frozen=True)
class Wall:
    """A wall that is being painted."""

    colour: Image.Image
    """RGB."""
    glass: Image.Image
    """L, 255 where light comes out in the evening."""

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        """Draw straight onto the wall."""
        return ImageDraw.Draw(self.colour)


class _Sheet:
    """A stamp under work, drawn `_FINE` times larger; all lengths in metres, y downwards."""

    def __init__(self, width: float, height: float) -> None:
        self.scale = texels(1.0) * _FINE
        size = (texels(width) * _FINE, texels(height) * _FINE)
        self.layers = [Image.new("RGB", size), Image.new("L", size), Image.new("L", size)]
        self.colour, self.cover, self.glass = (ImageDraw.Draw(layer) for layer in self.layers)

    def polygon(self, points: list[tuple[float, float]], colour: Colour, glass: bool = False) -> None:
        scaled = [(x * self.scale, y * self.scale) for x, y in points]
        self.colour.polygon(scaled, colour)
        self.cover.polygon(scaled, 255)
        self.glass.polygon(scaled, 255 if glass else 0)

    def box(self, left: float, top: float, width: float, height: float, colour: Colour, glass: bool = False) -> None:
        right, bottom = left + width, top + height
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, glass)

    def shade(self, points: list[tuple[float, float]], top: Colour, bottom: Colour, glass: bool) -> None:
        """Fill with a vertical gradient."""
        self.polygon(points, top, glass)
        mask = Image.new("L", self.layers[0].size)
        ImageDraw.Draw(mask).polygon([(x * self.scale, y * self.scale) for x, y in points], 255)
        column = np.linspace(0, 1, mask.height)[:, None, None]
        ramp = np.asarray(top, np.float32) * (1 - column) + np.asarray(bottom, np.float32) * column
        picture = Image.fromarray(np.repeat(ramp, mask.width, axis=1).astype(np.uint8))
        self.layers[0].paste(picture, (0, 0), mask)

    def stamp(self) -> Stamp:
        return Stamp(*(layer.reduce(_FINE) for layer in self.layers))


def darker(colour: Colour, share: float) -> Colour:
    """The colour times `share`."""
    return (int(colour[0] * share), int(colour[1] * share), int(colour[2] * share))


def window(style: WindowStyle, random: np.random.Generator) -> Stamp:
    """One window with frame, mullions, moulding, sill, and what the style adds."""
    shutter = style.width * 0.5 if style.shutters else 0.0
    side = max(style.border, 0.05) + shutter + 0.1
    head = style.border + (0.55 if style.hood == "pediment" else 0.3 if style.hood == "cornice" else 0.05)
    sheet = _Sheet(style.width + 2 * side, style.height + head + 0.3)
    wide, tall = style.width, style.height
    if style.border:
        edge = style.border
        sheet.polygon(
            outline_points(style.outline, side - edge, head - edge, wide + 2 * edge, tall + edge), style.surround
        )
    _hood(sheet, style, side, head)
    if style.shutters:
        for left in (side - shutter - 0.04, side + wide + 0.04):
            sheet.box(left, head, shutter, tall, style.shutters)
            for slat in np.arange(0.12, tall - 0.1, 0.16):
                sheet.box(left + 0.06, head + slat, shutter - 0.12, 0.06, darker(style.shutters, 0.72))
    dark = int(random.integers(25, 60))
    bright = int(random.integers(70, 130))
    opening = outline_points(style.outline, side, head, wide, tall)
    sheet.polygon(opening, darker(style.frame, 0.45))
    inner = outline_points(style.outline, side + 0.08, head + 0.14, wide - 0.12, tall - 0.18)
    sheet.shade(inner, (bright - 15, bright, bright + 12), (dark, dark + 3, dark + 6), glass=True)
    for column in range(1, style.columns):
        sheet.box(side + wide * column / style.columns - 0.035, head + 0.1, 0.07, tall - 0.1, style.frame)
    for row in range(1, style.rows):
        sheet.box(side + 0.05, head + tall * row / style.rows - 0.03, wide - 0.1, 0.06, style.frame)
    sheet.box(side + 0.02, head + tall - 0.08, wide - 0.04, 0.08, style.frame)
    sheet.box(side - 0.08, head + tall, wide + 0.16, 0.12, style.surround)
    sheet.box(side - 0.08, head + tall + 0.12, wide + 0.16, 0.07, darker(style.surround, 0.5))
    return sheet.stamp()


def _hood(sheet: _Sheet, style: WindowStyle, side: float, head: float) -> None:
    wide, edge = style.width, style.border
    left, right = side - edge - 0.1, side + wide + edge + 0.1
    if style.hood == "cornice":
        sheet.box(left, head - edge - 0.2, right - left, 0.14, style.surround)
        sheet.box(left, head - edge - 0.06, right - left, 0.06, darker(style.surround, 0.55))
    if style.hood == "pediment":
        foot = head - edge - 0.05
        sheet.polygon([(left, foot), ((left + right) / 2, foot - 0.48), (right, foot)], style.surround)
        sheet.box(left, foot - 0.02, right - left, 0.06, darker(style.surround, 0.55))


def door(outline: str, width: float, height: float, leaf: Colour, surround: Colour) -> Stamp:
    """A portal of two leaves with a step before it."""
    edge = 0.28
    sheet = _Sheet(width + 2 * edge + 0.4, height + edge + 0.1)
    left, top = edge + 0.2, edge + 0.1
    sheet.polygon(outline_points(outline, left - edge, top - edge, width + 2 * edge, height + edge), surround)
    sheet.polygon(outline_points(outline, left, top, width, height), darker(leaf, 0.4))
    sheet.polygon(outline_points(outline, left + 0.1, top + 0.14, width - 0.2, height - 0.14), leaf)
    panel = (width - 0.2) / 2
    for start in (left + 0.1, left + 0.1 + panel):
        for low, high in ((0.35, 0.55), (0.6, 0.92)):
            sheet.box(start + 0.12, top + height * low, panel - 0.24, height * (high - low), darker(leaf, 0.78))
    sheet.box(left + width / 2 - 0.03, top + height * 0.3, 0.06, height * 0.7, darker(leaf, 0.5))
    sheet.box(left - 0.4, top + height - 0.14, width + 0.8, 0.14, surround)
    return sheet.stamp()


def arch(outline: str, width: float, height: float, surround: Colour, inside: Colour, glass: bool) -> Stamp:
    """An open arch of an arcade, a gate or a bell storey: dark inside, lighter at the foot."""
    edge = min(0.3, width * 0.12)
    sheet = _Sheet(width + 2 * edge, height + edge)
    sheet.polygon(outline_points(outline, 0, 0, width + 2 * edge, height + edge), surround)
    opening = outline_points(outline, edge, edge, width, height)
    sheet.shade(opening, darker(inside, 0.35), inside, glass)
    sheet.box(edge, edge + height * 0.35, width * 0.1, height * 0.65, darker(surround, 0.6))
    return sheet.stamp()


def clock(diameter: float, face: Colour, hour: float) -> Stamp:
    """A clock that shows `hour`."""
    sheet = _Sheet(diameter, diameter)
    middle = diameter / 2

    def disc(radius: float, colour: Colour, glass: bool) -> None:
        ring = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        sheet.polygon([(middle + radius * np.cos(a), middle + radius * np.sin(a)) for a in ring], colour, glass)

    disc(middle, (40, 36, 32), False)
    disc(middle * 0.88, face, True)
    for mark in np.arange(12) * np.pi / 6:
        x, y = middle + middle * 0.74 * np.sin(mark), middle - middle * 0.74 * np.cos(mark)
        sheet.box(x - middle * 0.05, y - middle * 0.05, middle * 0.1, middle * 0.1, (30, 28, 26))
    for turn, length in ((hour / 12, 0.45), (hour % 1, 0.7)):
        angle = 2 * np.pi * turn
        tip = (middle + middle * length * np.sin(angle), middle - middle * length * np.cos(angle))
        across = (0.05 * middle * np.cos(angle), 0.05 * middle * np.sin(angle))
        points = [(middle - across[0], middle - across[1]), (middle + across[0], middle + across[1]), tip]
        sheet.polygon(points, (25, 22, 20))
    return sheet.stamp()


def rose(diameter: float, surround: Colour) -> Stamp:
    """A round window with tracery."""
    sheet = _Sheet(diameter, diameter)
    middle = diameter / 2
    ring = np.linspace(0, 2 * np.pi, 40, endpoint=False)

    def disc(x: float, y: float, radius: float, colour: Colour, glass: bool) -> None:
        sheet.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in ring], colour, glass)

    disc(middle, middle, middle, surround, False)
    disc(middle, middle, middle * 0.84, darker(surround, 0.6), False)
    disc(middle, middle, middle * 0.24, (60, 62, 78), True)
    for angle in np.arange(8) * np.pi / 4:
        x, y = middle + middle * 0.53 * np.cos(angle), middle + middle * 0.53 * np.sin(angle)
        disc(x, y, middle * 0.2, (58, 60, 80), True)
    return sheet.stamp()
