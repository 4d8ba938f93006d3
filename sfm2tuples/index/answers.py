"""What an opened index answers: neighbours with their evidence, observed points, tracks, cameras."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Neighbours:
    """Images that share points with one image, those with most shared points first, ties by the lower row."""

    row: np.ndarray
    """(k,) int64, rows of the images."""
    key: list[str]
    """Their keys."""
    shared: np.ndarray
    """(k,) int32, shared points."""
    overlap: np.ndarray
    """(k,) float32, shared points over the points that the one image observes."""
    scale_change: np.ndarray
    """(k,) float32, >= 1; NaN where no shared point has one."""
    angle: np.ndarray
    """(k,) float32, mean viewing angle at the shared points in radians."""
    axis_angle: np.ndarray
    """(k,) float32, angle between the optical axes in radians."""


@dataclass(frozen=True)
class ObservedPoints:
    """The points that one image observes, in the order of its observations."""

    point: np.ndarray
    """(k,) int64, rows of the points; a row is there twice where the image observes the point twice."""
    xyz: np.ndarray
    """(k, 3) float64, where they lie in the model's world."""
    error: np.ndarray
    """(k,) float64, mean reprojection error in pixels."""
    xy: np.ndarray
    """(k, 2) float32, where the image sees them, in pixels."""


@dataclass(frozen=True)
class Track:
    """All observations of one point."""

    image: np.ndarray
    """(k,) int64, rows of the images, rising."""
    xy: np.ndarray
    """(k, 2) float32, where they see it, in pixels."""


@dataclass(frozen=True)
class ImageCamera:
    """The camera that took one image."""

    model: str
    """COLMAP's name of the camera model."""
    size: tuple[int, int]
    """Width and height in pixels."""
    params: np.ndarray
    """(k,) float64, parameters in COLMAP's order."""
