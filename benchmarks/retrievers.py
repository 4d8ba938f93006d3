"""Processor time of well-known retrievers for one photo, at the photo size that they take, with random weights."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.timing import Row
from retrieval.networks.choice import NetworkChoice, load_chosen
from retrieval.networks.network import Network, build_network

NAMES = (
    *("megaloc", "salad", "boq-dinov2", "boq-resnet50", "mixvpr-resnet50-128", "mixvpr-resnet50-4096"),
    *("cosplace-resnet18-512", "cosplace-resnet50-2048", "cosplace-resnet101-2048", "cosplace-resnet152-2048"),
    *("cosplace-vgg16-512", "dinov2-small", "dinov2-base", "dinov2-large"),
)
QUICK = ("cosplace-resnet18-512", "mixvpr-resnet50-128")
OWN_SHAPE = {"cosplace": (384, 512), "dinov2": (322, 434)}
"""Height and width of the photo of those that see photos as they are."""
PHOTOS = 3


def run(work: Path, quick: bool) -> Iterator[Row]:
    """A row for each retriever, and one for the default network beside them."""
    for name in QUICK if quick else NAMES:
        network = load_chosen(NetworkChoice(Path(name), weights="none"))
        yield _row(name, network, network.description.photo_size or OWN_SHAPE[name.split("-")[0]])
    yield _row("efficientnet_lite0 with gem", build_network("efficientnet_lite0", "gem"), (384, 512))


def _row(name: str, network: Network, size: tuple[int, ...]) -> Row:
    """The fewest seconds of the processor, which other programs on the machine disturb least."""
    photo = torch.rand(1, 3, *size)
    taken = []
    with torch.inference_mode():
        network(photo)
        for _ in range(PHOTOS):
            start = time.process_time()
            network(photo)
            taken.append(time.process_time() - start)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    note = f"{1 / min(taken):.1f} photos/s, {network.dimension:,} dimensions, {parameters / 1e6:.0f} M parameters"
    return replace(Row(f"{name}, {size[0]} x {size[1]} px", "ours", min(taken)), note=note)
