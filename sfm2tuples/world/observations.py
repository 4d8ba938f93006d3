"""Which points of a building each photo observes, as a matcher on real photos would find them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfm2tuples.world.cameras import Camera
from sfm2tuples.world.places import Place
from sfm2tuples.world.rendering import Buffers
from sfm2tuples.world.solids import GROUND, SHEET
from sfm2tuples.world.textures import SOLID

NOISE = 0.3
"""Standard deviation of an observation, in pixels along each axis, cut at twice that."""
SIZES = (0.005, 0.15)
"""A detail is found where its image has this size, as a share of the photo's longest side."""
STEEP = 0.2
"""Cosine between the line of sight and a point's best direction at which it is found no more."""


class Details(NamedTuple):
    """Spots of a building that may become points.

    Where, (n, 3) metres; from where each looks best, (n, 3) unit vectors; sizes, (n,) metres; and (n,) probabilities to
    be found in a good photo.
    """

    xyz: np.ndarray
    facing: np.ndarray
    size: np.ndarray
    ease: np.ndarray


def draw_details(random: np.random.Generator, place: Place, count: int) -> Details:
    """Sample `count` details where textures have corners and edges, by area, and a few on the ground nearby."""
    panels = place.panels
    area = np.where(panels["kind"] <= SHEET, panels["size"].prod(axis=1), 0.0)
    rows, counts = np.unique(random.choice(len(area), size=count, p=area / area.sum()), return_counts=True)
    spots = [_on_texture(random, place, row, number) for row, number in zip(rows.tolist(), counts, strict=True)]
    square = np.flatnonzero(panels["kind"] == GROUND)[1]
    rows, spots = np.append(rows, square), [*spots, random.uniform(0, 1, (count // 15, 2))]
    rows = np.repeat(rows, [len(spot) for spot in spots])
    along = panels["size"][rows] * np.concatenate(spots)
    xyz = panels["corner"][rows] + along[:, :1] * panels["right"][rows] + along[:, 1:] * panels["up"][rows]
    facing = np.cross(panels["right"], panels["up"])[rows]
    facing[rows == square] = [0, -1, 0.3]
    facing += random.normal(0, 0.45, facing.shape) * [1, 1, 0.5]
    facing /= np.linalg.norm(facing, axis=1, keepdims=True)
    size = np.exp(random.uniform(np.log(0.06), np.log(0.9), len(rows)))
    return Details(xyz, facing, size, random.beta(4, 1.5, len(rows)))


def _on_texture(random: np.random.Generator, place: Place, row: int, count: int) -> np.ndarray:
    """Shares of width and height, ``(m, 2)``, where the texture changes most; none on an empty texture."""
    start, high, wide = place.texels.layout[place.panels["texture"][row], 1].tolist()
    texture = place.texels.texel[start : start + high * wide].reshape(high, wide, 4)
    solid = texture[..., 3] == SOLID
    if min(wide, high) < 2 or not solid.any():
        return np.zeros((0, 2))
    down, across = np.gradient(texture[..., :3].mean(axis=2))
    weight = ((np.abs(down) + 0.5) * (np.abs(across) + 0.5) * solid).ravel()
    line, column = np.divmod(random.choice(wide * high, size=count, p=weight / weight.sum()), wide)
    line, column = line + random.uniform(0, 1, count), column + random.uniform(0, 1, count)
    return np.column_stack([column / wide, 1 - line / high])


def observe(
    random: np.random.Generator, details: Details, camera: Camera, buffers: Buffers
) -> tuple[np.ndarray, np.ndarray]:
    """Find details in a photo: which, ``(m,) int64``, and where, ``(m, 2) float64`` pixels."""
    count, (wide, high) = len(details.xyz), camera.size
    luck, error = random.random(count), np.clip(random.normal(0, NOISE, (count, 2)), -2 * NOISE, 2 * NOISE)
    exact, depth = camera.project(details.xyz)
    xy = exact + error
    inside = (depth > 0.5) & ((exact >= 0) & (exact < [wide, high]) & (xy > 0) & (xy < [wide, high])).all(axis=1)
    scale = len(buffers.panel) // high
    column, line = (np.where(inside[:, None], exact, 0) * scale).astype(np.int64).T
    in_sight = inside & (1 / np.maximum(depth, 0.5) > buffers.inverse_depth[line, column] * 0.985)
    sight = camera.centre - details.xyz
    cosine = (sight * details.facing).sum(axis=1) / np.linalg.norm(sight, axis=1)
    share = details.size * camera.focal / np.maximum(depth, 0.5) / max(wide, high)
    chance = details.ease * np.clip((cosine - STEEP) / (0.7 - STEEP), 0, 1)
    rows = np.flatnonzero(in_sight & (share > SIZES[0]) & (share < SIZES[1]) & (luck < chance))
    return rows, xy[rows]
