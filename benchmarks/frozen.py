"""Frozen blocks: time of rounds with and without what they put out kept, and memory with checkpointing.

On a CPU small ViTs; where there is a GPU, MegaLoc's shape there instead, its head and last two blocks at 322 px.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from benchmarks.photos import VIT_B, busy_share
from benchmarks.timing import Row, own_peak_mb, peak_of_process
from retrieval.networks.choice import NetworkChoice, load_chosen
from retrieval.networks.network import Network, build_network
from retrieval.networks.whitening_layer import WhiteningLayer, add_whitening_layer
from retrieval.training.loop import Execution, train
from retrieval.training.options import options_from_recipe
from tests.test_training import make_tuples

SMALL, BASE = "vit14:192-12-3-16", VIT_B
"""Width 192 and 12 blocks; and a ViT-B."""
STEPS = (("resnet50", 362), (BASE, 362))
"""Backbones and sides in pixels of one step whose memory is measured."""
RETRIEVER, QUICK_RETRIEVER = ("megaloc", 322), ("cosplace-resnet18-512", 64)
"""A network by name, with random weights, and the side of its photos in pixels."""
PHOTOS = 7
"""Photos of that step: a query, a positive and five negatives."""
PLACES = (15, 5)
"""Places that are trained on, and held out, of 3 photos each: 60 photos."""


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Rounds of small worlds, then single steps; or rounds on the GPU."""
    if torch.cuda.is_available():
        yield from _rows_of_retriever(work, QUICK_RETRIEVER if quick else RETRIEVER, "cuda")
        return
    rounds = 2 if quick else 5
    asked = [("vit14:24-3-2-3", "last:1", 56)] if quick else [(SMALL, "head", 224), (SMALL, "last:2", 224)]
    for backbone, learners, side in asked if quick else [*asked, (BASE, "head", 224)]:
        tuples = world(work / f"{side}", side)
        for way, limit in (("kept", None), ("not kept", 0)):
            if way == "not kept" and backbone == BASE:
                rounds = 2
            seconds = seconds_of_rounds(tuples, work / "run", _network(backbone), learners, side, limit, rounds)
            later = statistics.median(seconds[2:] or seconds[1:])
            note = "processor seconds of a round, median of those after the first"
            first = f"{note}; round 0 {seconds[0]:.2f}, round 1 {seconds[1]:.2f}"
            yield Row(f"{backbone} {learners} at {side} px", "ours" if way == "kept" else way, later, note=first)
    for backbone, side in [("resnet18", 64)] if quick else STEPS:
        for asked_for in (False, True):
            peak, (seconds_of_step, before) = peak_of_process(step, backbone, side, asked_for)
            way = "checkpointed" if asked_for else "plain"
            note = f"processor seconds of a step; {before:,.0f} MB before it"
            yield Row(f"{backbone}, {PHOTOS} photos at {side} px", way, seconds_of_step, peak, note)


def world(folder: Path, side: int) -> Path:
    """A tuple file of those places, whose photos are files of this side in pixels."""
    photos = folder / "photos"
    tuples = make_tuples(folder.parent / f"tuples{side}.h5", *PLACES, root=photos)
    for path in photos.rglob("*.jpg"):
        with Image.open(path) as photo:
            larger = photo.resize((side, side), Image.Resampling.BICUBIC)
        larger.save(path, quality=95)
    return tuples


def _rows_of_retriever(work: Path, asked: tuple[str, int], device: str) -> Iterator[Row]:
    """Rounds of ``last:2``, and of all of it forwarded each time, as its authors train."""
    name, side = asked
    tuples = world(work / f"{side}", side)
    for way, limit in (("ours", None), ("all forwarded", 0)):
        network = load_chosen(NetworkChoice(Path(name), weights="none")).to(device)
        rounds = partial(seconds_of_rounds, tuples, work / "run", network, "last:2", side, limit, 5)
        torch.cuda.reset_peak_memory_stats()
        seconds = rounds()
        later = statistics.median(seconds[2:])
        peak = torch.cuda.max_memory_allocated() / 1e6
        yield Row(f"{name} last:2 at {side} px", way, later, peak, f"seconds of a round{busy_share(rounds)}")


def seconds_of_rounds(
    tuples: Path, folder: Path, network: Network, learners: str, side: int, limit: int | None, rounds: int
) -> list[float]:
    """Seconds of each round, round 0 first: of the processor, or on the clock where the network is on a GPU."""
    backbone = network.description.backbone
    options = options_from_recipe(backbone, image_size=side, rounds=rounds, train_only=learners, learning_rate=1e-5)
    now = time.process_time if network.device.type == "cpu" else time.perf_counter
    ends = [now()]
    train(
        tuples,
        folder,
        options,
        network,
        force=True,
        execution=Execution(cache_memory=limit),
        on_round=lambda figures: ends.append(now()),
    )
    return [after - before for before, after in itertools.pairwise(ends)]


def step(backbone: str, side: int, checkpointed: bool) -> tuple[float, float]:
    """Processor seconds of the gradient of a tuple, and the peak in MB before it; for a process of its own."""
    network = _network(backbone).train()
    network.backbone.set_grad_checkpointing(checkpointed)
    photos = torch.rand(PHOTOS, 1, 3, side, side)
    before, began = own_peak_mb(), time.process_time()
    # As `train` does it on a CPU: one photo a forward, and one way back for all photos of a tuple.
    torch.cat([network(x) for x in photos])[:, 0].sum().backward()
    return time.process_time() - began, before


def _network(backbone: str) -> Network:
    network = build_network(backbone, "gem", seed=1)
    add_whitening_layer(network, WhiteningLayer(None, 64), 1)
    return network
