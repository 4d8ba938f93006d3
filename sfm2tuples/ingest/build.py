"""Build an index: find and read models, compute their graphs, leave out twins, merge, write one file."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm2tuples.compute.dask_cluster import DASK_TIMEOUT
from sfm2tuples.compute.threads import default_threads
from sfm2tuples.errors import first_three
from sfm2tuples.files.remote.address import Address, AnyPath, any_elsewhere
from sfm2tuples.files.remote.reading import in_threads
from sfm2tuples.index.schema import Places, write_index
from sfm2tuples.ingest.jobs import Wanted
from sfm2tuples.ingest.merging import MergedIndex, PlaceChoices, StoredModel, merge_models
from sfm2tuples.ingest.mirror import LocalRoots, local_roots
from sfm2tuples.ingest.options import APART, GRAPH, IngestOptions
from sfm2tuples.ingest.part_building import Progress, TrackMaker, Workers, build_parts
from sfm2tuples.ingest.photo_hints import where_photos_may_be
from sfm2tuples.ingest.room_for_parts import require_room_for_parts
from sfm2tuples.parts.work_folder import work_folder
from sfm2tuples.places.places_file import read_places
from sfm2tuples.places.twins import TwinCandidate, find_twins
from sfm2tuples.places.verified_matches import GivenDatabase, MatchOptions, joins_by_matches
from sfm2tuples.readers.discover import ModelLocation, PhotoFolder, find_photo_root

if TYPE_CHECKING:
    # Relations load numba, which a build of many places whose workers read the models does not need.
    from sfm2tuples.ingest.one_site import InsideSummary, InsideTables

log = logging.getLogger(__name__)

FEW_PLACES = 6
"""Fewer places cannot give a tuple five negatives of other places: what their models prove is then computed unasked."""


@dataclass(frozen=True)
class IngestSummary:
    """What a build did, for people."""

    num_models: int
    """Models in the index."""
    num_images: int
    """Images of these models."""
    num_points: int
    """Points of these models."""
    num_edges: int
    """Pairs of images that share points."""
    places: Places
    """The places of the index."""
    model_place: np.ndarray
    """(num_models,) int64, row of each model's place."""
    failed: list[str]
    """One line for each model that could not be read, or that has no images."""
    twins: list[tuple[str, str]]
    """Each model that was left out, and the kept one that holds all its images."""
    missing: list[str]
    """Keys of the photos that were not found, cannot be opened or are empty."""
    contradictions: list[str]
    """Evidence that the places file overrules."""
    dropped: dict[str, int]
    """What a lenient reading left out, over all models: reason to count."""
    behind: int
    """Observations of points that are not in front of their camera, which the scale figures leave out."""
    without_focal_length: int
    """Images whose camera has no focal length: they have no scale figures."""
    inside: InsideSummary | None
    """What the models prove; None where the index does not say."""


def build_index(
    roots: Sequence[AnyPath],
    target: Path,
    options: IngestOptions,
    *,
    photo_roots: Sequence[PhotoFolder] = (),
    places: Path | None = None,
    databases: Sequence[GivenDatabase] = (),
    strict: bool = False,
    jobs: int = 1,
    dask: str | None = None,
    dask_timeout: float = DASK_TIMEOUT,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    make_tracks: TrackMaker | None = None,
) -> IngestSummary:
    """Build `index.h5` from all sparse models below the roots.

    Parameters
    ----------
    roots : sequence of Path or Address
        Folders to look in for models, here or elsewhere.
    target : Path
        The file to write; an existing one is replaced once the new one is whole.
    options : IngestOptions
    photo_roots : sequence of PhotoFolder
        Where to look for photos that lie in no `images/` near their model.
    places : Path, optional
        Places file, see `sfm2tuples.places.places_file.read_places`.
    databases : sequence of GivenDatabase
        COLMAP databases besides those that lie near the models; their verified matches join models.
    strict : bool
        Stop at the first model that cannot be read, instead of leaving it out with a warning.
    jobs : int
        Processes that read models; 1: this process, in threads. The file has the same bytes for any number.
    dask, dask_timeout
        As in `Workers`: a cluster whose workers read models instead.
    resume : bool
        Go on with what an interrupted build of this target left beside it, as far as the models have not changed.
    progress, make_tracks
        As in `build_parts`; `retrieval.reconstruction.triangulation` makes tracks.

    Raises
    ------
    DataError
        No model is found or can be read, the places file is off, the target is being built, no cluster or no room; a
        ModelError where one cannot be read and `strict` is set.
    """
    workers, wanted = Workers(jobs, dask, dask_timeout, strict), Wanted(options.min_shared, options.keep == GRAPH)
    with local_roots(roots) as local:
        locations = _models_to_read(local, target, options)
        listed = _listed_places(places, locations, local.roots)
        with work_folder(target, resume) as folder:
            models, failed = build_parts(locations, folder, wanted, workers, progress, make_tracks)
            models, twins = _without_twins(models, listed)
            folders = _folders_of_photos(models, photo_roots)
            merged = _merge(models, folders, listed, databases, options, strict)
            inside = _write(target, models, merged, options, bool(listed.split), max(jobs, default_threads()))
        hint = _hint(models, folders, photo_roots)
    return _warned_of(_summary(models, merged, failed, twins, inside), options, hint)


def _models_to_read(roots: LocalRoots, target: Path, options: IngestOptions) -> list[ModelLocation]:
    """The models below the roots in the order of their names; there is room for what will be made of them."""
    locations = sorted(roots.find_models(), key=lambda location: location.name)
    if options.keep != GRAPH:
        # How large a graph becomes, the models' files do not say.
        require_room_for_parts(locations, target)
    return locations


@dataclass(frozen=True)
class _PlacesByName:
    """What the places file says."""

    place: dict[str, str | None]
    """By name of the model: its place, or None."""
    split: dict[str, int]
    """Place to split, where the file fixes it."""


def _listed_places(places: Path | None, locations: Sequence[ModelLocation], roots: Sequence[Path]) -> _PlacesByName:
    """What the places file says of the models, or nothing where there is none."""
    names = [location.name for location in locations]
    if places is None:
        return _PlacesByName(dict.fromkeys(names), {})
    listed = read_places(places, [location.path for location in locations], roots)
    return _PlacesByName(dict(zip(names, listed.place, strict=True)), listed.split)


def _without_twins(
    models: Sequence[StoredModel], listed: _PlacesByName
) -> tuple[list[StoredModel], list[tuple[str, str]]]:
    """Leave out the models whose images are all in another one of the same scene folder."""
    twins = find_twins(
        [
            TwinCandidate(
                m.location.scene,
                m.location.path,
                m.image_names,
                listed.place[m.location.name] is not None,
                m.record.num_points,
            )
            for m in models
        ]
    )
    names = [(models[twin].location.name, models[kept].location.name) for twin, kept in sorted(twins.items())]
    return [m for row, m in enumerate(models) if row not in twins], names


def _merge(
    models: Sequence[StoredModel],
    folders: Sequence[AnyPath | None],
    listed: _PlacesByName,
    databases: Sequence[GivenDatabase],
    options: IngestOptions,
    strict: bool,
) -> MergedIndex:
    """Merge by what the places file, the options and COLMAP's databases say; `folders` have the models' photos."""
    photo_roots = [
        "" if folder is None else folder if isinstance(folder, Address) else os.path.abspath(folder)
        for folder in folders
    ]
    matches = joins_by_matches(
        [m.location for m in models],
        [m.image_names for m in models],
        [str(root) for root in photo_roots],
        databases,
        MatchOptions(options.min_matches, options.min_match_pairs),
        strict,
    )
    choices = PlaceChoices(
        listed=[listed.place[m.location.name] for m in models],
        fixed_split=listed.split,
        val_share=options.val_share if options.val_names is None else 0.0,
        seed=options.seed,
        matches=matches,
        join_scenes=options.join_scenes,
    )
    return merge_models(models, photo_roots, choices, options.keep == GRAPH)


def _write(
    target: Path, models: Sequence[StoredModel], merged: MergedIndex, options: IngestOptions, fixed: bool, threads: int
) -> InsideSummary | None:
    """Write the index, with what the models prove where that is wanted, which is summed up."""
    inside = _inside(models, merged, options, fixed, threads)
    tables = merged.tables if inside is None else {**merged.tables, **inside.columns()}
    write_index(target, tables, options.header(inside is not None), threads=threads)
    return None if inside is None else inside.summary


def _inside(
    models: Sequence[StoredModel], merged: MergedIndex, options: IngestOptions, fixed: bool, threads: int
) -> InsideTables | None:
    """What the models prove, where that or what needs it is asked for, or where there are few places with photos."""
    images, wanted = merged.images, options.inside
    if wanted is None:
        with_photos = len(np.unique(merged.grouping.place[images.model[images.has_photo]]))
        asked = options.val_names is not None or options.fragments == APART
        wanted = 0 < with_photos < FEW_PLACES or asked
    if not wanted:
        return None
    from sfm2tuples.ingest.one_site import inside_tables

    return inside_tables(models, merged, options, fixed, threads)


def _summary(
    models: Sequence[StoredModel],
    merged: MergedIndex,
    failed: list[str],
    twins: list[tuple[str, str]],
    inside: InsideSummary | None,
) -> IngestSummary:
    images = merged.images
    records = [model.record for model in models]
    dropped: Counter[str] = Counter()
    for record in records:
        dropped.update(record.dropped)
    return IngestSummary(
        num_models=len(models),
        num_images=len(images.key),
        num_points=sum(record.num_points for record in records),
        num_edges=sum(record.counts["edges"] for record in records) // 2,
        places=merged.places,
        model_place=merged.grouping.place,
        failed=failed,
        twins=twins,
        missing=[images.key[row] for row in np.flatnonzero(~images.has_photo).tolist()],
        contradictions=merged.grouping.contradictions,
        dropped=dict(dropped),
        behind=sum(record.behind for record in records),
        without_focal_length=sum(record.without_focal_length for record in records),
        inside=inside,
    )


def _folders_of_photos(models: Sequence[StoredModel], photo_folders: Sequence[PhotoFolder]) -> list[AnyPath | None]:
    """Where each model's photos lie; folders that the user names in vain, since none misses its photos, are logged."""

    def find(model: StoredModel) -> AnyPath | None:
        return find_photo_root(model.location, photo_folders, model.image_names)

    # Models whose photos may lie elsewhere wait for the network together.
    elsewhere = any_elsewhere(choice.folder for choice in photo_folders) or any(m.location.elsewhere for m in models)
    folders = list(in_threads(find, models) if elsewhere else map(find, models))
    unused = [str(choice.folder) for choice in photo_folders if choice.folder not in folders]
    if unused and None not in folders:
        what = "--images %s: no model takes its photos from there, since all lie in images/ near their models"
        log.warning(what, first_three(unused))
    return folders


def _hint(
    models: Sequence[StoredModel], folders: Sequence[AnyPath | None], photo_folders: Sequence[PhotoFolder]
) -> str:
    """Of the first model none of whose photos was found: what may be the cause, and what to do; "" where none is."""
    lost = (model for model, folder in zip(models, folders, strict=True) if folder is None)
    return next((where_photos_may_be(m.location, photo_folders, m.image_names[0]) for m in lost), "")


def _warned_of(summary: IngestSummary, options: IngestOptions, hint: str) -> IngestSummary:
    """Log one line for each kind of trouble, with its count; `hint` says where missing photos may be."""
    if options.min_shared > 1 and not summary.num_edges:
        log.warning("no two images share %d points: nothing can be mined; lower --min-shared", options.min_shared)
    missing = summary.missing
    if missing:
        said = f"{len(missing)} of {summary.num_images} photos are missing, first {first_three(missing)}"
        log.warning("%s%s", said, f"; {hint}" if hint else "")
    for reason, count in sorted(summary.dropped.items()):
        log.warning("left out while reading: %d x %s", count, reason)
    if summary.contradictions:
        count, first = len(summary.contradictions), first_three(summary.contradictions[:1])
        log.warning("%d joins overruled by the file of places, first: %s", count, first)
    return summary
