"""A photo from panels: which panel each ray meets, with an inverse depth buffer, then light, shadow and haze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.world.atlas import GLASS, LEVELS, OPEN, Texels
from sfm2tuples.world.cameras import Camera, look_at
from sfm2tuples.world.materials import RESOLUTION
from sfm2tuples.world.scenery import Light, Sky
from sfm2tuples.world.solids import EXTRA, Panels

NEAR = 0.2
"""Nothing nearer is drawn, in metres."""
_LINEAR = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)


@dataclass(frozen=True)
class Buffers:
    """What each ray of a photo meets."""

    inverse_depth: np.ndarray
    """(h, w) float32, one over metres along the axis; 0 where there is sky."""
    texel: np.ndarray
    """(h, w) int64, row of the texture table."""
    panel: np.ndarray
    """(h, w) int32, -1 where there is sky."""


def rasterise(panels: Panels, texels: Texels, camera: Camera, scale: int) -> Buffers:
    """Find the nearest panel of each ray.

    Costs a few passes over the bounding box of each panel that faces the camera, nearest panel first.

    Parameters
    ----------
    panels : Panels
        What there is.
    texels : Texels
        Their textures; a texel that is OPEN lets the ray pass.
    camera : Camera
        Who looks.
    scale : int
        Rays per pixel along each side.

    Returns
    -------
    Buffers
        `scale` times larger than the photo along each side.
    """
    wide, high = camera.size[0] * scale, camera.size[1] * scale
    buffers = Buffers(
        np.zeros((high, wide), np.float32), np.zeros((high, wide), np.int64), np.full((high, wide), -1, np.int32)
    )
    matrix = camera.matrix(scale)
    onto = np.stack(
        [panels.right @ matrix[:, :3].T, panels.up @ matrix[:, :3].T, panels.corner @ matrix[:, :3].T + matrix[:, 3]],
        -1,
    )
    boxes, depth = _boxes(onto, panels.size, wide, high)
    normal = np.cross(panels.right, panels.up)
    facing = ((camera.centre - panels.corner) * normal).sum(axis=1)
    drawn = (boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3]) & (panels.two_sided | (facing > 1e-6))
    drawn &= np.abs(np.linalg.det(onto)) > 1e-9
    order = np.flatnonzero(drawn)
    order = order[np.argsort(depth[order], kind="stable")]
    back = np.linalg.inv(onto[order]).astype(np.float32)
    x, y = np.arange(wide, dtype=np.float32) + 0.5, np.arange(high, dtype=np.float32) + 0.5
    detail = np.log2(RESOLUTION / (camera.focal * scale))
    for row, inverse in zip(order.tolist(), back, strict=True):
        left, right, top, bottom = boxes[row]
        window = (slice(top, bottom), slice(left, right))
        _draw(
            buffers, window, x[left:right], y[top:bottom], inverse, panels, texels, row, detail, abs(float(facing[row]))
        )
    return buffers


def _boxes(onto: np.ndarray, size: np.ndarray, wide: int, high: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounding boxes (left, right, top, bottom) in rays, the whole photo for panels that reach behind the camera."""
    shares = np.asarray([[0, 0], [1, 0], [1, 1], [0, 1]], float)
    corners = np.concatenate([shares[None] * size[:, None], np.ones((len(size), 4, 1))], axis=2)
    projected = np.einsum("pij,pcj->pci", onto, corners)
    depth = projected[..., 2]
    xy = projected[..., :2] / np.maximum(depth, 1e-6)[..., None]
    low, top = np.floor(xy.min(axis=1)), np.ceil(xy.max(axis=1)) + 1
    boxes = np.stack([low[:, 0], top[:, 0], low[:, 1], top[:, 1]], axis=1)
    around = depth.min(axis=1) < NEAR
    boxes[around] = [0, wide, 0, high]
    boxes = np.clip(boxes, 0, [wide, wide, high, high]).astype(int)
    boxes[depth.max(axis=1) < NEAR] = 0
    return boxes, depth.mean(axis=1)


def _draw(
    buffers: Buffers,
    window: tuple[slice, slice],
    x: np.ndarray,
    y: np.ndarray,
    inverse: np.ndarray,
    panels: Panels,
    texels: Texels,
    row: int,
    detail: float,
    distance: float,
) -> None:
    """Draw one panel; `inverse` takes a ray's pixel to (along, up, 1) / depth on the panel."""
    wide, high = panels.size[row].astype(np.float32)
    nearness = inverse[2, 0] * x + (inverse[2, 1] * y + inverse[2, 2])[:, None]
    along = inverse[0, 0] * x + (inverse[0, 1] * y + inverse[0, 2])[:, None]
    upwards = inverse[1, 0] * x + (inverse[1, 1] * y + inverse[1, 2])[:, None]
    hit = (nearness > buffers.inverse_depth[window]) & (nearness < 1 / NEAR)
    hit &= (along >= 0) & (upwards >= 0) & (along <= wide * nearness) & (upwards <= high * nearness)
    where = np.flatnonzero(hit)
    if not len(where):
        return
    near = nearness.ravel()[where]
    u, v = along.ravel()[where] / near, upwards.ravel()[where] / near
    tile = float(panels.tile[row])
    if tile:
        wide, high = np.float32(tile), np.float32(tile)
        u, v = u % wide, v % high
    texture = panels.texture[row]
    finer = detail - 0.5 * np.log2(distance) - 1.5 * np.log2(near)
    level = np.clip(finer, 0, LEVELS - 1).astype(np.int64)
    columns, rows = texels.width[texture][level], texels.height[texture][level]
    column = np.minimum((u * (columns / wide)).astype(np.int64), columns - 1)
    line = np.minimum(((high - v) * (rows / high)).astype(np.int64), rows - 1)
    texel = texels.start[texture][level] + np.maximum(line, 0) * columns + column
    solid = texels.kind[texel] != OPEN
    rows_at, columns_at = np.divmod(where[solid], len(x))
    rows_at, columns_at = rows_at + window[0].start, columns_at + window[1].start
    buffers.inverse_depth[rows_at, columns_at] = near[solid]
    buffers.texel[rows_at, columns_at] = texel[solid]
    buffers.panel[rows_at, columns_at] = row


def sun_camera(light: Light, radius: float, pixels: int = 420) -> Camera:
    """A camera far off in the direction of the sun that sees the place within `radius` metres: for shadows."""
    far = 600.0
    target = np.asarray([0.0, 0.0, radius * 0.2])
    return look_at(target + far * light.direction, target, pixels * far / (2 * radius), (pixels, pixels))


def shade(
    panels: Panels,
    shadows: Panels,
    texels: Texels,
    camera: Camera,
    buffers: Buffers,
    scale: int,
    light: Light,
    sky: Sky,
    radius: float,
) -> np.ndarray:
    """Light the rays; `shadows` are the panels as the sun sees them.

    Returns
    -------
    ndarray, (h, w, 3) float32
        Linear light, 1 is a white wall in full sun.
    """
    high, wide = buffers.panel.shape
    rays = _rays(camera, scale)
    hit = np.flatnonzero(buffers.panel.ravel() >= 0)
    open_sky = np.flatnonzero(buffers.panel.ravel() < 0)
    image = np.empty((high * wide, 3), np.float32)
    image[open_sky] = sky.colour(rays[open_sky], light)
    depth = 1 / buffers.inverse_depth.ravel()[hit]
    points = camera.centre.astype(np.float32) + rays[hit] * depth[:, None]
    panel = buffers.panel.ravel()[hit]
    normal = np.cross(panels.right, panels.up)
    normal *= np.where(((camera.centre - panels.corner) * normal).sum(axis=1) < 0, -1, 1)[:, None]
    facing = np.where(panels.kind == EXTRA, 0.6, np.maximum(normal @ light.direction, 0)).astype(np.float32)
    upward = np.where(panels.kind == EXTRA, 0.8, 0.5 + 0.5 * normal[:, 2]).astype(np.float32)
    lit = facing[panel]
    if light.sun > 0.05:
        # Cut-outs turn, and the one that the sun sees would throw a hard edge onto the one that the camera sees.
        lit = lit * np.where(panels.kind[panel] == EXTRA, 1.0, _lit(shadows, texels, points, light, radius))
    texel = buffers.texel.ravel()[hit]
    albedo = _LINEAR[texels.colour[texel]]
    ambient = upward[panel][:, None] * light.sky_colour + (1 - upward[panel])[:, None] * light.bounce_colour
    colour = albedo * (lit[:, None] * (light.sun * light.sun_colour) + ambient)
    if light.lamps > 0:
        glows = texels.kind[texel] == GLASS
        colour[glows] += light.lamps * (0.25 + albedo[glows]) * np.asarray([1.0, 0.72, 0.36], np.float32)
    veil = (1 - np.exp(-depth / light.haze))[:, None]
    image[hit] = colour * (1 - veil) + veil * light.haze_colour
    return image.reshape(high, wide, 3)


def _rays(camera: Camera, scale: int) -> np.ndarray:
    """Directions ``(h * w, 3) float32`` in the world, of unit length along the camera's axis."""
    wide, high = camera.size[0] * scale, camera.size[1] * scale
    focal = camera.focal * scale
    x = (np.arange(wide, dtype=np.float32) + 0.5 - wide / 2) / focal
    y = (np.arange(high, dtype=np.float32) + 0.5 - high / 2) / focal
    rotation = camera.rotation.astype(np.float32)
    rays = x[None, :, None] * rotation[0] + y[:, None, None] * rotation[1] + rotation[2]
    return rays.reshape(-1, 3)


def _lit(panels: Panels, texels: Texels, points: np.ndarray, light: Light, radius: float) -> np.ndarray:
    """1 where the sun reaches a point, 0 in shadow; seen from the sun, is anything nearer."""
    camera = sun_camera(light, radius)
    seen = rasterise(panels, texels, camera, 1).inverse_depth
    matrix = camera.matrix().astype(np.float32)
    projected = points @ matrix[:, :3].T + matrix[:, 3]
    depth = projected[:, 2]
    column = (projected[:, 0] / depth).astype(np.int64)
    line = (projected[:, 1] / depth).astype(np.int64)
    side = camera.size[0]
    inside = (column >= 0) & (line >= 0) & (column < side) & (line < side)
    nearest = seen[np.where(inside, line, 0), np.where(inside, column, 0)]
    shadow = inside & (nearest > 0) & (nearest > 1 / (depth - 0.35))
    return 1 - shadow.astype(np.float32)
