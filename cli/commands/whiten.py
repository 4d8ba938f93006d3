"""`sfm2tuples whiten`: matching pairs to a whitening."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options.extraction import extraction_options
from cli.options.idle_flags import BY_A_NETWORK, EXPONENT, Use, refuse_idle_flags
from cli.options.network import network_options
from cli.options.paths import FilePath
from cli.options.target import target_option
from cli.output import Output, output_options
from retrieval.whitening.options import ALL_SPLITS, METHODS, WhiteningOptions
from sfm2tuples.errors import counted
from sfm2tuples.index.splits import SPLITS

if TYPE_CHECKING:
    from retrieval.descriptors.extraction import ExtractionOptions
    from retrieval.networks.choice import NetworkChoice


USES = (
    BY_A_NETWORK,
    EXPONENT,
    Use(("min_overlap", "max_scale_change"), "--method lw", lambda params: params["method"] == "lw"),
)
"""What flags are for that have nothing to do in some calls."""


@click.command("whiten", epilog="Example: sfm2tuples whiten tuples.h5 -o whitening.h5 --network run/best.pt")
@click.argument("source", metavar="PAIRS", type=FilePath())
@target_option()
@network_options
@extraction_options
@click.option("--descriptors", type=FilePath(), help="descriptors of the photos, in place of a network")
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True)
@click.option("--dim", type=click.IntRange(1), help="dimensions to keep; all by default")
@click.option(
    "--shrinkage", default="auto", show_default=True, help="auto: best on places left out; or λ; 0 as published"
)
@click.option(
    "--split", type=click.Choice([*SPLITS, ALL_SPLITS]), default=SPLITS[0], show_default=True, help="places used"
)
@click.option("--min-overlap", default=0.2, show_default=True, help="least overlap of a pair, as m3's")
@click.option("--max-scale-change", default=1.5, show_default=True, help="most change of scale of a pair, as m3's")
@output_options
def command(
    source: Path,
    target: Path,
    choice: NetworkChoice,
    extraction: ExtractionOptions,
    device: str | None,
    descriptors: Path | None,
    method: str,
    dim: int | None,
    shrinkage: str,
    split: str,
    min_overlap: float,
    max_scale_change: float,
    output: Output,
) -> None:
    """Learn L_w or PCA_w from the matching pairs of PAIRS, an index or a tuple file, at the size of the test."""
    from retrieval.descriptors.described_photos import descriptors_of
    from retrieval.whitening.linear_algebra import refuse_beyond_memory
    from retrieval.whitening.matching_pairs import learn_whitening, read_pairs
    from retrieval.whitening.projection import write_whitening

    refuse_idle_flags(USES)
    options = WhiteningOptions(method, dim, _shrinkage(shrinkage), split, min_overlap, max_scale_change)
    matches = read_pairs(source, options, extraction.image_size)
    photos = matches.photos
    found = descriptors_of(descriptors, choice, photos, extraction, device, refuse_beyond_memory)
    whitening, curve = learn_whitening(found, matches, options)
    if curve is not None:
        output.say("mAP on places left out, by shrinkage:")
        output.table(curve.table(), ["λ", "mAP"])
        output.result({"shrinkage_curve": curve.table()})
    write_whitening(target, whitening, [photos.parent, found.fingerprint])
    learned_from = counted(whitening.num_pairs, "pair" if method == "lw" else "photo")
    output.result({"shrinkage": whitening.shrinkage, "num_pairs": whitening.num_pairs, "rank": whitening.rank})
    output.made(
        target,
        f"{method}, {counted(whitening.dim, 'dimension')} from {learned_from} of rank {whitening.rank}, "
        f"λ {whitening.shrinkage:g}",
        f"sfm2tuples evaluate --labels labels.csv --whitening {target}",
    )


def _shrinkage(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise click.BadParameter(f"{text} is neither auto nor a number", param_hint="--shrinkage") from error
