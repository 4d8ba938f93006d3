"""Tuples or batches of places: which trains better on a few hundred photos, as many photos seen by each.

The landmark folds of `own_models.py`, with one way to train in each row. Every step is a command of `sfm2tuples`; what
is there is kept, so that an interrupted run goes on, and the table can be printed from what is there at any time.

    python examples/batches.py ../shared/data batches/ --train-size 224 --image-size 320 --rounds 2
    python examples/batches.py ../shared/data batches/ --network default --table-only
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ablation
import click
import numpy as np
import own_models

from sfm2tuples.files.atomic import write_text

SHELF, TUPLES = "off the shelf", "tuples, contrastive"
BATCH = ("--sampling", "graph:8x4")
WAYS: Mapping[str, tuple[str, ...]] = {
    SHELF: (),
    TUPLES: (),
    "hard batches, contrastive": (*BATCH, "--loss", "contrastive"),
    "hard batches, multi-similarity": (*BATCH, "--loss", "multi-similarity"),
    "hard batches, smooth-AP": (*BATCH, "--loss", "smooth-ap"),
    "random batches, contrastive": (*BATCH, "--batch-choice", "random", "--loss", "contrastive"),
    "random batches, multi-similarity": (*BATCH, "--batch-choice", "random", "--loss", "multi-similarity"),
    "random batches, smooth-AP": (*BATCH, "--batch-choice", "random", "--loss", "smooth-ap"),
}
"""A way to train, and what it adds to the flags of train."""
NETWORKS = ("squeezenet1_1", "default")
"""SqueezeNet 1.1 with the data's weights; the network that every command takes where none is named."""

Cell = tuple[int, int]
"""Fold and seed."""


@dataclass(frozen=True)
class Setting:
    """What is the same for every row."""

    data: Path
    work: Path
    network: str
    train: tuple[object, ...]
    """Flags of every training."""
    image_size: int
    """Longest side at test, in pixels."""

    @property
    def start(self) -> list[object]:
        """The flags of the network off the shelf."""
        return own_models.pretrained(self.data, "gem") if self.network == NETWORKS[0] else []

    def folder(self, way: str, cell: Cell) -> Path:
        """Of a run. Without training there is one seed."""
        fold, seed = cell
        return self.work / self.network / f"fold{fold}" / way.replace(", ", "_").replace(" ", "_") / f"seed{seed}"

    def figures(self, way: str, cell: Cell) -> list[float] | None:
        """MAP in percent without and with L_w; None where the run is not done."""
        file = self.folder(way, (cell[0], 0) if way == SHELF else cell) / "figures.json"
        return json.loads(file.read_text()) if file.exists() else None

    def run(self, way: str, cell: Cell) -> None:
        """Train, and measure without and with L_w. What is there is kept."""
        if self.figures(way, cell) is not None:
            return
        fold, seed = cell
        tuples, labels = own_models.prepare_fold(self.data, self.work / self.network / f"fold{fold}", fold, self.start)
        folder = self.folder(way, cell)
        network = self.start
        if way == SHELF:
            folder = self.folder(way, (fold, 0))
        else:
            options = [*self.start, "--seed", seed, *self.train, *WAYS[way]]
            own_models.train(tuples, folder / "run", folder / "trained.json", options)
            network = ["--network", own_models.network_of(folder / "run")]
        found = own_models.measure(self.data, folder, tuples, labels, network, self.image_size)
        write_text(folder / "figures.json", json.dumps(found) + "\n")


def table(setting: Setting, folds: Sequence[int], seeds: int) -> Iterator[str]:
    """Rows of markdown: by fold the mean over seeds, their mean, its spread over seeds, and what tuples are behind."""
    yield (
        f"| {setting.network} | runs |"
        + "".join(f" fold {fold} |" for fold in folds)
        + " mean | over seeds | to tuples |"
    )
    yield "|---|---|" + "---|" * len(folds) + "---|---|---|"
    for column, whitening in enumerate(("", " + L_w")):
        tuples = _column(setting, TUPLES, folds, seeds, column)
        for way in WAYS:
            found = _column(setting, way, folds, seeds, column)
            means = [np.mean([v for (f, _), v in found.items() if f == fold] or [np.nan]) for fold in folds]
            spread = ablation.spread_over_seeds(found, folds) if way != SHELF else None
            ahead = ablation.paired(found, tuples) if way != TUPLES else []
            gap = f"{np.mean(ahead):+.1f} ± {ablation.standard_error(ahead):.1f}" if len(ahead) > 1 else ""
            yield (
                f"| {way}{whitening} | {len(found)} |"
                + "".join(f" {mean:.1f} |" for mean in means)
                + f" {np.mean(means):.1f} | "
                + ("" if spread is None else f"{spread[0]:.1f} .. {spread[1]:.1f}")
                + f" | {gap} |"
            )


def _column(setting: Setting, way: str, folds: Sequence[int], seeds: int, column: int) -> dict[Cell, float]:
    """The figures of one way by fold and seed, as far as measured."""
    cells = {(fold, seed): setting.figures(way, (fold, seed)) for fold in folds for seed in range(seeds)}
    return {cell: found[column] for cell, found in cells.items() if found is not None}


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--network", type=click.Choice(NETWORKS), default=NETWORKS[0], show_default=True)
@click.option("--way", "ways", multiple=True, type=click.Choice(list(WAYS)), help="repeatable; all by default")
@click.option("--fold", "folds", multiple=True, type=click.IntRange(0, 2), default=own_models.FOLDS, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="how many seeds to train with")
@click.option("--rounds", default=4, show_default=True, help="of every training")
@click.option("--train-size", default=362, show_default=True, help="longest side in training, in pixels")
@click.option("--image-size", default=512, show_default=True, help="longest side at test, in pixels")
@click.option("--table-only", is_flag=True, help="print the table of what is done; run nothing")
def main(
    data: Path,
    work: Path,
    network: str,
    ways: tuple[str, ...],
    folds: tuple[int, ...],
    seeds: int,
    rounds: int,
    train_size: int,
    image_size: int,
    table_only: bool,
) -> None:
    """Train on DATA's landmark folds by tuples and by batches, and measure; everything stays below WORK."""
    flags = ("--rounds", rounds, "--image-size", train_size)
    setting = Setting(data, work / f"{rounds}x{train_size}_{image_size}", network, flags, image_size)
    if not table_only:
        for seed in range(seeds):  # a whole table of one seed first
            for way in ways or WAYS:
                for fold in folds:
                    setting.run(way, (fold, seed))
    for line in table(setting, folds, seeds):
        click.echo(line)


if __name__ == "__main__":
    main()
