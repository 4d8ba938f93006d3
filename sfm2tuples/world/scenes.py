"""A place photographed: photos on disk and the models that a reconstruction of them would give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.world.cameras import Camera, draw_camera
from sfm2tuples.world.models import SceneModel, moved
from sfm2tuples.world.observations import Details, draw_details, observe
from sfm2tuples.world.photos import take_photo
from sfm2tuples.world.places import Place, make_place
from sfm2tuples.world.randomness import generator

DETAILS = 10000
"""Spots of a building that may become points."""
ENOUGH = 160
"""Details that a photo must show, else the photographer tries again ..."""
ATTEMPTS = 5
"""... so many times at most."""
PLACE, PHOTO, SPOTS = 1, 2, 3
"""Purposes of generators; `PLACE` is drawn in `places`."""


@dataclass(frozen=True)
class SceneTask:
    """One place to be photographed."""

    folder: Path
    """Of the world."""
    seed: int
    place: int
    photos: int
    size: tuple[int, int]
    """Width and height in pixels of a photo taken broadside."""
    split: bool
    """Two models in two scene folders that share some photos."""


def shared_photos(photos: int) -> int:
    """How many photos the two scenes of a split place have in common."""
    return max(2, photos * 3 // 10)


def photograph(task: SceneTask) -> list[SceneModel]:
    """Build a place, write its photos, and return what the models of its scenes hold."""
    place = make_place(task.seed, task.place)
    details = draw_details(generator(task.seed, SPOTS, task.place), place, DETAILS)
    photos, cameras, observed, xy = [], [], [], []
    for number in range(task.photos):
        photo, camera, rows, where = _best_attempt(task, place, details, number)
        photos.append(photo)
        cameras.append(camera)
        observed.append(rows)
        xy.append(where)
    models = []
    for scene, chosen in _scenes(task, place.name):
        names = _write_photos(task.folder / scene / "images", [photos[row] for row in chosen])
        model = SceneModel(
            task.folder / scene / "sparse" / "0",
            names,
            [cameras[row] for row in chosen],
            details.xyz,
            [observed[row] for row in chosen],
            [xy[row] for row in chosen],
        )
        model = _only_tracks(model)
        models.append(moved(model, 2.1, np.asarray([3.0, -4.0, 0.5]), 0.4) if scene.endswith("_b") else model)
    return models


def _best_attempt(
    task: SceneTask, place: Place, details: Details, number: int
) -> tuple[bytes, Camera, np.ndarray, np.ndarray]:
    """The first attempt at a photo that shows enough of the building, else the best of a few."""
    best: tuple[bytes, Camera, np.ndarray, np.ndarray] | None = None
    for attempt in range(ATTEMPTS):
        random = generator(task.seed, PHOTO, task.place, number, attempt)
        camera = draw_camera(random, place.extent, number, task.photos, task.size)
        photo, buffers = take_photo(random, place, camera)
        rows, where = observe(random, details, camera, buffers)
        if best is None or len(rows) > len(best[2]):
            best = (photo, camera, rows, where)
        if len(rows) >= ENOUGH:
            break
    if best is None:
        raise ValueError("no attempt was made")
    return best


def _scenes(task: SceneTask, name: str) -> list[tuple[str, list[int]]]:
    """Scene names and their photos; each scene of a split place has an arc around it, both have where they meet."""
    rows = list(range(task.photos))
    if not task.split:
        return [(name, rows)]
    first = (task.photos + shared_photos(task.photos)) // 2
    return [(f"{name}_a", rows[:first]), (f"{name}_b", rows[-first:])]


def _write_photos(folder: Path, photos: list[bytes]) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{number:04d}.jpg" for number in range(len(photos))]
    for name, photo in zip(names, photos, strict=True):
        with write_atomically(folder / name) as temporary:
            temporary.write_bytes(photo)
    return names


def _only_tracks(model: SceneModel) -> SceneModel:
    """Keep the points that two images observe, numbered anew."""
    seen = np.bincount(np.concatenate(model.observed), minlength=len(model.points))
    kept = seen >= 2
    row = np.cumsum(kept) - 1
    observed = [row[rows[kept[rows]]] for rows in model.observed]
    xy = [where[kept[rows]] for rows, where in zip(model.observed, model.xy, strict=True)]
    return SceneModel(model.folder, model.names, model.cameras, model.points[kept], observed, xy)
