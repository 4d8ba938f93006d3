"""Light and sky: the sun by day and season, clouds, and what stands on the horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.world.materials import noise

_AROUND = 1440
"""Columns of the horizon."""
_CLOUDS = 512
"""Side of the cloud table."""


@dataclass(frozen=True)
class Light:
    """The light of one photo, linear; 1 is a white wall in full sun."""

    direction: np.ndarray
    """(3,) unit vector to the sun."""
    sun: float
    sun_colour: np.ndarray
    sky_colour: np.ndarray
    """What faces up receives from the sky."""
    bounce_colour: np.ndarray
    """What faces down receives from the ground."""
    zenith: np.ndarray
    horizon: np.ndarray
    cloud: np.ndarray
    """Colour of the clouds."""
    cover: float
    """Share of the sky under clouds, 0..1."""
    haze: float
    """Metres at which two thirds are veiled."""
    haze_colour: np.ndarray
    lamps: float
    """How bright windows glow."""
    drift: np.ndarray
    """(2,) where the clouds are."""


_MOODS = {
    # sun, its colour, sky light, zenith, horizon, cloud, cover from-to, haze, lamps, elevation from-to in degrees
    "clear": (
        0.95,
        (1, 0.95, 0.86),
        (0.30, 0.36, 0.46),
        (0.10, 0.25, 0.58),
        (0.50, 0.66, 0.84),
        (0.95, 0.95, 0.95),
        (0.1, 0.5),
        900,
        0,
        (22, 60),
    ),
    "golden": (
        0.9,
        (1, 0.66, 0.36),
        (0.22, 0.22, 0.30),
        (0.16, 0.26, 0.50),
        (0.92, 0.64, 0.42),
        (1.0, 0.72, 0.52),
        (0.1, 0.5),
        500,
        0,
        (7, 18),
    ),
    "overcast": (
        0.0,
        (1, 1, 1),
        (0.62, 0.64, 0.68),
        (0.52, 0.56, 0.62),
        (0.78, 0.80, 0.82),
        (0.62, 0.64, 0.68),
        (0.7, 1.0),
        500,
        0,
        (40, 60),
    ),
    "hazy": (
        0.5,
        (1, 0.95, 0.88),
        (0.46, 0.48, 0.50),
        (0.42, 0.52, 0.66),
        (0.86, 0.86, 0.84),
        (0.9, 0.9, 0.9),
        (0.2, 0.7),
        170,
        0,
        (25, 55),
    ),
    "dusk": (
        0.0,
        (1, 1, 1),
        (0.09, 0.11, 0.19),
        (0.02, 0.04, 0.13),
        (0.30, 0.22, 0.26),
        (0.10, 0.09, 0.13),
        (0.2, 0.6),
        400,
        0.55,
        (30, 60),
    ),
}
_OFTEN = {"clear": 0.58, "golden": 0.09, "overcast": 0.26, "hazy": 0.04, "dusk": 0.03}


def draw_light(random: np.random.Generator) -> Light:
    """The light of one photo: mostly clear or overcast days, some haze, low sun and evenings."""
    mood = str(random.choice(list(_OFTEN), p=list(_OFTEN.values())))
    sun, sun_colour, sky_light, zenith, horizon, cloud, cover, haze, lamps, heights = _MOODS[mood]
    azimuth = float(random.normal(-np.pi / 2, 1.1))
    elevation = float(np.radians(random.uniform(*heights)))
    direction = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    vary = 1 + random.normal(0, 0.035, 3)
    sky_colour = np.asarray(sky_light) * vary
    return Light(
        direction=np.asarray(direction),
        sun=sun * float(random.uniform(0.85, 1.15)),
        sun_colour=np.asarray(sun_colour, np.float32),
        sky_colour=sky_colour.astype(np.float32),
        bounce_colour=(0.45 * sky_colour + 0.12 * sun * np.asarray(sun_colour) * direction[2]).astype(np.float32),
        zenith=(np.asarray(zenith) * vary).astype(np.float32),
        horizon=(np.asarray(horizon) * vary).astype(np.float32),
        cloud=np.asarray(cloud, np.float32),
        cover=float(random.uniform(*cover)),
        haze=haze * float(random.uniform(0.8, 1.3)),
        haze_colour=(0.8 * np.asarray(horizon)).astype(np.float32),
        lamps=lamps,
        drift=random.uniform(0, _CLOUDS, 2),
    )


@dataclass(frozen=True)
class Sky:
    """What rays meet that miss everything else: the horizon of a place, clouds, the open sky."""

    outline: np.ndarray
    """(_AROUND,) float32, how high the horizon's trees and roofs reach, as a tangent."""
    paint: np.ndarray
    """(_AROUND, 3) float32, their colour."""
    clouds: np.ndarray
    """(_CLOUDS, _CLOUDS) float32, density."""

    def colour(self, rays: np.ndarray, light: Light) -> np.ndarray:
        """Linear light ``(n, 3) float32`` that comes along rays ``(n, 3) float32``."""
        flat = np.hypot(rays[:, 0], rays[:, 1])
        slope = rays[:, 2] / np.maximum(flat, 1e-6)
        height = np.clip(slope / np.sqrt(1 + slope * slope), 0, 1)
        blend = np.sqrt(height)[:, None]
        colour = light.horizon * (1 - blend) + light.zenith * blend
        reach = 90 / np.maximum(slope + 0.12, 0.02) / np.maximum(flat, 1e-6)
        row = _mirrored(rays[:, 0] * reach + light.drift[0])
        column = _mirrored(rays[:, 1] * reach + light.drift[1])
        density = np.clip((self.clouds[row, column] + light.cover * 1.6 - 0.85) * 1.6, 0, 1)[:, None]
        shading = 0.82 + 0.18 * self.clouds[column, row][:, None]
        colour = colour * (1 - density) + density * light.cloud * shading
        around = ((np.arctan2(rays[:, 1], rays[:, 0]) / (2 * np.pi) + 0.5) * _AROUND).astype(np.int64) % _AROUND
        behind = slope < self.outline[around]
        ambient = light.sky_colour * 0.8 + 0.35 * light.sun * light.sun_colour
        veil = 1 - np.exp(-160 / light.haze)
        land = self.paint[around] * ambient * (1 - veil) + veil * light.haze_colour
        return np.where(behind[:, None], land, colour).astype(np.float32)


def _mirrored(position: np.ndarray) -> np.ndarray:
    """Row of the cloud table; it goes on as in a mirror, without a seam."""
    return np.abs(position.astype(np.int64) % (2 * _CLOUDS - 1) - (_CLOUDS - 1))


def draw_sky(random: np.random.Generator) -> Sky:
    """The horizon of a place, trees and some roofs, and its supply of clouds."""
    wood = noise(random, 2, _AROUND, 160, 5)[0]
    outline = 0.035 + 0.022 * wood
    paint = np.asarray([0.05, 0.075, 0.03], np.float32) * (1 + 0.35 * noise(random, 2, _AROUND, 10, 2)[0])[:, None]
    for _ in range(int(random.integers(10, 30))):
        width, start = int(random.integers(14, 40)), int(random.integers(_AROUND))
        columns = (start + np.arange(width)) % _AROUND
        gable = 1 - np.abs(np.linspace(-1, 1, width))
        outline[columns] = random.uniform(0.03, 0.06) + random.choice([0.0, 0.025]) * gable
        paint[columns] = random.choice([0.12, 0.2, 0.3]) * np.asarray([1, 0.85, 0.7], np.float32)
    clouds = noise(random, _CLOUDS, _CLOUDS, 128, 6)
    return Sky(outline.astype(np.float32), paint.astype(np.float32), clouds)
