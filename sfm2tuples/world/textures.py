"""Textures: surfaces from a table of materials, and the table of texels that a photo is shaded from.

A texture is an array ``(h, w, 4) uint8``, the first row on top: an sRGB colour, and what the texel is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

RESOLUTION = 28
"""Texels per metre of every surface."""
LEVELS = 6
"""A texture and its copies reduced by 2, 4, ..."""
OPEN, GLASS, SOLID = 0, 254, 255
"""What a texel is: nothing at all, a window that glows in the evening, or a surface."""

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
    texture = np.full((*shape, 4), SOLID, np.uint8)
    texture[..., :3] = np.clip(bright[..., None] * np.asarray(colour, np.float32), 0, 255)
    return texture


class Texels(NamedTuple):
    """All textures with their reduced copies, so that a photo is shaded by one gather.

    The texels are (n, 4) uint8; the layout, (textures, LEVELS, 3) int64, has a level's first texel, height and width.
    """

    texel: np.ndarray
    layout: np.ndarray


def lay_out(textures: list[np.ndarray]) -> Texels:
    """The table of some textures and their reduced copies."""
    copies = []
    for texture in textures:
        for _ in range(LEVELS):
            copies.append(texture)
            texture = _reduced(texture)
    shapes = np.asarray([copy.shape[:2] for copy in copies])
    sizes = shapes.prod(axis=1)
    layout = np.column_stack([np.cumsum(sizes) - sizes, shapes]).reshape(-1, LEVELS, 3)
    return Texels(np.concatenate([copy.reshape(-1, 4) for copy in copies]), layout)


def _reduced(texture: np.ndarray) -> np.ndarray:
    height, width = texture.shape[0] // 2 * 2, texture.shape[1] // 2 * 2
    if not height or not width:
        return texture
    even, odd = texture[0:height:2, :width].astype(np.uint16), texture[1:height:2, :width].astype(np.uint16)
    half = ((even[:, ::2] + even[:, 1::2] + odd[:, ::2] + odd[:, 1::2]) // 4).astype(np.uint8)
    half[..., 3] = texture[1:height:2, 1:width:2, 3]
    return half
