"""`sfm2tuples extract-features`: photos to local features."""

from __future__ import annotations

from pathlib import Path

import click

from cli.options.idle_flags import NAMES_BELOW, refuse_idle_flags
from cli.options.paths import PhotoPath
from cli.options.target import target_option
from cli.output import Output, output_options
from sfm2tuples.errors import counted
from sfm2tuples.files.remote.address import AnyPath


@click.command("extract-features", epilog="Example: sfm2tuples extract-features photos/ -o features.h5")
@click.argument("source", type=PhotoPath())
@target_option()
@click.option("--images", type=PhotoPath(), help="folder that the names of a list or CSV start from")
@click.option("--image-size", type=click.IntRange(1), default=1024, show_default=True, help="longest side, pixels")
@click.option(
    "--max-features", type=click.IntRange(1), default=2048, show_default=True, help="most features of a photo"
)
@click.option("--first-octave", type=int, default=-1, show_default=True, help="first size; -1 is twice the photo's")
@click.option("--num-octaves", type=click.IntRange(1), default=4, show_default=True, help="sizes, each half the last")
@click.option("--peak-threshold", type=float, default=0.004, show_default=True, help="contrast that a feature needs")
@click.option("--affine-shape/--no-affine-shape", default=True, show_default=True, help="ellipses in place of circles")
@click.option("--domain-size-pooling", is_flag=True, help="average descriptors over sizes; three times as slow")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="processes that look for features")
@click.option("--strict", is_flag=True, help="stop where a photo cannot be read")
@output_options
def command(
    source: AnyPath,
    target: Path,
    images: AnyPath | None,
    image_size: int,
    jobs: int,
    strict: bool,
    output: Output,
    **sift: float,
) -> None:
    """Find RootSIFT features in the photos of SOURCE: a folder, a .txt list, a .csv of labels, an index or tuples."""
    from retrieval.local_features.feature_extraction import FeatureOptions, extract_features
    from retrieval.local_features.feature_files import write_features
    from retrieval.local_features.sift import SiftOptions
    from retrieval.photos.sources import photos_of

    refuse_idle_flags((NAMES_BELOW,))
    options = FeatureOptions(image_size, SiftOptions(**sift))  # type: ignore[arg-type]
    photos = photos_of(source, images, image_size)
    features, failures = extract_features(photos, options, jobs, strict)
    output.warn_of("photos could not be read and have no features", failures)
    write_features(target, features, [photos.parent] if photos.parent else [])
    count, total = len(features.names), len(features.descriptors)
    output.result({"photos": count, "features": total, "unreadable": len(failures)})
    output.made(
        target, f"{counted(total, 'feature')} of {counted(count, 'photo')}", f"sfm2tuples build-bow {target} -o bow.h5"
    )
