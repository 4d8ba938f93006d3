"""Training: a round on packed photos, against one full decode, forward and default layout a photo, tuple by tuple."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from retrieval.descriptors.extraction import DECODERS
from retrieval.networks.devices import BF16, FP32
from retrieval.networks.network import Network
from retrieval.photos.decoding import pack_photo, photo_size
from retrieval.photos.tuple_photos import PROCESSES, TuplePhotos, default_decoders
from retrieval.training.described_tuples import TuplePositions
from retrieval.training.losses import contrastive
from retrieval.training.optimisation import build_optimiser
from retrieval.training.options import TrainingOptions, options_from_recipe
from retrieval.training.passes import describe, forward_plan
from retrieval.training.state import Resources, TrainingState
from retrieval.training.steps import train_round
from sfm2tuples.mining.tuple_file import (
    Candidates,
    ImageTable,
    PlaceTable,
    TupleFile,
    TupleSet,
    read_tuples,
    write_tuples,
)

NEGATIVES = 5
CPU = (("squeezenet1_1", 512, 362, 10), ("squeezenet1_1", 1500, 362, 5))
"""Backbone, longest side of the photos, longest side in training, tuples of a round."""
GPU = (("resnet50", 512, 362, 100), ("vgg16", 512, 362, 100), (VIT_B, 512, 362, 100))
QUICK = (("squeezenet1_1", 160, 128, 2),)
GOALS = {("cpu", FP32): "1.3x", ("cpu", BF16): "2x", ("cuda", FP32): "4x", ("cuda", BF16): "4x"}


def run(work: Path, quick: bool) -> Iterator[Row]:
    """Yield the rows of the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for backbone, photo, size, tuples in QUICK if quick else CPU if device == "cpu" else GPU:
        title = f"{backbone}, {tuples} tuples of 7, {photo} px at {size} px, {device}"
        paths = write_photos(work, 7 * tuples, photo)
        chosen = tuples_in_turn(tuples)
        pack(work / "tuples.h5", paths, chosen, size)
        network, file, workers = random_network(backbone, device), read_tuples(work / "tuples.h5"), DECODERS[device]
        with TuplePhotos(file, size, network.backbone.smallest, workers, default_decoders(device, workers)) as photos:
            yield from _rows(title, network, file, photos, paths, size, quick)
    yield from _decoding_rows(file, size, max(2, workers), quick)


def _rows(
    title: str,
    network: Network,
    file: TupleFile,
    photos: TuplePhotos,
    paths: list[Path],
    size: int,
    quick: bool,
) -> Iterator[Row]:
    device = network.device.type
    options = options_from_recipe(network.description.backbone, image_size=size)
    usual = one_at_a_time(in_default_layout(network), paths, file.tuples["train"], options)
    ways: dict[str, Callable[[], float]] = {"ours": ours(network, file, photos, options)}
    if device == "cuda" or has_bf16():
        ways["ours, bf16"] = ours(network, file, photos, replace(options, precision=BF16))
    ways["torch: one at a time"] = usual
    losses = {name: way() for name, way in ways.items()}  # the first round of each, from the same weights
    seconds = seconds_in_turns(ways, 1 if quick else 5)
    for name, took in seconds.items():
        note = f"{1000 * took / len(paths):.1f} ms an image"
        if name.startswith("ours"):
            precision = BF16 if name.endswith(BF16) else FP32
            off = abs(losses[name] / losses["torch: one at a time"] - 1)
            note += f"; {seconds['torch: one at a time'] / took:.2f}x as fast, goal {GOALS[device, precision]}"
            note += f"; loss of the first round off by {off:.1%}"
            note += f"; least cosine with fp32 {agreement(network, photos):.5f}" if precision == BF16 else ""
            note += busy_share(ways[name]) if device == "cuda" else ""
        yield Row(title, name, took, note=note)


def _decoding_rows(file: TupleFile, size: int, workers: int, quick: bool) -> Iterator[Row]:
    """Packed photos decoded, and nothing else: here, by threads, by processes that have started."""
    chosen = file.tuples["train"]
    groups = np.concatenate([chosen.query[:, None], chosen.positive, chosen.negative], axis=1).tolist()
    groups *= 1 if quick else 10
    with TuplePhotos(file, size, workers=workers, decoders=PROCESSES) as processes:
        ways: dict[str, Callable[[], object]] = {
            "in the training's own thread": lambda: list(TuplePhotos(file, size, workers=0).in_order(groups)),
            f"by {workers} threads": lambda: list(TuplePhotos(file, size, workers=workers).in_order(groups)),
            f"by {workers} processes": lambda: list(processes.in_order(groups)),
        }
        for name, took in seconds_in_turns(ways, 1 if quick else 5).items():
            note = f"{sum(map(len, groups)) / took:,.0f} photos/s"
            yield Row(f"decode photos packed at {size} px", name, took, note=note)


def ours(network: Network, file: TupleFile, photos: TuplePhotos, options: TrainingOptions) -> Callable[[], float]:
    """A round of our own on a copy of the network: its mean loss."""
    network = copy.deepcopy(network)
    optimiser = build_optimiser(network, options)
    resources = Resources(forward_plan(network.device, options.batch_size))
    state = TrainingState(options, file, photos, network, optimiser, resources)
    return lambda: train_round(state, file.tuples["train"], round=1).loss


def one_at_a_time(
    network: Network, paths: Sequence[Path], chosen: TupleSet, options: TrainingOptions
) -> Callable[[], float]:
    """The usual way, as cirtorch has it: each photo of a tuple alone, a gradient a tuple, a step a batch."""
    optimiser = build_optimiser(network, options)
    rows = np.concatenate([chosen.query[:, None], chosen.positive, chosen.negative], axis=1)
    query, positive, negative = torch.arange(rows.shape[1], device=network.device)[None].split(
        [1, 1, rows.shape[1] - 2], dim=1
    )
    positions = TuplePositions(query[0], positive, negative, overlap=torch.full((1, 1), torch.nan))

    def train() -> float:
        network.train()
        pictures = decoded([paths[row] for row in rows.ravel()], options.image_size, network.device)
        total = 0.0
        for number in range(len(rows)):
            described = torch.cat([network(next(pictures)) for _ in rows[number]])
            loss = contrastive(positions.take(described), options.margin)
            loss.backward()
            total += loss.item()
            if (number + 1) % options.batch_size == 0 or number + 1 == len(rows):
                optimiser.step()
                optimiser.zero_grad()
        return total / len(rows)

    return train


def agreement(network: Network, photos: TuplePhotos) -> float:
    """Least cosine of bf16's and fp32's descriptors of the first seven photos."""
    pictures = [photos.load(row) for row in range(7)]
    with torch.inference_mode():
        half, single = (describe(network, pictures, precision) for precision in (BF16, FP32))
    return float((half * single).sum(dim=1).min())


def tuples_in_turn(count: int) -> TupleSet:
    """Tuples of seven photos each, no photo in two of them."""
    rows = np.arange(7 * count).reshape(count, 7)
    blank: dict[str, Any] = {name: np.zeros((count, 1), np.float32) for name in ("overlap", "scale_change", "angle")}
    return TupleSet(
        query=rows[:, 0],
        positive=rows[:, 1:2],
        negative=rows[:, 2:],
        shared=np.zeros((count, 1), np.int32),
        positive_similarity=np.zeros((count, 1), np.float32),
        negative_similarity=np.zeros((count, NEGATIVES), np.float32),
        pool=np.arange(0),
        **blank,
    )


def pack(file: Path, paths: Sequence[Path], chosen: TupleSet, size: int) -> None:
    """Write a tuple file, packed: a query and its positive are of one place, each other photo of one of its own."""
    sizes = np.array([photo_size(path) for path in paths])
    rows = np.arange(len(paths))
    places = rows.copy()
    places[chosen.positive[:, 0]] = chosen.query
    names = [path.name for path in paths]
    images = ImageTable(names, [str(path.parent) for path in paths], names, places, sizes, rows)
    nobody = np.zeros(0, np.int64)
    nothing = np.zeros(0, np.float32)
    candidates = Candidates(nobody, np.zeros(1, np.int64), nobody, nobody.astype(np.int32), nothing, nothing, nothing)
    none = TupleSet(**{name: column if name == "pool" else column[:0] for name, column in vars(chosen).items()})
    write_tuples(
        file,
        images,
        PlaceTable(names, np.zeros(len(paths), np.int8)),
        {"train": chosen, "val": none},
        {"train": candidates, "val": candidates},
        {},
        [],
        (pack_photo(path, size) for path in paths),
        size,
    )
