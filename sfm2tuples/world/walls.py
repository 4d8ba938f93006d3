"""Styles of buildings, and walls painted in them: windows, doors and arches, cornices and corner stones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sfm2tuples.world.solids import Colour, Picture, darker, pick, surface, texels, tint

# All places share a few palettes, so that colour alone tells no place from another.
WALLS = "brick 9c4c38, stone c6b28c, plaster e4be70, plaster e8e2d6, stone 8e8c8a, plaster d68e74, brick ba8a5c"
ROOFS = "tiles a45238, slate 5c6068, tiles 824e3c, metal 709484"
TRIMS = ("e2d8c4", "c6b89e", "ece8e0", "968c80")
FRAMES = ("eceae4", "5c422e", "3c4a42", "ded2be")
SHUTTERS = ("46624e", "784034")
DOORS = ("603a26", "2e4e42", "742824", "344260")
RISES = {"flat": 0.0, "segment": 1 / 6, "round": 0.5, "pointed": 0.866}
"""Height of the arch of each outline, as a share of its width."""


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


def draw_style(random: np.random.Generator, place: int, outlines: tuple[str, ...]) -> Style:
    """A style for place number `place`: walls and roofs go round, so that some places share each material."""
    outline, width, trim = pick(random, outlines), random.uniform(0.95, 1.35), tint(random, TRIMS)
    height = random.uniform(2.1, 2.6) if outline == "pointed" else random.uniform(1.5, 2.1)
    square = outline in ("flat", "segment")
    shutters = tint(random, SHUTTERS) if square and random.random() < 0.4 else None
    door, frame, border = tint(random, DOORS), tint(random, FRAMES), pick(random, (0.12, 0.22, 0.3))
    panes = (int(random.integers(2, 4)), int(random.integers(2, 5)))
    hood = pick(random, ("none", "cornice", "pediment")) if square else "none"
    storey, bay = height + random.uniform(1.3, 1.8), width * (2.1 if shutters else 1) + random.uniform(0.9, 1.7)
    wall, roof = _weathered(random, WALLS, place * 3), _weathered(random, ROOFS, place + place // 4)
    corners = pick(random, ("quoins", "courses", "quoins courses", ""))
    look = (outline, width, height, border, panes, hood)
    return Style(wall, roof, trim, door, frame, shutters, *look, storey, bay, corners)


def _weathered(random: np.random.Generator, paints: str, number: int) -> tuple[str, Colour]:
    material, code = paints.split(", ")[number % len(paints.split(", "))].split()
    aged = np.asarray(tint(random, (code,))) * random.normal(1, 0.06) + random.normal(0, 3, 3)
    red, green, blue = np.clip(aged, 0, 255).astype(int).tolist()
    return material, (red, green, blue)


@dataclass(frozen=True)
class Look:
    """What is on a wall.

    The `first` storey has "windows", a "door", an "arcade", a "shop", or is "blank". There are as many `storeys` as fit
    unless it says how many; a single one is as tall as the wall. `ornaments` are a "clock", a "rose" or an opening's
    filling, then where its foot is and how wide, as shares of the wall. `changes` are of the style.
    """

    first: str = "windows"
    storeys: int | None = None
    ornaments: tuple[tuple[str, float, float, float], ...] = ()
    cornice: bool = True
    changes: dict[str, Any] = field(default_factory=dict)


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
# Colours of the ground and of the marks; how many marks, how far from the middle, how large: shares of the radius.
DIAL = {"clock": ((234, 228, 206), (30, 28, 26), 12, 0.74, 0.06), "rose": ((126, 120, 110), (58, 60, 80), 8, 0.53, 0.2)}


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
    storeys = int((height - 0.4) / style.storey) if look.storeys is None else look.storeys
    for storey, (number, x) in itertools.product(range(look.first == "blank", storeys), enumerate(middles)):
        window = (style, storey * style.storey + sill)
        if storey == 0 and look.first != "windows":
            window = _on_ground(style, look.first, width / bays, number == bays // 2)
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
            picture.draw(beam, 0, y, wide, 0.22)
        for number, x in enumerate(np.arange(0, wide, 1.5)):
            picture.draw(beam, x, 0, 0.22, tall)
            for y in np.arange(0, tall, 2.9) if number % 3 == 1 else ():
                picture.draw(beam, x, y, x + 0.26, y, x + 1.76, y + 1.45, x + 1.5, y + 1.45)
    else:
        picture.draw(darker(style.trim, 0.72), 0, 0, wide, plinth)
    for level in np.arange(style.storey, tall - 0.5, style.storey) if "courses" in style.corners else ():
        picture.draw(darker(style.wall[1], 0.6), 0, level - 0.23, wide, 0.07)
        picture.draw(style.trim, 0, level - 0.16, wide, 0.16)
    for number, foot in enumerate(np.arange(plinth, tall, 0.45)) if "quoins" in style.corners else ():
        long = 0.7 if number % 2 else 0.45
        for left in (0, wide - long):
            picture.draw(style.trim, left, foot, long, 0.41)
    if cornice:
        picture.draw(darker(style.wall[1], 0.5), 0, tall - 0.52, wide, 0.22)
        for left in np.arange(0, wide, 0.5):
            picture.draw(darker(style.trim, 0.85), left, tall - 0.44, 0.2, 0.14)
        picture.draw(style.trim, 0, tall - 0.3, wide, 0.3)


def _on_ground(style: Style, first: str, gap: float, middle: bool) -> tuple[Style, float]:
    """What opening a bay of the lowest storey has, and how high it begins."""
    plain = replace(style, hood="none", height=min(style.height, style.storey * 0.6))
    tall = replace(plain, height=style.storey * 0.82, shutters=None)
    if first == "door" and middle:
        return replace(tall, filling="leaves", width=min(1.8, gap * 0.7), frame=style.door), 0.0
    if first == "arcade":
        return replace(tall, filling="gloom", outline="round", width=gap * 0.72), 0.0
    if first == "shop":
        tall = replace(tall, height=style.storey * 0.67, frame=style.door)
        return replace(tall, outline="flat", width=gap * 0.74, panes=(3, 1)), 0.1
    return plain, (style.storey - plain.height) * 0.45


def _draw_ornament(
    picture: Picture, random: np.random.Generator, style: Style, name: str, x: float, foot: float, width: float
) -> None:
    """Draw a clock, a rose window, or an opening with the filling `name`, its middle at `x`, `foot` metres."""
    radius, y = width / 2, foot + width / 2
    if name in DIAL:
        ground, ink, marks, reach, size = DIAL[name]
        picture.draw(style.trim, x, y, radius)
        picture.draw(ground, x, y, radius * 0.86)
        for angle in np.arange(marks) * 2 * np.pi / marks:
            picture.draw(ink, x + radius * reach * np.sin(angle), y + radius * reach * np.cos(angle), radius * size)
        if name == "clock":
            picture.draw(ink, x - 0.05, y, x + 0.05, y, x + radius * 0.4, y + radius * 0.55)
    else:
        look = replace(style, **SMALL, filling=name, width=width, height=width * (1.3 if name == "panes" else 1.65))
        draw_opening(picture, random, replace(look, frame=style.door) if name == "leaves" else look, x, foot)


def _outline(kind: str, x: float, foot: float, width: float, height: float) -> list[float]:
    across = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 15))
    # A pointed arch is two arcs, each about the foot of the other.
    arc = np.sqrt(4 - (1 + abs(across)) ** 2) / 1.732 if kind == "pointed" else np.sqrt(1 - across**2)
    head = np.column_stack([x + across * width / 2, foot + height + RISES[kind] * width * (arc - 1)])
    return [x - width / 2, foot, *head.ravel().tolist(), x + width / 2, foot]


def draw_opening(picture: Picture, random: np.random.Generator, style: Style, x: float, foot: float) -> None:
    """Draw an opening, the middle of its foot at `x`, `foot` metres."""
    wide, tall, edge = style.width, style.height, style.border
    picture.draw(style.trim, *_outline(style.outline, x, foot, wide + 2 * edge, tall + edge))
    half, top = wide / 2 + edge + 0.1, foot + tall + edge
    if style.hood == "pediment":
        picture.draw(style.trim, x - half, top, x, top + 0.5, x + half, top)
    if style.hood != "none":
        picture.draw(style.trim, x - half, top + 0.06, 2 * half, 0.14)
        picture.draw(darker(style.trim, 0.55), x - half, top, 2 * half, 0.06)
    if style.shutters:
        for left in (x - wide - 0.04, x + wide / 2 + 0.04):
            picture.draw(style.shutters, left, foot, wide / 2, tall)
            picture.draw(darker(style.shutters, 0.82), left + 0.06, foot + 0.1, wide / 2 - 0.12, tall - 0.2)
    picture.draw(darker(style.frame, 0.45), *_outline(style.outline, x, foot, wide, tall))
    straight = tall - RISES[style.outline] * wide
    left = x - wide / 2
    if style.filling == "panes":
        tone = int(random.integers(75, 130))
        picture.draw((tone - 15, tone, tone + 12), *_outline(style.outline, x, foot + 0.06, wide - 0.12, tall - 0.18))
        for share in (0.85, 0.6, 0.3):
            glass = darker((tone - 8, tone, tone + 8), 0.35 + 0.5 * share)
            picture.draw(glass, left + 0.06, foot + 0.06, wide - 0.12, (straight - 0.2) * share)
        columns, rows = style.panes
        for column in range(1, columns):
            picture.draw(style.frame, left + wide * column / columns - 0.035, foot, 0.07, tall - 0.1)
        for row in range(rows):
            picture.draw(style.frame, left + 0.05, foot + tall * row / rows, wide - 0.1, 0.06)
        picture.draw(style.trim, left - 0.08, foot - 0.12, wide + 0.16, 0.12)
        picture.draw(darker(style.trim, 0.5), left - 0.08, foot - 0.19, wide + 0.16, 0.07)
    elif style.filling == "leaves":
        picture.draw(style.frame, *_outline(style.outline, x, foot, wide - 0.2, tall - 0.14))
        for panel in (left + 0.2, x + 0.1):
            for low, high in ((0.08, 0.38), (0.45, 0.65)):
                picture.draw(darker(style.frame, 0.75), panel, foot + tall * low, wide / 2 - 0.3, tall * (high - low))
        picture.draw(darker(style.frame, 0.5), x - 0.03, foot, 0.06, straight)
    else:
        picture.draw((24, 21, 19), *_outline(style.outline, x, foot, wide, tall))
        for share in (0.9, 0.6, 0.3):
            picture.draw(darker((66, 58, 52), 1 - 0.6 * share), left, foot, wide, straight * share)
        picture.draw(darker(style.trim, 0.6), left, foot, wide * 0.1, straight)
