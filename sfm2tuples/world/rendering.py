"""A photo from panels: which panel each ray meets, with an inverse depth buffer, then light, shadow and haze."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sfm2tuples.world.cameras import Camera, look_at
from sfm2tuples.world.solids import EXTRA, GROUND, WALL
from sfm2tuples.world.textures import GLASS, LEVELS, OPEN, RESOLUTION, Texels
from sfm2tuples.world.weather import Light, Sky

NEAR = 0.2
"""Nothing nearer is drawn, in metres."""
TILE = 11.0
"""Side of the ground's pattern in metres."""
LINEAR = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)
"""Linear light of an sRGB value."""


class Buffers(NamedTuple):
    """What each ray of a photo meets, (h, w) each.

    Inverse depth, float32: one over metres along the axis, 0 where there is sky. Texel, int64: row of the texture
    table. Panel, int32: -1 where there is sky.
    """

    inverse_depth: np.ndarray
    texel: np.ndarray
    panel: np.ndarray


def rasterise(panels: np.ndarray, texels: Texels, camera: Camera, scale: int) -> Buffers:
    """Find the nearest of the panels, (n,) PANEL, on each ray; there are `scale` rays per pixel along each side.

    Costs a few passes over the bounding box of each panel that faces the camera, nearest panel first.
    """
    wide, high = camera.size[0] * scale, camera.size[1] * scale
    zeros = np.zeros((high, wide), np.float32)
    buffers = Buffers(zeros, zeros.astype(np.int64), np.full((high, wide), -1, np.int32))
    matrix = camera.matrix(scale)
    axes = [panels[axis] @ matrix[:, :3].T for axis in ("right", "up", "corner")]
    onto = np.stack([*axes[:2], axes[2] + matrix[:, 3]], axis=2)
    boxes, depth = _boxes(onto, panels["size"], wide, high)
    facing = ((camera.centre - panels["corner"]) * np.cross(panels["right"], panels["up"])).sum(axis=1)
    drawn = (boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3]) & ((facing > 1e-6) | (panels["kind"] != WALL))
    order = np.flatnonzero(drawn & (np.abs(np.linalg.det(onto)) > 1e-9))
    order = order[np.argsort(depth[order], kind="stable")]
    back = np.linalg.inv(onto[order]).astype(np.float32)
    # The level of a texture whose texels are as large as rays is this minus 1.5 times the logarithm of nearness.
    detail = np.log2(RESOLUTION / (camera.focal * scale)) - 0.5 * np.log2(np.maximum(abs(facing), 1e-6))
    for row, inverse in zip(order.tolist(), back, strict=True):
        _draw(buffers, boxes[row], inverse, panels, texels, row, float(detail[row]))
    return buffers


def _boxes(onto: np.ndarray, size: np.ndarray, wide: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounding boxes (left, right, top, bottom) in rays, the whole photo for panels that reach behind the camera."""
    shares = np.asarray([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    corners = np.concatenate([shares * size[:, None], np.ones((len(size), 4, 1))], axis=2)
    projected = np.einsum("pij,pcj->pci", onto, corners)
    depth = projected[..., 2]
    xy = projected[..., :2] / np.maximum(depth, 1e-6)[..., None]
    low, top = np.floor(xy.min(axis=1)), np.ceil(xy.max(axis=1)) + 1
    boxes = np.stack([low[:, 0], top[:, 0], low[:, 1], top[:, 1]], axis=1)
    boxes[depth.min(axis=1) < NEAR] = [0, wide, 0, high]
    boxes = np.clip(boxes, 0, [wide, wide, high, high]).astype(int)
    boxes[depth.max(axis=1) < NEAR] = 0
    return boxes, depth.mean(axis=1)


def _draw(
    buffers: Buffers, box: np.ndarray, inverse: np.ndarray, panels: np.ndarray, texels: Texels, row: int, detail: float
) -> None:
    """Draw one panel; `inverse` takes a ray's pixel to (along, up, 1) / depth on the panel."""
    left, right, top, bottom = box
    window = (slice(top, bottom), slice(left, right))
    x, y = np.arange(left, right, dtype=np.float32) + 0.5, np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5
    along, upwards, nearness = (line[0] * x + (line[1] * y + line[2]) for line in inverse)
    wide, high = panels["size"][row].astype(np.float32)
    hit = (nearness > buffers.inverse_depth[window]) & (nearness < 1 / NEAR)
    hit &= (along >= 0) & (upwards >= 0) & (along <= wide * nearness) & (upwards <= high * nearness)
    where = np.flatnonzero(hit)
    if not len(where):
        return
    near = nearness.ravel()[where]
    u, v = along.ravel()[where] / near, upwards.ravel()[where] / near
    if panels["kind"][row] == GROUND:
        wide = high = np.float32(TILE)
        u, v = u % wide, v % high
    level = np.clip(detail - 1.5 * np.log2(near), 0, LEVELS - 1).astype(np.int64)
    start, lines, columns = (column[level] for column in texels.layout[panels["texture"][row]].T)
    column = np.minimum((u * (columns / wide)).astype(np.int64), columns - 1)
    line = np.clip(((high - v) * (lines / high)).astype(np.int64), 0, lines - 1)
    texel = start + line * columns + column
    solid = texels.texel[texel, 3] != OPEN
    line, column = np.divmod(where[solid], right - left)
    at = (line + top, column + left)
    buffers.inverse_depth[at], buffers.texel[at], buffers.panel[at] = near[solid], texel[solid], row


Sun = tuple[Camera, Buffers]
"""Its camera, and what it sees."""


def sun_camera(light: Light, radius: float) -> Camera:
    """A camera far off in the direction of the sun that sees the place within `radius` metres."""
    far, target, pixels = 600.0, np.asarray([0.0, 0.0, radius * 0.2]), 420
    return look_at(target + far * light.direction, target, pixels * far / (2 * radius), (pixels, pixels))


def _lit(sun: Sun, points: np.ndarray) -> np.ndarray:
    """Whether the sun reaches points ``(n, 3) float32``."""
    camera, seen = sun
    pixel, depth = camera.project(points)
    column, line = np.clip(pixel, -1, camera.size[0]).astype(np.int32).T
    inside = (column >= 0) & (line >= 0) & (column < camera.size[0]) & (line < camera.size[1])
    nearest = seen.inverse_depth[np.where(inside, line, 0), np.where(inside, column, 0)]
    return ~(inside & (nearest > 1 / (depth - 0.35)))


def shade(
    panels: np.ndarray, texels: Texels, camera: Camera, buffers: Buffers, light: Light, sky: Sky, sun: Sun | None
) -> np.ndarray:
    """Light the rays: ``(h, w, 3) float32``, linear. `sun` is None where none shines."""
    high, wide = buffers.panel.shape
    rays, met = camera.rays(wide // camera.size[0]), buffers.panel.ravel()
    hit, missed = np.flatnonzero(met >= 0), np.flatnonzero(met < 0)
    image = np.empty((high * wide, 3), np.float32)
    image[missed] = sky.colour(rays[missed], light)
    panel, depth = met[hit], 1 / buffers.inverse_depth.ravel()[hit]
    normal, extra = np.cross(panels["right"], panels["up"]), panels["kind"] == EXTRA
    normal *= np.where(((camera.centre - panels["corner"]) * normal).sum(axis=1) < 0, -1, 1)[:, None]
    upward = np.where(extra, 0.8, 0.5 + 0.5 * normal[:, 2])[:, None].astype(np.float32)
    colour = (upward * light.sky + (1 - upward) * light.bounce)[panel]
    if sun:
        facing = np.where(extra, 0.6, np.maximum(normal @ light.direction, 0))[:, None].astype(np.float32)
        # Cut-outs turn, and the one that the sun sees would throw a hard edge onto the one that the camera sees.
        points = camera.centre.astype(np.float32) + rays[hit] * depth[:, None]
        colour += (facing * light.sun)[panel] * (_lit(sun, points) | extra[panel])[:, None]
    texel = texels.texel[buffers.texel.ravel()[hit]]
    albedo = LINEAR[texel[:, :3]]
    colour *= albedo
    if light.evening:
        glows = texel[:, 3] == GLASS
        colour[glows] += (0.25 + albedo[glows]) * np.asarray([0.55, 0.4, 0.2], np.float32)
    veil = (1 - np.exp(-depth / np.float32(light.haze)))[:, None]
    image[hit] = colour + veil * (0.8 * light.horizon - colour)
    return image.reshape(high, wide, 3)
