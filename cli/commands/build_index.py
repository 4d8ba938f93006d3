"""`sfm2tuples build-index`: sparse models to one index."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.options.cluster import cluster_options, parts_to_go_on_from
from cli.options.fields import field_options
from cli.options.paths import FilePath, PhotoPath
from cli.options.target import target_option
from cli.output import Output, output_options
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import UsageError, counted
from sfm2tuples.files.remote.address import AnyPath, any_elsewhere
from sfm2tuples.ingest.options import FRAGMENTS, KEPT, IngestOptions

if TYPE_CHECKING:
    from retrieval.reconstruction.triangulation import TrackMaker
    from sfm2tuples.ingest.build import IngestSummary
    from sfm2tuples.ingest.part_building import Progress
    from sfm2tuples.readers.discover import PhotoFolder

FLAGS: dict[str, tuple[Any, str]] = {
    "min_shared": (click.IntRange(1), "least shared points of a pair of images in the graph"),
    "val_share": (
        click.FloatRange(0, 1),
        "share of the places (with one place: of its images) that is kept for validation",
    ),
    "seed": (int, "seed of the draw of those places, and of the spots"),
    "join_scenes": (bool, "make one place of models that have one scene folder and one folder of photos"),
    "min_matches": (
        click.IntRange(1),
        "verified matches that a pair of images needs to speak for joining its two models",
    ),
    "min_match_pairs": (click.IntRange(1), "least number of such pairs that joins two models"),
    "inside": (
        bool,
        "say which images of one place cannot have seen the same (proven negatives), split places into spots, and hold "
        "out spots; by default where there are fewer than 6 places with photos",
    ),
    "fragments": (
        click.Choice(FRAGMENTS),
        "what two images in two models of one place are: unknown, or proven negatives because the models show "
        "different parts of the place",
    ),
    "val_names": (
        str,
        "hold out the images whose names or keys fit this pattern, such as 'day_2/*': a whole walk; by default a share "
        "of the spots or places",
    ),
    "keep": (
        click.Choice(KEPT),
        "what the index holds of the models: all, or the graph without points and observations, a small part of the "
        "bytes; all commands take it, but for evaluate --localise and figures and pictures of points",
    ),
}
SHOWN_TWINS = 20
"""Of many twins so many are named."""


def _refuse_database(context: click.Context, option: click.Parameter, database: Path | None) -> None:
    """Say what to run, before anything else of the request is looked at."""
    if database is not None:
        from sfm2tuples.readers.colmap_database import database_refusal

        raise database_refusal(database)


@click.command("build-index", epilog="Example: sfm2tuples build-index my_models/ -o index.h5 --places places.csv")
@click.argument("roots", nargs=-1, required=True, metavar="ROOT...", type=PhotoPath())
@target_option("the index to write")
@click.option(
    "--images",
    multiple=True,
    metavar="[ROOT=]DIR",
    help="folder of photos, here or at an address, for models without images/ beside them; may be repeated",
)
@click.option(
    "--places",
    type=FilePath(),
    help="CSV of model,place[,split] that says which models show the same thing; a path covers all models below it",
)
@click.option(
    "--database",
    "databases",
    multiple=True,
    metavar="[ROOT=]FILE",
    help="COLMAP database whose verified matches join models to places; each database.db near the models is read "
    "anyway; may be repeated",
)
@field_options(IngestOptions, FLAGS)
@click.option(
    "--triangulate",
    is_flag=True,
    help="make tracks for models none of whose images share a point, from their photos and poses, with pycolmap",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="processes that read models, and cores of --triangulate",
)
@cluster_options("read the models in place of --jobs", "models and index", "build of the same index")
@click.option("--strict", is_flag=True, help="stop at the first model that cannot be read")
@click.option(
    "--from-database",
    metavar="FILE",
    type=FilePath(),
    is_eager=True,
    expose_value=False,
    callback=_refuse_database,
    help="always refused, with what to run first: matches without a model have no 3D points",
)
@output_options
def command(
    roots: tuple[AnyPath, ...],
    target: Path,
    images: tuple[str, ...],
    databases: tuple[str, ...],
    options: IngestOptions,
    triangulate: bool,
    output: Output,
    **reading: Any,
) -> None:
    """Find and read the models below each ROOT; write their co-visibility graph, places and splits.

    A ROOT is a folder here or elsewhere: s3://bucket/models, gs://bucket/models or https://host/models.
    """
    from sfm2tuples.ingest.build import build_index
    from sfm2tuples.places.verified_matches import GivenDatabase
    from sfm2tuples.readers.discover import PhotoFolder

    photo_roots = [PhotoFolder.parse(text, roots) for text in images]
    given = [GivenDatabase.parse(text, roots) for text in databases]
    if triangulate and any_elsewhere([*roots, *(folder.folder for folder in photo_roots)]):
        raise UsageError("--triangulate reads models and photos of this machine alone; copy them first")
    maker = _track_maker(target, photo_roots, reading["jobs"]) if triangulate else None
    try:
        with _progress_bar(output) as progress:
            reading |= {"photo_roots": photo_roots, "databases": given, "make_tracks": maker}
            summary = build_index(roots, target, options, progress=progress, **reading)
    except KeyboardInterrupt as interruption:
        # Not KeyboardInterrupt: click would turn it into an Abort of its own and lose the message.
        raise click.Abort(_how_to_go_on(target)) from interruption
    if maker is not None:
        _say_tracks(maker, output)
        maker.forget_others()
    _print_summary(summary, output)
    next_step = f"sfm2tuples mine-tuples {target} -o tuples.h5"
    output.made(target, _counts(summary), next_step)


def _track_maker(target: Path, photo_folders: Sequence[PhotoFolder], jobs: int) -> TrackMaker:
    """What `--triangulate` asks for; without it nothing of pycolmap's or PyTorch's is loaded."""
    from retrieval.reconstruction.triangulation import TrackMaker

    return TrackMaker(target, photo_folders, jobs=jobs)


def _say_tracks(maker: TrackMaker, output: Output) -> None:
    """A row for each model that got tracks, and where they lie."""
    if not maker.made:
        output.say("--triangulate: every model has tracks, none were made")
        return
    rows = [
        (name, made.images, made.tracked, made.points, made.error, made.off, f"{made.verified:,} of {made.pairs:,}")
        for name, made in list(maker.made.items())[:SHOWN_TWINS]
    ]
    output.table(
        rows, ["tracks made", "images", "with points", "points", "error (px)", "poses off (px)", "pairs verified"]
    )
    for name, made in maker.made.items():
        if made.left_out:
            output.say(f"{name}: {counted(len(made.left_out), 'image without tracks')}, the first: {made.left_out[0]}")
    output.say(f"they are kept in {maker.folder} for the next build of this index")


@contextmanager
def _progress_bar(output: Output) -> Iterator[Callable[[Progress], None]]:
    """Show the bytes of models' files that are done, since models differ in size; the count of models beside."""
    options = {"unit": "B", "unit_scale": True, "file": sys.stderr, "leave": False}
    with ProgressBar(desc="read models", disable=output.quiet, **options) as bar:

        def show(progress: Progress) -> None:
            if bar.total is None:
                # What an interrupted build had done says nothing about the speed of this one.
                bar.initial = bar.n = progress.size
            bar.total = progress.all_sizes
            bar.set_postfix_str(f"{progress.models:,} of {progress.all_models:,} models", refresh=False)
            bar.update(progress.size - bar.n)

        yield show


def _how_to_go_on(target: Path) -> str:
    """What an interrupted build leaves."""
    parts = parts_to_go_on_from(target)
    if parts:
        return parts
    if target.absolute().with_name(f".{target.name}.tracks").is_dir():
        return "go on with the same command: tracks that were made, and features, are kept"
    return "nothing was done yet"


def _counts(summary: IngestSummary) -> str:
    return (
        f"{counted(summary.num_models, 'model')}, {counted(summary.num_images, 'image')}, "
        f"{counted(summary.num_points, 'point')}, {counted(summary.num_edges, 'edge')}"
    )


def _say_joined(summary: IngestSummary, output: Output) -> None:
    from sfm2tuples.places.grouping import reasons_of

    places, models = summary.places, Counter(summary.model_place.tolist())
    joined = {
        f"{places.name[row]}, {count:,} models": reasons_of(places.reason[row])
        for row, count in sorted(models.items())
        if count > 1
    }
    if joined:
        output.say("joined models (sfm2tuples inspect --all shows all):")
        output.outline(joined, ("joined places", "reasons"))


def _say_inside(summary: IngestSummary, output: Output) -> None:
    found = summary.inside
    if found is None:
        return
    pairs = f"{found.positive:,} positive, {found.proven:,} proven negative, {found.unknown:,} unknown"
    output.say(f"pairs inside places: {pairs}; {found.taking_part:,} of {summary.num_images:,} images take part")
    sides = f"{found.train:,} images for training, {found.val:,} for validation"
    buffer = f"; the buffer between them costs {100 * found.buffer_share:.1f} %" if found.buffer_share else ""
    output.say(f"{counted(found.spots, 'spot')}; {sides}{buffer}")


def _print_summary(summary: IngestSummary, output: Output) -> None:
    places = summary.places
    val = int(places.split.sum())
    for twin, kept in summary.twins[:SHOWN_TWINS]:
        output.say(f"left out {twin}: all its images are in {kept}")
    if len(summary.twins) > SHOWN_TWINS:
        output.say(f"left out {len(summary.twins) - SHOWN_TWINS:,} more whose images are all in another model")
    _say_joined(summary, output)
    output.say(f"{counted(len(places.name), 'place')}: {len(places.name) - val:,} for training, {val:,} for validation")
    _say_inside(summary, output)
    if summary.behind or summary.without_focal_length:
        output.say(
            f"without a scale figure: {summary.behind:,} observations behind their camera, "
            f"{summary.without_focal_length:,} images whose camera has no focal length"
        )
    output.result(
        {
            "models": summary.num_models,
            "images": summary.num_images,
            "points": summary.num_points,
            "edges": summary.num_edges,
            "places": dict(zip(places.name, places.split.tolist(), strict=True)),
            "failed": summary.failed,
            "twins": dict(summary.twins),
            "joined": {name: reason for name, reason in zip(places.name, places.reason, strict=True) if reason},
            "missing_photos": len(summary.missing),
            "contradictions": summary.contradictions,
            "dropped": summary.dropped,
            "observations_behind": summary.behind,
            "images_without_focal_length": summary.without_focal_length,
            "inside": None if summary.inside is None else vars(summary.inside),
        }
    )
