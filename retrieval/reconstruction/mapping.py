"""Verified matches to models, by pycolmap's mapper in a process of its own, which can be stopped at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retrieval.reconstruction.apart import Apart, run_apart
from retrieval.reconstruction.model_files import sync_folder
from retrieval.reconstruction.options import GLOBAL, LEAST_IMAGES
from retrieval.reconstruction.progress import Report, told
from sfm2tuples.errors import DataError, ModelError, ReconstructionError
from sfm2tuples.places.twins import TwinCandidate, find_twins
from sfm2tuples.readers.colmap_binary import read

if TYPE_CHECKING:
    import pycolmap

MIN_OBSERVATIONS = 10
"""Points that an image of a model must see; the mappers leave some that see none."""


@dataclass(frozen=True)
class MappingJob:
    """What the mapper is given."""

    database: str
    photos: str
    """Folder of the photos: points get their colours."""
    names: list[str]
    """Photos that take part."""
    folder: str
    """Where the models are written to, as ``0``, ``1`` …, the largest first."""
    mapper: str
    min_images: int
    min_points: int
    seed: int
    threads: int


@dataclass(frozen=True)
class MappedModel:
    """What a mapper made of some photos."""

    images: list[str]
    """Names of the photos, in the order of their bytes."""
    points: int
    error: float
    """Mean reprojection error in pixels."""


@dataclass(frozen=True)
class Selection:
    """Which models are kept."""

    kept: list[int]
    """The largest first."""
    twins: list[int]
    """Models whose images are all in one that is kept."""
    crumbs: list[int]
    """Models of too few images or points."""


def select_models(models: Sequence[MappedModel], min_images: int, min_points: int) -> Selection:
    """Leave out twins and crumbs; every model is in one of the three lists."""
    scene = Path("/")
    candidates = [
        TwinCandidate(scene, scene / str(row), model.images, False, model.points) for row, model in enumerate(models)
    ]
    large = [row for row, m in enumerate(models) if len(m.images) >= min_images and m.points >= min_points]
    twins = {large[row] for row in find_twins([candidates[row] for row in large])}
    order = sorted(set(large) - twins, key=lambda row: (-len(models[row].images), -models[row].points, row))
    return Selection(order, sorted(twins), [row for row in range(len(models)) if row not in large])


def map_photos(job: MappingJob, report: Report | None) -> tuple[list[MappedModel], Selection]:
    """Run the mapper and write the models that are kept.

    Parameters
    ----------
    job : MappingJob
    report : Report or None
        Hears of ``mapping`` the photos that are in models so far.

    Raises
    ------
    ReconstructionError
        The mapper's process ended before it was done.
    """
    remedy = "try the other --mapper, or give more memory"
    called = Apart("pycolmap's mapper", job.database, remedy, ReconstructionError)
    with told("mapping", 0, len(job.names), "photo", report) as add:
        return run_apart(_map, job, called, add)


def _map(job: MappingJob, line: Connection) -> tuple[list[MappedModel], Selection]:
    import pycolmap

    pycolmap.logging.minloglevel = 3
    found = _global(job, line) if job.mapper == GLOBAL else _incremental(job, line)
    for model in found:
        _drop_unseen(model)
    models = [_mapped(model) for model in found]
    selection = select_models(models, job.min_images, job.min_points)
    for number, row in enumerate(selection.kept):
        _colour(found[row], job)
        write_whole(found[row], Path(job.folder) / str(number))
    return models, selection


def _global(job: MappingJob, line: Connection) -> list[pycolmap.Reconstruction]:
    """Models by the global mapper: rotations first, then all positions at once."""
    from pycolmap import Database, GlobalPipeline, GlobalPipelineCallback, GlobalPipelineOptions, ReconstructionManager

    options = GlobalPipelineOptions()
    options.image_names, options.min_model_size = job.names, LEAST_IMAGES
    for part in (options, options.mapper):
        part.num_threads, part.random_seed = job.threads, job.seed
    options.mapper.global_positioning.use_gpu = options.mapper.bundle_adjustment.ceres.use_gpu = False
    database, models = Database.open(job.database), ReconstructionManager()
    pipeline = GlobalPipeline(options, database, models)
    found = _run(pipeline, GlobalPipelineCallback.MODEL_UPDATE_CALLBACK, models, line)
    database.close()
    return found


def _incremental(job: MappingJob, line: Connection) -> list[pycolmap.Reconstruction]:
    """Models by the incremental mapper, one image after the other."""
    from pycolmap import Database, IncrementalPipeline, IncrementalPipelineOptions, ReconstructionManager
    from pycolmap import IncrementalPipelineCallback as Callback  # fmt: skip

    options = IncrementalPipelineOptions()
    options.image_names, options.min_model_size = job.names, LEAST_IMAGES
    options.num_threads, options.random_seed, options.extract_colors = job.threads, job.seed, False
    database, models = Database.open(job.database), ReconstructionManager()
    pipeline = IncrementalPipeline(options, database, models)
    found = _run(pipeline, Callback.NEXT_IMAGE_REG_CALLBACK, models, line)
    database.close()
    return found


def _run(
    pipeline: Any, callback: Any, models: pycolmap.ReconstructionManager, line: Connection
) -> list[pycolmap.Reconstruction]:
    """Models of a pipeline of either kind; at each callback it sends how many images are placed."""
    pipeline.add_callback(callback, lambda: line.send(_placed(models)))
    pipeline.run()
    return [models.get(row) for row in range(models.size())]


def _placed(models: pycolmap.ReconstructionManager) -> int:
    return sum(models.get(row).num_reg_images() for row in range(models.size()))


def _drop_unseen(model: pycolmap.Reconstruction) -> None:
    """Take images that see next to nothing out of a model."""
    for number in model.reg_image_ids():
        image = model.image(number)
        if image.num_points3D < MIN_OBSERVATIONS:
            model.deregister_frame(image.frame_id)


def _mapped(model: pycolmap.Reconstruction) -> MappedModel:
    names = sorted(model.image(number).name for number in model.reg_image_ids())
    return MappedModel(names, model.num_points3D(), float(model.compute_mean_reprojection_error()))


def write_whole(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write a model's files and read them back, since pycolmap takes no notice of a disk that is full.

    Raises
    ------
    DataError
        They are not whole.
    """
    folder.mkdir()
    model.write_binary(str(folder))
    try:
        written = read(folder)
        is_whole = (len(written.image_names), len(written.points)) == (model.num_reg_images(), model.num_points3D())
    except ModelError:
        is_whole = False
    if not is_whole:
        raise DataError(folder, "is not written whole", "make room on the disk, then go on")
    sync_folder(folder)


def _colour(model: pycolmap.Reconstruction, job: MappingJob) -> None:
    """Colour the points, where pycolmap reads the photos: it knows fewer formats than we do."""
    try:
        model.extract_colors_for_all_images(job.photos, job.threads)
    except (RuntimeError, ValueError):
        return
