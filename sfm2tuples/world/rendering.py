"""Cameras, light and sky, and a photo of panels: what each ray meets, by inverse depth, then shadow and haze."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sfm2tuples.world.solids import EXTRA, GROUND, LEVELS, RESOLUTION, SOLID, WALL, Extent, Texels, noise

NEAR, TILE = 0.2, 11.0
"""In metres: nothing nearer is drawn; side of the ground's pattern."""
LINEAR = ((np.arange(256) / 255.0) ** 2.2).astype(np.float32)
"""Linear light of an sRGB value."""
AROUND, CLOUDS = 1440, 512
"""Columns of the horizon, and the side of the cloud table."""
OFTEN = (0.58, 0.28, 0.09, 0.05)
"""Shares of clear and overcast days, of low sun and of haze. The columns below are in the same order."""
SUN = (0.95, 0.9, 0.82), (0, 0, 0), (0.9, 0.59, 0.32), (0.5, 0.475, 0.44)
SKY = (0.3, 0.36, 0.46), (0.62, 0.64, 0.68), (0.22, 0.22, 0.3), (0.46, 0.48, 0.5)
ZENITH = (0.1, 0.25, 0.58), (0.52, 0.56, 0.62), (0.16, 0.26, 0.5), (0.42, 0.52, 0.66)
HORIZON = (0.5, 0.66, 0.84), (0.78, 0.8, 0.82), (0.92, 0.64, 0.42), (0.86, 0.86, 0.84)
CLOUD = (0.95, 0.95, 0.95), (0.62, 0.64, 0.68), (1, 0.72, 0.52), (0.9, 0.9, 0.9)
COVER, HAZE = ((0.1, 0.5), (0.7, 1.0), (0.1, 0.5), (0.2, 0.7)), (900, 500, 500, 170)
ELEVATION = (22, 60), (40, 60), (7, 18), (25, 55)


class Camera(NamedTuple):
    """A pinhole camera in COLMAP's convention: x right, y down, z forward; the first pixel's middle is (0.5, 0.5).

    Its rotation (3, 3) is from the world to the camera, its centre (3,) in metres; focal length, width and height are
    in pixels.
    """

    rotation: np.ndarray
    centre: np.ndarray
    focal: float
    size: tuple[int, int]

    def matrix(self, scale: int = 1) -> np.ndarray:
        """Projection ``(3, 4)`` to pixels of a photo `scale` times larger."""
        wide, high = self.size
        inner = np.diag([self.focal * scale, self.focal * scale, 1.0])
        inner[:2, 2] = wide * scale / 2, high * scale / 2
        return inner @ np.column_stack([self.rotation, -self.rotation @ self.centre])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``(n, 2)`` and depths ``(n,)`` of points ``(n, 3)``."""
        matrix = self.matrix().astype(points.dtype)
        homogeneous = points @ matrix[:, :3].T + matrix[:, 3]
        depth = homogeneous[:, 2]
        return homogeneous[:, :2] / np.where(np.abs(depth) > 1e-9, depth, 1e-9)[:, None], depth

    def rays(self, scale: int) -> np.ndarray:
        """Directions ``(h * w, 3) float32`` in the world, of unit length along the camera's axis."""
        wide, high = self.size[0] * scale, self.size[1] * scale
        x = (np.arange(wide, dtype=np.float32) + 0.5 - wide / 2) / (self.focal * scale)
        y = (np.arange(high, dtype=np.float32) + 0.5 - high / 2) / (self.focal * scale)
        across, down, ahead = self.rotation.astype(np.float32)
        return (x[None, :, None] * across + (y[:, None, None] * down + ahead)).reshape(-1, 3)


def look_at(centre: np.ndarray, target: np.ndarray, focal: float, size: tuple[int, int], roll: float = 0.0) -> Camera:
    """A camera at `centre` that looks at `target`, turned by `roll` radians about its axis."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    turned = np.cos(roll) * right + np.sin(roll) * np.cross(forward, right)
    return Camera(np.stack([turned, np.cross(forward, turned), forward]), np.asarray(centre, float), focal, size)


class Light(NamedTuple):
    """The light of one photo; colours (3,) float32, linear, 1 is a white wall in full sun.

    What faces up receives that of the `sky`, what faces down `bounce` from the ground. `direction`, a unit vector, is
    to the sun, whose colour is 0 under clouds. Of the sky a share of `cover` is under clouds, which `drift`. At `haze`
    metres two thirds are veiled.
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
    drift: np.ndarray


def draw_light(random: np.random.Generator) -> Light:
    """The light of one photo."""
    mood = int(random.choice(len(OFTEN), p=OFTEN))
    azimuth, elevation = random.normal(-np.pi / 2, 1.1), np.radians(random.uniform(*ELEVATION[mood]))
    flat, up = np.cos(elevation), np.sin(elevation)
    vary = 1 + random.normal(0, 0.035, 3)
    sun, sky = np.multiply(SUN[mood], random.uniform(0.85, 1.15)), np.multiply(SKY[mood], vary)
    bounce = 0.45 * sky + np.multiply(0.12 * up, SUN[mood])
    far = np.multiply(ZENITH[mood], vary), np.multiply(HORIZON[mood], vary), CLOUD[mood]
    sun, sky, bounce, zenith, horizon, cloud = np.asarray([sun, sky, bounce, *far], np.float32)
    direction = np.asarray([flat * np.cos(azimuth), flat * np.sin(azimuth), up])
    cover, haze = random.uniform(*COVER[mood]), HAZE[mood] * random.uniform(0.8, 1.3)
    return Light(direction, sun, sky, bounce, zenith, horizon, cloud, cover, haze, random.uniform(0, CLOUDS, 2))


class Sky(NamedTuple):
    """What rays meet that miss everything else: the horizon of a place, clouds, the open sky.

    `outline`, (AROUND,) float32, says how high the trees at the horizon reach, as a tangent, and `paint`, (AROUND, 3)
    float32, their colour; `clouds`, (CLOUDS, CLOUDS) float32, how dense the clouds are.
    """

    outline: np.ndarray
    paint: np.ndarray
    clouds: np.ndarray

    def colour(self, rays: np.ndarray, light: Light) -> np.ndarray:
        """Linear light ``(n, 3) float32`` that comes along rays ``(n, 3) float32``."""
        flat = np.maximum(np.hypot(rays[:, 0], rays[:, 1]), 1e-6)
        slope = rays[:, 2] / flat
        blend = np.sqrt(np.clip(slope / np.sqrt(1 + slope * slope), 0, 1))[:, None]
        colour = light.horizon + blend * (light.zenith - light.horizon)
        # The clouds are a ceiling; their table goes on as in a mirror, without a seam.
        ceiling = rays[:, :2] * (90 / np.maximum(slope + 0.12, 0.02) / flat)[:, None] + light.drift.astype(np.float32)
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
    """The horizon of a place and its supply of clouds."""
    outline = 0.035 + 0.022 * noise(random, 2, AROUND, 160, 5)[0]
    paint = np.asarray([0.05, 0.075, 0.03], np.float32) * (1 + 0.35 * noise(random, 2, AROUND, 10, 2)[0])[:, None]
    return Sky(outline, paint, noise(random, CLOUDS, CLOUDS, 128, 6))


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
    solid = texels.texel[texel, 3] >= SOLID
    line, column = np.divmod(where[solid], right - left)
    at = (line + top, column + left)
    buffers.inverse_depth[at], buffers.texel[at], buffers.panel[at] = near[solid], texel[solid], row


def sun_camera(light: Light, extent: Extent) -> Camera:
    """A camera far off in the direction of the sun that sees a building and its close surroundings."""
    radius = 0.6 * float(np.hypot(*extent[:2])) + 0.5 * extent[2] + 6
    far, target, pixels = 600.0, np.asarray([0.0, 0.0, radius * 0.2]), 420
    return look_at(target + far * light.direction, target, pixels * far / (2 * radius), (pixels, pixels))


def _lit(sun: tuple[Camera, Buffers], points: np.ndarray) -> np.ndarray:
    """Whether the sun reaches points ``(n, 3) float32``."""
    camera, seen = sun
    pixel, depth = camera.project(points)
    column, line = np.clip(pixel, -1, camera.size[0]).astype(np.int32).T
    inside = (column >= 0) & (line >= 0) & (column < camera.size[0]) & (line < camera.size[1])
    nearest = seen.inverse_depth[np.where(inside, line, 0), np.where(inside, column, 0)]
    return ~(inside & (nearest > 1 / (depth - 0.35)))


def shade(
    panels: np.ndarray, texels: Texels, camera: Camera, buffers: Buffers, light: Light, sky: Sky, sun: Any
) -> np.ndarray:
    """Light the rays: ``(h, w, 3) float32``, linear. `sun` is its camera and what it sees, None where none shines."""
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
    colour *= LINEAR[texel[:, :3]]
    veil = (1 - np.exp(-depth / np.float32(light.haze)))[:, None]
    image[hit] = colour + veil * (0.8 * light.horizon - colour)
    return image.reshape(high, wide, 3)
