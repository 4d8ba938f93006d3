"""Light and sky: the sun by day and season, clouds, and what stands on the horizon."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.world.styles import pick
from sfm2tuples.world.textures import noise

AROUND = 1440
"""Columns of the horizon."""
CLOUDS = 512
"""Side of the cloud table."""
OFTEN = (0.58, 0.26, 0.09, 0.04, 0.03)
"""Shares of clear and overcast days, of low sun, haze and evenings. The rows below are in the same order."""
SUN = ((0.95, 0.9, 0.82), (0, 0, 0), (0.9, 0.59, 0.32), (0.5, 0.475, 0.44), (0, 0, 0))
SKY = ((0.3, 0.36, 0.46), (0.62, 0.64, 0.68), (0.22, 0.22, 0.3), (0.46, 0.48, 0.5), (0.09, 0.11, 0.19))
ZENITH = ((0.1, 0.25, 0.58), (0.52, 0.56, 0.62), (0.16, 0.26, 0.5), (0.42, 0.52, 0.66), (0.02, 0.04, 0.13))
HORIZON = ((0.5, 0.66, 0.84), (0.78, 0.8, 0.82), (0.92, 0.64, 0.42), (0.86, 0.86, 0.84), (0.3, 0.22, 0.26))
CLOUD = ((0.95, 0.95, 0.95), (0.62, 0.64, 0.68), (1, 0.72, 0.52), (0.9, 0.9, 0.9), (0.1, 0.09, 0.13))
COVER = ((0.1, 0.5), (0.7, 1.0), (0.1, 0.5), (0.2, 0.7), (0.2, 0.6))
HAZE = (900, 500, 500, 170, 400)
ELEVATION = ((22, 60), (40, 60), (7, 18), (25, 55), (30, 60))


@dataclass(frozen=True)
class Light:
    """The light of one photo; colours (3,) float32, linear, 1 is a white wall in full sun.

    What faces up receives that of the `sky`, what faces down `bounce` from the ground. `direction`, a unit vector, is
    to the sun, whose colour is 0 under clouds. Of the sky a share of `cover` is under clouds, which `drift`. At `haze`
    metres two thirds are veiled. In the evening windows glow.
    """

    direction: np.ndarray
    sun: np.ndarray
    sky: np.ndarray
    bounce: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    cloud: np.ndarray
    cover: float
    haze: float
    evening: bool
    drift: np.ndarray


def draw_light(random: np.random.Generator) -> Light:
    """The light of one photo."""
    mood = int(random.choice(len(OFTEN), p=OFTEN))
    azimuth, elevation = random.normal(-np.pi / 2, 1.1), np.radians(random.uniform(*ELEVATION[mood]))
    flat, up = np.cos(elevation), np.sin(elevation)
    vary = 1 + random.normal(0, 0.035, 3).astype(np.float32)
    sun, sky, zenith, horizon, cloud = (
        np.asarray(table[mood], np.float32) for table in (SUN, SKY, ZENITH, HORIZON, CLOUD)
    )
    sun, sky = sun * np.float32(random.uniform(0.85, 1.15)), sky * vary
    cover, haze = random.uniform(*COVER[mood]), HAZE[mood] * random.uniform(0.8, 1.3)
    direction, drift = np.asarray([flat * np.cos(azimuth), flat * np.sin(azimuth), up]), random.uniform(0, CLOUDS, 2)
    bounce, evening = 0.45 * sky + np.float32(0.12 * up) * sun, mood == len(OFTEN) - 1
    drift = drift.astype(np.float32)
    return Light(direction, sun, sky, bounce, zenith * vary, horizon * vary, cloud, cover, haze, evening, drift)


@dataclass(frozen=True)
class Sky:
    """What rays meet that miss everything else: the horizon of a place, clouds, the open sky."""

    outline: np.ndarray
    """(AROUND,) float32, how high the horizon's trees and roofs reach, as a tangent."""
    paint: np.ndarray
    """(AROUND, 3) float32, their colour."""
    clouds: np.ndarray
    """(CLOUDS, CLOUDS) float32, density."""

    def colour(self, rays: np.ndarray, light: Light) -> np.ndarray:
        """Linear light ``(n, 3) float32`` that comes along rays ``(n, 3) float32``."""
        flat = np.maximum(np.hypot(rays[:, 0], rays[:, 1]), 1e-6)
        slope = rays[:, 2] / flat
        blend = np.sqrt(np.clip(slope / np.sqrt(1 + slope * slope), 0, 1))[:, None]
        colour = light.horizon + blend * (light.zenith - light.horizon)
        # The clouds are a ceiling; their table goes on as in a mirror, without a seam.
        ceiling = rays[:, :2] * (90 / np.maximum(slope + 0.12, 0.02) / flat)[:, None] + light.drift
        row, column = np.abs(ceiling.astype(np.int64) % (2 * CLOUDS - 1) - (CLOUDS - 1)).T
        density = np.clip((self.clouds[row, column] + light.cover * 1.6 - 0.85) * 1.6, 0, 1)[:, None]
        colour += density * (light.cloud * (0.82 + 0.18 * self.clouds[column, row][:, None]) - colour)
        around = ((np.arctan2(rays[:, 1], rays[:, 0]) / (2 * np.pi) + 0.5) * AROUND).astype(np.int64) % AROUND
        behind = np.flatnonzero(slope < self.outline[around])
        veil = 1 - np.exp(-160 / light.haze)
        land = self.paint[around[behind]] * (light.sky * 0.8 + 0.35 * light.sun)
        colour[behind] = land * (1 - veil) + veil * 0.8 * light.horizon
        return colour


def draw_sky(random: np.random.Generator) -> Sky:
    """The horizon of a place, trees and some roofs, and its supply of clouds."""
    outline = 0.035 + 0.022 * noise(random, 2, AROUND, 160, 5)[0]
    paint = np.asarray([0.05, 0.075, 0.03], np.float32) * (1 + 0.35 * noise(random, 2, AROUND, 10, 2)[0])[:, None]
    for width in random.integers(14, 40, int(random.integers(10, 30))).tolist():
        columns = (int(random.integers(AROUND)) + np.arange(width)) % AROUND
        gable = 1 - np.abs(np.linspace(-1, 1, width))
        outline[columns] = random.uniform(0.03, 0.06) + pick(random, (0.0, 0.025)) * gable
        paint[columns] = pick(random, (0.12, 0.2, 0.3)) * np.asarray([1, 0.85, 0.7])
    return Sky(outline, paint, noise(random, CLOUDS, CLOUDS, 128, 6))
