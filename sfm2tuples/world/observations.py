"""Which points of a building each photo observes, as a matcher on real photos would find them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.world.atlas import SOLID
from sfm2tuples.world.cameras import Camera
from sfm2tuples.world.photos import SCALE
from sfm2tuples.world.places import Place
from sfm2tuples.world.rendering import Buffers
from sfm2tuples.world.solids import BUILDING, GROUND, Panels

NOISE = 0.3
"""Standard deviation of an observation, in pixels along each axis, cut at twice that."""
SIZES = (0.005, 0.15)
"""A detail is found where its image has this size, as a share of the photo's longest side."""
_STEEP = 0.2
"""Cosine between the line of sight and a point's best direction at which it is found no more."""


@dataclass(frozen=True)
class Details:
    """Spots of a building that may become points."""

    xyz: np.ndarray
    """(n, 3) float64, metres."""
    facing: np.ndarray
    """(n, 3) float64, unit vectors from where each looks best."""
    size: np.ndarray
    """(n,) float64, metres."""
    ease: np.ndarray
    """(n,) float64, probability to be found in a good photo."""


def draw_details(random: np.random.Generator, place: Place, count: int) -> Details:
    """Sample details where textures have corners and edges, by area, a few of them on the ground.

    Parameters
    ----------
    random : Generator
        Of this place.
    place : Place
        Whose surfaces are sampled.
    count : int
        Details on the building; a fifteenth as many lie on the ground.
    """
    panels = place.panels
    area = np.where(panels.kind == BUILDING, panels.size.prod(axis=1), 0.0)
    rows = np.sort(random.choice(len(area), size=count, p=area / area.sum()))
    spots = [
        _on_texture(random, place, row, int(number))
        for row, number in zip(*np.unique(rows, return_counts=True), strict=True)
    ]
    rows = np.concatenate([np.full(len(spot), row) for row, spot in zip(np.unique(rows), spots, strict=True)])
    share = np.concatenate(spots)
    size = panels.size[rows] * share
    xyz = panels.corner[rows] + size[:, :1] * panels.right[rows] + size[:, 1:] * panels.up[rows]
    ground = np.flatnonzero(panels.kind == GROUND)[1]
    flat = (
        panels.corner[ground] + random.uniform(0, 1, (count // 15, 1)) * panels.size[ground, 0] * panels.right[ground]
    )
    flat = flat + random.uniform(0, 1, (count // 15, 1)) * panels.size[ground, 1] * panels.up[ground]
    xyz, rows = np.concatenate([xyz, flat]), np.concatenate([rows, np.full(len(flat), ground)])
    return Details(xyz, _best_directions(random, panels, rows), *_size_and_ease(random, len(xyz)))


def _size_and_ease(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.exp(random.uniform(np.log(0.06), np.log(0.9), count)), random.beta(4, 1.5, count)


def _best_directions(random: np.random.Generator, panels: Panels, rows: np.ndarray) -> np.ndarray:
    normal = np.cross(panels.right, panels.up)[rows]
    normal[panels.kind[rows] == GROUND] = [0, -1, 0.3]
    facing = normal + random.normal(0, 0.45, (len(rows), 3)) * [1, 1, 0.5]
    return facing / np.linalg.norm(facing, axis=1, keepdims=True)


def _on_texture(random: np.random.Generator, place: Place, row: int, count: int) -> np.ndarray:
    """Shares of width and height, ``(m, 2)``, where the texture changes most; none on an empty texture."""
    texels, texture, level = place.texels, place.panels.texture[row], 1
    wide, high = int(texels.width[texture, level]), int(texels.height[texture, level])
    part = slice(texels.start[texture, level], texels.start[texture, level] + wide * high)
    grey = texels.colour[part].astype(np.float32).mean(axis=1).reshape(high, wide)
    solid = texels.kind[part].reshape(high, wide) == SOLID
    if min(wide, high) < 2 or not solid.any():
        return np.zeros((0, 2))
    down, across = np.gradient(grey)
    weight = ((np.abs(down) + 0.5) * (np.abs(across) + 0.5) * solid).ravel().astype(np.float64)
    chosen = random.choice(wide * high, size=count, p=weight / weight.sum())
    x, y = chosen % wide + random.uniform(0, 1, count), chosen // wide + random.uniform(0, 1, count)
    return np.column_stack([x / wide, 1 - y / high])


def observe(
    random: np.random.Generator, details: Details, camera: Camera, buffers: Buffers
) -> tuple[np.ndarray, np.ndarray]:
    """Find details in a photo.

    Parameters
    ----------
    random : Generator
        Of this photo.
    details : Details
        Of the place.
    camera : Camera
        Of the photo.
    buffers : Buffers
        What its rays met.

    Returns
    -------
    rows : ndarray, (m,) int64
        Which details are observed.
    xy : ndarray, (m, 2) float64
        Where, in pixels.
    """
    count = len(details.xyz)
    luck, error = random.random(count), np.clip(random.normal(0, NOISE, (count, 2)), -2 * NOISE, 2 * NOISE)
    exact, depth = camera.project(details.xyz)
    xy = exact + error
    wide, high = camera.size
    ray = np.floor(exact * SCALE).astype(np.int64)
    inside = (depth > 0.5) & ((ray >= 0) & (ray < [wide * SCALE, high * SCALE])).all(axis=1)
    inside &= ((xy > 0) & (xy < [wide, high])).all(axis=1)
    ray[~inside] = 0
    met = buffers.inverse_depth[ray[:, 1], ray[:, 0]]
    open_sight = inside & (1 / np.where(depth > 0, depth, 1) > met * 0.985)
    sight = camera.centre - details.xyz
    cosine = (sight * details.facing).sum(axis=1) / np.linalg.norm(sight, axis=1)
    share = details.size * camera.focal / np.maximum(depth, 0.5) / max(wide, high)
    chance = details.ease * np.clip((cosine - _STEEP) / (0.7 - _STEEP), 0, 1)
    found = open_sight & (share > SIZES[0]) & (share < SIZES[1]) & (luck < chance)
    rows = np.flatnonzero(found)
    return rows, xy[rows]
