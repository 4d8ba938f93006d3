"""`sfm2tuples extract`: photos to descriptors."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.options.cluster import cluster_options, parts_to_go_on_from
from cli.options.extraction import extraction_options
from cli.options.idle_flags import EXPONENT, NAMES_BELOW, Use, given, refuse_idle_flags
from cli.options.network import network_options
from cli.options.paths import FilePath, PhotoPath
from cli.options.target import target_option
from cli.output import Output, output_options
from sfm2tuples.errors import counted
from sfm2tuples.files.layouts import LAYOUTS

if TYPE_CHECKING:
    from retrieval.descriptors.extraction import ExtractionOptions
    from retrieval.descriptors.on_cluster import ClusterOptions
    from retrieval.networks.choice import NetworkChoice
    from retrieval.networks.network import Network
    from retrieval.photos.sources import PhotoSources
    from retrieval.whitening.projection import Whitening
    from sfm2tuples.errors import PhotoError
    from sfm2tuples.files.descriptors import Descriptors, DescriptorStream
    from sfm2tuples.files.remote.address import AnyPath

USES = (
    EXPONENT,
    NAMES_BELOW,
    Use(("dask_timeout", "resume"), "--dask", given("dask")),
)


@click.command("extract", epilog="Example: sfm2tuples extract photos/ -o descriptors.h5 --network run/best.pt")
@click.argument("source", type=PhotoPath())
@target_option()
@click.option("--images", type=PhotoPath(), help="folder that the names of a list or CSV start from")
@network_options
@extraction_options
@click.option("--whitening", type=FilePath(), help="a whitening to apply, made by whiten")
@click.option("--dim", type=click.IntRange(1), help="keep the first dimensions of the whitening")
@click.option("--layout", type=click.Choice(LAYOUTS), default=LAYOUTS[0], show_default=True)
@cluster_options("describe the photos, on one thread each,", "photos and output", "extraction to the same output")
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
    dask: str | None,
    dask_timeout: float,
    resume: bool,
    strict: bool,
    output: Output,
) -> None:
    """Describe the photos of SOURCE: a folder, a .txt list, a .csv of labels, an index or a tuple file.

    A folder may lie elsewhere: s3://bucket/photos, gs://bucket/photos or https://host/photos.
    """
    from retrieval.descriptors.on_cluster import ClusterOptions
    from retrieval.photos.sources import photos_of
    from retrieval.whitening.projection import check_applicable, read_whitening
    from sfm2tuples.errors import UsageError
    from sfm2tuples.files.descriptors import check_layout, require_room_for

    refuse_idle_flags(USES)
    if dim is not None and whitening is None:
        raise UsageError("--dim keeps the first dimensions of a whitening; give --whitening too")
    learned = read_whitening(whitening) if whitening else None
    photos = photos_of(source, images, extraction.image_size)
    check_layout(target, photos.keys, layout)
    network = _network(choice, device, dask)
    if learned is not None:
        check_applicable(learned, network.dimension, dim)
    length = network.dimension if learned is None else min(learned.dim, dim or learned.dim)
    require_room_for(target, len(photos.keys), length, layout)
    cluster = None if dask is None else ClusterOptions(dask, dask_timeout, device, resume)
    try:
        with _described(network, photos, extraction, target, cluster) as (descriptors, failures):
            if failures and strict:
                raise failures[0]
            output.warn_of("photos could not be read and have no descriptor", failures)
            if learned is not None and whitening is not None:
                descriptors = _whitened(descriptors, whitening, learned, dim, output)
            _write(target, descriptors, photos, layout, learned)
    except KeyboardInterrupt as interruption:
        if cluster is None:
            raise
        # Not KeyboardInterrupt: click would turn it into an Abort of its own and lose the message.
        raise click.Abort(parts_to_go_on_from(target) or "nothing was done yet") from interruption
    count, length = descriptors.values.shape
    output.result({"photos": count, "dim": length, "unreadable": len(failures)})
    output.made(target, f"{counted(count, 'descriptor')} of {counted(length, 'dimension')}")


def _network(choice: NetworkChoice, device: str | None, dask: str | None) -> Network:
    """The network, on its device; on the processor where the workers of a cluster run it."""
    from retrieval.networks.choice import load_chosen, load_on

    return load_on(device, choice) if dask is None else load_chosen(choice)


def _described(
    network: Network, photos: PhotoSources, options: ExtractionOptions, target: Path, cluster: ClusterOptions | None
) -> AbstractContextManager[tuple[Descriptors | DescriptorStream, list[PhotoError]]]:
    """The descriptors, and why photos have none: of this process, or of a cluster's workers."""
    from retrieval.descriptors.described_photos import describe_photos
    from retrieval.descriptors.on_cluster import described_on_cluster

    if cluster is None:
        return nullcontext(describe_photos(network, photos, options))
    return described_on_cluster(network, photos, options, target, cluster)


def _whitened(
    descriptors: Descriptors | DescriptorStream, path: Path, learned: Whitening, dim: int | None, output: Output
) -> Descriptors | DescriptorStream:
    """The descriptors whitened, with a warning where the whitening was learned on others."""
    from retrieval.descriptors.described_photos import mismatch_warning, whiten_descriptors, whiten_stream
    from sfm2tuples.files.descriptors import Descriptors

    output.warn_if(mismatch_warning(path, learned, descriptors))
    if isinstance(descriptors, Descriptors):
        return whiten_descriptors(descriptors, learned, dim)
    return whiten_stream(descriptors, learned, dim)


def _write(
    target: Path,
    descriptors: Descriptors | DescriptorStream,
    photos: PhotoSources,
    layout: str,
    learned: Whitening | None,
) -> None:
    from retrieval.photos.origins import origins_of
    from sfm2tuples.files.descriptors import write_descriptors

    parents = [photos.parent, learned.fingerprint if learned else ""]
    write_descriptors(target, replace(descriptors, origins=origins_of(photos.origin)), layout, parents)
