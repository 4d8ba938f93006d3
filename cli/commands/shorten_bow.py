"""`sfm2tuples shorten-bow`: bags of words to short descriptors."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options.paths import FilePath
from cli.options.target import target_option
from cli.output import Output, output_options

PATH = FilePath()


@click.command("shorten-bow", epilog="Example: sfm2tuples shorten-bow bow1.h5 bow2.h5 --dim 128 -o descriptors.h5")
@click.argument("bags", type=PATH, nargs=-1, required=True)
@target_option()
@click.option(
    "--learn-from",
    type=PATH,
    multiple=True,
    help="a bag of other photos by the same words, once for each BAG in order  [default: the BAGS]",
)
@click.option("--dim", type=click.IntRange(1), default=128, show_default=True, help="dimensions of the descriptors")
@click.option(
    "--power", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="exponent of counts; tames bursts"
)
@output_options
def command(
    bags: tuple[Path, ...],
    target: Path,
    learn_from: tuple[Path, ...],
    dim: int,
    power: float,
    output: Output,
) -> None:
    """Join the BAGS of words of the same photos, made by several vocabularies, and reduce them by PCA whitening."""
    from retrieval.local_features.short_vectors import ShortOptions, short_descriptors
    from sfm2tuples.files.descriptors import write_descriptors

    descriptors, parents = short_descriptors(bags, learn_from, ShortOptions(dim, power))
    write_descriptors(target, descriptors, parents=parents)
    count = len(descriptors.names)
    output.result({"photos": count, "dim": dim})
    output.made(target, f"{count:,} descriptors of {dim} dimensions")
