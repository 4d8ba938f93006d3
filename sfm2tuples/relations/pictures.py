"""What each camera can see, as a box in coordinates without distortion: never less than its picture shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from sfm2tuples.readers.camera_models import CAMERA_MODELS

NODES = 1024
"""Angles from the axis at which a distortion is looked up."""
BORDER = 9
"""Points along each side of a picture that its outline is taken from, besides those nearest to the axis."""
WIDE = {"OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "THIN_PRISM_FISHEYE"} | {
    *("RAD_TAN_THIN_PRISM_FISHEYE", "SIMPLE_FISHEYE", "FISHEYE", "EUCM")
}
"""Camera models that may see more than half a sphere."""
Distortion = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | float]]
"""Of distortion parameters (k,) and undistorted radii (r,), the radii by the radial part, and how far the other parts
may move such a point at most."""


@dataclass(frozen=True)
class Pictures:
    """By camera, the box that encloses its picture once distortion is taken away."""

    box: np.ndarray
    """(c, 4) float64, least and largest x, least and largest y; NaN where there is no focal length or no size.

    In units of depth (x / z, y / z), or for a wide camera in radians from the axis (θ x / r, θ y / r)."""
    is_wide: np.ndarray
    """(c,) bool, whether the camera may see more than half a sphere: a fisheye."""


def pictures_of(models: np.ndarray, sizes: np.ndarray, indptr: np.ndarray, params: np.ndarray) -> Pictures:
    """The pictures of some cameras.

    A pinhole's box is its picture. Distortion is taken away from the picture's outline, and the box encloses what
    that gives; tangential and prism terms are bounded from above. So a point outside of the box is outside of the
    picture. A camera that shows its border at no angle that its model reaches has the widest box there is.

    Parameters
    ----------
    models, sizes, indptr, params
        As in `sfm2tuples.index.schema.Cameras`.

    Returns
    -------
    Pictures
    """
    box, is_wide = np.full((len(models), 4), np.nan), np.zeros(len(models), bool)
    for number in np.unique(models).tolist():
        model, rows = CAMERA_MODELS[number], np.flatnonzero(models == number)
        is_wide[rows] = model.name in WIDE
        if model.num_focal:
            own = params[indptr[rows][:, None] + np.arange(model.num_params)]
            box[rows] = _boxes(model.name, model.num_focal, sizes[rows].astype(np.float64), own)
    return Pictures(box, is_wide)


def _boxes(name: str, num_focal: int, sizes: np.ndarray, params: np.ndarray) -> np.ndarray:
    """Boxes (k, 4) of cameras of one model."""
    focal, centre = params[:, [0, num_focal - 1]], params[:, num_focal : num_focal + 2]
    with np.errstate(all="ignore"):
        low, high = -centre / focal, (sizes - centre) / focal
    boxes = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
    boxes[~((focal > 0).all(axis=1) & (sizes > 0).all(axis=1))] = np.nan
    beyond = params[:, num_focal + 2 :]
    bent = np.isfinite(boxes).all(axis=1) & (beyond.any(axis=1) | (name in ("EUCM", "FOV")))
    if name in DISTORTIONS and bent.any():
        angle = np.linspace(0, np.pi if name in WIDE else np.pi / 2, NODES + 1)[:-1]
        radius = angle if name in WIDE else np.tan(angle)
        boxes[bent] = _straightened(boxes[bent], radius, beyond[bent], DISTORTIONS[name])
    boxes[~np.isfinite(boxes).all(axis=1)] = np.nan
    return boxes


def _straightened(boxes: np.ndarray, radius: np.ndarray, params: np.ndarray, distortion: Distortion) -> np.ndarray:
    """Boxes around the outlines of distorted boxes (k, 4), each point of them moved out to a node of `radius`."""
    new = np.empty_like(boxes)
    for row, (box, own) in enumerate(zip(boxes, params, strict=True)):
        with np.errstate(all="ignore"):
            bent, moved = distortion(own, radius)
            moved = np.zeros_like(radius) + moved
            shown = bent - moved
        # The first radius that is shown this far out or farther; a value that is none is beyond the model's reach.
        reach = np.maximum.accumulate(np.where(np.isnan(shown), np.inf, shown))
        x, y = _outline(box)
        far = np.hypot(x, y)
        node = np.minimum(np.searchsorted(reach, far), len(radius) - 1)
        stretch = np.divide(radius[node], far, out=np.ones_like(far), where=far > 0)
        aside = np.nan_to_num(moved[node]) * stretch
        x, y = x * stretch, y * stretch
        new[row] = (x - aside).min(), (x + aside).max(), (y - aside).min(), (y + aside).max()
    return new


def _outline(box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of a box's border: evenly spaced ones, and those nearest to the axis."""
    sides = [np.append(np.linspace(a, b, BORDER), np.clip(0, a, b)) for a, b in (box[:2], box[2:])]
    x = np.concatenate([sides[0], sides[0], np.full(BORDER + 1, box[0]), np.full(BORDER + 1, box[1])])
    y = np.concatenate([np.full(BORDER + 1, box[2]), np.full(BORDER + 1, box[3]), sides[1], sides[1]])
    return x, y


def _polynomial(r: np.ndarray, factors: Iterable[float]) -> np.ndarray:
    """1 + k1 r² + k2 r⁴ + …"""
    total = np.ones_like(r)
    for power, factor in enumerate(factors, 1):
        total += factor * r ** (2 * power)
    return total


def _radial(k: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, float]:
    return r * _polynomial(r, k), 0.0


def _opencv(k: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return r * _polynomial(r, k[:2]), 3 * (abs(k[2]) + abs(k[3])) * r**2


def _full_opencv(k: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    above, below = _polynomial(r, k[[0, 1, 4]]), _polynomial(r, k[5:8])
    return np.where(below > 0, r * above / below, np.inf), 3 * (abs(k[2]) + abs(k[3])) * r**2


def _fov(k: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, float]:
    return (r if abs(k[0]) < 1e-6 else np.arctan(2 * r * np.tan(k[0] / 2)) / k[0]), 0.0


def _division(k: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, float]:
    return 2 * r / (1 + np.sqrt(np.maximum(1 - 4 * k[0] * r**2, 0))), 0.0


def _thin_prism(k: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved = 3 * (abs(k[2]) + abs(k[3])) + abs(k[6]) + abs(k[7])
    return r * _polynomial(r, k[[0, 1, 4, 5]]), moved * r**2


def _rad_tan_thin_prism(k: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    bent, k = r * _polynomial(r, k[:6]), abs(k)
    return bent, (3 * (k[6] + k[7]) + k[8] + k[10]) * bent**2 + (k[9] + k[11]) * bent**4


def _eucm(k: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, float]:
    aside, along = np.sin(r), np.cos(r)
    below = k[0] * np.sqrt(k[1] * aside**2 + along**2) + (1 - k[0]) * along
    return np.where(below > 0, aside / below, np.inf), 0.0


DISTORTIONS: dict[str, Distortion] = {
    **dict.fromkeys(("SIMPLE_RADIAL", "RADIAL"), _radial),
    **dict.fromkeys(("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"), _radial),
    **dict.fromkeys(("SIMPLE_DIVISION", "DIVISION"), _division),
    "OPENCV": _opencv,
    "FULL_OPENCV": _full_opencv,
    "FOV": _fov,
    "THIN_PRISM_FISHEYE": _thin_prism,
    "RAD_TAN_THIN_PRISM_FISHEYE": _rad_tan_thin_prism,
    "EUCM": _eucm,
}
"""By COLMAP's name of a camera model with distortion, its formula."""
