"""Trees, people, cars and lamp posts as cut-out pictures that turn towards whoever looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sfm2tuples.world.atlas import Atlas
from sfm2tuples.world.materials import Colour, texels
from sfm2tuples.world.openings import darker

_FINE = 2
LEAVES: list[Colour] = [(74, 104, 46), (92, 118, 56), (60, 88, 52), (150, 116, 48), (104, 112, 62)]
CLOTHES: list[Colour] = [(40, 48, 70), (150, 46, 42), (210, 204, 192), (60, 60, 62), (58, 104, 140), (186, 150, 70)]
PAINTS: list[Colour] = [(150, 30, 28), (36, 52, 88), (196, 198, 200), (44, 46, 50), (228, 226, 220), (58, 92, 66)]


@dataclass(frozen=True)
class Sprite:
    """A cut-out: row of the texture table, width and height in metres."""

    texture: int
    width: float
    height: float


class _Picture:
    """A transparent picture of some metres, y upwards."""

    def __init__(self, width: float, height: float, fine: int = _FINE) -> None:
        self.width, self.height = width, height
        self.scale = texels(1.0) * fine
        self.fine = fine
        self.image = Image.new("RGB", (texels(width) * fine, texels(height) * fine), (40, 44, 36))
        self.cover = Image.new("L", self.image.size)
        self._draw, self._mask = ImageDraw.Draw(self.image), ImageDraw.Draw(self.cover)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return x * self.scale, self.image.height - y * self.scale

    def disc(self, x: float, y: float, across: float, high: float, colour: Colour) -> None:
        left, top = self._place(x - across, y + high)
        right, bottom = self._place(x + across, y - high)
        self._draw.ellipse([left, top, right, bottom], colour)
        self._mask.ellipse([left, top, right, bottom], 255)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        placed = [self._place(x, y) for x, y in points]
        self._draw.polygon(placed, colour)
        self._mask.polygon(placed, 255)

    def box(self, left: float, foot: float, width: float, height: float, colour: Colour) -> None:
        right, top = left + width, foot + height
        self.polygon([(left, foot), (right, foot), (right, top), (left, top)], colour)

    def sprite(self, atlas: Atlas) -> Sprite:
        reduce = max(1, self.fine // 2)
        colour, cover = self.image.reduce(reduce), self.cover.reduce(reduce)
        texture = atlas.add(np.asarray(colour), cover=np.asarray(cover) > 127)
        return Sprite(texture, self.width, self.height)


def tree(random: np.random.Generator, atlas: Atlas) -> Sprite:
    """A round, a slender or a coniferous tree of hundreds of leafy spots, lighter towards the top."""
    leaf = LEAVES[int(random.integers(len(LEAVES)))]
    shape = str(random.choice(["round", "round", "slender", "fir"]))
    high = float(random.uniform(5.5, 10))
    wide = high * {"round": 0.75, "slender": 0.36, "fir": 0.5}[shape]
    picture = _Picture(wide, high, 1)
    trunk = high * 0.028
    picture.polygon(
        [
            (wide / 2 - trunk, 0),
            (wide / 2 + trunk, 0),
            (wide / 2 + trunk / 2, high * 0.6),
            (wide / 2 - trunk / 2, high * 0.6),
        ],
        (74, 60, 46),
    )
    count = 2200
    turn, share = random.uniform(0, 2 * np.pi, count), np.sqrt(random.uniform(0, 1, count))
    shade = random.normal(0, 0.12, count)
    for number in np.argsort(share * 0.6 + random.uniform(0, 1, count))[::-1]:
        x, y = share[number] * np.cos(turn[number]), share[number] * np.sin(turn[number])
        if shape == "fir":
            y_at = high * (0.12 + 0.42 * (y + 1))
            x_at = wide / 2 + x * wide * 0.46 * (1 - 0.46 * (y + 1))
        else:
            x_at, y_at = wide / 2 + x * wide * 0.44, high * 0.6 + y * high * 0.36
        light = 0.78 + 0.3 * y - 0.18 * x + shade[number]
        size = high * float(random.uniform(0.006, 0.019))
        picture.disc(float(x_at), float(y_at), size * 1.2, size, darker(leaf, float(np.clip(light, 0.35, 1.3))))
    return picture.sprite(atlas)


def person(random: np.random.Generator, atlas: Atlas) -> Sprite:
    """Someone who stands about."""
    coat, legs = (CLOTHES[int(number)] for number in random.integers(len(CLOTHES), size=2))
    skin: Colour = [(224, 178, 150), (150, 104, 78), (198, 150, 118)][int(random.integers(3))]
    picture = _Picture(0.8, 1.8, 4)
    for left in (0.26, 0.42):
        picture.box(left, 0.04, 0.13, 0.82, darker(legs, 0.8))
        picture.box(left - 0.02, 0, 0.18, 0.08, (40, 34, 30))
    picture.polygon([(0.2, 0.75), (0.6, 0.75), (0.64, 1.42), (0.5, 1.52), (0.3, 1.52), (0.16, 1.42)], coat)
    picture.polygon([(0.16, 1.42), (0.09, 0.82), (0.2, 0.82), (0.25, 1.4)], darker(coat, 0.75))
    picture.polygon([(0.64, 1.42), (0.71, 0.82), (0.6, 0.82), (0.55, 1.4)], darker(coat, 0.85))
    picture.disc(0.4, 1.65, 0.11, 0.13, skin)
    picture.disc(0.4, 1.71, 0.12, 0.09, [(40, 30, 24), (110, 80, 50), (160, 150, 140)][int(random.integers(3))])
    return picture.sprite(atlas)


def car(random: np.random.Generator, atlas: Atlas) -> Sprite:
    """A car from the side."""
    paint = PAINTS[int(random.integers(len(PAINTS)))]
    picture = _Picture(4.2, 1.5, 4)
    picture.polygon([(0.05, 0.3), (4.15, 0.3), (4.12, 0.75), (3.3, 0.88), (0.25, 0.92), (0.08, 0.7)], paint)
    picture.polygon([(0.6, 0.88), (1.1, 1.45), (2.5, 1.45), (3.3, 0.88)], darker(paint, 0.85))
    picture.polygon([(0.85, 0.92), (1.2, 1.36), (1.78, 1.36), (1.78, 0.92)], (64, 78, 88))
    picture.polygon([(1.88, 0.92), (1.88, 1.36), (2.42, 1.36), (3.02, 0.92)], (84, 98, 108))
    picture.box(0.05, 0.3, 4.1, 0.1, darker(paint, 0.45))
    picture.box(4.0, 0.6, 0.12, 0.12, (240, 230, 180))
    for x in (0.9, 3.25):
        picture.disc(x, 0.33, 0.33, 0.33, (24, 24, 26))
        picture.disc(x, 0.33, 0.18, 0.18, (150, 152, 156))
    return picture.sprite(atlas)


def lamp_post(atlas: Atlas) -> Sprite:
    """A lantern on a cast-iron post."""
    picture = _Picture(0.7, 4.4, 4)
    iron = (38, 42, 42)
    picture.box(0.29, 0, 0.12, 3.6, iron)
    picture.box(0.22, 0, 0.26, 0.5, iron)
    picture.polygon([(0.2, 3.6), (0.5, 3.6), (0.62, 4.15), (0.08, 4.15)], (226, 214, 170))
    picture.polygon([(0.02, 4.12), (0.68, 4.12), (0.35, 4.4)], iron)
    return picture.sprite(atlas)
