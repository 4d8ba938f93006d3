"""Surfaces as textures: brick, stone, plaster, tiles, paving, grass; colours are sRGB in 0..255."""

from __future__ import annotations

import numpy as np
from PIL import Image

RESOLUTION = 28
"""Texels per metre of every painted surface."""

Colour = tuple[int, int, int]


def texels(metres: float) -> int:
    """Length in texels, at least one."""
    return max(1, round(metres * RESOLUTION))


def noise(random: np.random.Generator, height: int, width: int, grain: float, octaves: int = 3) -> np.ndarray:
    """Smooth noise of about unit range.

    Parameters
    ----------
    random : Generator
        Source of the numbers.
    height, width : int
        Shape of the result, in texels.
    grain : float
        Size of the coarsest spots, in texels; each octave halves it.
    octaves : int
        How many sizes are added.

    Returns
    -------
    ndarray, (height, width) float32
        About -1..1.
    """
    total = np.zeros((height, width), np.float32)
    strength = 1.0
    for _ in range(octaves):
        rows, columns = max(2, round(height / grain) + 1), max(2, round(width / grain) + 1)
        grid = random.uniform(-1, 1, (rows, columns)).astype(np.float32)
        total += strength * np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
        strength *= 0.55
        grain = max(1.0, grain / 2)
    return total


def tint(colour: Colour, brightness: np.ndarray) -> np.ndarray:
    """Colour each texel by its brightness: ``(h, w)`` around 1 to ``(h, w, 3) uint8``."""
    return np.clip(brightness[..., None] * np.asarray(colour, np.float32), 0, 255).astype(np.uint8)


def masonry(
    random: np.random.Generator,
    shape: tuple[int, int],
    colour: Colour,
    course: float,
    block: float,
    jitter: float,
    joint: float,
) -> np.ndarray:
    """Rows of blocks in bond: bricks, ashlar or concrete slabs.

    Parameters
    ----------
    random : Generator
        Source of the numbers.
    shape : (int, int)
        Height and width in texels.
    colour : Colour
        Mean colour of the blocks.
    course, block : float
        Height and length of a block, in metres.
    jitter : float
        Standard deviation of a block's brightness.
    joint : float
        Brightness of the joints relative to the blocks (below 1 dark, above 1 light mortar).

    Returns
    -------
    ndarray, (h, w, 3) uint8
    """
    height, width = shape
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    tall, long = texels(course), texels(block)
    row = y // tall
    shifted = x + (row % 2) * (long // 2)
    column = shifted // long
    shade = random.normal(1, jitter, (height // tall + 1, (width + long) // long + 1))
    brightness = shade[row, column].astype(np.float32)
    brightness = brightness + 0.05 * noise(random, height, width, 60) + random.normal(0, 0.03, shape).astype(np.float32)
    in_joint = (y % tall == 0) | (shifted % long == 0)
    return tint(colour, np.where(in_joint, joint, brightness))


def plaster(random: np.random.Generator, shape: tuple[int, int], colour: Colour) -> np.ndarray:
    """Rendered wall with stains and some streaks: ``(h, w, 3) uint8``."""
    height, width = shape
    streaks = noise(random, 2, width, texels(0.8))[:1] * np.linspace(0.05, 0, height, dtype=np.float32)[:, None]
    brightness = 1 + 0.05 * noise(random, height, width, 90) - np.abs(streaks)
    return tint(colour, brightness + random.normal(0, 0.02, shape).astype(np.float32))


def half_timber(random: np.random.Generator, shape: tuple[int, int], colour: Colour) -> np.ndarray:
    """Plaster between dark beams with some braces: ``(h, w, 3) uint8``."""
    from PIL import ImageDraw

    image = Image.fromarray(plaster(random, shape, colour))
    draw = ImageDraw.Draw(image)
    beam, thick = (70, 48, 36), texels(0.22)
    height, width = shape
    bay, storey = texels(1.5), texels(1.45)
    for y in range(height, -1, -storey):
        draw.line([(0, y), (width, y)], beam, thick)
    for number, x in enumerate(range(0, width + bay, bay)):
        draw.line([(x, 0), (x, height)], beam, thick)
        if number % 3 == 1:
            for y in range(height, storey - 1, -2 * storey):
                draw.line([(x, y), (x + bay, y - storey)], beam, thick)
    return np.asarray(image)


def roofing(random: np.random.Generator, shape: tuple[int, int], colour: Colour, kind: str) -> np.ndarray:
    """Roof cover, the last row of the texture at the eave.

    Parameters
    ----------
    random : Generator
        Source of the numbers.
    shape : (int, int)
        Height and width in texels.
    colour : Colour
        Mean colour.
    kind : str
        "tiles", "slate" or "metal" (standing seams).

    Returns
    -------
    ndarray, (h, w, 3) uint8
    """
    height, width = shape
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    spots = 0.08 * noise(random, height, width, 100)
    if kind == "metal":
        return tint(
            colour, 1 + spots + np.where(x % texels(0.6) < 2, -0.25, 0.0) + 0.05 * noise(random, height, width, 12)
        )
    tall, long, jitter = (texels(0.42), texels(0.3), 0.10) if kind == "tiles" else (texels(0.3), texels(0.4), 0.14)
    row = y // tall
    shifted = x + (row % 2) * (long // 2)
    shade = random.normal(1, jitter, (height // tall + 1, (width + long) // long + 1))[row, shifted // long]
    relief = 0.3 * ((y % tall) / tall) - 0.2 - 0.15 * (shifted % long == 0)
    if kind == "tiles":
        relief = relief + 0.12 * np.sin(2 * np.pi * (shifted % long) / long)
    return tint(colour, (shade + relief + spots).astype(np.float32))


def ground(random: np.random.Generator, kind: str, metres: float) -> np.ndarray:
    """A square of ground that is laid out again and again: "grass", "cobbles", "slabs", "asphalt" or "gravel".

    Returns
    -------
    ndarray, (n, n, 3) uint8
    """
    side = texels(metres) // 8 * 8
    shape = (side, side)
    fine = random.normal(0, 1, shape).astype(np.float32)
    spots = noise(random, side // 8, side // 8, 12)
    large = np.asarray(Image.fromarray(np.tile(spots, (1, 1))).resize((side, side), Image.Resampling.BICUBIC))
    if kind == "grass":
        texture = tint((88, 112, 52), 1 + 0.16 * fine + 0.12 * large)
        dry = np.clip(large - 0.3, 0, 1)[..., None]
        return (texture * (1 - 0.5 * dry) + np.asarray([120, 108, 60], np.float32) * 0.5 * dry).astype(np.uint8)
    if kind == "cobbles":
        return masonry(random, shape, (128, 122, 114), 0.22, 0.26, 0.12, 0.6)
    if kind == "slabs":
        return masonry(random, shape, (168, 162, 150), 0.9, 1.2, 0.06, 0.7)
    if kind == "gravel":
        return tint((172, 154, 126), 1 + 0.12 * fine + 0.08 * large)
    return tint((92, 92, 94), 1 + 0.08 * fine + 0.08 * large)


def surface(random: np.random.Generator, shape: tuple[int, int], colour: Colour, material: str) -> np.ndarray:
    """A wall of "brick", "stone", "plaster", "timber" or "concrete": ``(h, w, 3) uint8``."""
    if material == "brick":
        return masonry(random, shape, colour, 0.14, 0.36, 0.12, 1.18)
    if material == "stone":
        return masonry(random, shape, colour, 0.5, 0.95, 0.09, 0.72)
    if material == "concrete":
        return masonry(random, shape, colour, 1.5, 2.4, 0.03, 0.78)
    if material == "timber":
        return half_timber(random, shape, colour)
    return plaster(random, shape, colour)
