"""Extraction: photos to descriptors, fp32 and bf16, against one full decode and forward in the default layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.photos import (
    VIT_B,
    busy_share,
    decoded,
    has_bf16,
    in_default_layout,
    random_network,
    seconds_in_turns,
    write_photos,
)
from benchmarks.timing import Row
from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.networks.devices import BF16
from retrieval.networks.network import Network

CPU = (("squeezenet1_1", 512, 362, 48), ("squeezenet1_1", 512, 512, 48), ("squeezenet1_1", 1500, 362, 24))
"""Backbone, longest side of the photos, longest side described, photos."""
GPU = (("resnet50", 512, 362, 768), ("vgg16", 512, 362, 768), (VIT_B, 512, 362, 768))
QUICK = (("squeezenet1_1", 160, 128, 4),)
GOAL = {"cpu": "2.5x", "cuda": "6x"}
"""How much faster than the usual way; on a CPU in fp32."""
OURS, HALF, USUAL = "ours", "ours, bf16", "torch: one at a time"


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Yield the rows of the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = QUICK if quick else CPU if device == "cpu" else GPU
    for backbone, photo_size, size, count in sizes:
        title = f"{backbone}, {count} photos of {photo_size} px at {size} px, {device}"
        network, paths = random_network(backbone, device), write_photos(work, count, photo_size)
        yield from _rows(title, ways_of(network, paths, size), count, device, quick)


def ways_of(network: Network, paths: Sequence[Path], size: int) -> dict[str, Callable[[], np.ndarray]]:
    """What is timed, by name; bf16 only where the device has it."""
    ways = {OURS: partial(extract, network, paths, ExtractionOptions(size))}
    if network.device.type == "cuda" or has_bf16():
        ways[HALF] = partial(extract, network, paths, ExtractionOptions(size, precision=BF16))
    ways[USUAL] = partial(one_at_a_time, in_default_layout(network), paths, size)
    return ways


def _rows(title: str, ways: dict[str, Callable[[], np.ndarray]], count: int, device: str, quick: bool) -> Iterator[Row]:
    seconds = seconds_in_turns(ways, 1 if quick else 5)
    described = {name: way() for name, way in ways.items()}
    for name, took in seconds.items():
        note = f"{1000 * took / count:.1f} ms an image"
        if name != USUAL:
            note += f"; {seconds[USUAL] / took:.2f}x as fast"
            note += f", goal {GOAL[device]}" if name == OURS or device == "cuda" else ""
            note += f"; least cosine with the usual way {agreement(described[name], described[USUAL]):.5f}"
            note += f", with fp32 {agreement(described[name], described[OURS]):.5f}" if name == HALF else ""
            note += busy_share(ways[name]) if device == "cuda" else ""
        if name == OURS and HALF not in ways:
            note += "; no bf16 row: this processor would imitate it"
        yield Row(title, name, took, note=note)


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Least cosine of two descriptors of one photo."""
    return float((first * second).sum(axis=1).min())


def one_at_a_time(network: Network, paths: Sequence[Path], size: int) -> np.ndarray:
    """The usual way: (n, D) float32."""
    with torch.inference_mode():
        return np.concatenate([network(photo).cpu().numpy() for photo in decoded(paths, size, network.device)])
