"""The network and the BoW teacher on the folds of `own_models.py`: one table, from off the shelf to short codes.

Every step is a command of `sfm2tuples`, printed before it runs; what is already there is kept, so an interrupted run
goes on, and WORK may be that of `own_models.py` and of `bow_teacher.py`. Each refinement has its published constants.

    python examples/student_and_teacher.py ../shared/data folds/ --seeds 3 --jobs 2
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bow_teacher
import click
import numpy as np
import own_models

from sfm2tuples.atomic import write_text

SCALES = "1,0.7071,0.5"
QE = ("--qe", "average:5")
ALPHA_QE = ("--qe", "alpha:50:3")
R = ("--rerank", "R:1000")
VOCABULARIES, WORDS = 4, 4096
"""Of the short bags of words: as many vocabularies, each drawn by another seed, and the words of each."""


@dataclass(frozen=True)
class Student:
    """A row of the network: what it is and how it is asked."""

    title: str
    tuned: bool = True
    """Fine-tuned, or off the shelf."""
    whitened: bool = True
    """By L_w of the training places, learned at the row's scales."""
    multi_scale: bool = False
    flags: tuple[object, ...] = ()
    """What evaluate is told besides."""


STUDENTS = {
    "shelf": Student("off the shelf", tuned=False, whitened=False),
    "shelf_qe": Student("off the shelf + QE", tuned=False, whitened=False, flags=QE),
    "shelf_lw": Student("off the shelf + L_w", tuned=False),
    "shelf_lw_qe": Student("off the shelf + L_w + QE", tuned=False, flags=QE),
    "tuned": Student("fine-tuned", whitened=False),
    "lw": Student("fine-tuned + L_w"),
    "ms": Student("fine-tuned + L_w, multi-scale", multi_scale=True),
    "qe": Student("fine-tuned + L_w + QE", flags=QE),
    "alpha": Student("fine-tuned + L_w + αQE", flags=ALPHA_QE),
    "dba": Student("fine-tuned + L_w + DBA + QE", flags=("--dba", "average:5", *QE)),
    "r": Student("fine-tuned + L_w + R", flags=R),
    "r_qe": Student("fine-tuned + L_w + R + QE", flags=(*R, *QE)),
    "ms_qe": Student("fine-tuned + L_w, multi-scale + QE", multi_scale=True, flags=QE),
    "ms_r_qe": Student("fine-tuned + L_w, multi-scale + R + QE", multi_scale=True, flags=(*R, *QE)),
    **{f"d{dim}": Student(f"fine-tuned + L_w, {dim} D", flags=("--dim", dim)) for dim in (256, 128, 64, 32, 16)},
}
"""Rows of the network, by the name that `--row` calls them."""
SHORT_BAG = "short_bag"
TEACHERS = {f"teacher_{number}": title for number, title in enumerate(bow_teacher.ROWS)} | {SHORT_BAG: "mVoc, 128 D"}
"""Rows of the teacher in the same way; the last is several vocabularies in one short vector."""
ROWS = (*STUDENTS, *TEACHERS)


@dataclass(frozen=True)
class Place:
    """Where a fold is measured: its tuples and labels, and one network."""

    data: Path
    folder: Path
    """Of the network, below that of the fold."""
    tuples: Path
    labels: Path
    network: tuple[object, ...]
    """Flags that name it."""
    size: int
    """Longest side of the photos in pixels."""

    def ask(self, row: Student) -> float:
        """MAP in percent of a row, with everything made that it needs."""
        network, folder = self.network, self.folder
        if row.multi_scale:
            network, folder = (*network, "--scales", SCALES), folder / "multi_scale"
        photos = own_models.describe(self.data, folder / "photos.h5", self.labels, network, self.size)
        flags: tuple[object, ...] = row.flags
        if row.whitened:
            flags += ("--whitening", own_models.learn_whitening(folder, self.tuples, network, self.size))
        if "--rerank" in flags:  # windows are described anew
            flags += (*network, "--image-size", self.size, "--images", self.data / "collection" / "images")
        return own_models.mean_map(self.labels, photos, *flags)


def kept(file: Path, measure: Callable[[], float]) -> float:
    """A figure that was measured before, or is measured now."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(measure()) + "\n")
    return float(json.loads(file.read_text()))


def place_of(data: Path, work: Path, fold: int, seed: int, row: Student, pooling: str, size: int) -> Place:
    """Index, mine and train what a row needs."""
    start = own_models.pretrained(data, pooling)
    folder = work / f"fold{fold}"
    tuples, labels = own_models.prepare_fold(data, folder, fold, start)
    if not row.tuned:
        return Place(data, folder / f"{pooling}_pretrained", tuples, labels, tuple(start), size)
    tuned = folder / f"{pooling}_seed{seed}"
    own_models.train(tuples, tuned / "run", tuned / "trained.json", [*start, "--seed", seed])
    return Place(data, tuned, tuples, labels, ("--network", tuned / "run" / "best.pt"), size)


def student(data: Path, work: Path, name: str, seeds: int, pooling: str, size: int) -> np.ndarray:
    """Figures (seeds, folds) of a row of the network; one seed where nothing was trained."""
    row = STUDENTS[name]

    def figure(fold: int, seed: int) -> float:
        file = work / "figures" / name / f"{pooling}_{size}px_fold{fold}_seed{seed}.json"
        return kept(file, lambda: place_of(data, work, fold, seed, row, pooling, size).ask(row))

    return np.array([[figure(f, s) for f in own_models.FOLDS] for s in range(seeds if row.tuned else 1)])


def teacher(data: Path, work: Path, name: str, num_words: int, size: int, jobs: int) -> np.ndarray:
    """Figures (1, folds) of a row of the teacher."""

    def figure(fold: int) -> float:
        labels = own_models.write_fold_labels(data, own_models.held_out_of(data, fold), work / f"labels{fold}.csv")
        if name != SHORT_BAG:
            bag = bow_teacher.build(data, work, num_words, size, jobs)
            return bow_teacher.row_of_fold(work, labels, bag, TEACHERS[name], num_words, fold, jobs)
        file = work / "figures" / name / f"{VOCABULARIES}x{WORDS}_{size}px_fold{fold}.json"
        return kept(file, lambda: own_models.mean_map(labels, short_bags(data, work, size, jobs)))

    return np.array([[figure(fold) for fold in own_models.FOLDS]])


def short_bags(data: Path, work: Path, size: int, jobs: int) -> Path:
    """Bags of words of several vocabularies in one short vector, all of it learned from the reconstructions."""
    features, other = bow_teacher.find_features(data, work, size, jobs)
    bags, learned_from = [], []
    for seed in range(VOCABULARIES):
        learn = ("--num-words", WORDS, "--seed", seed)
        learned_from.append(own_models.make(work / f"mvoc_other{seed}.h5", "build-bow", other, *learn))
        words = ("--vocabulary", learned_from[-1])
        bags.append(own_models.make(work / f"mvoc{seed}.h5", "build-bow", features, *words))
    from_others = [word for bag in learned_from for word in ("--learn-from", bag)]
    return own_models.make(work / "mvoc.h5", "shorten-bow", *bags, *from_others)


def line(title: str, figures: np.ndarray) -> str:
    """A row of the table in markdown: folds, mean, least and greatest mean of a seed."""
    means = figures.mean(axis=1)
    spread = f"{means.min():.1f} to {means.max():.1f}" if len(means) > 1 else ""
    return (
        f"| {title} | " + " | ".join(f"{v:.1f}" for v in figures.mean(axis=0)) + f" | {means.mean():.1f} | {spread} |"
    )


def table(lines: Sequence[str]) -> str:
    """The table in markdown."""
    titles = ["", *(f"fold {fold}" for fold in own_models.FOLDS), "mean", "over seeds"]
    return "\n".join([f"| {' | '.join(titles)} |", "|---" * len(titles) + "|", *lines])


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--row", "rows", multiple=True, type=click.Choice(ROWS), default=ROWS, help="repeatable; all by default")
@click.option("--pooling", default="gem", show_default=True, help="of the network")
@click.option("--seeds", default=1, show_default=True, help="how many seeds to train with")
@click.option("--num-words", default=16384, show_default=True, help="words of the teacher")
@click.option("--image-size", default=512, show_default=True, help="longest side at test, in pixels")
@click.option("--jobs", default=1, show_default=True, help="processes that find features and verify")
def main(
    data: Path, work: Path, rows: Sequence[str], pooling: str, seeds: int, num_words: int, image_size: int, jobs: int
) -> None:
    """Print the table of network and teacher on DATA's landmark folds; everything made on the way stays below WORK."""
    work.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in rows:
        if name in STUDENTS:
            lines.append(line(STUDENTS[name].title, student(data, work, name, seeds, pooling, image_size)))
        else:
            lines.append(line(f"teacher: {TEACHERS[name]}", teacher(data, work, name, num_words, image_size, jobs)))
    click.echo(table(lines))


if __name__ == "__main__":
    main()
