"""A made-up heap of photos of any size: models as large as the paper's, a small photo of each image, descriptors.

Every photo is the same small picture with bytes of its own behind its end, so that no two are the same photo. Models
are streets with few observations an image, which have about as many neighbours an image as real models.
"""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.street import write_street
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from tests.textures import texture

FEWEST, MOST, MEAN = 25, 11_042, 163_671 / 713
"""Images of a model, and their mean, in the paper's heap of 7.4 million photos [E16]."""
EXPONENT = 0.8173
"""Of the Pareto distribution, cut at `FEWEST` and `MOST`, that has this mean."""
OBSERVATIONS = 50
"""Observations an image, unless said otherwise; real models have about 2,000."""
QUERIES = 1000
"""Photos that are searched for."""
FEATURES = 64
"""Waves along a street that make neighbours alike."""
WAVELENGTH = 12.0
"""Of the waves, in images: about how far two photos are seen to show the same."""


@dataclass(frozen=True)
class Heap:
    """Where a heap lies."""

    folder: Path
    """Everything that belongs to it."""
    sizes: np.ndarray
    """(m,) int64, images of each model."""

    @property
    def models(self) -> Path:
        """Root of the models."""
        return self.folder / "models"

    @property
    def descriptors(self) -> Path:
        """Of all photos."""
        return self.folder / "descriptors.h5"

    @property
    def queries(self) -> Path:
        """Of some photos, which are searched for."""
        return self.folder / "queries.h5"

    @property
    def num_images(self) -> int:
        """Images of all models."""
        return int(self.sizes.sum())


def model_sizes(least: int, seed: int = 0) -> np.ndarray:
    """Images of each model of a heap.

    A Pareto distribution that is cut at both ends: P(size > s) falls as s^-`EXPONENT`. It is drawn in strata, one
    model in each, so that a small heap has small and large models as a large one has.

    Parameters
    ----------
    least : int
        Images wanted; the fewest models are made that have as many.
    seed : int

    Returns
    -------
    (m,) int64
        In the order drawn.
    """
    count = max(1, int(least / MEAN))
    while True:
        random = np.random.default_rng([seed, count])
        share = (np.arange(count) + random.uniform(0, 1, count)) / count
        low, high = FEWEST**-EXPONENT, MOST**-EXPONENT
        sizes = np.floor((low - share * (low - high)) ** (-1 / EXPONENT)).astype(np.int64)
        if sizes.sum() >= least:
            return random.permutation(sizes)
        count += 1


def make_heap(folder: Path, least: int, observations: int, dimension: int, processes: int = 2) -> Heap:
    """Make a heap, or go on with one that was begun.

    Parameters
    ----------
    folder : Path
    least : int
        Images, see `model_sizes`.
    observations : int
        Of an image, on average.
    dimension : int
        Of the descriptors.
    processes : int
        How many models are written at a time.
    """
    heap = Heap(folder, model_sizes(least))
    with ProcessPoolExecutor(processes) as pool:
        work = partial(_write_model, heap.models, observations)
        for _ in pool.map(work, range(len(heap.sizes)), heap.sizes.tolist(), chunksize=4):
            pass
    if not heap.queries.exists():
        _write_descriptors(heap, dimension)
    return heap


def _folder_of(row: int) -> str:
    return f"{row % 100:02d}/{row:06d}"


def _write_model(root: Path, observations: int, row: int, images: int) -> None:
    """A model and its photos, unless they are there; its last file is written last."""
    folder = root / _folder_of(row)
    if (folder / "sparse/0/points3D.bin").exists():
        return
    photos = folder / "images/street"
    photos.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    Image.fromarray(texture(0, 48, 36)).save(picture, "JPEG", quality=60)
    for image in range(images):
        end = f"{row:08d}{image:08d}".encode()
        (photos / f"{image:06d}.jpg").write_bytes(picture.getvalue() + end)
    write_street(folder / "sparse/0", images, observations * images, seed=row)


def _write_descriptors(heap: Heap, dimension: int) -> None:
    """Descriptors that are alike within a model, and more so of near images."""
    keys, values = [], np.empty((heap.num_images, dimension), np.float32)
    start = 0
    for row, images in enumerate(heap.sizes.tolist()):
        random = np.random.default_rng([1, row])
        waves = random.normal(0, 1 / WAVELENGTH, FEATURES)[:, None] * np.arange(images)
        along = np.cos(waves + random.uniform(0, 2 * np.pi, FEATURES)[:, None]).T
        mixed = along @ random.normal(0, np.sqrt(2) / FEATURES, (FEATURES, dimension)) * np.sqrt(FEATURES)
        made = 0.5 * random.normal(0, 1, dimension) + 0.7 * mixed + 0.5 * random.normal(0, 1, (images, dimension))
        values[start : start + images] = made / np.linalg.norm(made, axis=1, keepdims=True)
        keys += [f"{_folder_of(row)}/images/street/{image:06d}.jpg" for image in range(images)]
        start += images
    write_descriptors(heap.descriptors, Descriptors(keys, values))
    asked = np.linspace(0, len(keys) - 1, min(QUERIES, len(keys))).round().astype(int)
    write_descriptors(heap.queries, Descriptors([keys[row] for row in asked.tolist()], values[asked]))
