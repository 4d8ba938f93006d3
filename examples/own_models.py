"""The whole road on real models, measured on landmarks that were never trained on.

For each fold: index the reconstructions and the models of four landmarks, mine, train, learn L_w, and measure mAP on
the other two landmarks among distractors. Every step is a command of `sfm2tuples`, printed before it runs; what is
already there is kept, so an interrupted run goes on.

    python examples/own_models.py ../shared/data folds/ --pooling gem --pooling mac --seeds 3
"""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from sfm2tuples.files.atomic import write_text

FOLDS = (0, 1, 2)
ROWS = ("off the shelf", "off the shelf + L_w", "fine-tuned", "fine-tuned + L_w")


class CommandFailed(click.ClickException):
    """A command of ours ended with another exit code than 0; it has said why."""

    def __init__(self, words: list[str], exit_code: int) -> None:
        super().__init__(f"failed: sfm2tuples {shlex.join(words)}")
        self.exit_code = exit_code


def run(*arguments: object) -> dict:
    """Run one command of ours, show it, and return what it prints under --json."""
    words = [str(a) for a in arguments]
    click.echo(f"$ sfm2tuples {shlex.join(words)}", err=True)
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise CommandFailed(words, done.returncode)
    return json.loads(done.stdout)


def make(target: Path, *arguments: object) -> Path:
    """Run a command that makes `target`, unless it is there."""
    if not target.exists():
        run(*arguments, "-o", target)
    return target


def kept(file: Path, measure: Callable[[], float]) -> float:
    """A figure that was measured before, or is measured now."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(measure()) + "\n")
    return float(json.loads(file.read_text()))


def train(tuples: Path, run_dir: Path, done: Path, options: Sequence[object]) -> None:
    """Train, or go on with a training that was interrupted; `done` says that it has ended."""
    if done.exists():
        return
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    how = ["--resume"] if (run_dir / "last.pt").exists() else options
    done.write_text(json.dumps(run("train", tuples, *how, "-o", run_dir), indent=1))


def landmarks_of(data: Path) -> list[str]:
    """The landmarks that have a model, in alphabetical order."""
    return sorted(folder.name for folder in (data / "collection_models").iterdir() if folder.is_dir())


def write_fold_labels(data: Path, held_out: list[str], target: Path) -> Path:
    """The labels of a fold: all distractors and the photos of the held-out landmarks."""
    with (data / "collection" / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == "distractor" or row["label"] in held_out]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image", "label", "role"])
        writer.writeheader()
        writer.writerows(rows)
    return target


def held_out_of(data: Path, fold: int) -> list[str]:
    """The landmarks that a fold measures on."""
    landmarks = landmarks_of(data)
    return [landmarks[fold], landmarks[fold + 3]]


def training_roots(data: Path, held_out: Sequence[str]) -> list[Path]:
    """Folders of all models but those of the landmarks held out."""
    landmarks = [data / "collection_models" / name for name in landmarks_of(data) if name not in held_out]
    return [data / "reconstructions", *landmarks]


def mine(
    data: Path,
    work: Path,
    roots: Sequence[Path],
    network: Sequence[object],
    val_share: float = 0.0,
    queries_per_place: int = 15,
    places: Path | None = None,
) -> Path:
    """Index and tuples of the models below some folders; `places` replaces the data's own list."""
    work.mkdir(parents=True, exist_ok=True)
    where: list[object] = ["--images", data / "collection" / "images"]
    where += ["--places", places or data / "reconstructions" / "places.csv"]
    index = make(work / "index.h5", "build-index", *roots, *where, "--jobs", 2, "--val-share", val_share)
    options = ["--query-share", 1.0, "--queries-per-place", queries_per_place, "--pack-images", 362]
    return make(work / "tuples.h5", "mine-tuples", index, *network, *options)


def prepare_fold(
    data: Path, work: Path, fold: int, network: Sequence[object], val_share: float = 0.0
) -> tuple[Path, Path]:
    """Index and tuples of the training places, and the labels of the landmarks held out."""
    held_out = held_out_of(data, fold)
    tuples = mine(data, work, training_roots(data, held_out), network, val_share)
    return tuples, write_fold_labels(data, held_out, work / "labels.csv")


def describe(data: Path, target: Path, labels: Path, network: Sequence[object], size: int) -> Path:
    """Descriptors of a fold's photos."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return make(target, "extract", labels, "--images", data / "collection" / "images", *network, "--image-size", size)


def learn_whitening(
    work: Path, tuples: Path, network: Sequence[object], size: int, name: str = "lw", options: Sequence[object] = ()
) -> Path:
    """L_w of the training places at the test's size, or what the options of whiten say."""
    work.mkdir(parents=True, exist_ok=True)
    learnt = make(work / "training_photos.h5", "extract", tuples, *network, "--image-size", size)
    return make(work / f"{name}.h5", "whiten", tuples, "--descriptors", learnt, "--split", "all", *options)


def mean_map(labels: Path, photos: Path, *whitening: object) -> float:
    """MAP in percent: mean over the queries of a landmark, then over landmarks."""
    return 100 * run("evaluate", "--labels", labels, "--descriptors", photos, *whitening)["mean_over_groups"]


def measure(data: Path, work: Path, tuples: Path, labels: Path, network: Sequence[object], size: int) -> list[float]:
    """MAP of one network on the fold's landmarks, without and with L_w of the training places."""
    photos = describe(data, work / "photos.h5", labels, network, size)
    whitening = learn_whitening(work, tuples, network, size)
    return [mean_map(labels, photos), mean_map(labels, photos, "--whitening", whitening)]


def pretrained(data: Path, pooling: str) -> list[object]:
    """The flags of the network off the shelf."""
    weights = data / "weights" / "squeezenet1_1.npz"
    return ["--backbone", "squeezenet1_1", "--weights", weights, "--pooling", pooling]


def network_of(run: Path) -> Path:
    """The network that a run recommends: its best, or, where no place was held out, its last."""
    best = run / "best.pt"
    return best if best.exists() else run / "last.pt"


def run_fold(
    data: Path, work: Path, fold: int, pooling: str, seed: int, size: int, val_share: float, train_options: list[str]
) -> list[float]:
    """The four figures of one fold: off the shelf, + L_w, fine-tuned, + L_w."""
    start = pretrained(data, pooling)
    folder = work / f"fold{fold}"
    tuples, labels = prepare_fold(data, folder, fold, start, val_share)
    tuned = folder / f"{pooling}_seed{seed}"
    train(tuples, tuned / "run", tuned / "trained.json", [*start, "--seed", seed, *train_options])
    before = measure(data, folder / f"{pooling}_pretrained", tuples, labels, start, size)
    after = measure(data, tuned, tuples, labels, ["--network", network_of(tuned / "run")], size)
    return before + after


def print_table(pooling: str, folds: tuple[int, ...], figures: np.ndarray) -> None:
    """One row a network, one column a fold, the mean over folds, and its spread over seeds."""
    click.echo(f"\n{pooling}: mAP, mean over landmarks; {figures.shape[0]} seed(s)")
    click.echo(f"{'':22}" + "".join(f"{f'fold {fold}':>9}" for fold in folds) + f"{'mean':>9}   spread")
    for row, name in enumerate(ROWS):
        by_fold = figures[:, :, row].mean(axis=0)
        by_seed = figures[:, :, row].mean(axis=1)
        spread = f"{by_seed.min():.1f} .. {by_seed.max():.1f}"
        click.echo(f"{name:22}" + "".join(f"{v:9.1f}" for v in by_fold) + f"{by_seed.mean():9.1f}   {spread}")


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--pooling", "poolings", multiple=True, default=("gem", "mac"), show_default=True)
@click.option("--fold", "folds", multiple=True, type=click.IntRange(0, 2), default=FOLDS, show_default=True)
@click.option("--seeds", default=1, show_default=True, help="how many seeds to train with")
@click.option("--image-size", default=512, show_default=True, help="longest side at test, in pixels")
@click.option("--val-share", default=0.0, show_default=True, help="share of the training places kept for validation")
@click.option("--train-option", "train_options", multiple=True, help="passed on to train: --train-option=--rounds=2")
def main(
    data: Path,
    work: Path,
    poolings: tuple[str, ...],
    folds: tuple[int, ...],
    seeds: int,
    image_size: int,
    val_share: float,
    train_options: tuple[str, ...],
) -> None:
    """Print the table of DATA's landmark folds; everything made on the way stays below WORK."""
    for pooling in poolings:
        figures = [
            [run_fold(data, work, fold, pooling, seed, image_size, val_share, list(train_options)) for fold in folds]
            for seed in range(seeds)
        ]
        print_table(pooling, folds, np.array(figures))


if __name__ == "__main__":
    main()
