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
from pathlib import Path

import click
import numpy as np

FOLDS = (0, 1, 2)
ROWS = ("off the shelf", "off the shelf + L_w", "fine-tuned", "fine-tuned + L_w")


def run(*arguments: object) -> dict:
    """Run one command of ours, show it, and return what it prints under --json."""
    words = [str(a) for a in arguments]
    click.echo(f"$ sfm2tuples {shlex.join(words)}", err=True)
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def make(target: Path, *arguments: object) -> Path:
    """Run a command that makes `target`, unless it is there."""
    if not target.exists():
        run(*arguments, "-o", target)
    return target


def train(tuples: Path, run_dir: Path, done: Path, options: list[object]) -> None:
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


def prepare_fold(data: Path, work: Path, fold: int, network: list[object], val_share: float) -> tuple[Path, Path]:
    """Index and tuples of the training places, and the labels of the landmarks held out."""
    landmarks = landmarks_of(data)
    held_out = [landmarks[fold], landmarks[fold + 3]]
    work.mkdir(parents=True, exist_ok=True)
    roots = [data / "reconstructions"] + [data / "collection_models" / n for n in landmarks if n not in held_out]
    places = data / "reconstructions" / "places.csv"
    photos = data / "collection" / "images"
    index = make(
        work / "index.h5",
        "build-index",
        *roots,
        "--images",
        photos,
        "--places",
        places,
        "--jobs",
        2,
        "--val-share",
        val_share,
    )
    options = ["--query-share", 1.0, "--queries-per-place", 15, "--pack-images", 362]
    tuples = make(work / "tuples.h5", "mine-tuples", index, *network, *options)
    return tuples, write_fold_labels(data, held_out, work / "labels.csv")


def measure(data: Path, work: Path, tuples: Path, labels: Path, network: list[object], size: int) -> list[float]:
    """MAP of one network on the fold's landmarks, without and with L_w of the training places."""
    work.mkdir(parents=True, exist_ok=True)
    photos = ["--images", data / "collection" / "images"]
    wanted = make(work / "photos.h5", "extract", labels, *photos, *network, "--image-size", size)
    learnt = make(work / "training_photos.h5", "extract", tuples, *network, "--image-size", size)
    whitening = make(work / "lw.h5", "whiten", tuples, "--descriptors", learnt, "--split", "all")
    plain = run("evaluate", "--labels", labels, "--descriptors", wanted)
    whitened = run("evaluate", "--labels", labels, "--descriptors", wanted, "--whitening", whitening)
    return [100 * result["mean_over_groups"] for result in (plain, whitened)]


def run_fold(
    data: Path, work: Path, fold: int, pooling: str, seed: int, size: int, val_share: float, train_options: list[str]
) -> list[float]:
    """The four figures of one fold: off the shelf, + L_w, fine-tuned, + L_w."""
    weights = data / "weights" / "squeezenet1_1.npz"
    pretrained = ["--backbone", "squeezenet1_1", "--weights", weights, "--pooling", pooling]
    folder = work / f"fold{fold}"
    tuples, labels = prepare_fold(data, folder, fold, pretrained, val_share)
    tuned = folder / f"{pooling}_seed{seed}"
    train(tuples, tuned / "run", tuned / "trained.json", [*pretrained, "--seed", seed, *train_options])
    before = measure(data, folder / f"{pooling}_pretrained", tuples, labels, pretrained, size)
    after = measure(data, tuned, tuples, labels, ["--network", tuned / "run" / "best.pt"], size)
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
