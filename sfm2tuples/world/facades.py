"""Painting of whole walls: material, windows storey by storey, doors, cornices, corner stones, baked shading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from sfm2tuples.world.materials import Colour, noise, surface, texels
from sfm2tuples.world.openings import Stamp, Wall, WindowStyle, arch, darker, door, window


@dataclass(frozen=True)
class Style:
    """Materials and details of one building."""

    wall: Colour
    material: str
    """Of the walls, as in `materials.surface`."""
    trim: Colour
    """Of cornices, corners and portals."""
    roof: Colour
    cover: str
    """Of the roofs, as in `materials.roofing`."""
    window: WindowStyle
    door: Colour
    storey: float
    """Height of a storey in metres."""
    bay: float
    """Distance of neighbouring windows in metres."""
    quoins: bool
    """Corner stones in the colour of the trim."""
    courses: bool
    """A band of the trim's colour at every storey."""


@dataclass(frozen=True)
class Painted:
    """A finished texture: colour (h, w, 3) uint8, the first row on top, and glass (h, w) bool."""

    colour: np.ndarray
    glass: np.ndarray


Detail = Callable[[Wall], None]


def paint(
    random: np.random.Generator,
    style: Style,
    width: float,
    height: float,
    *,
    storeys: int | None = None,
    first: str = "windows",
    details: tuple[Detail, ...] = (),
    cornice: bool = True,
) -> Painted:
    """Paint one wall.

    Parameters
    ----------
    random : Generator
        Source of the numbers.
    style : Style
        Of the building.
    width, height : float
        In metres.
    storeys : int, optional
        Storeys with windows, 0 for a bare wall; by default as many as fit.
    first : str
        Lowest storey: "windows", "door", "arcade", "shop" or "blank".
    details : tuple of callables
        Called with the wall at the end, to add clocks, roses, gates.
    cornice : bool
        A cornice at the top.
    """
    shape = (texels(height), texels(width))
    colour = Image.fromarray(surface(random, shape, style.wall, style.material))
    wall = Wall(colour, Image.new("L", colour.size))
    _bands(wall, style, height, cornice)
    storeys = int((height - 0.4) / style.storey) if storeys is None else storeys
    if storeys:
        _storeys(random, wall, style, width, storeys, first)
    for detail in details:
        detail(wall)
    return _bake(random, wall)


def stamp_at(stamp: Stamp, x: float, y: float) -> Detail:
    """A detail: `stamp` with its lower middle at `x`, `y` metres."""
    return lambda wall: stamp.put(wall, x, y)


def _bands(wall: Wall, style: Style, height: float, cornice: bool) -> None:
    draw, (wide, tall) = wall.draw, wall.colour.size
    plinth = min(texels(0.6), tall // 6)
    draw.rectangle([0, tall - plinth, wide, tall], darker(style.trim, 0.72))
    draw.rectangle([0, tall - plinth, wide, tall - plinth + 1], darker(style.trim, 0.95))
    if style.courses:
        for level in np.arange(style.storey, height - 0.5, style.storey):
            y = tall - texels(float(level))
            draw.rectangle([0, y, wide, y + texels(0.16)], style.trim)
            draw.rectangle([0, y + texels(0.16), wide, y + texels(0.23)], darker(style.wall, 0.6))
    if style.quoins:
        for number, y in enumerate(range(tall - plinth, -texels(0.5), -texels(0.45))):
            length = texels(0.7 if number % 2 else 0.45)
            for left in (0, wide - length):
                draw.rectangle([left, y - texels(0.43), left + length, y - 1], style.trim)
    if cornice:
        draw.rectangle([0, 0, wide, texels(0.3)], style.trim)
        draw.rectangle([0, texels(0.3), wide, texels(0.52)], darker(style.wall, 0.5))
        for left in range(0, wide, texels(0.5)):
            draw.rectangle([left, texels(0.3), left + texels(0.2), texels(0.44)], darker(style.trim, 0.85))


def _storeys(random: np.random.Generator, wall: Wall, style: Style, width: float, storeys: int, first: str) -> None:
    bays = max(1, int((width - 0.8) / style.bay))
    positions = (np.arange(bays) + 0.5) * (width / bays)
    stamps = [window(style.window, random) for _ in range(5)]
    sill = max(0.2, (style.storey - style.window.height) * 0.45)
    for storey in range(storeys):
        if storey == 0 and first != "windows":
            _ground_floor(random, wall, style, positions, first)
            continue
        for x in positions:
            stamps[int(random.integers(5))].put(wall, float(x), storey * style.storey + sill)


def _ground_floor(random: np.random.Generator, wall: Wall, style: Style, positions: np.ndarray, first: str) -> None:
    middle = len(positions) // 2
    spacing = float(positions[1] - positions[0]) if len(positions) > 1 else style.bay
    high = style.storey * 0.82
    outline = style.window.outline
    plain = replace(style.window, hood="none", height=min(style.window.height, style.storey * 0.6))
    windows = [window(plain, random) for _ in range(3)]
    for number, x in enumerate(positions):
        if first == "door" and number != middle:
            windows[number % 3].put(wall, float(x), (style.storey - plain.height) * 0.45)
        elif first == "door":
            door(outline, min(1.8, spacing * 0.7), high, style.door, style.trim).put(wall, float(x), 0.0)
        elif first == "arcade":
            arch("round", spacing * 0.72, high, style.trim, (70, 62, 56), True).put(wall, float(x), 0.0)
        elif first == "shop":
            shop = replace(plain, outline="flat", width=spacing * 0.74, height=high * 0.82, columns=3, rows=1)
            shop = replace(shop, shutters=None, frame=style.door, border=0.08)
            window(shop, random).put(wall, float(x), 0.1)
    if first == "shop":
        tall = wall.colour.height
        y = tall - texels(style.storey * 0.98)
        wall.draw.rectangle([texels(0.3), y, wall.colour.width - texels(0.3), y + texels(0.45)], style.door)


def _bake(random: np.random.Generator, wall: Wall) -> Painted:
    """Darken towards the foot and under the eave, as light from the sky does."""
    colour = np.asarray(wall.colour).astype(np.float32)
    tall = len(colour)
    y = np.arange(tall, dtype=np.float32)[:, None, None]
    foot = 1 - 0.22 * np.exp(-(tall - y) / texels(1.0))
    eave = 1 - 0.18 * np.exp(-y / texels(0.7))
    grime = 1 + 0.02 * noise(random, 2, colour.shape[1], texels(1.5))[:1, :, None]
    shaded = np.clip(colour * foot * eave * grime, 0, 255).astype(np.uint8)
    return Painted(shaded, np.asarray(wall.glass) > 127)
