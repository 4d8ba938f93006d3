"""EfficientNet-Lite0 teaches SqueezeNet on the landmark folds: by itself, and beside the tuples. One table.

The teacher sees the photos of the training places; `alone` asks for no label of them. Every step is a command of
`sfm2tuples`, as in `own_models.py`; what is there already is kept, so that an interrupted run goes on.

    python examples/distillation.py ../shared/data distillation/ --fold 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import own_models

TEACHER = ["--backbone", "efficientnet_lite0"]
"""With GeM, and ImageNet's weights out of its package."""
ROWS: dict[str, tuple[str, tuple[object, ...] | None]] = {
    "shelf": ("off the shelf", None),
    "tuples": ("tuples", ()),
    "alone": ("the teacher alone, no label", ("--sampling", "photos:8x4")),
    "both": ("tuples and teacher", ("--teacher-weight", 1)),
    "graph": ("graph batches and teacher", ("--sampling", "graph:8x4", "--teacher-weight", 1)),
    "teacher": ("the teacher itself, off the shelf", None),
}
"""By the name that `--row` calls it: title, and what train is told besides; None where nothing is trained."""
TAUGHT = ("alone", "both", "graph")
DEFAULT = tuple(name for name in ROWS if name != "graph")


@dataclass(frozen=True)
class Plan:
    """What is measured, and how; it must stay the same within one WORK."""

    data: Path
    work: Path
    rounds: int
    train_size: int
    """Longest side in training, in pixels; the teacher sees the same."""
    image_size: int
    """Longest side at test, in pixels."""

    def figures(self, name: str, fold: int, seed: int) -> list[float]:
        """MAP in percent of a row on a fold, without and with L_w of the training places."""
        folder, start = self.work / f"fold{fold}", own_models.pretrained(self.data, "gem")
        tuples, labels = own_models.prepare_fold(self.data, folder, fold, start)
        place, network = folder / f"{name}_seed{seed}", TEACHER if name == "teacher" else start
        more = ROWS[name][1]
        if more is not None:
            options = [*start, "--rounds", self.rounds, "--image-size", self.train_size, "--seed", seed, *more]
            if name in TAUGHT:
                options += ["--teacher-descriptors", self.taught(folder, tuples)]
            own_models.train(tuples, place / "run", place / "trained.json", options)
            network = ["--network", own_models.network_of(place / "run")]
        return own_models.measure(self.data, place, tuples, labels, network, self.image_size)

    def taught(self, folder: Path, tuples: Path) -> Path:
        """What the teacher says of the training places: once for all rows and seeds."""
        return own_models.make(folder / "teacher.h5", "extract", tuples, *TEACHER, "--image-size", self.train_size)


def table(rows: Sequence[str], folds: Sequence[int], figures: np.ndarray) -> str:
    """The table in markdown; `figures` (rows, folds, seeds, 2) are means over seeds, then over folds."""
    titles = ["", *(f"fold {fold}{what}" for fold in folds for what in ("", " + L_w")), "mean", "mean + L_w"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, of_row in zip(rows, figures.mean(axis=2), strict=True):
        cells = [*of_row.ravel(), *of_row.mean(axis=0)]
        lines.append(f"| {ROWS[name][0]} | " + " | ".join(f"{value:.1f}" for value in cells) + " |")
    return "\n".join(lines)


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--row", "rows", multiple=True, type=click.Choice(list(ROWS)), default=DEFAULT, show_default=True)
@click.option("--fold", "folds", multiple=True, type=click.IntRange(0, 2), default=own_models.FOLDS, show_default=True)
@click.option("--seeds", default=1, show_default=True, help="how many seeds to train with")
@click.option("--rounds", default=2, show_default=True, help="of every training")
@click.option("--size", default=224, show_default=True, help="longest side in training, in pixels")
@click.option("--image-size", default=512, show_default=True, help="longest side at test, in pixels")
def main(
    data: Path,
    work: Path,
    rows: Sequence[str],
    folds: Sequence[int],
    seeds: int,
    rounds: int,
    size: int,
    image_size: int,
) -> None:
    """Print the table of DATA's landmark folds; everything made on the way stays below WORK."""
    work.mkdir(parents=True, exist_ok=True)
    plan = Plan(data, work, rounds, size, image_size)
    found = [[[plan.figures(name, fold, seed) for seed in range(seeds)] for fold in folds] for name in rows]
    click.echo(table(rows, folds, np.array(found)))


if __name__ == "__main__":
    main()
