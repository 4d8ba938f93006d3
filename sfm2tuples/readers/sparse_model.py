"""One sparse reconstruction as columns: what every reader returns and everything later works on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class SparseModel:
    """A model as arrays; rows are integers, images are in the order of their names, points in that of their ids."""

    camera_ids: np.ndarray
    """(c,) int64, COLMAP's camera ids."""
    camera_models: np.ndarray
    """(c,) int32, COLMAP's camera model ids (0 SIMPLE_PINHOLE, 1 PINHOLE, 2 SIMPLE_RADIAL ...)."""
    camera_sizes: np.ndarray
    """(c, 2) int64, width and height in pixels; (0, 0) from Bundler and VisualSFM, whose files do not say."""
    camera_indptr: np.ndarray
    """(c + 1,) int64, where each camera's parameters start."""
    camera_params: np.ndarray
    """(sum,) float64, parameters in COLMAP's order (focal lengths and principal point in pixels)."""
    image_ids: np.ndarray
    """(n,) int64, COLMAP's image ids."""
    image_names: list[str]
    """COLMAP's names: paths of the photos relative to the photo root; bytes that are not UTF-8 as Python keeps them."""
    image_cameras: np.ndarray
    """(n,) int64, row of the image's camera."""
    quaternions: np.ndarray
    """(n, 4) float64, world-to-camera rotation, wxyz, normalised."""
    translations: np.ndarray
    """(n, 3) float64, world-to-camera translation."""
    observation_indptr: np.ndarray
    """(n + 1,) int64, where each image's observations start."""
    observation_points: np.ndarray
    """(m,) int64, row of the observed point; detections without a 3D point are left out."""
    observation_xy: np.ndarray
    """(m, 2) float64, pixel coordinates in the image; NaN where only the point's track names the observation."""
    point_ids: np.ndarray
    """(p,) int64, COLMAP's point ids."""
    points: np.ndarray
    """(p, 3) float64, position in the model's world."""
    point_errors: np.ndarray
    """(p,) float64, mean reprojection error in pixels; NaN from Bundler and VisualSFM, whose files hold none."""
    dropped: dict[str, int] = field(default_factory=dict)
    """What a lenient reading left out: reason to count."""
