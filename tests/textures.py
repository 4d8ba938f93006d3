"""Textured pictures that local features are found in."""

from __future__ import annotations

import numpy as np

from retrieval.local_features.feature_files import LocalFeatures
from sfm2tuples.files.columns import indptr_of


def texture(seed: int, width: int, height: int, rectangles: int = 150) -> np.ndarray:
    """Random bright and dark rectangles: (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(rectangles):
        x, y = rng.integers(0, width - 4), rng.integers(0, height - 4)
        w, h = rng.integers(4, 24, 2)
        picture[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return picture


def root_sift(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random descriptors of length 512: (count, 128) uint8."""
    values = np.sqrt(rng.dirichlet(np.full(128, 0.3), count))
    return np.round(512 * values).clip(0, 255).astype(np.uint8)


def made_features(rng: np.random.Generator, counts: tuple[int, ...]) -> LocalFeatures:
    """Random features of photos called 0, 1, ...; `counts` says how many each has."""
    total = sum(counts)
    return LocalFeatures(
        [str(photo) for photo in range(len(counts))],
        np.full((len(counts), 2), 100, np.int32),
        np.ones(len(counts)),
        indptr_of(np.array(counts, np.int64)),
        (100 * rng.random((total, 4))).astype(np.float32),
        root_sift(rng, total),
        {"kind": "rootsift"},
    )
