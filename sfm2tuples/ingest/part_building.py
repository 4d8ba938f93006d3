"""Read all models into parts: with any number of workers, going on from what an interrupted build left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sfm2tuples.compute.dask_cluster import DASK_TIMEOUT, DaskCluster
from sfm2tuples.compute.worker_pools import LocalProcesses, ThisProcess, WorkerPool, run_jobs
from sfm2tuples.errors import DataError, ModelError
from sfm2tuples.ingest.jobs import (
    FoundModel,
    ModelJob,
    NothingToUseError,
    NoTracksError,
    Wanted,
    find_files,
    jobs_of,
    read_models,
    run_job,
    split_job,
)
from sfm2tuples.ingest.merging import StoredModel, stored_models
from sfm2tuples.ingest.part_files import Part, read_part
from sfm2tuples.parts.part_files import read_made_part
from sfm2tuples.parts.work_folder import read_whole_parts
from sfm2tuples.readers.discover import ModelLocation

log = logging.getLogger(__name__)

TrackMaker = Callable[[ModelLocation], ModelLocation]
"""Makes tracks for a model none of whose images share a point: the same model, its `tracks` set. A ModelError says in
one line why none come."""


@dataclass(frozen=True)
class Workers:
    """Who reads models, and what becomes of a model that cannot be read; the result is the same for any workers."""

    jobs: int = 1
    """Processes of this machine; 1: the process that builds."""
    dask: str | None = None
    """Address of a Dask scheduler, whose workers are used instead; they see models and target under the same paths."""
    dask_timeout: float = DASK_TIMEOUT
    """Seconds after which a cluster that has no workers is given up."""
    strict: bool = False
    """Stop at the first model that cannot be read, instead of leaving it out with a warning."""

    def start(self, num_jobs: int) -> WorkerPool:
        """Start as many as there are jobs for; `DaskCluster` says what it raises."""
        if self.dask is not None:
            return DaskCluster(self.dask, self.dask_timeout)
        jobs = min(self.jobs, num_jobs)
        return LocalProcesses(jobs) if jobs > 1 else ThisProcess()


@dataclass(frozen=True)
class Progress:
    """How far the reading is."""

    models: int
    """Models that are done."""
    all_models: int
    """Models that were found."""
    size: int
    """Bytes of the files of those that are done."""
    all_sizes: int
    """Bytes of the files of all."""


def build_parts(
    locations: Sequence[ModelLocation],
    folder: Path,
    wanted: Wanted,
    workers: Workers,
    progress: Callable[[Progress], None] | None = None,
    make_tracks: TrackMaker | None = None,
) -> tuple[list[StoredModel], list[str]]:
    """Read models and compute their graphs.

    Parameters
    ----------
    locations : sequence of ModelLocation
        In the order of their names.
    folder : Path
        Work folder; parts that lie there are used as far as their models have not changed.
    wanted : Wanted
    workers : Workers
    progress : callable, optional
        Called with how far the reading is.
    make_tracks : TrackMaker, optional
        Called, in this process, for each model without tracks, which is then read again; without it they are left out.

    Returns
    -------
    models : list of StoredModel
        In the order of their names.
    failed : list of str
        One line for each model that cannot be used, in the order of their names.

    Raises
    ------
    ModelError
        A model cannot be read, where `workers.strict` is set.
    DataError
        No model can be used (of the only one its own error), or the workers cannot be reached or cannot write.
    """
    if workers.dask is not None:
        locations = [replace(one, path=one.path.absolute(), root=one.root.absolute()) for one in locations]
    failed = _Failures(locations)
    stored, without = _read_all(locations, folder, wanted, workers, progress or (lambda _: None), failed)
    if without and make_tracks is not None:
        tracked = []
        for location in without:
            try:
                tracked.append(make_tracks(location))
            except ModelError as error:
                failed.note(location, error)
        without = {}
        if tracked:
            again, without = _read_all(tracked, folder, wanted, workers, lambda _: None, failed)
            stored |= again
    for location, why in without.items():
        failed.note(location, why)
    if not stored:
        raise failed.of_all()
    return [stored[location.name] for location in locations if location.name in stored], failed.lines()


class _Failures:
    """Why models cannot be used: each is said at once, but not that of the only model, which ends the build."""

    def __init__(self, locations: Sequence[ModelLocation]) -> None:
        self._locations = locations
        self._errors: dict[str, ModelError] = {}

    def note(self, location: ModelLocation, error: ModelError) -> None:
        """Keep why a model cannot be used."""
        self._errors[location.name] = error
        if len(self._locations) > 1:
            log.warning("%s", error)

    def lines(self) -> list[str]:
        """One line for each model that cannot be used, in the order of the models."""
        return [str(self._errors[one.name]) for one in self._locations if one.name in self._errors]

    def of_all(self) -> DataError:
        """What ends a build none of whose models can be used."""
        first = self._locations[0]
        error = self._errors[first.name]
        if len(self._locations) == 1:
            return error
        what = f"none of {len(self._locations)} models can be used"
        return DataError(first.called(first.root), what, f"the first: {error}")


def _read_all(
    locations: Sequence[ModelLocation],
    folder: Path,
    wanted: Wanted,
    workers: Workers,
    report: Callable[[Progress], None],
    failed: _Failures,
) -> tuple[dict[str, StoredModel], dict[ModelLocation, NoTracksError]]:
    """Read models: those that can be used by name, and those without tracks; the others are noted in `failed`."""
    found = [find_files(location, wanted) for location in locations]
    stored = _stored_before(found, folder)
    missing = [model for model in found if model.location.name not in stored]
    sizes = [model.size for model in found]
    done = Progress(len(stored), len(found), sum(sizes) - sum(model.size for model in missing), sum(sizes))
    without: dict[ModelLocation, NoTracksError] = {}
    report(done)
    for job, part, errors in _parts_of(jobs_of(missing, folder, wanted), workers):
        if part is not None:
            by_key = {model.key: model.location for model in job.models}
            stored.update((model.location.name, model) for model in _stored(part, by_key))
        for location, error in errors:
            if workers.strict and not isinstance(error, NothingToUseError):
                raise error
            if isinstance(error, NoTracksError):
                without[location] = error
            else:
                failed.note(location, error)
        done = replace(done, models=done.models + len(job.models), size=done.size + job.size)
        report(done)
    return stored, without


def _parts_of(
    jobs: Sequence[ModelJob], workers: Workers
) -> Iterator[tuple[ModelJob, Part | None, list[tuple[ModelLocation, ModelError]]]]:
    """Do the jobs: the part that each made, where a model of it could be read, and the errors of its other models."""
    if len(jobs) == 1 and workers.dask is None:
        # An interrupted build would have nothing to go on from, so the part need not become a file.
        part, errors = read_models(jobs[0])
        yield jobs[0], part, errors
        return
    if not jobs:
        return
    pool = workers.start(len(jobs))
    try:
        for job, result in run_jobs(jobs, run_job, pool, split_job):
            if result is None:
                location = job.models[0].location
                death = ModelError(location.called(), "the process that read it died, perhaps for want of memory")
                yield job, None, [(location, death)]
            else:
                read = len(result) < len(job.models)
                yield job, read_made_part(job.part, read_part, workers.dask) if read else None, result
    finally:
        pool.close()


def _stored_before(found: Sequence[FoundModel], folder: Path) -> dict[str, StoredModel]:
    """Models in the parts of an interrupted build that have not changed since, by their names."""
    by_key = {model.key: model.location for model in found}
    parts = read_whole_parts(folder, partial(read_part, check=True))
    return {model.location.name: model for part in parts for model in _stored(part, by_key)}


def _stored(part: Part, by_key: Mapping[str, ModelLocation]) -> list[StoredModel]:
    """Those of some models that a part holds as they are now."""
    return stored_models(part, [by_key.get(record.key) for record in part.models])
