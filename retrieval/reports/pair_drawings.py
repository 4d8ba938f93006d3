"""Two photos side by side, with lines between the places where both see the same 3D points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from retrieval.photos.decoding import SIDES_SWAPPED, turned_box
from retrieval.reports.thumbnails import Thumbnails
from sfm2tuples.covisibility.shared_observations import SharedObservations, shared_observations
from sfm2tuples.errors import counted
from sfm2tuples.index.opened import OpenedIndex

MOST_LINES = 60
"""Lines of a drawing; of more shared points these are chosen evenly."""
BANDS = 6
"""Colours of the lines, by the rank of the point's height in the first photo."""
WIDTH, GAP = 1000, 10
"""Width of a drawing, and of the space between its photos, in its own units."""
MAX_WIDTH, MAX_HEIGHT = 680, 330
"""Pixels that a drawing takes on a page at most."""
SAME_SHAPE = 0.03
"""Ratios of width to height that differ by less are of one shape: a small picture's sides are rounded."""
UNKNOWN_SIZE = (0, 0)
"""Of a camera of Bundler's and VisualSFM's models, which measure from the photo's centre."""


@dataclass(frozen=True)
class DrawnPhoto:
    """One of the two photos, as the page shows it."""

    url: str
    key: str
    left: float
    """Where it begins, in percent of the drawing's width."""
    width: float
    """How wide it is, likewise."""


@dataclass(frozen=True)
class DrawnPair:
    """Two photos of one height, and the drawing that lies over both."""

    photos: tuple[DrawnPhoto, DrawnPhoto]
    height: int
    """In units of the drawing, `WIDTH` of which are its width."""
    max_width: int
    """Pixels."""
    svg: Markup
    said: str
    """How many points are drawn."""


@dataclass(frozen=True)
class PagePhoto:
    """A photo of the page, and the images of the index that show it."""

    url: str
    key: str
    rows: Sequence[int]
    """Several, where several models have the photo."""
    size: Callable[[], tuple[int, int]]
    """Width and height of the whole photo as it is decoded, in pixels; asked for where the camera has none."""


class PairDrawings:
    """Draws pairs of an index's photos.

    Raises
    ------
    DataError
        The index is lean: it holds no observations.
    """

    def __init__(self, index: OpenedIndex, thumbnails: Thumbnails) -> None:
        index.require_points()
        self._index = index
        self._thumbnails = thumbnails
        self._made = 0

    def draw(self, first: PagePhoto, second: PagePhoto) -> DrawnPair | None:
        """Draw two photos and the points that both see.

        Of photos that several models have, the two images with most shared points are drawn, as mining counts them.

        Returns
        -------
        DrawnPair or None
            None where there is nothing to draw on or nothing to draw: a photo that is gone, or of another shape than
            its camera; no shared point, or none whose place is known.
        """
        if not (first.url and second.url):
            return None
        rows, seen = self._most_shared(first.rows, second.rows)
        known = np.isfinite(np.hstack([seen.first, seen.second])).all(axis=1)
        one = self._placed(first, rows[0], seen.first[known])
        other = self._placed(second, rows[1], seen.second[known])
        if one is None or other is None or not known.any():
            return None
        (left, left_ratio), (right, right_ratio) = one, other
        height = (WIDTH - GAP) / (left_ratio + right_ratio)
        start = height * left_ratio + GAP
        lines = np.hstack([left * [start - GAP, height], right * [WIDTH - start, height] + [start, 0]])
        drawn = lines[evenly_by_height(lines)]
        self._made += 1
        said = counted(len(seen.point), "point that both see")
        if len(drawn) < len(seen.point):
            said += f", {len(drawn):,} drawn"
        return DrawnPair(
            photos=(
                DrawnPhoto(first.url, first.key, 0, 100 * (start - GAP) / WIDTH),
                DrawnPhoto(second.url, second.key, 100 * start / WIDTH, 100 * (1 - start / WIDTH)),
            ),
            height=round(height),
            max_width=round(min(MAX_WIDTH, MAX_HEIGHT * WIDTH / height)),
            svg=_overlay(drawn, round(height), f"Points that {first.key} and {second.key} both see", self._made),
            said=said,
        )

    def _most_shared(self, rows: Sequence[int], others: Sequence[int]) -> tuple[tuple[int, int], SharedObservations]:
        """The two images with most shared points, ties by the lower rows, and what they share."""
        model = self._index.images.model
        pairs = [(a, b) for a in rows for b in others if len(rows) * len(others) == 1 or model[a] == model[b]]
        found = [(pair, shared_observations(self._index, *pair)) for pair in pairs or [(rows[0], others[0])]]
        return max(found, key=lambda one: len(one[1].point))

    def _placed(self, photo: PagePhoto, row: int, xy: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Where an image sees points, as shares of its picture's width and height, and the picture's width over its
        height; None where the picture has another shape than the camera.

        Pages show photos turned by EXIF. COLMAP's coordinates are of the stored photo and are turned alike. A camera
        whose sides are those of the turned photo comes from a program that turned it first.
        """
        size, orientation = self._thumbnails.shape(photo.url)
        camera = self._index.camera(row).size
        if camera == UNKNOWN_SIZE:
            camera = photo.size()
            xy = xy + np.array(camera) / 2
        swapped = orientation in SIDES_SWAPPED
        if _is_same_shape(camera, size[::-1] if swapped else size):
            xy = turned_box(np.hstack([xy, xy]), *camera, orientation)[:, :2]
            camera = camera[::-1] if swapped else camera
        elif not (swapped and _is_same_shape(camera, size)):
            return None
        return xy.astype(np.float64) / camera, camera[0] / camera[1]


def evenly_by_height(lines: np.ndarray) -> np.ndarray:
    """Rows of at most `MOST_LINES` lines, evenly spread over their order by height in the first photo.

    Parameters
    ----------
    lines : (n, 4) float64
        x and y in the first photo, x and y in the second; of the same height, the further left comes first.

    Returns
    -------
    (min(n, MOST_LINES),) int64
        The highest first.
    """
    order = np.lexsort((lines[:, 0], lines[:, 1]))
    count = min(len(order), MOST_LINES)
    return order[(2 * np.arange(count) + 1) * len(order) // (2 * max(count, 1))]


def _is_same_shape(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return min(one) > 0 and abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= SAME_SHAPE


def _overlay(lines: np.ndarray, height: int, label: str, number: int) -> Markup:
    """Lines, highest first, and a dot at each of their ends, as one `svg` element.

    A path holds all of a colour. Dots are lines of length 0 with round ends, so that they are as large on a phone; what
    is below them, to make them seen on any ground, is the same dots once more.
    """
    parts: list[Markup] = []
    dots: list[Markup] = []
    for band, rows in enumerate(np.array_split(np.rint(lines).astype(np.int64), min(BANDS, len(lines)))):
        ends = [row.tolist() for row in rows]
        path = Markup('<path class="band{}" d="{}"/>')
        parts.append(path.format(band, "".join(f"M{x} {y}L{u} {v}" for x, y, u, v in ends)))
        dots.append(path.format(band, "".join(f"M{x} {y}h0M{u} {v}h0" for x, y, u, v in ends)))
    svg = Markup(
        '<svg class="over-photos" viewBox="0 0 {0} {1}" preserveAspectRatio="none" role="img" aria-label="{2}">{3}'
        '<use class="ring" href="#dots{5}"/><g class="dots" id="dots{5}">{4}</g></svg>'
    )
    return svg.format(WIDTH, height, label, Markup("").join(parts), Markup("").join(dots), number)
