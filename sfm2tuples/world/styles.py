"""Styles of buildings: their materials, and how their windows, doors and arches look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ImageColor

from sfm2tuples.world.textures import Colour

# All places share a few palettes, so that colour alone tells no place from another.
WALLS = "brick 9c4c38, stone c6b28c, plaster e4be70, plaster e8e2d6, stone 8e8c8a, plaster d68e74, brick ba8a5c"
ROOFS = "tiles a45238, slate 5c6068, tiles 824e3c, metal 709484"
TRIMS = ("e2d8c4", "c6b89e", "ece8e0", "968c80")
FRAMES = ("eceae4", "5c422e", "3c4a42", "ded2be")
SHUTTERS = ("46624e", "784034")
DOORS = ("603a26", "2e4e42", "742824", "344260")


@dataclass(frozen=True)
class Style:
    """How a building looks; lengths in metres.

    Materials are those of `textures.MATERIALS`; `trim` is the colour of cornices, corners and mouldings. Openings have
    an `outline` ("flat", "segment", "round" or "pointed"), a `width` and a `height`, a moulding as wide as `border`,
    `panes` side by side and above each other, a `hood` ("none", "cornice" or "pediment") and a `filling`: "panes", the
    "leaves" of a door, or the "gloom" of an open arch. A `bay` is the distance of neighbouring windows. `corners` are
    "quoins", "courses" (a band at every storey), both, or "timber".
    """

    wall: tuple[str, Colour]
    roof: tuple[str, Colour]
    trim: Colour
    door: Colour
    frame: Colour
    shutters: Colour | None
    outline: str
    width: float
    height: float
    border: float
    panes: tuple[int, int]
    hood: str
    storey: float
    bay: float
    corners: str
    filling: str = "panes"


def pick(random: np.random.Generator, choices: Any) -> Any:
    """One of some choices."""
    return choices[int(random.integers(len(choices)))]


def pick_colour(random: np.random.Generator, codes: tuple[str, ...]) -> Colour:
    """The colour of one of some codes like "9c4c38"."""
    return ImageColor.getrgb(f"#{pick(random, codes)}")[:3]


def draw_style(random: np.random.Generator, place: int, outlines: tuple[str, ...]) -> Style:
    """A style for place number `place`: walls and roofs go round, so that some places share each material."""
    outline, width, trim = pick(random, outlines), random.uniform(0.95, 1.35), pick_colour(random, TRIMS)
    height = random.uniform(2.1, 2.6) if outline == "pointed" else random.uniform(1.5, 2.1)
    square = outline in ("flat", "segment")
    shutters = pick_colour(random, SHUTTERS) if square and random.random() < 0.4 else None
    door, frame, border = pick_colour(random, DOORS), pick_colour(random, FRAMES), pick(random, (0.12, 0.22, 0.3))
    panes = (int(random.integers(2, 4)), int(random.integers(2, 5)))
    hood = pick(random, ("none", "cornice", "pediment")) if square else "none"
    storey, bay = height + random.uniform(1.3, 1.8), width * (2.1 if shutters else 1) + random.uniform(0.9, 1.7)
    wall, roof = _weathered(random, WALLS, place * 3), _weathered(random, ROOFS, place + place // 4)
    corners = pick(random, ("quoins", "courses", "quoins courses", ""))
    look = (outline, width, height, border, panes, hood)
    return Style(wall, roof, trim, door, frame, shutters, *look, storey, bay, corners)


def _weathered(random: np.random.Generator, paints: str, number: int) -> tuple[str, Colour]:
    material, code = paints.split(", ")[number % len(paints.split(", "))].split()
    aged = np.asarray(pick_colour(random, (code,))) * random.normal(1, 0.06) + random.normal(0, 3, 3)
    red, green, blue = np.clip(aged, 0, 255).astype(int).tolist()
    return material, (red, green, blue)
