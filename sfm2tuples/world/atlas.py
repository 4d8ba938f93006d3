"""All textures of a place in one flat table with their reduced copies, so that a photo is shaded by one gather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVELS = 6
"""A texture and its copies reduced by 2, 4, ..."""

OPEN, SOLID, GLASS = 0, 1, 2
"""What a texel is: nothing at all, surface, or a window that glows in the evening."""


@dataclass(frozen=True)
class Texels:
    """The finished table."""

    colour: np.ndarray
    """(n, 3) uint8, sRGB."""
    kind: np.ndarray
    """(n,) uint8: OPEN, SOLID or GLASS."""
    start: np.ndarray
    """(textures, LEVELS) int64, first texel of a texture's level."""
    width: np.ndarray
    """(textures, LEVELS) int64, in texels."""
    height: np.ndarray
    """(textures, LEVELS) int64, in texels."""


class Atlas:
    """Collects textures; `finish` lays them out."""

    def __init__(self) -> None:
        self._colours: list[np.ndarray] = []
        self._kinds: list[np.ndarray] = []
        self._shapes: list[list[tuple[int, int]]] = []

    def add(self, colour: np.ndarray, glass: np.ndarray | None = None, cover: np.ndarray | None = None) -> int:
        """Add a texture and its reduced copies.

        Parameters
        ----------
        colour : ndarray, (h, w, 3) uint8
            The first row is on top.
        glass, cover : ndarray, (h, w) bool, optional
            Where it glows in the evening; where there is anything at all.

        Returns
        -------
        int
            Number of the texture.
        """
        kind = np.full(colour.shape[:2], SOLID, np.uint8)
        if glass is not None:
            kind[glass] = GLASS
        if cover is not None:
            kind[~cover] = OPEN
        shapes = []
        for _ in range(LEVELS):
            shapes.append(colour.shape[:2])
            self._colours.append(colour.reshape(-1, 3))
            self._kinds.append(kind.reshape(-1))
            colour, kind = _reduce(colour), kind[1::2, 1::2] if min(kind.shape) > 1 else kind
        self._shapes.append(shapes)
        return len(self._shapes) - 1

    def shape(self, texture: int) -> tuple[int, int]:
        """Height and width of a texture in texels."""
        return self._shapes[texture][0]

    def finish(self) -> Texels:
        """Lay all textures out."""
        shapes = np.asarray(self._shapes, np.int64)
        sizes = shapes.prod(axis=-1)
        start = np.concatenate([[0], np.cumsum(sizes.ravel())[:-1]]).reshape(sizes.shape)
        colour, kind = np.concatenate(self._colours), np.concatenate(self._kinds)
        return Texels(colour, kind, start, shapes[..., 1], shapes[..., 0])


def _reduce(colour: np.ndarray) -> np.ndarray:
    if min(colour.shape[:2]) < 2:
        return colour
    height, width = colour.shape[0] // 2 * 2, colour.shape[1] // 2 * 2
    blocks = colour[:height, :width].reshape(height // 2, 2, width // 2, 2, 3)
    return blocks.mean(axis=(1, 3)).astype(np.uint8)
