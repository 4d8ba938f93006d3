"""One photo: the rendered light through a lens, a sensor and a JPEG encoder."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sfm2tuples.world.cameras import Camera
from sfm2tuples.world.places import Place, draw_passing, upright_panels
from sfm2tuples.world.rendering import Buffers, rasterise, shade, sun_camera
from sfm2tuples.world.scenery import draw_light

SCALE = 2
"""Rays per pixel along each side."""


def take_photo(random: np.random.Generator, place: Place, camera: Camera) -> tuple[bytes, Buffers]:
    """Render a photo.

    Parameters
    ----------
    random : Generator
        Of this photo: light, passers-by, exposure.
    place : Place
        What is photographed.
    camera : Camera
        From where.

    Returns
    -------
    bytes
        JPEG.
    Buffers
        What each ray met, for the observations.
    """
    light = draw_light(random)
    standing = place.standing + draw_passing(random, place, camera)
    panels, shadows = place.panels, place.panels
    extras = upright_panels(standing, camera.centre)
    if extras is not None:
        panels = panels.joined(extras)
        shadows = shadows.joined(upright_panels(standing, sun_camera(light, place.radius).centre) or extras)
    buffers = rasterise(panels, place.texels, camera, SCALE)
    image = shade(panels, shadows, place.texels, camera, buffers, SCALE, light, place.sky, place.radius)
    high, wide = image.shape[0] // SCALE, image.shape[1] // SCALE
    image = image.reshape(high, SCALE, wide, SCALE, 3).mean(axis=(1, 3))
    return _encode(random, _develop(random, image, light.lamps > 0)), buffers


def _develop(random: np.random.Generator, image: np.ndarray, evening: bool) -> np.ndarray:
    """Exposure, white balance, tone curve, vignette, colour and noise: linear ``(h, w, 3)`` to ``uint8``."""
    middle = float(np.exp(np.log(image.mean(axis=2) + 0.02).mean()))
    aim = float(random.uniform(0.09, 0.14)) if evening else float(random.uniform(0.21, 0.3))
    exposed = image * (aim / middle) ** 0.8
    warm = float(random.normal(0, 0.045))
    exposed = exposed * np.asarray([1 + warm, 1 + random.normal(0, 0.02), 1 - warm], np.float32)
    high, wide = image.shape[:2]
    y, x = np.linspace(-1, 1, high)[:, None], np.linspace(-1, 1, wide)[None, :]
    exposed = exposed * (1 - float(random.uniform(0.02, 0.16)) * (x * x + y * y))[..., None]
    toned = np.clip(exposed * 1.25 / (1 + 0.45 * exposed), 0, 1) ** (1 / 2.2)
    contrast = float(random.uniform(0.98, 1.3))
    toned = 0.5 + (toned - 0.5) * contrast
    grey = toned.mean(axis=2, keepdims=True)
    toned = grey + (toned - grey) * (0.0 if random.random() < 0.015 else float(random.uniform(0.9, 1.3)))
    grain = float(random.uniform(0.003, 0.014)) * (1.8 if evening else 1.0)
    toned = toned + random.normal(0, grain, toned.shape).astype(np.float32)
    return (np.clip(toned, 0, 1) * 255 + 0.5).astype(np.uint8)


def _encode(random: np.random.Generator, pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=int(random.integers(78, 93)))
    return buffer.getvalue()
