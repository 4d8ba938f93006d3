"""Walls painted in a building's style: windows storey by storey, doors, cornices, corner stones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sfm2tuples.world.pictures import Picture, darker, draw_dial, draw_opening
from sfm2tuples.world.styles import Style
from sfm2tuples.world.textures import surface, texels


@dataclass(frozen=True)
class Look:
    """What is on a wall."""

    first: str = "windows"
    """Lowest storey: "windows", "door", "arcade", "shop" or "blank"."""
    storeys: int | None = None
    """Rows of windows, by default as many as fit; a single one is as tall as the wall."""
    ornaments: tuple[tuple[str, float, float, float], ...] = ()
    """A "clock", a "rose" or an opening's filling; where its foot is, and how wide: shares of the wall."""
    cornice: bool = True
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the style, for this wall."""


SMALL: dict[str, Any] = {"shutters": None, "hood": "none"}
MILL = {**SMALL, "width": 2.0, "height": 2.0, "panes": (4, 4), "bay": 3.2}
BEAMED = {"wall": ("plaster", (228, 218, 196)), "corners": "timber"}
BELLS = (("gloom", 0.32, 0.72, 0.2), ("gloom", 0.68, 0.72, 0.2))
LOOKS = {
    "plain": Look(),
    "door": Look("door"),
    "arcade": Look("arcade"),
    "shop": Look("shop"),
    "mill": Look(changes=MILL),
    "mill door": Look("door", changes=MILL),
    "beamed": Look(changes=BEAMED),
    "few": Look("blank", changes={"bay": 3.6}),
    "slits": Look("blank", changes={**SMALL, "width": 0.7, "height": 1.5, "border": 0.1, "bay": 3.4}),
    "tall": Look(storeys=1, changes={"shutters": None, "bay": 3.0}),
    "bare": Look(storeys=0, cornice=False),
    "beam": Look(storeys=0),
    "portal": Look(storeys=0, ornaments=(("leaves", 0.5, 0, 0.21),)),
    "gate": Look("blank", None, (("gloom", 0.55, 0, 0.15),), changes={"bay": 3.6}),
    "passage": Look("", 0, (("gloom", 0.5, 0, 0.5), ("panes", 0.3, 0.62, 0.15), ("panes", 0.7, 0.62, 0.15)), False),
    "belfry": Look(storeys=0, ornaments=BELLS),
    "bell tower": Look(storeys=0, ornaments=(*BELLS, ("clock", 0.5, 0.55, 0.42))),
    "rose": Look("", 0, (("rose", 0.5, 0.1, 0.28),), False),
    "crest": Look("", 0, (("rose", 0.5, 0.12, 0.12),), False),
    "clock": Look("", 0, (("clock", 0.5, 0.24, 0.24),), False),
    "attic": Look("", 0, (("panes", 0.5, 0.12, 0.15),), False),
    "beamed attic": Look("", 0, (("panes", 0.5, 0.08, 0.18),), False, BEAMED),
    "dormer": Look("", 0, (("panes", 0.5, 0.08, 0.5),), False),
}


def paint_wall(random: np.random.Generator, style: Style, look: Look, width: float, height: float) -> np.ndarray:
    """Texture of a wall of `width` x `height` metres."""
    style = replace(style, **look.changes)
    if look.storeys == 1:
        style = replace(style, storey=height * 0.92, height=height * 0.55)
    picture = Picture(width, height)
    _draw_bands(picture, style, look.cornice)
    bays = max(1, int((width - 0.8) / style.bay))
    middles = ((np.arange(bays) + 0.5) * (width / bays)).tolist()
    sill = max(0.2, (style.storey - style.height) * 0.45)
    for storey in range(int((height - 0.4) / style.storey) if look.storeys is None else look.storeys):
        for number, x in enumerate(middles):
            window: tuple[Style, float] | None = (style, storey * style.storey + sill)
            if storey == 0 and look.first != "windows":
                window = _on_ground(style, look.first, width / bays, number == bays // 2)
            if window:
                draw_opening(picture, random, window[0], x, window[1])
    for name, x, y, size in look.ornaments:
        _draw_ornament(picture, random, style, name, x * width, y * height, size * width)
    texture = picture.over(surface(random, *style.wall, width, height))
    # Less light from the sky reaches the foot and what lies under the eave.
    line = np.arange(len(texture), dtype=np.float32)[:, None, None]
    light = (1 - 0.22 * np.exp((line - len(texture)) / texels(1.0))) * (1 - 0.18 * np.exp(-line / texels(0.7)))
    texture[..., :3] = texture[..., :3] * light
    return texture


def _draw_bands(picture: Picture, style: Style, cornice: bool) -> None:
    """Draw what runs along a wall and up its corners."""
    wide, tall, plinth, beam = picture.width, picture.height, min(0.6, picture.height / 6), (70, 48, 36)
    if style.corners == "timber":
        for y in np.arange(0, tall, 1.45):
            picture.box(0, y, wide, 0.22, beam)
        for number, x in enumerate(np.arange(0, wide, 1.5)):
            picture.box(x, 0, 0.22, tall, beam)
            for y in np.arange(0, tall, 2.9) if number % 3 == 1 else ():
                picture.polygon([(x, y), (x + 0.26, y), (x + 1.76, y + 1.45), (x + 1.5, y + 1.45)], beam)
    else:
        picture.box(0, 0, wide, plinth, darker(style.trim, 0.72))
    for level in np.arange(style.storey, tall - 0.5, style.storey) if "courses" in style.corners else ():
        picture.box(0, level - 0.23, wide, 0.07, darker(style.wall[1], 0.6))
        picture.box(0, level - 0.16, wide, 0.16, style.trim)
    for number, foot in enumerate(np.arange(plinth, tall, 0.45)) if "quoins" in style.corners else ():
        long = 0.7 if number % 2 else 0.45
        for left in (0, wide - long):
            picture.box(left, foot, long, 0.41, style.trim)
    if cornice:
        picture.box(0, tall - 0.52, wide, 0.22, darker(style.wall[1], 0.5))
        for left in np.arange(0, wide, 0.5):
            picture.box(left, tall - 0.44, 0.2, 0.14, darker(style.trim, 0.85))
        picture.box(0, tall - 0.3, wide, 0.3, style.trim)


def _on_ground(style: Style, first: str, gap: float, middle: bool) -> tuple[Style, float] | None:
    """What opening a bay of the lowest storey has, and how high it begins."""
    high = style.storey * 0.82
    plain = replace(style, hood="none", height=min(style.height, style.storey * 0.6))
    tall = replace(plain, height=high, shutters=None)
    if first == "door" and middle:
        return replace(tall, filling="leaves", width=min(1.8, gap * 0.7), frame=style.door), 0.0
    if first == "door":
        return plain, (style.storey - plain.height) * 0.45
    if first == "arcade":
        return replace(tall, filling="gloom", outline="round", width=gap * 0.72), 0.0
    if first == "shop":
        tall = replace(tall, height=high * 0.82, frame=style.door)
        return replace(tall, outline="flat", width=gap * 0.74, panes=(3, 1)), 0.1
    return None


def _draw_ornament(
    picture: Picture, random: np.random.Generator, style: Style, name: str, x: float, foot: float, width: float
) -> None:
    if name in ("clock", "rose"):
        hour = random.uniform(0, 12) if name == "clock" else None
        draw_dial(picture, x, foot + width / 2, width / 2, style.trim, hour)
    else:
        look = replace(style, **SMALL, filling=name, width=width, height=width * (1.3 if name == "panes" else 1.65))
        draw_opening(picture, random, replace(look, frame=style.door) if name == "leaves" else look, x, foot)
