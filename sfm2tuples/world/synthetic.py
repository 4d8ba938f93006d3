"""The built-in world: photos of invented buildings and exact COLMAP models of them, to try the whole road on."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sfm2tuples.errors import UsageError
from sfm2tuples.world.scenes import SceneModel, photograph, write_models


@dataclass(frozen=True)
class WorldSummary:
    """What `write_world` made."""

    folder: Path
    """Root for `build-index`."""
    places: int
    scenes: tuple[str, ...]
    """Names of the scene folders; the last place is split over two, `..._a` and `..._b`."""
    photos: int
    """Photo files; those that two scenes share count twice."""
    shared_photos: int
    """Photos with the same bytes in both scenes of the split place."""
    points: int
    observations: int


def write_world(
    folder: str | Path,
    *,
    places: int = 14,
    photos_per_place: int = 14,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    jobs: int = 2,
    progress: Callable[[int], None] | None = None,
) -> WorldSummary:
    """Write ``folder/<scene>/images/*.jpg`` and ``folder/<scene>/sparse/0`` for a few invented places.

    The last place is split over two scenes whose models share some photos, so that joining places has work to do.
    The same arguments give the same bytes, whatever `jobs` is.

    Parameters
    ----------
    folder : str or Path
        Made where it does not exist; must be empty.
    places, photos_per_place : int
        Buildings, at least 2, and photos of each, at least 6.
    size : (int, int)
        Width and height in pixels of a photo taken broadside; a quarter are taken upright.
    seed : int
        Of everything that is drawn, at least 0.
    jobs : int
        Processes that render.
    progress : callable, optional
        Called with the number of places done.

    Raises
    ------
    UsageError
        An argument is out of range, or the folder holds something already.
    """
    folder = Path(folder)
    _check(folder, places, photos_per_place, size, seed, jobs)
    folder.mkdir(parents=True, exist_ok=True)
    task = functools.partial(photograph, folder, seed, photos_per_place, size, places)
    context = multiprocessing.get_context("spawn")
    models: list[SceneModel] = []
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for done, scenes in enumerate(pool.map(task, range(places)), 1):
            models.extend(scenes)
            if progress:
                progress(done)
    # Pillow and pycolmap may abort together: the models are written by a process that has not rendered.
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(write_models, models).result()
    names = tuple(model.folder.name for model in models)
    photos, points = sum(len(model.shots) for model in models), sum(len(model.points) for model in models)
    observations = sum(len(shot.rows) for model in models for shot in model.shots)
    return WorldSummary(folder, places, names, photos, photos - places * photos_per_place, points, observations)


def _check(folder: Path, places: int, photos: int, size: tuple[int, int], seed: int, jobs: int) -> None:
    least = {"places": (places, 2), "photos_per_place": (photos, 6), "seed": (seed, 0), "jobs": (jobs, 1)}
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise UsageError(f"{name} is {value}; it must be at least {minimum}")
    if min(size) < 64 or max(size) > 4096:
        raise UsageError(f"size is {size[0]} x {size[1]}; each side must be 64 to 4096 pixels")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists already and is not an empty folder; give another one")
