"""The kinds of buildings as tables of masses, and which place has which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sfm2tuples.world.solids import SHEET, WALL, Extent, Paint, Solids, Z, corners, pick, surface
from sfm2tuples.world.walls import LOOKS, Style, draw_style, paint_wall

Shares = tuple[float, float, float]
"""Of a building's width, depth and height."""


@dataclass(frozen=True)
class Mass:
    """A block or a round tower, or a row of them; in its words "a|b" is either.

    `at` is the middle of the foot; a depth of 0 is as deep as wide. `walls` is one of the `LOOKS`, "trim" for smooth
    stone, or "own": plain, in a style of its own; `front` is the look of the front where it differs, `gable` that of
    the gables. `roof` is "none", "flat", "teeth" (battlements), "hipped" (on a square a pyramid, on a round tower a
    cone), "dome", or "x" or "y": gabled, with the ridge along that axis; `rise` is its height as a share of what it
    spans. Any number of `copies` stand in a row, `spread` is from the row's middle to its end. The height may be more
    or less by a share of `vary`.
    """

    at: Shares
    size: Shares
    walls: str
    roof: str = "none"
    rise: float = 0.0
    front: str = ""
    gable: str = "bare"
    sides: int = 4
    copies: tuple[int, ...] = (1,)
    spread: tuple[float, float] = (0.0, 0.0)
    vary: float = 0.0


class Kind(NamedTuple):
    """A kind of building: window outlines that suit it, from where to where its size is in metres, and its masses.

    Photographers frame `room` times the size; thin towers and wings may stand out of it.
    """

    name: str
    outlines: tuple[str, ...]
    size: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    room: Shares
    masses: tuple[Mass, ...]


KINDS = (
    Kind("church", ("pointed", "round"), ((10, 13), (18, 24), (7.5, 9.5)), (1.5, 1.05, 2.3), (
        Mass((-0.2, 0, 0), (1, 1, 1), "tall", "y", 0.62, "portal", "rose"),
        Mass((-0.74, 0, 0), (0.09, 0.04, 0.75), "bare", "flat", copies=(5, 6), spread=(0, 0.45)),
        Mass((0.34, 0, 0), (0.09, 0.04, 0.75), "bare", "flat", copies=(5, 6), spread=(0, 0.45)),
        Mass((0.51, -0.37, 0), (0.44, 0, 2.0), "bell tower", "hipped", 1.4, vary=0.2),
    )),
    Kind("town_hall", ("round", "segment"), ((20, 26), (11, 14), (7, 11)), (1, 1.05, 1.85), (
        Mass((0, 0, 0), (1, 1, 1), "door", "hipped", 0.38, "arcade|plain"),
        Mass((0, -0.32, 0), (0.3, 0.5, 1.07), "door", "y", 0.6, gable="clock"),
        Mass((0, 0, 1.1), (0.16, 0, 0.9), "belfry", "hipped", 1.3, vary=0.2),
    )),
    Kind("house_row", ("flat", "segment"), ((22, 29), (9, 12), (8, 12)), (1, 1, 1.6), (
        Mass((-0.38, 0, 0), (0.24, 1, 1), "own", "y|y|y|x", 0.7, "shop|shop|door", "attic", vary=0.35),
        Mass((-0.13, 0, 0), (0.26, 1, 1), "own", "y|y|y|x", 0.7, "shop|shop|door", "attic", vary=0.35),
        Mass((0.12, 0, 0), (0.24, 1, 1), "own", "y|y|y|x", 0.7, "shop|shop|door", "attic", vary=0.35),
        Mass((0.37, 0, 0), (0.26, 1, 1), "own", "y|y|y|x", 0.7, "shop|shop|door", "attic", vary=0.35),
        Mass((0, 0.2, 0.8), (0.035, 0, 0.7), "bare", "flat", copies=(2, 3), spread=(0.3, 0)),
    )),
    Kind("castle", ("round", "flat"), ((18, 24), (12, 15), (7, 9)), (1.1, 1.1, 1.85), (
        Mass((0, 0, 0), (1, 1, 1), "few", "teeth", front="gate"),
        Mass((0.22, 0.1, 0), (0.34, 0, 2.0), "few", "teeth|hipped", 0.8, vary=0.15),
        Mass((0, -0.5, 0), (0.23, 0, 1.3), "slits", "hipped", 0.95, sides=10, copies=(2,), spread=(0.5, 0)),
        Mass((-0.5, 0.5, 0), (0.23, 0, 1.5), "slits", "hipped", 0.95, sides=10),
    )),
    Kind("temple", ("flat", "round"), ((12, 23), (14, 20), (7, 9)), (1.15, 1.2, 1.5), (
        Mass((0, -0.08, 0), (1.2, 1.4, 0.05), "trim", "flat"),
        Mass((0, -0.05, 0.05), (1.12, 1.32, 0.1), "trim", "flat"),
        Mass((0, 0.07, 0.15), (1, 0.75, 1), "plain", front="portal"),
        Mass((0, -0.53, 0.15), (0.065, 0, 0.95), "trim", sides=6, copies=(4, 6, 8), spread=(0.45, 0)),
        Mass((0, -0.05, 1.1), (1.06, 1.08, 0.16), "beam", "y", 0.22, gable="crest"),
        Mass((0, 0.1, 0), (0.5, 0.7, 1.1), "plain", "flat", copies=(0, 2), spread=(0.75, 0)),
    )),
    Kind("palace", ("flat", "segment", "round"), ((24, 30), (10, 13), (7, 11)), (1.05, 1.2, 1.6), (
        Mass((0, 0, 0), (1, 1, 1), "plain", "hipped", 0.32, "arcade|door|plain"),
        Mass((0, -0.03, 0), (0.26, 1.2, 1.08), "plain", "hipped", 0.7, "door", copies=(2,), spread=(0.39, 0)),
        Mass((0, -0.38, 1.03), (0.075, 0.22, 0.2), "dormer", "y", 0.45, copies=(3, 4, 5), spread=(0.22, 0)),
    )),
    Kind("works", ("segment",), ((20, 28), (12, 15), (10, 13)), (1.35, 1, 1.6), (
        Mass((-0.18, 0, 0), (1, 1, 1), "mill", "x", 0.28, "mill door", "clock"),
        Mass((0.5, -0.1, 0), (0.38, 0.7, 0.5), "mill", "y", 0.28, "shop"),
        Mass((-0.48, 0.65, 0), (0.12, 0, 2.3), "beam", sides=8),
        Mass((-0.03, -0.54, 0), (0.12, 0.1, 1.35), "beam", "flat"),
    )),
    Kind("gatehouse", ("round", "pointed"), ((6, 8), (6, 8), (10, 13)), (3.4, 1, 1.4), (
        Mass((0, 0, 0), (1, 1, 1), "bare", "x", 0.55, "passage"),
        Mass((0, -0.4, 0), (0.85, 0, 1.25), "slits", "teeth|hipped", 1.0, sides=12, copies=(2,), spread=(0.8, 0)),
        Mass((0, 0.07, 0), (1.4, 0.22, 0.48), "bare", "teeth", copies=(2,), spread=(1.85, 0)),
    )),
    Kind("villa", ("flat", "segment"), ((11, 15), (8, 10), (6, 7.4)), (1.05, 1.3, 1.65), (
        Mass((0, 0, 0), (1, 1, 1), "plain", "x", 0.5, "door", "beamed attic|attic"),
        Mass((0.27, -0.3, 0), (0.46, 1.2, 1), "beamed|beamed|plain", "y", 0.6, gable="beamed attic|attic"),
        Mass((-0.3, 0.08, 1), (0.08, 0, 0.85), "bare", "flat"),
        Mass((-0.1, -0.7, 0), (0.028, 0, 0.43), "trim", sides=6, copies=(2,), spread=(0.12, 0)),
        Mass((-0.1, -0.61, 0.43), (0.3, 0.26, 0.05), "trim", "flat"),
    )),
    Kind("domed_hall", ("round", "flat"), ((15, 19), (15, 19), (7, 8.5)), (1, 1.2, 2.2), (
        Mass((0, 0, 0), (1, 1, 1), "plain", "flat", front="door"),
        Mass((0, 0, 1), (0.95, 0.95, 0.08), "trim", "flat"),
        Mass((0, 0, 1), (0.72, 0, 0.5), "tall", "dome", 0.9, sides=12, vary=0.2),
        Mass((0, -0.63, 0), (0.05, 0, 0.7), "trim", sides=6, copies=(4, 5, 6), spread=(0.26, 0)),
        Mass((0, -0.57, 0.7), (0.6, 0.2, 0.11), "beam", "y", 0.2),
    )),
)  # fmt: skip
"""Place number i is of kind i modulo their number."""
# Radius at the foot, radius at the top and rise, as shares of the dome's radius; a lantern on top.
DOME = ((1.0, 0.86, 0.42), (0.86, 0.55, 0.34), (0.55, 0.2, 0.16), (0.18, 0.18, 0.25), (0.22, 0.0, 0.25))


def build(random: np.random.Generator, place: int, solids: Solids) -> Extent:
    """Put the building of a place around the origin; half of them are mirrored."""
    kind = KINDS[place % len(KINDS)]
    style = draw_style(random, place, kind.outlines)
    size = np.asarray([random.uniform(*metres) for metres in kind.size])
    size[2] = _whole_storeys(size[2], style)
    mirror = pick(random, (-1, 1))
    for mass in kind.masses:
        copies = pick(random, mass.copies)
        builder = _Builder(random, solids, style, mass, size)
        for along in np.linspace(-1, 1, copies) if copies > 1 else np.zeros(copies):
            builder.put(np.add(mass.at, [*(along * np.asarray(mass.spread)), 0]) * size * [mirror, 1, 1])
    width, depth, height = (size * kind.room).tolist()
    return width, depth, height


def _whole_storeys(height: float, style: Style) -> float:
    return max(1, round((height - 0.8) / style.storey)) * style.storey + 0.8


class _Builder:
    """Puts the copies of one mass."""

    def __init__(
        self, random: np.random.Generator, solids: Solids, style: Style, mass: Mass, building: np.ndarray
    ) -> None:
        self.random, self.solids, self.style, self.sides = random, solids, style, mass.sides
        walls, front, gable, self.roof = (
            pick(random, words.split("|")) for words in (mass.walls, mass.front, mass.gable, mass.roof)
        )
        if walls == "own":
            own, walls = draw_style(random, int(random.integers(7)), ("flat", "segment")), "plain"
            self.style = replace(own, roof=style.roof, trim=style.trim)
        self.wide, deep, high = np.asarray(mass.size) * building * [1, 1, random.uniform(1 - mass.vary, 1 + mass.vary)]
        self.deep = deep or self.wide
        self.high = _whole_storeys(high, self.style) if walls in LOOKS and LOOKS[walls].storeys is None else high
        spans = {"x": self.deep, "y": self.wide}
        self.rise = mass.rise * random.uniform(0.85, 1.2) * spans.get(self.roof, min(self.wide, self.deep))
        self.walls, self.gable, self.front = self._paint(walls), self._paint(gable), self._paint(front or walls)

    def _paint(self, look: str) -> Paint:
        if look in ("trim", "tiles"):
            surfaces = {"trim": ("plaster", self.style.trim), "tiles": self.style.roof}
            return lambda width, height: surface(self.random, *surfaces[look], width, height)
        return lambda width, height: paint_wall(self.random, self.style, LOOKS[look], width, height)

    def _teeth(self, width: float, height: float) -> np.ndarray:
        texture = self._paint("bare")(width, height)
        rows, texels = texture.shape[:2]
        teeth = max(3, int(width / 0.9) // 2 * 2 + 1)
        texture[: rows // 2, (np.arange(texels) * teeth // texels) % 2 == 1, 3] = 0
        return texture

    def put(self, at: np.ndarray) -> None:
        """Put one copy."""
        foot, top, block = corners(self.wide, self.deep, self.sides), at + Z * self.high, self.sides == 4
        ring, tiles = self.solids.ring, self._paint("tiles")
        ring(at, foot, (1, 1), self.high, [self.front, *[self.walls] * 3] if block else self.walls)
        over = min(0.4, 0.08 * min(self.wide, self.deep))
        outer = np.asarray([self.wide, self.deep]) + 2 * over
        eaves = corners(outer[0], outer[1], self.sides)
        if self.roof in ("flat", "teeth"):
            plate = self.solids.texture(self._paint("trim")(self.wide, self.deep))
            self.solids.flat(top, (self.wide, self.deep), plate, WALL)
        if self.roof == "teeth":
            ring(top, foot, (1, 1), 1.3, [self._teeth] * 4 if block else self._teeth, SHEET)
        elif self.roof == "hipped":
            ring(top, eaves, 1 - outer.min() / outer, self.rise, [tiles] * 4 if block else tiles, SHEET)
        elif self.roof == "dome":
            for low, high, share in DOME:
                ring(top, eaves * low, (high / low, high / low), share * self.wide / 2, tiles, SHEET)
                top = top + Z * share * self.wide / 2
        elif self.roof in ("x", "y"):
            shrink, turn, span = ((1, 0), 1, self.deep) if self.roof == "x" else ((0, 1), -1, self.wide)
            drop = 2 * over * self.rise / span
            ring(top - Z * drop, eaves, shrink, self.rise + drop, ([tiles, None] * 2)[::turn], SHEET)
            ring(top, foot, shrink, self.rise, ([None, self.gable] * 2)[::turn])
