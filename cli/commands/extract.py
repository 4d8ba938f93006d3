"""`sfm2tuples extract`: photos to descriptors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options.extraction import extraction_options
from cli.options.idle_flags import EXPONENT, NAMES_BELOW, refuse_idle_flags
from cli.options.network import network_options
from cli.options.paths import FilePath, PhotoPath
from cli.options.target import target_option
from cli.output import Output, output_options
from sfm2tuples.files.layouts import LAYOUTS

if TYPE_CHECKING:
    from retrieval.descriptors.extraction import ExtractionOptions
    from retrieval.networks.choice import NetworkChoice
    from sfm2tuples.files.remote.address import AnyPath


@click.command("extract", epilog="Example: sfm2tuples extract photos/ -o descriptors.h5 --network run/best.pt")
@click.argument("source", type=PhotoPath())
@target_option()
@click.option("--images", type=PhotoPath(), help="folder that the names of a list or CSV start from")
@network_options
@extraction_options
@click.option("--whitening", type=FilePath(), help="a whitening to apply, made by whiten")
@click.option("--dim", type=click.IntRange(1), help="keep the first dimensions of the whitening")
@click.option("--layout", type=click.Choice(LAYOUTS), default=LAYOUTS[0], show_default=True)
@click.option("--strict", is_flag=True, help="stop where a photo cannot be read")
@output_options
def command(
    source: AnyPath,
    target: Path,
    images: AnyPath | None,
    choice: NetworkChoice,
    extraction: ExtractionOptions,
    device: str | None,
    whitening: Path | None,
    dim: int | None,
    layout: str,
    strict: bool,
    output: Output,
) -> None:
    """Describe the photos of SOURCE: a folder, a .txt list, a .csv of labels, an index or a tuple file.

    A folder may lie elsewhere: s3://bucket/photos, gs://bucket/photos or https://host/photos.
    """
    from retrieval.descriptors.described_photos import describe_photos, mismatch_warning, whiten_descriptors
    from retrieval.networks.choice import load_on
    from retrieval.photos.origins import origins_of
    from retrieval.photos.sources import photos_of
    from retrieval.whitening.projection import check_applicable, read_whitening
    from sfm2tuples.errors import UsageError
    from sfm2tuples.files.descriptors import check_layout, require_room_for, write_descriptors

    refuse_idle_flags((EXPONENT, NAMES_BELOW))
    if dim is not None and whitening is None:
        raise UsageError("--dim keeps the first dimensions of a whitening; give --whitening too")
    learned = read_whitening(whitening) if whitening else None
    photos = photos_of(source, images, extraction.image_size)
    check_layout(target, photos.keys, layout)
    network = load_on(device, choice)
    if learned is not None:
        check_applicable(learned, network.dimension, dim)
    length = network.dimension if learned is None else min(learned.dim, dim or learned.dim)
    require_room_for(target, len(photos.keys), length, layout)
    descriptors, failures = describe_photos(network, photos, extraction)
    if failures and strict:
        raise failures[0]
    output.warn_of("photos could not be read and have no descriptor", failures)
    if learned is not None and whitening is not None:
        output.warn_if(mismatch_warning(whitening, learned, descriptors))
        descriptors = whiten_descriptors(descriptors, learned, dim)
    parents = [photos.parent, learned.fingerprint if learned else ""]
    write_descriptors(target, replace(descriptors, origins=origins_of(photos.origin)), layout, parents)
    count, length = descriptors.values.shape
    output.result({"photos": count, "dim": length, "unreadable": len(failures)})
    output.made(target, f"{count:,} descriptors of {length} dimensions")
