"""`sfm2tuples export`: tuples, graphs, networks and whitenings for other programs."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cli.options.paths import FilePath
from cli.output import Output, output_options
from sfm2tuples.errors import counted, told_of

if TYPE_CHECKING:
    from retrieval.networks.cirtorch_checkpoints import Whitenings

FLAGS = {
    "cirtorch": ("image_size", "whitening", "learned_on"),
    "pairs": ("num_matched", "names"),
    "graphml": ("place", "min_shared"),
    "whitening": ("learned_on", "scales"),
    "safetensors": ("whitening", "photo_size"),
    "onnx": ("whitening", "photo_size"),
}
"""By format: the flags that it has a use for."""
INDEX = "an index, which build-index writes"


@dataclass(frozen=True)
class _Request:
    """What to write, from which file, and by which flags."""

    source: Path
    target: Path
    kind: str
    force: bool
    image_size: int | None
    num_matched: int
    names: str
    place: tuple[str, ...]
    min_shared: int
    whitening: tuple[Path, ...]
    learned_on: str | None
    scales: str
    photo_size: str | None


@click.command("export", epilog="Example: sfm2tuples export --format cirtorch tuples.h5 -o train/retrieval-SfM-mine/")
@click.argument("source", metavar="FILE", type=FilePath())
@click.option("-o", "--output", "target", type=FilePath(), required=True, help="what to write")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FLAGS)),
    required=True,
    help="cirtorch: pickles and photos of a tuple file, or a network of a checkpoint; pairs: hloc's list, graphml: the "
    "graph, both of an index; whitening: a whitening file of a checkpoint of cirtorch or dirtorch; safetensors, onnx: "
    "a network of a checkpoint, or a retriever by name, its description beside it",
)
@click.option(
    "--image-size",
    type=click.IntRange(1),
    help="cirtorch: longest side of the photos, pixels  [default: the packed photos', else 1024]",
)
@click.option(
    "--num-matched",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="pairs: most neighbours of an image, those that share most points",
)
@click.option(
    "--names",
    type=click.Choice(["model", "key"]),
    default="model",
    show_default=True,
    help="pairs: call images by their names in COLMAP, or by the index's keys",
)
@click.option("--place", multiple=True, help="graphml: only images of this place; may be repeated")
@click.option(
    "--min-shared", type=click.IntRange(1), default=1, show_default=True, help="graphml: least shared points of an edge"
)
@click.option(
    "--whitening",
    multiple=True,
    type=FilePath(),
    help="cirtorch: a whitening file to put into the network's meta; two of them: a single scale's and several "
    "scales'; safetensors, onnx: one that becomes the network's last layer",
)
@click.option(
    "--learned-on",
    help="whitening: the data set it was learned on, where there are several; cirtorch: what its test is to call the "
    "whitening  [default: retrieval-SfM-120k]",
)
@click.option(
    "--scales",
    type=click.Choice(["ss", "ms"]),
    default="ss",
    show_default=True,
    help="whitening: that of a single scale (ss) or of several (ms)",
)
@click.option(
    "--photo-size",
    metavar="HEIGHTxWIDTH",
    help="safetensors, onnx: pixels that the network is to warp every photo to, or any  [default: the network's]",
)
@click.option("--force", is_flag=True, help="replace the output where it exists")
@output_options
def command(output: Output, **values: Any) -> None:
    """Write a tuple file or a network for other programs, an index as pairs for hloc or as a graph, or a whitening."""
    request = _Request(**values)
    _refuse_flags_of_other_formats(request.kind)
    write = {"cirtorch": _cirtorch, "pairs": _pairs, "graphml": _graphml, "whitening": _whitening}
    write |= {"safetensors": _safetensors, "onnx": _onnx}
    write[request.kind](request, output)


def _refuse_flags_of_other_formats(kind: str) -> None:
    context = click.get_current_context()
    for name in (name for flags in FLAGS.values() for name in flags if name not in FLAGS[kind]):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} means nothing for --format {kind}")


def _cirtorch(request: _Request, output: Output) -> None:
    # PyTorch writes zip archives; files of its first years are known by their suffix alone.
    if request.source.suffix in (".pt", ".pth") or zipfile.is_zipfile(request.source):
        _network(request, output)
    else:
        _tuples(request, output)


def _refuse_what_is_not_hdf5(request: _Request, wanted: str) -> None:
    """A checkpoint, say, is no HDF5 file; its own reader would say no more than that."""
    from sfm2tuples.errors import DataError
    from sfm2tuples.files.opening import is_hdf5

    if request.source.is_file() and not is_hdf5(request.source):
        remedy = f"--format {request.kind} takes {wanted}"
        raise DataError(request.source, "is neither an index nor a tuple file", remedy)


def _tuples(request: _Request, output: Output) -> None:
    from retrieval.tuple_files.cirtorch_export import cautions, check_cirtorch_target, export_cirtorch
    from sfm2tuples.interop.cirtorch_files import pickle_names

    _refuse_what_is_not_hdf5(request, "a tuple file, which mine-tuples writes, or a checkpoint")
    if request.whitening or request.learned_on:
        flag = "--whitening" if request.whitening else "--learned-on"
        raise click.UsageError(f"{flag} goes with a checkpoint's network, not with a tuple file")
    target = request.target
    check_cirtorch_target(target, request.force)
    export = export_cirtorch(request.source, target, request.image_size)
    output.warn_of("photos cannot be read and are left out", export.unreadable)
    if export.pairs_left_out:
        output.say(told_of(export.pairs_left_out, "pairs are left out for that"))
    if export.pairs_across:
        what = "pairs of a held-out walk and the images for training are left out: cirtorch's splits share no image"
        output.say(told_of(export.pairs_across, what))
    for line in cautions(target, export.splits):
        output.warn(line)
    counts = {name: {"images": len(part.cids), "pairs": len(part.qidxs)} for name, part in export.splits.items()}
    left_out = {"pairs_left_out": export.pairs_left_out, "pairs_across": export.pairs_across}
    output.result({"unreadable": len(export.unreadable), **left_out, **counts})
    output.made(
        target,
        f"{counts['train']['pairs']:,} training and {counts['val']['pairs']:,} validation pairs, "
        f"{sum(part['images'] for part in counts.values()):,} photos of at most {export.image_size} px",
        f"sfm2tuples import-tuples {target / pickle_names(target.absolute())[0]} -o tuples.h5, "
        "or train with cirtorch, whose data folder holds train/",
    )


def _network(request: _Request, output: Output) -> None:
    from retrieval.networks.choice import load_network
    from retrieval.networks.cirtorch_checkpoints import write_cirtorch_checkpoint
    from retrieval.photos.choices import STORED
    from sfm2tuples.files.atomic import refuse_overwrite

    if request.image_size is not None:
        raise click.UsageError("--image-size is of a tuple file's photos; a network has none")
    refuse_overwrite(request.target, request.force)
    network = load_network(request.source)
    whitenings = _whitenings_for_their_test(request, network.fingerprint(), output)
    write_cirtorch_checkpoint(request.target, network, whitenings)
    if network.upright != STORED:
        output.warn(
            f"{request.source} was trained on photos turned by their EXIF; cirtorch sees them as they are stored"
        )
    parts = f"{network.description.backbone} with {network.description.pooling}, {network.dimension} dimensions"
    output.result({"network": network.fingerprint(), "whitenings": list(whitenings)})
    whitened = "".join(f" --whitening {name}" for name in whitenings)
    output.made(request.target, parts, f"give it to cirtorch's test: --network-path {request.target}{whitened}")


def _whitenings_for_their_test(request: _Request, network: str, output: Output) -> Whitenings:
    """The whitening files under the name and for the scales that cirtorch's test looks for."""
    from retrieval.networks.cirtorch_checkpoints import THEIR_DATA_SETS, at_both_scales, scales_name
    from retrieval.whitening.projection import read_whitening

    if not request.whitening:
        if request.learned_on:
            raise click.UsageError("--learned-on names what --whitening gives; give a file with it")
        return {}
    learned = [read_whitening(path) for path in request.whitening]
    for path, whitening in zip(request.whitening, learned, strict=True):
        if whitening.settings.get("network") not in (None, network):
            output.warn(f"{path} was learned on the descriptors of another network")
    name = request.learned_on or THEIR_DATA_SETS[0]
    if name not in THEIR_DATA_SETS:
        output.warn(f"cirtorch's test takes --whitening {' or '.join(THEIR_DATA_SETS)} only, not {name}")
    if len(learned) == 1:
        have, lack = (
            ("several scales", "a single scale")
            if scales_name(learned[0]) == "ms"
            else ("a single scale", "several scales")
        )
        output.warn(f"{request.whitening[0]} was learned at {have} and serves {lack} too; add --whitening FILE for it")
    return {name: at_both_scales(learned)}


def _whitening(request: _Request, output: Output) -> None:
    from retrieval.networks.cirtorch_checkpoints import chosen_whitening
    from retrieval.networks.retrievers.dirtorch_checkpoints import read_checkpoint_with_whitenings
    from retrieval.whitening.projection import write_whitening
    from sfm2tuples.files.atomic import refuse_overwrite

    source, target = request.source, request.target
    refuse_overwrite(target, request.force)
    whitening = chosen_whitening(read_checkpoint_with_whitenings(source), source, request.learned_on, request.scales)
    write_whitening(target, whitening)
    output.result({"dim": whitening.dim, "settings": whitening.settings})
    step = f"sfm2tuples extract --network {source} --whitening {target} photos/ -o descriptors.h5"
    output.made(target, f"a whitening of {len(whitening.mean)} to {whitening.dim} dimensions", step)


def _pairs(request: _Request, output: Output) -> None:
    from sfm2tuples.files.atomic import refuse_overwrite
    from sfm2tuples.index.opened import open_index
    from sfm2tuples.interop.graph_export import write_neighbours

    _refuse_what_is_not_hdf5(request, INDEX)
    refuse_overwrite(request.target, request.force)
    with open_index(request.source) as index:
        pairs, images = write_neighbours(index, request.target, request.num_matched, request.names), index.num_images
    output.result({"pairs": pairs, "images": images})
    next_step = f"give it to hloc's match_features as pairs={request.target}"
    output.made(request.target, f"{counted(pairs, 'pair')} of {counted(images, 'image')}", next_step)


def _graphml(request: _Request, output: Output) -> None:
    from sfm2tuples.files.atomic import refuse_overwrite
    from sfm2tuples.index.opened import open_index
    from sfm2tuples.interop.graph_export import write_graphml

    _refuse_what_is_not_hdf5(request, INDEX)
    refuse_overwrite(request.target, request.force)
    with open_index(request.source) as index:
        nodes, edges = write_graphml(index, request.target, request.place, request.min_shared)
    output.result({"nodes": nodes, "edges": edges})
    next_step = "open it in Gephi, or with networkx.read_graphml"
    output.made(request.target, f"{counted(nodes, 'photo')} and {counted(edges, 'edge')}", next_step)


def _safetensors(request: _Request, output: Output) -> None:
    from retrieval.exporting.safetensors_files import check_safetensors_target, write_safetensors
    from retrieval.exporting.self_contained import description_of, network_to_export
    from retrieval.networks.exported_files import CONFIG, WEIGHTS

    check_safetensors_target(request.target, request.force)
    network = network_to_export(request.source, _one_whitening(request), request.photo_size)
    write_safetensors(request.target, network)
    output.result({"config": description_of(network)})
    next_step = f'safetensors.torch.load_file("{request.target / WEIGHTS}") reads the weights; see docs/export.md'
    output.made(request.target, f"{WEIGHTS} and {CONFIG}, {network.dimension:,} dimensions", next_step)


def _onnx(request: _Request, output: Output) -> None:
    from retrieval.exporting.onnx_files import check_packages, write_onnx
    from retrieval.exporting.self_contained import description_of, network_to_export
    from sfm2tuples.files.atomic import refuse_overwrite

    refuse_overwrite(request.target, request.force)
    check_packages()
    network = network_to_export(request.source, _one_whitening(request), request.photo_size)
    write_onnx(request.target, network)
    output.result({"config": description_of(network)})
    next_step = f'onnxruntime.InferenceSession("{request.target}") runs it; see docs/export.md'
    output.made(request.target, f"photos of any size to {network.dimension:,} dimensions", next_step)


def _one_whitening(request: _Request) -> Path | None:
    """The whitening that becomes a layer; a network has one at most."""
    if len(request.whitening) > 1:
        raise click.UsageError(f"--format {request.kind} takes one --whitening: a network has one last layer")
    return next(iter(request.whitening), None)
