"""The kinds of buildings, and which place has which."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sfm2tuples.world.facades import Style
from sfm2tuples.world.houses import house_row, palace, town_hall, villa, works
from sfm2tuples.world.monuments import castle, church, domed_hall, gatehouse, temple
from sfm2tuples.world.solids import Extent, Solids
from sfm2tuples.world.styles import draw_style

Builder = Callable[[np.random.Generator, Style, Solids], Extent]

KINDS: list[tuple[str, Builder, tuple[str, ...]]] = [
    ("church", church, ("pointed", "round")),
    ("town_hall", town_hall, ("round", "segment")),
    ("house_row", house_row, ("flat", "segment")),
    ("castle", castle, ("round", "flat")),
    ("temple", temple, ("flat", "round")),
    ("palace", palace, ("flat", "segment", "round")),
    ("works", works, ("segment",)),
    ("gatehouse", gatehouse, ("round", "pointed")),
    ("villa", villa, ("flat", "segment")),
    ("domed_hall", domed_hall, ("round", "flat")),
]
"""Name, builder and fitting window outlines; place number i is of kind i modulo their number."""


def build(random: np.random.Generator, place: int, solids: Solids) -> Extent:
    """Put the building of a place."""
    _, builder, outlines = KINDS[place % len(KINDS)]
    return builder(random, draw_style(random, place, outlines), solids)
