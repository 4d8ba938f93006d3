"""Extraction: photos to descriptors, against one full decode and one forward in the default layout at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.photos import busy_share, decoded, in_default_layout, random_network, seconds_in_turns, write_photos
from benchmarks.timing import Row
from retrieval.extraction import ExtractionOptions, extract
from retrieval.network import Network

CPU = (("squeezenet1_1", 512, 362, 48), ("squeezenet1_1", 512, 512, 48), ("squeezenet1_1", 1500, 362, 24))
"""Backbone, longest side of the photos, longest side described, photos."""
GPU = (("resnet50", 512, 362, 768), ("vgg16", 512, 362, 768))
QUICK = (("squeezenet1_1", 160, 128, 4),)
GOAL = {"cpu": "2.5x", "cuda": "6x"}


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Yield the rows of the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = QUICK if quick else CPU if device == "cpu" else GPU
    for backbone, photo_size, size, count in sizes:
        title = f"{backbone}, {count} photos of {photo_size} px at {size} px, {device}"
        network = random_network(backbone, device)
        usual, paths = in_default_layout(network), write_photos(work, count, photo_size)
        ways: dict[str, Callable[[], np.ndarray]] = {
            "ours": partial(extract, network, paths, ExtractionOptions(size)),
            "torch: one at a time": partial(one_at_a_time, usual, paths, size),
        }
        seconds = seconds_in_turns(ways, 1 if quick else 5)
        first, second = (way() for way in ways.values())
        for name, took in seconds.items():
            note = f"{1000 * took / count:.1f} ms an image"
            if name == "ours":
                note += f"; goal {GOAL[device]}; least cosine with the usual way {(first * second).sum(1).min():.5f}"
                note += busy_share(ways[name]) if device == "cuda" else ""
            yield Row(title, name, took, note=note)


def one_at_a_time(network: Network, paths: Sequence[Path], size: int) -> np.ndarray:
    """The usual way: (n, D) float32."""
    with torch.inference_mode():
        return np.concatenate([network(photo).cpu().numpy() for photo in decoded(paths, size, network.device)])
