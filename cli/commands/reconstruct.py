"""`sfm2tuples reconstruct`: loose photos to COLMAP models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options.fields import field_options
from cli.options.idle_flags import NAMES_BELOW, refuse_idle_flags
from cli.options.network import device_option, network_options
from cli.options.paths import FilePath
from cli.output import Output, output_options
from retrieval.reconstruction.options import CAMERAS, MAPPERS, ReconstructionOptions

if TYPE_CHECKING:
    from retrieval.networks.choice import NetworkChoice
    from retrieval.reconstruction.summary import ReconstructionSummary

PATH = FilePath()
FLAGS: dict[str, tuple[Any, str]] = {
    "num_neighbours": (click.IntRange(1), "photos nearest by the network that each photo is compared with"),
    "all_pairs_below": (click.IntRange(0), "of fewer photos every pair is compared, and no network is asked"),
    "sequence": (click.IntRange(0), "next photos that each is compared with too, where names count up; 0: none"),
    "network_size": (click.IntRange(1), "longest side at which the network sees photos, pixels"),
    "image_size": (click.IntRange(1), "longest side at which features are looked for, pixels"),
    "max_features": (click.IntRange(1), "most features of a photo"),
    "cameras": (
        click.Choice(CAMERAS),
        "which photos share one; auto: those of a folder where sizes and focal lengths are equal, else none",
    ),
    "mapper": (click.Choice(MAPPERS), "of pycolmap: global makes fewer and larger models, in less time"),
    "min_images": (click.IntRange(3), "models of fewer images are left out"),
    "min_points": (click.IntRange(1), "models of fewer points are left out"),
    "seed": (click.IntRange(0), "seed of verification and mapping"),
}
SHOWN = 10
"""Of many models so many are shown."""


@click.command("reconstruct", epilog="Example: sfm2tuples reconstruct photos/ -o models/")
@click.argument("source", metavar="PHOTOS", type=PATH)
@click.option("-o", "--output", "target", type=PATH, required=True, help="the folder of models to make")
@click.option("--images", type=PATH, help="folder that the names of a list start from")
@network_options
@device_option
@field_options(ReconstructionOptions, FLAGS)
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="cores to use")
@click.option("--resume", is_flag=True, help="go on with what the folder holds; what has changed is made again")
@click.option("--force", is_flag=True, help="remove the models that an earlier run made, and begin anew")
@output_options
def command(
    source: Path,
    target: Path,
    images: Path | None,
    choice: NetworkChoice,
    device: str | None,
    options: ReconstructionOptions,
    jobs: int,
    resume: bool,
    force: bool,
    output: Output,
) -> None:
    """Make COLMAP models of loose PHOTOS, a folder or a .txt list: pairs, features, verification, mapping."""
    from retrieval.reconstruction.reconstruction import reconstruct
    from retrieval.reconstruction.work import is_ours
    from sfm2tuples.errors import UsageError, counted

    refuse_idle_flags((NAMES_BELOW,))
    if resume and force:
        raise UsageError("--resume goes on and --force begins anew; give one of them")
    if is_ours(target) and not (resume or force):
        raise UsageError(f"{target}: exists already; --resume goes on with it, --force begins anew")
    try:
        summary = reconstruct(
            source, target, choice, options, images=images, device=device, jobs=jobs, resume=not force
        )
    except KeyboardInterrupt as interruption:
        # Not KeyboardInterrupt: click would turn it into an Abort of its own and lose the message.
        raise click.Abort("go on with the same command and --resume") from interruption
    _print_summary(summary, output)
    flag = "" if summary.photos_linked else f" --images {source}"
    output.made(
        target,
        f"{counted(len(summary.models), 'model')}, {summary.registered:,} of {counted(summary.photos, 'photo')}",
        f"sfm2tuples build-index {target} -o index.h5{flag}",
    )


def _print_summary(summary: ReconstructionSummary, output: Output) -> None:
    from dataclasses import asdict

    output.warn_of("photos could not be read", [Exception(message) for message in summary.unreadable])
    for line in summary.remade:
        output.say(f"made again: {line}")
    output.say(f"{summary.pairs:,} pairs of photos compared, {summary.verified_pairs:,} verified")
    shown = [(model.name, model.images, model.points, model.error) for model in summary.models[:SHOWN]]
    output.table(shown, ["model", "images", "points", "error (px)"])
    if len(summary.models) > SHOWN:
        output.say(f"… {len(summary.models) - SHOWN:,} smaller models")
    left = [
        (summary.crumbs, f"models with {summary.crumb_images:,} images in all: too few images or points"),
        (summary.twins, "models whose images are all in another model"),
        (summary.copies, "photos of the same bytes as another photo"),
    ]
    for count, what in left:
        if count:
            output.say(f"left out: {count:,} {what}")
    alone = f"{summary.alone:,} against none (unregistered.csv)"
    output.say(f"in no model: {summary.verified_only:,} photos that are verified against another, {alone}")
    output.say("; ".join(f"{step} {seconds:,.0f} s" for step, seconds in summary.seconds.items()))
    output.result(asdict(summary))
