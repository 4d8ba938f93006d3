"""Textured pictures that local features are found in."""

from __future__ import annotations

import numpy as np


def texture(seed: int, width: int, height: int) -> np.ndarray:
    """Random bright and dark rectangles: (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(150):
        x, y = rng.integers(0, width - 4), rng.integers(0, height - 4)
        w, h = rng.integers(4, 24, 2)
        picture[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return picture
