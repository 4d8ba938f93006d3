"""Jobs of a build: one model, or some tiny ones, read, their graphs computed, the result written as one part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm2tuples.errors import ModelError
from sfm2tuples.files.container import SOFTWARE
from sfm2tuples.readers.discover import ModelLocation
from sfm2tuples.readers.model_kinds import BINARY, KIND_OF

if TYPE_CHECKING:
    from sfm2tuples.ingest.part_files import Part
    from sfm2tuples.readers.sparse_model import SparseModel

GROUP_BYTES = 2 << 20
"""Small models are put into one job until their files have this many bytes."""
GROUP_MODELS = 250
"""A job has at most so many models, since the smallest model takes some time too."""


@dataclass(frozen=True)
class Wanted:
    """What a part has of each model."""

    min_shared: int = 1
    """Pairs of images that share fewer points are left out of the graph."""
    lean: bool = False
    """Points and observations are left out once the graph is made."""


@dataclass(frozen=True)
class FoundModel:
    """A model before it is read."""

    location: ModelLocation
    """Where it lies."""
    size: int
    """Bytes of its files."""
    key: str
    """Hash of all that decides the model's columns, as far as can be told without reading the files."""
    elsewhere: tuple[tuple[Path, int], ...] = ()
    """Of a model elsewhere its files, as paths in the mirror, with their bytes: a worker of another machine has no such
    mirror to look into."""


@dataclass(frozen=True)
class ModelJob:
    """Work for one worker."""

    models: tuple[FoundModel, ...]
    """Models to read, in the order of their names."""
    folder: Path
    """Where the part is written; an absolute path."""
    wanted: Wanted
    """What becomes of each model."""

    @property
    def size(self) -> int:
        """Bytes of its models' files."""
        return sum(model.size for model in self.models)

    @property
    def part(self) -> Path:
        """The file it writes; the same work has the same name."""
        content = hashlib.sha256("\n".join(model.key for model in self.models).encode())
        return self.folder / f"{content.hexdigest()[:32]}.part"


class NothingToUseError(ModelError):
    """A whole model that has no images, or poses alone: left out even by a strict build."""


class NoTracksError(NothingToUseError):
    """No two images of a whole model share a point; `--triangulate` can make some."""


def find_files(location: ModelLocation, wanted: Wanted) -> FoundModel:
    """Size of a model's files, and its key: path, kind, names, sizes and times of what is read, and what reads it."""
    kind = KIND_OF[location.kind]
    own = kind.sources(location.path)
    made = [] if location.tracks is None else KIND_OF[BINARY].sources(location.tracks)
    there = [(path, *stamp) for path in [*own, *made] if (stamp := _size_and_time(path)) is not None]
    files = [(path.name, size, time) for path, size, time in there]
    others = [] if location.elsewhere else kind.looked_at(location.path)
    looked_at = [(str(path), _size_and_time(path)) for path in others]
    made_from = (SOFTWARE, wanted, _place_of(location), location.kind, files, looked_at)
    key = hashlib.sha256(repr(made_from).encode("utf-8", "surrogateescape")).hexdigest()
    elsewhere = () if location.elsewhere is None else tuple((path, size) for path, size, _ in there if path in own)
    return FoundModel(location, sum(size for _, size, _ in files), key, elsewhere)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    """Size and time of a file; None where it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _place_of(location: ModelLocation) -> str:
    """Where a model lies, whatever folder this process is in."""
    return os.path.abspath(location.path) if location.elsewhere is None else location.called()


def jobs_of(models: Sequence[FoundModel], folder: Path, wanted: Wanted) -> list[ModelJob]:
    """Jobs for some models, the largest first, so that none is left running alone at the end.

    Parameters
    ----------
    models : sequence of FoundModel
        In the order of their names.
    folder : Path
        Where parts are written.
    wanted : Wanted
    """
    groups: list[list[FoundModel]] = [[]]
    size = 0
    for model in models:
        if groups[-1] and (size + model.size > GROUP_BYTES or len(groups[-1]) >= GROUP_MODELS):
            groups.append([])
            size = 0
        groups[-1].append(model)
        size += model.size
    jobs = [ModelJob(tuple(group), folder, wanted) for group in groups if group]
    return sorted(jobs, key=lambda job: -job.size)


def split_job(job: ModelJob) -> list[ModelJob]:
    """A job for each model; none where there is one model already."""
    return [replace(job, models=(model,)) for model in job.models] if len(job.models) > 1 else []


def run_job(job: ModelJob) -> list[tuple[ModelLocation, ModelError]]:
    """Do a job in whatever process this is: write its part, and return what models failed.

    Returns
    -------
    list of (model, error)

    Raises
    ------
    DataError
        The part cannot be written.
    """
    from sfm2tuples.ingest.part_files import write_part

    part, failed = read_models(job)
    if part is not None:
        write_part(job.part, part)
    return failed


def read_models(job: ModelJob) -> tuple[Part | None, list[tuple[ModelLocation, ModelError]]]:
    """Read a job's models and compute their graphs; no part where none can be read."""
    from sfm2tuples.covisibility.graph import covisibility
    from sfm2tuples.ingest.part_files import part_of

    made, failed = [], []
    for found in job.models:
        location = found.location
        try:
            model = _read(found)
            if not model.image_names:
                raise NothingToUseError(location.called(), "the model has no images", "it is of no use")
            graph = covisibility(model, job.wanted.min_shared)
            if not len(graph.neighbour):
                _check_shared(location.called(), model)
            made.append((location.name, found.key, model, graph))
        except ModelError as error:
            failed.append((location, error))
        except MemoryError:
            failed.append((location, ModelError(location.called(), "needs more memory than there is")))
    return part_of(made, job.wanted.lean) if made else None, failed


def read_again(location: ModelLocation, wanted: Wanted, key: str) -> SparseModel:
    """Read a model whose part is lean once more, for what needs its points.

    Parameters
    ----------
    location : ModelLocation
    wanted : Wanted
        By which its part was made.
    key : str
        What that was made from, as `FoundModel.key` says it.

    Raises
    ------
    ModelError
        The model's files were changed since, or can no longer be read.
    """
    found = find_files(location, wanted)
    if found.key != key:
        raise ModelError(
            location.called(), "was changed while the index was built", "run the same command with --resume"
        )
    return _read(found)


def _read(found: FoundModel) -> SparseModel:
    """Read a model; the files of one elsewhere are here meanwhile."""
    from sfm2tuples.readers.any_kind import read_model

    location = found.location
    if location.elsewhere is None:
        return read_model(location)
    with location.elsewhere.fetched(found.elsewhere, location.path) as path:
        return read_model(replace(location, path=path))


def _check_shared(path: str, model: SparseModel) -> None:
    """Refuse a model of poses alone, such as tools without tracks write: nothing says which images see the same."""
    from sfm2tuples.covisibility.shared_points import shared_points

    images = len(model.image_names)
    if images > 1 and not len(shared_points(model).neighbour):
        what = f"no two of its {images:,} images share a point, so nothing can be mined from it"
        raise NoTracksError(path, what, "build-index --triangulate finds points in its photos by its poses")
