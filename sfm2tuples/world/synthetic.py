"""The built-in world: photos of invented buildings and exact COLMAP models of them, to try the whole road on."""

from __future__ import annotations

import functools
import io
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sfm2tuples.errors import UsageError
from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.world.places import Place, draw_camera, draw_passing, make_place, upright_panels
from sfm2tuples.world.rendering import Buffers, Camera, draw_light, rasterise, shade, sun_camera
from sfm2tuples.world.solids import SHEET, SOLID, Texels

DETAILS, ENOUGH, ATTEMPTS = 10000, 160, 5
"""Spots of a building that may become points. A photographer whose photo shows too few tries again, some times."""
PLACE, PHOTO, SPOTS = 1, 2, 3
"""What is drawn. A generator is made of the seed, one of these and the item; the order of work changes nothing."""
SCALE, NOISE = 2, 0.3
"""Rays per pixel along each side; standard deviation of an observation in pixels, cut at twice that."""
SIZES, STEEP = (0.005, 0.15), 0.2
"""A detail is found where its image has this size, as a share of the photo's longest side, and the cosine between the
line of sight and its best direction is larger."""


@dataclass(frozen=True)
class WorldSummary:
    """What `write_world` made: a root for `build-index`.

    The last place is split over two scenes, `..._a` and `..._b`; photos that both have count twice among the `photos`,
    and once as `shared_photos`.
    """

    folder: Path
    places: int
    scenes: tuple[str, ...]
    photos: int
    shared_photos: int
    points: int
    observations: int


Details = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Where, (n, 3) metres; from where each looks best, (n, 3) unit vectors; sizes, (n,) metres; and (n,) probabilities to
be found in a good photo."""


class Shot(NamedTuple):
    """A photo, and which rows of the points it observes at which pixels, (m, 2)."""

    jpeg: bytes
    camera: Camera
    rows: np.ndarray
    xy: np.ndarray


class SceneModel(NamedTuple):
    """A scene's model that is to be written: its shots, whose JPEGs are on disk, and its points, (p, 3) float64."""

    folder: Path
    shots: list[Shot]
    points: np.ndarray


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
    places, photos_per_place, seed, jobs : int
        Buildings, at least 2; photos of each, at least 6; of everything that is drawn; processes that
        render, this one alone where it is 1.
    size : (int, int)
        Width and height in pixels of a photo taken broadside; a quarter are taken upright.
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
    task = functools.partial(_photograph, folder, seed, photos_per_place, size, places)
    context = multiprocessing.get_context("spawn")
    models: list[SceneModel] = []
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        photographed = pool.map(task, range(places)) if jobs > 1 else map(task, range(places))
        for done, scenes in enumerate(photographed, 1):
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
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder}: exists already and is not an empty folder; give another one")


def _photograph(
    folder: Path, seed: int, photos: int, size: tuple[int, int], places: int, number: int
) -> list[SceneModel]:
    """Build place `number` of a world, write its photos, and return what the models of its scenes hold.

    The last place is split into two scenes, each with an arc around the building; both have the photos where the arcs
    meet.
    """
    place = make_place(np.random.default_rng([seed, PLACE, number]), number)
    details = draw_details(np.random.default_rng([seed, SPOTS, number]), place.panels, place.texels)
    shots = [_shoot([seed, PHOTO, number, photo], place, details, photos, size) for photo in range(photos)]
    if number < places - 1:
        return [scene_model(folder / place.name, shots, details[0])]
    first = (photos + max(2, photos * 3 // 10)) // 2
    arcs = {"a": shots[:first], "b": shots[-first:]}
    return [scene_model(folder / f"{place.name}_{arc}", shown, details[0]) for arc, shown in arcs.items()]


def scene_model(folder: Path, shots: list[Shot], points: np.ndarray) -> SceneModel:
    """Write a scene's photos; its model has the points that two of them observe, numbered anew."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, shot in enumerate(shots):
        # A world is made again where it was cut short, so that no photo waits for the disk.
        with write_atomically(folder / "images" / _name(number), sync=False) as temporary:
            temporary.write_bytes(shot.jpeg)
    kept = np.bincount(np.concatenate([shot.rows for shot in shots]), minlength=len(points)) >= 2
    row = np.cumsum(kept) - 1
    seen = [Shot(b"", shot.camera, row[shot.rows[kept[shot.rows]]], shot.xy[kept[shot.rows]]) for shot in shots]
    return SceneModel(folder, seen, points[kept])


def _name(number: int) -> str:
    """File name of a photo of a scene."""
    return f"{number:04d}.jpg"


def _shoot(item: list[int], place: Place, details: Details, photos: int, size: tuple[int, int]) -> Shot:
    """The first attempt at a photo that shows enough of the building, else the best of a few."""
    shots: list[Shot] = []
    while len(shots) < ATTEMPTS and (not shots or len(shots[-1].rows) < ENOUGH):
        random = np.random.default_rng([*item, len(shots)])
        camera = draw_camera(random, place.extent, item[-1], photos, size)
        jpeg, buffers = _take_photo(random, place, camera)
        shots.append(Shot(jpeg, camera, *observe(random, details, camera, buffers)))
    return max(shots, key=lambda shot: len(shot.rows))


def _take_photo(random: np.random.Generator, place: Place, camera: Camera) -> tuple[bytes, Buffers]:
    """Render a photo in its own light, with its own passers-by: the JPEG, and what each ray met."""
    light, sun = draw_light(random), None
    standing = place.standing + draw_passing(random, place, camera)
    if light.sun.any():
        eye = sun_camera(light, place.extent)
        shadows = np.append(place.panels, upright_panels(standing, eye.centre))
        sun = (eye, rasterise(shadows, place.texels, eye, 1))
    panels = np.append(place.panels, upright_panels(standing, camera.centre))
    buffers = rasterise(panels, place.texels, camera, SCALE)
    image = shade(panels, place.texels, camera, buffers, light, place.sky, sun)
    even, odd = image[::SCALE], image[1::SCALE]
    image = (even[:, ::SCALE] + even[:, 1::SCALE] + odd[:, ::SCALE] + odd[:, 1::SCALE]) / SCALE**2
    jpeg = io.BytesIO()
    Image.fromarray(develop(random, image)).save(jpeg, "JPEG", quality=int(random.integers(78, 93)))
    return jpeg.getvalue(), buffers


def develop(random: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Exposure, white balance, vignette, tone curve, contrast, colour and noise: linear ``(h, w, 3)`` to ``uint8``."""
    middle = np.exp(np.log(image.mean(axis=2) + 0.02).mean())
    aim, warm = random.uniform(0.18, 0.32), random.normal(0, 0.045)
    balance = (aim / middle) ** 0.8 * np.asarray([1 + warm, 1 + random.normal(0, 0.02), 1 - warm])
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) ** 2 for side in image.shape[:2])
    vignette = 1 - np.float32(random.uniform(0.02, 0.16)) * (y[:, None] + x)
    exposed = image * balance.astype(np.float32) * vignette[..., None]
    toned = np.clip(exposed * 1.25 / (1 + 0.45 * exposed), 0, 1) ** np.float32(1 / 2.2)
    toned = 0.5 + (toned - 0.5) * np.float32(random.uniform(0.98, 1.3))
    grey = toned.mean(axis=2, keepdims=True)
    toned = grey + (toned - grey) * np.float32(0 if random.random() < 0.015 else random.uniform(0.9, 1.3))
    toned += random.standard_normal(toned.shape, np.float32) * np.float32(random.uniform(0.003, 0.014))
    return (np.clip(toned, 0, 1) * 255 + 0.5).astype(np.uint8)


def draw_details(random: np.random.Generator, panels: np.ndarray, texels: Texels, most: int = DETAILS) -> Details:
    """Sample at most so many details where textures of panels, (n,) PANEL, have corners and edges, by area."""
    count = most * 8
    area = np.where(panels["kind"] <= SHEET, panels["size"].prod(axis=1), 0.0)
    rows, shares = random.choice(len(area), size=count, p=area / area.sum()), random.uniform(0, 1, (count, 2))
    start, high, wide = texels.layout[panels["texture"][rows], 1].T
    line, column = ((1 - shares[:, 1]) * high).astype(int), (shares[:, 0] * wide).astype(int)
    here, right, above = (
        texels.texel[start + np.maximum(line - up, 0) * wide + np.minimum(column + aside, wide - 1)].astype(int)
        for up, aside in ((0, 0), (0, 1), (1, 0))
    )
    change = (abs(right - here)[:, :3].mean(axis=1) + 0.5) * (abs(above - here)[:, :3].mean(axis=1) + 0.5)
    kept = np.flatnonzero((here[:, 3] >= SOLID) & (change > random.exponential(60, count)))[:most]
    rows, along = rows[kept], panels["size"][rows[kept]] * shares[kept]
    xyz = panels["corner"][rows] + along[:, :1] * panels["right"][rows] + along[:, 1:] * panels["up"][rows]
    facing = np.cross(panels["right"], panels["up"])[rows]
    facing += random.normal(0, 0.45, facing.shape) * [1, 1, 0.5]
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    size = np.exp(random.uniform(np.log(0.06), np.log(0.9), len(rows)))
    return xyz, facing, size, random.beta(4, 1.5, len(rows))


def observe(
    random: np.random.Generator, details: Details, camera: Camera, buffers: Buffers
) -> tuple[np.ndarray, np.ndarray]:
    """Find details in a photo: which, ``(m,) int64``, and where, ``(m, 2) float64`` pixels."""
    (xyz, facing, size, ease), (wide, high), count = details, camera.size, len(details[0])
    luck, error = random.random(count), np.clip(random.normal(0, NOISE, (count, 2)), -2 * NOISE, 2 * NOISE)
    exact, depth = camera.project(xyz)
    xy = exact + error
    inside = (depth > 0.5) & ((exact >= 0) & (exact < [wide, high]) & (xy > 0) & (xy < [wide, high])).all(axis=1)
    column, line = (np.where(inside[:, None], exact, 0) * SCALE).astype(np.int64).T
    in_sight = inside & (1 / np.maximum(depth, 0.5) > buffers.inverse_depth[line, column] * 0.985)
    sight = camera.centre - xyz
    cosine = (sight * facing).sum(axis=1) / np.linalg.norm(sight, axis=1)
    share = size * camera.focal / np.maximum(depth, 0.5) / max(wide, high)
    chance = ease * np.clip((cosine - STEEP) / (0.7 - STEEP), 0, 1)
    rows = np.flatnonzero(in_sight & (share > SIZES[0]) & (share < SIZES[1]) & (luck < chance))
    return rows, xy[rows]


def write_models(models: list[SceneModel]) -> None:
    """Write models as COLMAP's binary files, each in coordinates of its own.

    Each image has its own camera, PINHOLE and SIMPLE_PINHOLE in turn.
    """
    import pycolmap

    for row, model in enumerate(models):
        reconstruction = pycolmap.Reconstruction()
        tracks: list[list] = [[] for _ in model.points]
        for number, (_, camera, observed, xy) in enumerate(model.shots, 1):
            kind, focal = ("SIMPLE_PINHOLE", [camera.focal]) if number % 2 else ("PINHOLE", [camera.focal] * 2)
            wide, high = camera.size
            intrinsics = {"model": kind, "width": wide, "height": high, "params": [*focal, wide / 2, high / 2]}
            reconstruction.add_camera_with_trivial_rig(pycolmap.Camera(camera_id=number, **intrinsics))
            image = pycolmap.Image(name=_name(number - 1), keypoints=xy, camera_id=number, image_id=number)
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(camera.rotation), -camera.rotation @ camera.centre)
            reconstruction.add_image_with_trivial_frame(image, pose)
            for place_in_image, point in enumerate(observed.tolist()):
                tracks[point].append(pycolmap.TrackElement(number, place_in_image))
        for xyz, track in zip(model.points, tracks, strict=True):
            reconstruction.add_point3D(xyz, pycolmap.Track(elements=track), np.full(3, 128, np.uint8))
        turn = pycolmap.Rotation3d(np.asarray([0.1, 0.2, 2.1]) * row)
        reconstruction.transform(pycolmap.Sim3d(1 / (1 + row), turn, [3.0 * row, -4.0, 0.5]))
        reconstruction.update_point_3d_errors()
        (model.folder / "sparse" / "0").mkdir(parents=True, exist_ok=True)
        reconstruction.write_binary(str(model.folder / "sparse" / "0"))
