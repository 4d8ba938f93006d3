"""`sfm2tuples export`: tuples, graphs, networks and whitenings for other programs."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cli.output import Output, output_options

FLAGS = {
    "cirtorch": ("image_size", "whitening"),
    "pairs": ("num_matched", "names"),
    "graphml": ("place", "min_shared"),
    "whitening": ("learned_on", "scales"),
}
"""By format: the flags that it has a use for."""


@click.command("export", epilog="Example: sfm2tuples export --format cirtorch tuples.h5 -o train/retrieval-SfM-mine/")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), required=True, help="what to write")
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FLAGS)),
    required=True,
    help="cirtorch: pickles and photos of a tuple file, or a network of a checkpoint; pairs: hloc's list, graphml: the "
    "graph, both of an index; whitening: a whitening file of a cirtorch checkpoint",
)
@click.option(
    "--image-size",
    type=click.IntRange(1),
    help="cirtorch: longest side of the photos, pixels  [default: the packed photos', else 1024]",
)
@click.option(
    "--num-matched", type=click.IntRange(1), help="pairs: most neighbours of an image, by shared points  [default: 20]"
)
@click.option(
    "--names", type=click.Choice(["model", "key"]), help="pairs: COLMAP's names or the index's keys  [default: model]"
)
@click.option("--place", multiple=True, help="graphml: only images of this place; may be repeated")
@click.option("--min-shared", type=click.IntRange(1), help="graphml: least shared points of an edge  [default: 1]")
@click.option(
    "--whitening", type=click.Path(path_type=Path), help="cirtorch: a whitening file to put into the network's meta"
)
@click.option("--learned-on", help="whitening: the data set it was learned on, where there are several")
@click.option(
    "--scales", type=click.Choice(["ss", "ms"]), help="whitening: of a single scale or of several  [default: ss]"
)
@click.option("--force", is_flag=True, help="replace the output where it exists")
@output_options
def command(source: Path, target: Path, kind: str, force: bool, output: Output, **flags: Any) -> None:
    """Write a tuple file or a network for cirtorch, an index as pairs for hloc or as a graph, or a whitening."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    for name in given:
        if name not in FLAGS[kind]:
            raise click.UsageError(f"--{name.replace('_', '-')} means nothing for --format {kind}")
    write: dict[str, Callable[..., None]] = {
        "cirtorch": _network if _is_checkpoint(source) else _tuples,
        "pairs": _pairs,
        "graphml": _graphml,
        "whitening": _whitening,
    }
    if write[kind] not in (_network, _whitening):
        _refuse_other_files(source, kind)
    write[kind](source, target, force, output, **given)


def _is_checkpoint(source: Path) -> bool:
    """PyTorch writes zip archives; files of its first years are known by their suffix alone."""
    return source.suffix in (".pt", ".pth") or zipfile.is_zipfile(source)


def _refuse_other_files(source: Path, kind: str) -> None:
    """A checkpoint, say, is no HDF5 file; its own reader would say no more than that."""
    import h5py

    from sfm2tuples.errors import DataError

    tuples = "a tuple file, which mine-tuples writes, or a checkpoint"
    wanted = tuples if kind == "cirtorch" else "an index, which build-index writes"
    if source.is_file() and not h5py.is_hdf5(source):
        raise DataError(source, f"is neither an index nor a tuple file; --format {kind} takes {wanted}")


def _tuples(
    source: Path,
    target: Path,
    force: bool,
    output: Output,
    image_size: int | None = None,
    whitening: Path | None = None,
) -> None:
    if whitening is not None:
        raise click.UsageError("--whitening goes with a checkpoint's network, not with a tuple file")
    from retrieval.tuple_files.cirtorch_export import cautions, check_cirtorch_target, export_cirtorch
    from sfm2tuples.interop.cirtorch_files import pickle_names

    check_cirtorch_target(target, force)
    export = export_cirtorch(source, target, image_size)
    output.warn_of("photos cannot be read and are left out", export.unreadable)
    if export.pairs_left_out:
        output.say(f"{export.pairs_left_out:,} pairs are left out with them")
    for line in cautions(target, export.splits):
        output.warn(line)
    counts = {name: {"images": len(part.cids), "pairs": len(part.qidxs)} for name, part in export.splits.items()}
    output.result({"unreadable": len(export.unreadable), "pairs_left_out": export.pairs_left_out, **counts})
    output.made(
        target,
        f"{counts['train']['pairs']:,} training and {counts['val']['pairs']:,} validation pairs, "
        f"{sum(part['images'] for part in counts.values()):,} photos of at most {export.image_size} px",
        f"sfm2tuples import-tuples {target / pickle_names(target.absolute())[0]} -o tuples.h5, "
        "or train with cirtorch, whose data folder holds train/",
    )


def _network(
    source: Path,
    target: Path,
    force: bool,
    output: Output,
    image_size: int | None = None,
    whitening: Path | None = None,
) -> None:
    if image_size is not None:
        raise click.UsageError("--image-size is of a tuple file's photos; a network has none")
    from retrieval.networks.choice import load_any_network
    from retrieval.networks.cirtorch_checkpoints import scales_name, write_cirtorch_checkpoint
    from retrieval.whitening.projection import read_whitening
    from sfm2tuples.files.atomic import refuse_overwrite

    refuse_overwrite(target, force)
    network = load_any_network(source)
    whitenings = {}
    if whitening is not None:
        learned = read_whitening(whitening)
        if learned.settings.get("network") not in (None, network.fingerprint()):
            output.warn(f"{whitening} was learned on the descriptors of another network")
        whitenings = {whitening.stem: {scales_name(learned): learned}}
    write_cirtorch_checkpoint(target, network, whitenings)
    parts = f"{network.description.backbone} with {network.description.pooling}"
    output.result({"network": network.fingerprint(), "whitenings": list(whitenings)})
    output.made(target, f"{parts}, {network.dimension} dimensions", "give it to cirtorch's test as --network-path")


def _whitening(
    source: Path, target: Path, force: bool, output: Output, learned_on: str | None = None, scales: str = "ss"
) -> None:
    from retrieval.networks.cirtorch_checkpoints import chosen_whitening, read_cirtorch_checkpoint
    from retrieval.whitening.projection import write_whitening
    from sfm2tuples.files.atomic import refuse_overwrite

    refuse_overwrite(target, force)
    whitening = chosen_whitening(read_cirtorch_checkpoint(source), source, learned_on, scales)
    write_whitening(target, whitening)
    output.result({"dim": whitening.dim, "settings": whitening.settings})
    step = f"sfm2tuples extract --network {source} --whitening {target} photos/ -o descriptors.h5"
    output.made(target, f"a whitening of {len(whitening.mean)} to {whitening.dim} dimensions", step)


def _pairs(
    source: Path, target: Path, force: bool, output: Output, num_matched: int = 20, names: str = "model"
) -> None:
    from sfm2tuples.files.atomic import refuse_overwrite
    from sfm2tuples.index.schema import read_index
    from sfm2tuples.interop.graph_export import write_pairs

    refuse_overwrite(target, force)
    index = read_index(source)
    pairs = write_pairs(index, target, num_matched, names)
    output.result({"pairs": pairs, "images": len(index.images.key)})
    output.made(
        target,
        f"{pairs:,} pairs of {len(index.images.key):,} images",
        f"give it to hloc's match_features as pairs={target}",
    )


def _graphml(
    source: Path, target: Path, force: bool, output: Output, place: tuple[str, ...] = (), min_shared: int = 1
) -> None:
    from sfm2tuples.files.atomic import refuse_overwrite
    from sfm2tuples.index.schema import read_index
    from sfm2tuples.interop.graph_export import write_graphml

    refuse_overwrite(target, force)
    nodes, edges = write_graphml(read_index(source), target, place, min_shared)
    output.result({"nodes": nodes, "edges": edges})
    output.made(target, f"{nodes:,} photos and {edges:,} edges", "open it in Gephi, or with networkx.read_graphml")
