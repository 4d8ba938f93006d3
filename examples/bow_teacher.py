"""The BoW teacher on the folds of `own_models.py`: one table, from tf-idf to Hamming query expansion.

Words are learned from photos of the reconstructions, which show other places than the folds. Every step is a command
of `sfm2tuples`; what is already there is kept.

    python examples/bow_teacher.py ../shared/data teacher/ --jobs 2
"""

from __future__ import annotations

from pathlib import Path

import click
import own_models

HAMMING = ("--hamming", 24)
VERIFIED = ("--num-verified", 100, "--min-inliers", 8)
"""8 inliers come by chance too, but tell more than the order of plain words does."""
ROWS: dict[str, tuple[object, ...]] = {
    "tf-idf": (),
    "+ verification": VERIFIED,
    "+ QE": (*VERIFIED, "--num-expanded", 10),
    "Hamming embedding": HAMMING,
    "HE + verification": (*HAMMING, *VERIFIED),
    "HE + verification + HQE": (*HAMMING, *VERIFIED, "--num-expanded", 10),
}
"""Row of the table to the flags of evaluate."""


def find_features(data: Path, work: Path, size: int, jobs: int) -> tuple[Path, Path]:
    """Features of the labelled photos, and of the reconstructions'."""
    photos = data / "collection" / "images"
    how = ("--image-size", size, "--jobs", jobs)
    labels = data / "collection" / "labels.csv"
    features = own_models.make(work / "features.h5", "extract-features", labels, "--images", photos, *how)
    return features, own_models.make(work / "other.h5", "extract-features", data / "reconstructions", *how)


def build(data: Path, work: Path, num_words: int, size: int, jobs: int) -> Path:
    """The bag of words of the labelled photos, with words of the reconstructions."""
    features, other = find_features(data, work, size, jobs)
    words = ("--learn-from", other, "--num-words", num_words)
    return own_models.make(work / f"bow{num_words}.h5", "build-bow", features, *words)


def row_of_fold(work: Path, labels: Path, bag: Path, row: str, num_words: int, fold: int, jobs: int) -> float:
    """MAP in percent, mean over landmarks; not measured again where it was before."""
    file = work / f"{row.replace(' ', '')}_{num_words}_fold{fold}.json"
    asked = ("evaluate", "--labels", labels, "--teacher", bag, *ROWS[row], "--jobs", jobs)
    return 100 * own_models.kept(file, lambda: own_models.run(*asked)["mean_over_groups"])


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("work", type=click.Path(file_okay=False, path_type=Path))
@click.option("--row", "rows", multiple=True, type=click.Choice(list(ROWS)), default=list(ROWS), help="rows to measure")
@click.option("--num-words", default=16384, show_default=True, help="words of the vocabulary")
@click.option("--image-size", default=512, show_default=True, help="longest side, pixels")
@click.option("--jobs", default=1, show_default=True, help="processes that find features and verify")
def main(data: Path, work: Path, rows: tuple[str, ...], num_words: int, image_size: int, jobs: int) -> None:
    """Print the teacher's table on DATA's landmark folds; everything made on the way stays below WORK."""
    work.mkdir(parents=True, exist_ok=True)
    bag = build(data, work, num_words, image_size, jobs)
    click.echo(f"{'':24}" + "".join(f"{f'fold {fold}':>9}" for fold in own_models.FOLDS) + f"{'mean':>9}")
    for row in rows:
        figures = []
        for fold in own_models.FOLDS:
            labels = own_models.write_fold_labels(data, own_models.held_out_of(data, fold), work / f"labels{fold}.csv")
            figures.append(row_of_fold(work, labels, bag, row, num_words, fold, jobs))
        click.echo(f"{row:24}" + "".join(f"{v:9.1f}" for v in figures) + f"{sum(figures) / len(figures):9.1f}")


if __name__ == "__main__":
    main()
