"""One site: what training on two walks by day gains for a walk by night, with negatives from inside the site or others.

The models of both day walks are indexed, tuples are mined, and a network is trained. After each round the photos of the
night are searched among those of each day walk; right is what lies within two frames. The night is in no model, and
chooses nothing.

    python examples/one_site.py ../shared/data/sites/gardens_point one_site/ --seeds 3
    python examples/one_site.py ../shared/data/sites/gardens_point one_site/ --part half --negatives foreign \
        --foreign ../shared/data/collection/labels.csv

A row has recall@1 and mAP against the left walk, then against the right one, in percent; `held out` is the mAP that
the run itself goes by.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import own_models

from retrieval.descriptors.described_photos import describe_photos
from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.metrics.results import evaluate_descriptors
from retrieval.networks.choice import NetworkChoice, load_chosen
from retrieval.networks.interpolation import between
from retrieval.networks.network import Network
from retrieval.photos.sources import photos_of
from retrieval.training.curves import RoundFigures
from retrieval.training.loop import train
from retrieval.training.options import options_from_recipe
from retrieval.tuple_files.mining import mine_tuple_file
from retrieval.tuple_files.readable_photos import PhotoOptions
from retrieval.whitening.matching_pairs import learn_whitening, pairs_of_index
from retrieval.whitening.options import WhiteningOptions
from retrieval.whitening.projection import apply
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.descriptors import Descriptors
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.mining import photo_table
from sfm2tuples.mining.barred import Barred, barred_of_index
from sfm2tuples.mining.options import MiningOptions

NIGHT, DAYS = "night_right", ("day_left", "day_right")
TOLERANCE = 2
"""Frames up to which two photos show the same (the data's truth)."""
PARTS = {"whole": (("0", "1", "2", "3", "4"), 0), "half": (("2", "3"), 100)}
"""Models that are trained on, and the first frame of the test: the models 2 and 3 hold frames 0 to 84."""
NEGATIVES = ("proven", "apart", "unshared", "foreign", "both")
"""proven: by each model; apart: of other models too (`--fragments apart`); unshared: all that shares no point;
foreign: photos of other places alone; both: proven and foreign."""
TRAINING, TEST = 362, 512
"""Longest side of a photo in pixels."""
SHRINKAGE = 0.5
"""Of L_w: there is one place, so that none can be left out."""


@dataclass(frozen=True)
class Night:
    """The test."""

    photos: Path
    """Folder of the three walks."""
    first: int
    """First frame that takes part."""
    every: int = 1
    """Rounds between two looks."""
    kept: dict[bytes, Descriptors] = field(default_factory=dict)
    """By the weights that made them: the start of all seeds, and a last round that is the end, are described once."""

    def describe(self, network: Network) -> Descriptors:
        """All photos of the three walks."""
        network.eval()
        weights = hashlib.sha256()
        for tensor in network.state_dict().values():
            weights.update(tensor.numpy().tobytes())
        if weights.digest() not in self.kept:
            options = ExtractionOptions(TEST)
            self.kept[weights.digest()] = describe_photos(network, photos_of(self.photos), options, None)[0]
        return self.kept[weights.digest()]

    def figures(self, names: Sequence[str], values: np.ndarray) -> list[float]:
        """Recall@1 and mAP against each day walk, in percent."""
        frames, asked = self._walk(names, NIGHT)
        found = []
        for walk in DAYS:
            held, database = self._walk(names, walk)
            right = [np.flatnonzero(np.abs(held - frame) <= TOLERANCE) for frame in frames]
            nothing: list[np.ndarray] = [np.zeros(0, np.int64)] * len(frames)
            truth = make_ground_truth(np.arange(len(frames)), right, nothing, 0 * frames, [walk])
            result = evaluate_descriptors(values[asked], values[database], truth)
            nearest = np.argmax(values[asked] @ values[database].T, axis=1)
            recall = np.mean([row in rows for row, rows in zip(nearest, right, strict=True)])
            found += [100 * float(recall), 100 * result.mean_over_queries]
        return found

    def _walk(self, names: Sequence[str], walk: str) -> tuple[np.ndarray, np.ndarray]:
        """Frames of a walk that take part, and their rows."""
        rows = np.array([row for row, name in enumerate(names) if walk in name])
        frames = np.array([int(re.findall(r"\d+", names[row])[-1]) for row in rows.tolist()])
        return frames[frames >= self.first], rows[frames >= self.first]


def make_index(site: Path, work: Path, part: str, apart: bool) -> Path:
    """The index of the models of a part."""
    models = work / part / "sparse"
    models.mkdir(parents=True, exist_ok=True)
    for name in PARTS[part][0]:
        if not (models / name).exists():
            (models / name).symlink_to((site / "sparse" / name).resolve())
    options: tuple[object, ...] = ("--fragments", "apart") if apart else ()
    if part == "half":
        options += ("--val-share", 0)  # of two models none can be spared: each has the other's negatives
    target = work / part / f"index{'_apart' if apart else ''}.h5"
    return own_models.make(target, "build-index", models, "--images", site / "images", "--inside", *options)


def barred_by_points(index: OpenedIndex, row_of: np.ndarray, count: int, unknown: np.ndarray | None = None) -> Barred:
    """As `barred_of_index`, but of one place only pairs that share points are barred."""
    nothing = mock.Mock(indptr=np.zeros(len(row_of) + 1, np.int64), other=np.zeros(0, np.int64))
    nothing.takes_part = np.ones(len(row_of), bool)
    header = mock.Mock(options={"fragments": "apart"})
    loose = mock.Mock(wraps=index, inside=nothing, graph=index.graph, images=index.images, models=index.models)
    loose.header, loose.num_images = header, index.num_images
    return barred_of_index(loose, row_of, count, unknown)


@contextmanager
def negatives_without_proof(negatives: str) -> Iterator[None]:
    """Where `unshared` is asked, whatever shares no point is a negative: what the proof is worth."""
    with ExitStack() as stack:
        if negatives == "unshared":
            stack.enter_context(mock.patch.object(photo_table, "barred_of_index", barred_by_points))
        yield


def mine(index: Path, target: Path, choice: NetworkChoice, negatives: str, foreign: Path | None, seed: int) -> int:
    """Mine tuples of two negatives, 80 a round; how many negatives they have."""
    options = MiningOptions(
        inside=negatives != "foreign",
        num_negatives=2,
        query_share=1.0,
        queries_per_place=1000,
        num_queries=80,
        seed=seed,
    ).for_one_site()
    photos = PhotoOptions(choice, image_size=TRAINING, pack_images=TRAINING)
    distractors = foreign if negatives in ("foreign", "both") else None
    with negatives_without_proof(negatives):
        mined = mine_tuple_file(index, target, options, photos, distractors)
    return int((mined.tuples["train"].negative >= 0).sum())


def whitened(index: Path, found: Descriptors) -> np.ndarray:
    """Descriptors after L_w of the day's pairs."""
    options = WhiteningOptions(shrinkage=SHRINKAGE)
    values, row_of = np.asarray(found.values), {Path(name): row for row, name in enumerate(found.names)}
    with open_index(index) as opened:
        keys = list(opened.images.key[:])
        rows = [row_of[Path(*Path(name).parts[-2:])] for name in opened.images.name[:]]
        described = Descriptors(keys, values[rows], found.settings)
        pairs = pairs_of_index(opened, options).only(set(keys))
    return apply(learn_whitening(described, pairs, options)[0], values)


def run(index: Path, tuples: Path, folder: Path, start: Network, night: Night, **options: Any) -> list[dict[str, Any]]:
    """Train, and measure the night after each round, then half-way, each at the end with L_w too."""
    network, rows = copy.deepcopy(start), []

    def measure(figures: RoundFigures) -> None:
        if figures.round % night.every == 0:
            found = night.describe(network)
            values = night.figures(found.names, np.asarray(found.values))
            rows.append({"what": f"round {figures.round}", "held out": 100 * figures.val_map, "night": values})
            show(rows[-1])

    train(
        tuples,
        folder / "run",
        options_from_recipe(start.description.backbone, **options),
        network,
        force=True,
        on_round=measure,
    )
    for name, one in (("start", start), ("half-way", between(start, network)), ("end", network)):
        found = night.describe(one)
        for title, values in ((name, np.asarray(found.values)), (f"{name} + L_w", whitened(index, found))):
            rows.append({"what": title, "night": night.figures(found.names, values)})
            show(rows[-1])
    return rows


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    held_out = f"  held out {row['held out']:.1f}" if "held out" in row else ""
    click.echo(f"  {row['what']:16}" + "".join(f"{value:7.1f}" for value in row["night"]) + held_out)


@click.command()
@click.argument("site", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--backbone", help="with --weights; the default network where left out")
@click.option("--weights", help="weights of the backbone")
@click.option("--part", type=click.Choice(list(PARTS)), default="whole", show_default=True)
@click.option("--negatives", type=click.Choice(NEGATIVES), default="proven", show_default=True)
@click.option("--foreign", type=click.Path(exists=True, path_type=Path), help="photos of other places")
@click.option("--rate", default=2e-5, show_default=True, help="learning rate of the first round")
@click.option("--rounds", default=4, show_default=True)
@click.option("--every", default=1, show_default=True, help="rounds between two looks at the night")
@click.option("--first-seed", default=0, show_default=True)
@click.option("--seeds", default=1, show_default=True, help="how many seeds to train with")
def main(
    site: Path,
    work: Path,
    backbone: str | None,
    weights: str | None,
    part: str,
    negatives: str,
    foreign: Path | None,
    rate: float,
    rounds: int,
    every: int,
    first_seed: int,
    seeds: int,
) -> None:
    """Print what SITE's night gains by training on its days; everything made on the way stays below WORK."""
    if negatives in ("foreign", "both") and foreign is None:
        raise click.UsageError(f"--negatives {negatives} needs --foreign")
    choice = NetworkChoice(backbone=backbone, weights=weights)
    index = make_index(site, work, part, negatives == "apart")
    night = Night(site / "images", PARTS[part][1], every)
    for seed in range(first_seed, first_seed + seeds):
        name = f"{backbone or 'default'}_{negatives}_{rate:g}_{rounds}_{seed}"
        folder, start = work / part / name, load_chosen(choice)
        folder.mkdir(parents=True, exist_ok=True)
        click.echo(f"{part}, {name}")
        if (folder / "night.json").exists():
            for row in json.loads((folder / "night.json").read_text()):
                show(row)
            continue
        count = mine(index, folder / "tuples.h5", choice, negatives, foreign, seed)
        click.echo(f"  {count:,} negatives")
        rows = run(index, folder / "tuples.h5", folder, start, night, rounds=rounds, learning_rate=rate, seed=seed)
        write_text(folder / "night.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
