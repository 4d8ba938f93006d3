"""The network and the BoW teacher on the folds of `own_models.py`: one table, from off the shelf to short codes.

Every step is a command of `sfm2tuples`, printed before it runs; what is already there is kept, so an interrupted run
goes on, and WORK may be that of `own_models.py` and of `bow_teacher.py`. Each refinement has its published constants.

    python examples/student_and_teacher.py ../shared/data folds/ --seeds 3 --jobs 2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bow_teacher
import click
import numpy as np
import own_models

SCALES = "1,0.7071,0.5"
QE = ("--qe", "average:5")
ALPHA_QE = ("--qe", "alpha:50:3")
R = ("--rerank", "R:1000")
GEOMETRY = ("--rerank", "geometry:100")
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
    "geometry": Student("fine-tuned + L_w + verification", flags=GEOMETRY),
    "geometry_qe": Student("fine-tuned + L_w + verification + QE", flags=(*GEOMETRY, "--qe", "average:10")),
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
class Comparison:
    """What is compared, and where everything made on the way stays."""

    data: Path
    work: Path
    pooling: str
    """Of the network."""
    seeds: int
    """How many to train with."""
    num_words: int
    """Of the teacher."""
    size: int
    """Longest side at test, in pixels."""
    jobs: int
    """Processes that find features and verify."""

    def figures(self, name: str) -> np.ndarray:
        """MAP in percent of a row by seed and fold; one seed where nothing is trained."""
        if name not in STUDENTS:
            return np.array([[self.teacher(name, fold) for fold in own_models.FOLDS]])
        seeds = range(self.seeds if STUDENTS[name].tuned else 1)
        return np.array([[self.student(name, fold, seed) for fold in own_models.FOLDS] for seed in seeds])

    def student(self, name: str, fold: int, seed: int) -> float:
        """A figure of the network."""
        row, kept_as = STUDENTS[name], f"{self.pooling}_{self.size}px_fold{fold}_seed{seed}.json"
        return own_models.kept(self.work / "figures" / name / kept_as, lambda: self.ask(row, fold, seed))

    def ask(self, row: Student, fold: int, seed: int) -> float:
        """Measure the network, with everything made that it needs."""
        start = own_models.pretrained(self.data, self.pooling)
        folder, network = self.work / f"fold{fold}", start
        tuples, labels = own_models.prepare_fold(self.data, folder, fold, start)
        place = folder / (f"{self.pooling}_seed{seed}" if row.tuned else f"{self.pooling}_pretrained")
        if row.tuned:
            own_models.train(tuples, place / "run", place / "trained.json", [*start, "--seed", seed])
            network = ["--network", own_models.network_of(place / "run")]
        if row.multi_scale:
            network, place = [*network, "--scales", SCALES], place / "multi_scale"
        photos = own_models.describe(self.data, place / "photos.h5", labels, network, self.size)
        flags: tuple[object, ...] = row.flags
        if row.whitened:
            flags += ("--whitening", own_models.learn_whitening(place, tuples, network, self.size))
        if R[1] in flags:  # windows are described anew
            flags += (*network, "--image-size", self.size, "--images", self.data / "collection" / "images")
        if GEOMETRY[1] in flags:
            flags += ("--features", self.features()[0], "--jobs", self.jobs)
        return own_models.mean_map(labels, photos, *flags)

    def features(self) -> tuple[Path, Path]:
        """Local features of the labelled photos, and of the reconstructions'."""
        return bow_teacher.find_features(self.data, self.work, self.size, self.jobs)

    def teacher(self, name: str, fold: int) -> float:
        """A figure of the teacher."""
        held_out = own_models.held_out_of(self.data, fold)
        labels = own_models.write_fold_labels(self.data, held_out, self.work / f"labels{fold}.csv")
        if name == SHORT_BAG:
            file = self.work / "figures" / name / f"{VOCABULARIES}x{WORDS}_{self.size}px_fold{fold}.json"
            return own_models.kept(file, lambda: own_models.mean_map(labels, self.short_bags()))
        bag = bow_teacher.build(self.data, self.work, self.num_words, self.size, self.jobs)
        return bow_teacher.row_of_fold(self.work, labels, bag, TEACHERS[name], self.num_words, fold, self.jobs)

    def short_bags(self) -> Path:
        """Bags of words of several vocabularies in one short vector, all of it learned from the reconstructions."""
        features, other = self.features()
        bags, learned_from = [], []
        for seed in range(VOCABULARIES):
            learn = ("--num-words", WORDS, "--seed", seed)
            learned_from.append(own_models.make(self.work / f"mvoc_other{seed}.h5", "build-bow", other, *learn))
            words = ("--vocabulary", learned_from[-1])
            bags.append(own_models.make(self.work / f"mvoc{seed}.h5", "build-bow", features, *words))
        from_others = [word for bag in learned_from for word in ("--learn-from", bag)]
        return own_models.make(self.work / "mvoc.h5", "shorten-bow", *bags, *from_others)


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
    comparison = Comparison(data, work, pooling, seeds, num_words, image_size, jobs)
    titles = {name: row.title for name, row in STUDENTS.items()} | {
        name: f"teacher: {title}" for name, title in TEACHERS.items()
    }
    click.echo(table([line(titles[name], comparison.figures(name)) for name in rows]))


if __name__ == "__main__":
    main()
