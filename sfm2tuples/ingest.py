"""Build an index: find and read models, compute their graphs, leave out twins, merge, write one file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from sfm2tuples.covisibility import covisibility
from sfm2tuples.errors import DataError, ModelError, UsageError, first_three
from sfm2tuples.index import Index, write_index
from sfm2tuples.merging import BuiltModel, PlaceChoices, merge_models
from sfm2tuples.places import ListedPlaces, read_places
from sfm2tuples.readers import read_model
from sfm2tuples.readers.discover import ModelLocation, PhotoFolder, find_models, find_photo_root
from sfm2tuples.twins import TwinCandidate, find_twins
from sfm2tuples.verified_matches import GivenDatabase, MatchOptions, joins_by_matches

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestOptions:
    """What changes the content of an index besides the models, the photos and the places file."""

    min_shared: int = 1
    """Pairs of images that share fewer points are left out of the graph."""
    val_share: float = 0.2
    """Share of the places that goes to validation."""
    seed: int = 0
    """Decides, with a place's name, whether it goes to validation."""
    join_scenes: bool = True
    """Whether models of one scene folder and photo root are one place."""
    min_matches: int = 30
    """Verified matches that a pair of images of two models needs to count for joining them; COLMAP's mapper wants
    as many to register an image."""
    min_match_pairs: int = 3
    """Such pairs of images that join two models."""

    def __post_init__(self) -> None:
        if self.min_shared < 1:
            raise UsageError(f"min-shared is {self.min_shared}; give 1 point or more")
        if not 0 <= self.val_share <= 1:
            raise UsageError(f"val-share is {self.val_share}; give a share from 0 to 1")
        for name in ("min_matches", "min_match_pairs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name)}; give 1 or more")


@dataclass(frozen=True)
class IngestSummary:
    """What a build did, for people."""

    index: Index
    """What was written; its header is None."""
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


def build_index(
    roots: Sequence[Path],
    target: Path,
    options: IngestOptions,
    *,
    photo_roots: Sequence[PhotoFolder] = (),
    places: Path | None = None,
    databases: Sequence[GivenDatabase] = (),
    strict: bool = False,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> IngestSummary:
    """Build `index.h5` from all sparse models below the roots.

    Parameters
    ----------
    roots : sequence of Path
        Folders to look in for models.
    target : Path
        The file to write; an existing one is replaced once the new one is whole.
    options : IngestOptions
    photo_roots : sequence of PhotoFolder
        Where to look for photos that lie in no `images/` near their model.
    places : Path, optional
        Places file, see `sfm2tuples.places.read_places`.
    databases : sequence of GivenDatabase
        COLMAP databases besides those that lie near the models; their verified matches join models.
    strict : bool
        Stop at the first model that cannot be read, instead of leaving it out with a warning.
    jobs : int
        Processes that read models; the file has the same bytes for any number.
    progress : callable, optional
        Called with the number of models done and the number of all.

    Returns
    -------
    IngestSummary

    Raises
    ------
    DataError
        A root holds no model, none could be read, or the places file is off.
    ModelError
        A model cannot be read, where `strict` is set.
    """
    locations = sorted(find_models(roots), key=lambda location: location.name)
    listed = _listed_places(places, locations, roots)
    place_of = dict(zip((location.name for location in locations), listed.place, strict=True))
    built, failed = _read_all(locations, options.min_shared, strict, jobs, progress)
    if not built:
        raise DataError(roots[0], f"none of {len(locations)} models can be used", f"the first: {failed[0]}")
    built, twins = _without_twins(built, place_of)
    found_roots = [find_photo_root(b.location, photo_roots, b.model.image_names) for b in built]
    choices = _place_choices(built, found_roots, place_of, listed, databases, options, strict)
    index, grouping = merge_models(built, found_roots, choices)
    write_index(target, index, asdict(options))
    summary = _summary(built, index, failed, twins, grouping.contradictions)
    _warn(summary)
    return summary


def _listed_places(places: Path | None, locations: Sequence[ModelLocation], roots: Sequence[Path]) -> ListedPlaces:
    """What the places file says of the models, or nothing where there is none."""
    if places is None:
        return ListedPlaces([None] * len(locations), {})
    return read_places(places, [location.path for location in locations], roots)


def _read_all(
    locations: Sequence[ModelLocation],
    min_shared: int,
    strict: bool,
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[BuiltModel], list[str]]:
    """Read every model and compute its graph; a fault is one warning, or stops the build."""
    built: list[BuiltModel] = []
    failed: list[str] = []
    for done, result in enumerate(_results(locations, min_shared, jobs), 1):
        if isinstance(result, BuiltModel):
            built.append(result)
        elif strict and not isinstance(result, _NoImagesError):
            raise result
        else:
            failed.append(str(result))
            log.warning("%s", result)
        if progress is not None:
            progress(done, len(locations))
    return built, failed


class _NoImagesError(ModelError):
    """A whole model that has nothing to use: left out even by a strict build."""


def _results(locations: Sequence[ModelLocation], min_shared: int, jobs: int) -> Iterator[BuiltModel | ModelError]:
    """One result for each location, in order, made here or in other processes."""
    if jobs <= 1 or len(locations) == 1:
        yield from (_build_model(location, min_shared) for location in locations)
        return
    executor = ProcessPoolExecutor(min(jobs, len(locations)), mp_context=get_context("spawn"))
    try:
        yield from executor.map(_build_model, locations, [min_shared] * len(locations))
    except BrokenProcessPool as error:
        raise DataError(
            locations[0].root, "a process that reads models died, perhaps for want of memory", "use fewer --jobs"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _build_model(location: ModelLocation, min_shared: int) -> BuiltModel | ModelError:
    """Read one model and compute its graph; the fault of a model is a result too."""
    try:
        model = read_model(location)
    except ModelError as error:
        return error
    if not model.image_names:
        return _NoImagesError(location.path, "the model has no images", "it is left out")
    return BuiltModel(location, model, covisibility(model, min_shared))


def _without_twins(
    built: Sequence[BuiltModel], place_of: dict[str, str | None]
) -> tuple[list[BuiltModel], list[tuple[str, str]]]:
    """Leave out the models whose images are all in another one of the same scene folder."""
    twins = find_twins(
        [
            TwinCandidate(
                b.location.scene,
                b.location.path,
                b.model.image_names,
                place_of[b.location.name] is not None,
                len(b.model.point_ids),
            )
            for b in built
        ]
    )
    names = [(built[twin].location.name, built[kept].location.name) for twin, kept in sorted(twins.items())]
    return [b for row, b in enumerate(built) if row not in twins], names


def _place_choices(
    built: Sequence[BuiltModel],
    photo_roots: Sequence[Path | None],
    place_of: dict[str, str | None],
    listed: ListedPlaces,
    databases: Sequence[GivenDatabase],
    options: IngestOptions,
    strict: bool,
) -> PlaceChoices:
    """What the places file, the options and COLMAP's databases say of the models."""
    matches = joins_by_matches(
        [b.location for b in built],
        [b.model.image_names for b in built],
        ["" if root is None else str(root) for root in photo_roots],
        databases,
        MatchOptions(options.min_matches, options.min_match_pairs),
        strict,
    )
    return PlaceChoices(
        listed=[place_of[b.location.name] for b in built],
        fixed_split=listed.split,
        val_share=options.val_share,
        seed=options.seed,
        matches=matches,
        join_scenes=options.join_scenes,
    )


def _summary(
    built: Sequence[BuiltModel],
    index: Index,
    failed: list[str],
    twins: list[tuple[str, str]],
    contradictions: list[str],
) -> IngestSummary:
    dropped: dict[str, int] = {}
    for b in built:
        for reason, count in b.model.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    there = index.images.has_photo.tolist()
    return IngestSummary(
        index=index,
        failed=failed,
        twins=twins,
        missing=[key for key, photo in zip(index.images.key, there, strict=True) if not photo],
        contradictions=contradictions,
        dropped=dropped,
        behind=sum(b.graph.behind for b in built),
        without_focal_length=sum(b.graph.without_focal_length for b in built),
    )


def _warn(summary: IngestSummary) -> None:
    """One line for each kind of trouble, with its count."""
    if summary.missing:
        total = len(summary.index.images.key)
        log.warning("%d of %d photos are missing, first %s", len(summary.missing), total, first_three(summary.missing))
    for reason, count in sorted(summary.dropped.items()):
        log.warning("left out while reading: %d x %s", count, reason)
    if summary.contradictions:
        log.warning("%d joins overruled, first %s", len(summary.contradictions), first_three(summary.contradictions))
