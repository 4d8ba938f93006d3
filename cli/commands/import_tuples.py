"""`sfm2tuples import-tuples`: cirtorch's training data to a tuple file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options.idle_flags import DESCRIPTION, NETWORK, Use, given, refuse_idle_flags
from cli.options.paths import FilePath
from cli.options.photos import photo_options
from cli.options.target import target_option
from cli.output import Output, output_options
from sfm2tuples.mining.options import NEGATIVES

if TYPE_CHECKING:
    from retrieval.tuple_files.cirtorch_import import ImportedTuples
    from retrieval.tuple_files.readable_photos import PhotoOptions

_LEFT_OUT = {
    "self_pairs": "pairs of an image with itself are dropped",
    "duplicate_pairs": "pairs are there already and are dropped",
    "pairs_across_places": "pairs are of two places and are dropped",
    "listed_twice": "images are listed twice and taken once",
    "in_training_too": "validation images are trained on too and are left out",
    "pairs_without_photo": "pairs are left out with an image of theirs",
}
USES = (
    Use(DESCRIPTION, "--network or --backbone", given(*NETWORK)),
    Use(
        (*DESCRIPTION, *NETWORK, "descriptors"),
        "--negatives N1, N2 or semi-hard",
        lambda params: params["negatives"] != "random",
    ),
)
"""What flags are for that have nothing to do in some calls."""


@click.command("import-tuples", epilog="Example: sfm2tuples import-tuples retrieval-SfM-120k.pkl -o tuples.h5")
@click.argument("file", metavar="FILE.pkl", type=FilePath())
@click.option("--images", type=FilePath(), help="folder of the photos  [default: ims/ beside FILE.pkl]")
@target_option("tuple file to write")
@click.option(
    "--global-clusters", is_flag=True, help="a cluster's number is one place in both splits; it is then trained on"
)
@photo_options
@click.option(
    "--negatives",
    type=click.Choice(NEGATIVES),
    default="N2",
    show_default=True,
    help="N1 nearest, N2 nearest with one a place, random, semi-hard; also of each round of train",
)
@click.option("--num-negatives", default=5, show_default=True, help="negatives of a tuple")
@click.option(
    "--pool",
    default="random:22000",
    show_default=True,
    help="images that negatives are chosen from: ends+per-place:N, ends+random:N, random:N",
)
@click.option("--seed", default=0, show_default=True, help="seed of every draw")
@output_options
def command(
    file: Path,
    images: Path | None,
    target: Path,
    global_clusters: bool,
    photos: PhotoOptions,
    output: Output,
    **values: Any,
) -> None:
    """Turn cirtorch's training data (retrieval-SfM-120k.pkl and its photos) into a tuple file that train takes.

    Without a network or descriptors the file has pairs only: train mines negatives for them in each round.
    """
    from retrieval.tuple_files.cirtorch_import import ImportOptions, import_tuple_file
    from sfm2tuples.interop.cirtorch_files import PHOTOS

    refuse_idle_flags(USES)
    images = file.parent / PHOTOS if images is None else images
    found = import_tuple_file(file, images, target, ImportOptions(**values), photos, global_clusters)
    _say_left_out(found, output)
    _say_what_is_unknown(found, output)
    train, val = (len(found.tuples[split].query) for split in ("train", "val"))
    tables = found.tables
    output.result({"images": len(tables.images.key), "places": len(tables.places.name), "train": train, "val": val})
    output.made(
        target,
        f"{train:,} training and {val:,} validation pairs of {len(tables.images.key):,} photos "
        f"of {len(tables.places.name):,} places",
        f"sfm2tuples train {target} -o run/ --recipe cirtorch --backbone resnet101 --weights imagenet",
    )


def _say_left_out(found: ImportedTuples, output: Output) -> None:
    from sfm2tuples.errors import first_three, told_of
    from sfm2tuples.interop.cirtorch_tables import counts_of

    left_out = found.tables.left_out
    counts = counts_of(left_out)
    output.result({"left_out": counts})
    for name, text in _LEFT_OUT.items():
        if counts[name]:
            output.say(told_of(counts[name], text))
    if left_out.missing:
        what = told_of(len(left_out.missing), "photos are not there and are left out")
        output.warn(f"{what}, first {first_three(left_out.missing)}")
    output.warn_of("photos cannot be read and are left out", left_out.unreadable)


def _say_what_is_unknown(found: ImportedTuples, output: Output) -> None:
    output.say(
        "The pairs come without shared points, overlap, scale change and angle: m3 draws among each query's "
        "positives, its thresholds cannot be applied; m2 cannot choose."
    )
    if not found.has_negatives:
        output.say(
            "No negatives yet: train mines them in each round; its validation loss counts positives only, mAP decides."
        )
    output.result({"has_negatives": found.has_negatives})
