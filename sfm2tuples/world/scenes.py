"""A place photographed: photos on disk, and the models that a reconstruction of them would give."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.world.cameras import Camera, draw_camera
from sfm2tuples.world.observations import Details, draw_details, observe
from sfm2tuples.world.places import Place, draw_passing, make_place, upright_panels
from sfm2tuples.world.rendering import Buffers, rasterise, shade, sun_camera
from sfm2tuples.world.weather import draw_light

DETAILS = 10000
"""Spots of a building that may become points."""
ENOUGH = 160
"""Details that a photo must show, else the photographer tries again ..."""
ATTEMPTS = 5
"""... so many times at most."""
PLACE, PHOTO, SPOTS = 1, 2, 3
"""What is drawn. A generator is made of the seed, one of these and the item; the order of work changes nothing."""
SCALE = 2
"""Rays per pixel along each side."""


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


def photo_file(row: int) -> str:
    """File name of a scene's photo."""
    return f"{row:04d}.jpg"


def photograph(
    folder: Path, seed: int, photos: int, size: tuple[int, int], places: int, number: int
) -> list[SceneModel]:
    """Build place `number` of a world, write its photos, and return what the models of its scenes hold.

    The last place is split into two scenes, each with an arc around the building; both have the photos where the arcs
    meet.
    """
    place = make_place(np.random.default_rng([seed, PLACE, number]), number)
    details = draw_details(np.random.default_rng([seed, SPOTS, number]), place, DETAILS)
    shots = [_shoot([seed, PHOTO, number, photo], place, details, photos, size) for photo in range(photos)]
    if number < places - 1:
        return [_scene(folder / place.name, shots, details.xyz)]
    first = (photos + max(2, photos * 3 // 10)) // 2
    other = _scene(folder / f"{place.name}_b", shots[-first:], details.xyz)
    return [_scene(folder / f"{place.name}_a", shots[:first], details.xyz), _moved(other)]


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
        eye = sun_camera(light, place.radius)
        shadows = np.append(place.panels, upright_panels(standing, eye.centre))
        sun = (eye, rasterise(shadows, place.texels, eye, 1))
    panels = np.append(place.panels, upright_panels(standing, camera.centre))
    buffers = rasterise(panels, place.texels, camera, SCALE)
    image = shade(panels, place.texels, camera, buffers, light, place.sky, sun)
    even, odd = image[::SCALE], image[1::SCALE]
    image = (even[:, ::SCALE] + even[:, 1::SCALE] + odd[:, ::SCALE] + odd[:, 1::SCALE]) / SCALE**2
    jpeg = io.BytesIO()
    Image.fromarray(_develop(random, image, light.evening)).save(jpeg, "JPEG", quality=int(random.integers(78, 93)))
    return jpeg.getvalue(), buffers


def _develop(random: np.random.Generator, image: np.ndarray, evening: bool) -> np.ndarray:
    """Exposure, white balance, vignette, tone curve, contrast, colour and noise: linear ``(h, w, 3)`` to ``uint8``."""
    middle = np.exp(np.log(image.mean(axis=2) + 0.02).mean())
    aim = random.uniform(0.09, 0.14) if evening else random.uniform(0.21, 0.3)
    warm = random.normal(0, 0.045)
    balance = (aim / middle) ** 0.8 * np.asarray([1 + warm, 1 + random.normal(0, 0.02), 1 - warm])
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) ** 2 for side in image.shape[:2])
    vignette = 1 - np.float32(random.uniform(0.02, 0.16)) * (y[:, None] + x)
    exposed = image * balance.astype(np.float32) * vignette[..., None]
    toned = np.clip(exposed * 1.25 / (1 + 0.45 * exposed), 0, 1) ** np.float32(1 / 2.2)
    toned = 0.5 + (toned - 0.5) * np.float32(random.uniform(0.98, 1.3))
    grey = toned.mean(axis=2, keepdims=True)
    toned = grey + (toned - grey) * np.float32(0 if random.random() < 0.015 else random.uniform(0.9, 1.3))
    grain = random.uniform(0.003, 0.014) * (1.8 if evening else 1.0)
    toned += random.standard_normal(toned.shape, np.float32) * np.float32(grain)
    return (np.clip(toned, 0, 1) * 255 + 0.5).astype(np.uint8)


def _scene(folder: Path, shots: list[Shot], points: np.ndarray) -> SceneModel:
    """Write a scene's photos; its model has the points that two of them observe, numbered anew."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, shot in enumerate(shots):
        with write_atomically(folder / "images" / photo_file(number)) as temporary:
            temporary.write_bytes(shot.jpeg)
    kept = np.bincount(np.concatenate([shot.rows for shot in shots]), minlength=len(points)) >= 2
    row = np.cumsum(kept) - 1
    seen = [Shot(b"", shot.camera, row[shot.rows[kept[shot.rows]]], shot.xy[kept[shot.rows]]) for shot in shots]
    return SceneModel(folder, seen, points[kept])


def _moved(model: SceneModel) -> SceneModel:
    """The same model in another frame of coordinates, as a second reconstruction has it."""
    cosine, sine, shift, scale = np.cos(2.1), np.sin(2.1), np.asarray([3.0, -4.0, 0.5]), 0.4
    turn = np.asarray([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    shots = []
    for shot in model.shots:
        rotation, centre = shot.camera.rotation @ turn.T, scale * turn @ shot.camera.centre + shift
        shots.append(shot._replace(camera=replace(shot.camera, rotation=rotation, centre=centre)))
    return model._replace(shots=shots, points=scale * model.points @ turn.T + shift)


def write_models(models: list[SceneModel]) -> None:
    """Write models as COLMAP's binary files; each image has its own camera, PINHOLE and SIMPLE_PINHOLE in turn."""
    import pycolmap

    for model in models:
        reconstruction = pycolmap.Reconstruction()
        tracks: list[list] = [[] for _ in model.points]
        for number, (_, camera, observed, xy) in enumerate(model.shots, 1):
            kind, focal = ("SIMPLE_PINHOLE", [camera.focal]) if number % 2 else ("PINHOLE", [camera.focal] * 2)
            wide, high = camera.size
            intrinsics = {"model": kind, "width": wide, "height": high, "params": [*focal, wide / 2, high / 2]}
            reconstruction.add_camera_with_trivial_rig(pycolmap.Camera(camera_id=number, **intrinsics))
            name = photo_file(number - 1)
            image = pycolmap.Image(name=name, keypoints=xy, camera_id=number, image_id=number)
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(camera.rotation), -camera.rotation @ camera.centre)
            reconstruction.add_image_with_trivial_frame(image, pose)
            for place_in_image, point in enumerate(observed.tolist()):
                tracks[point].append(pycolmap.TrackElement(number, place_in_image))
        for xyz, track in zip(model.points, tracks, strict=True):
            reconstruction.add_point3D(xyz, pycolmap.Track(elements=track), np.full(3, 128, np.uint8))
        reconstruction.update_point_3d_errors()
        (model.folder / "sparse" / "0").mkdir(parents=True, exist_ok=True)
        reconstruction.write_binary(str(model.folder / "sparse" / "0"))
