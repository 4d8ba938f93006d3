"""Styles drawn from a few palettes that all places share, so that colour alone tells no place from another."""

from __future__ import annotations

import numpy as np

from sfm2tuples.world.facades import Style
from sfm2tuples.world.materials import Colour
from sfm2tuples.world.openings import WindowStyle

WALLS: list[tuple[str, Colour]] = [
    ("brick", (156, 76, 56)),
    ("stone", (198, 178, 140)),
    ("plaster", (228, 190, 112)),
    ("plaster", (232, 226, 214)),
    ("stone", (142, 140, 138)),
    ("plaster", (214, 142, 116)),
    ("brick", (186, 138, 92)),
]
TRIMS: list[Colour] = [(226, 216, 196), (198, 184, 158), (236, 232, 224), (150, 140, 128)]
ROOFS: list[tuple[str, Colour]] = [
    ("tiles", (164, 82, 56)),
    ("slate", (92, 96, 104)),
    ("tiles", (130, 78, 60)),
    ("metal", (112, 148, 132)),
]
FRAMES: list[Colour] = [(236, 234, 228), (92, 66, 46), (60, 74, 66), (222, 212, 190)]
SHUTTERS: list[Colour | None] = [None, None, None, (70, 98, 78), (120, 64, 52)]
DOORS: list[Colour] = [(96, 58, 38), (46, 78, 66), (116, 40, 36), (52, 66, 96)]


def draw_style(random: np.random.Generator, place: int, outlines: tuple[str, ...]) -> Style:
    """A style for a place; walls and roofs go round so that every material is shared by some places.

    Parameters
    ----------
    random : Generator
        Source of the numbers.
    place : int
        Number of the place.
    outlines : tuple of str
        Which window outlines suit the kind of building.
    """
    material, wall = WALLS[(place * 3) % len(WALLS)]
    cover, roof = ROOFS[(place + place // len(ROOFS)) % len(ROOFS)]
    trim = TRIMS[int(random.integers(len(TRIMS)))]
    outline = outlines[int(random.integers(len(outlines)))]
    tall = float(random.uniform(1.5, 2.1)) if outline != "pointed" else float(random.uniform(2.1, 2.6))
    shutters = SHUTTERS[int(random.integers(len(SHUTTERS)))] if outline in ("flat", "segment") else None
    window = WindowStyle(
        outline=outline,
        width=float(random.uniform(0.95, 1.35)),
        height=tall,
        columns=int(random.integers(2, 4)),
        rows=int(random.integers(2, 5)),
        frame=FRAMES[int(random.integers(len(FRAMES)))],
        surround=trim,
        border=float(random.choice([0.12, 0.22, 0.3])),
        shutters=shutters,
        hood=str(random.choice(["none", "cornice", "pediment"])) if outline in ("flat", "segment") else "none",
    )
    return Style(
        wall=_varied(random, wall),
        material=material,
        trim=trim,
        roof=_varied(random, roof),
        cover=cover,
        window=window,
        door=DOORS[int(random.integers(len(DOORS)))],
        storey=tall + float(random.uniform(1.3, 1.8)),
        bay=window.width * (2.1 if shutters else 1.0) + float(random.uniform(0.9, 1.7)),
        quoins=bool(random.random() < 0.5),
        courses=bool(random.random() < 0.5),
    )


def _varied(random: np.random.Generator, colour: Colour) -> Colour:
    """The same paint, another year."""
    red, green, blue = np.clip(np.asarray(colour) * random.normal(1, 0.06) + random.normal(0, 3, 3), 0, 255).astype(int)
    return (int(red), int(green), int(blue))
