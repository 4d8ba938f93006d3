"""Points in single precision: what their positions count from, and how far that moves them in the photos."""

from __future__ import annotations

import numpy as np

from sfm2tuples.readers.sparse_model import SparseModel

MOST_LOST = 0.01
"""Pixels that 99 of 100 observations may move by. COLMAP's own mean error is 0.25 px and more (27 real models)."""
SAMPLE = 10_000
"""Observations of a model that are looked at, evenly spread."""
FARTHEST = 1e30
"""No coordinate beyond it is kept in single precision, which ends at 3e38."""


def centre_of(points: np.ndarray) -> np.ndarray:
    """The median of the positions (p, 3) of a model's points: (3,) float64; a few far points do not move it.

    The origin where there are no points, or some are not finite.
    """
    if not len(points) or not np.isfinite(points).all():
        return np.zeros(3)
    centre: np.ndarray = np.median(points, axis=0)
    return centre


def half_of(errors: np.ndarray) -> np.ndarray:
    """Reprojection errors in half precision: (p,) float16, 11 bits of each; what is beyond its range is its end."""
    most = float(np.finfo(np.float16).max)
    return np.clip(errors, -most, most).astype(np.float16)


def rounding_loss(model: SparseModel, centre: np.ndarray | None = None) -> float:
    """Pixels that 99 of 100 observations move by at most, where positions are float32 and count from the centre.

    A point at distance d of a camera with focal length f, in pixels, that moves by m is seen f m / d pixels away, at
    most. Of a camera without a focal length the longer side of the photo stands for it. The few observations beyond
    are of points that lie at the camera itself: what they look like there is rounding already.

    Parameters
    ----------
    model : SparseModel
    centre : np.ndarray, optional
        (3,); `centre_of` its points where left out.

    Returns
    -------
    float
        Infinite where a position is beyond single precision, or not finite.
    """
    from sfm2tuples.covisibility.graph import focal_lengths
    from sfm2tuples.relations.frusta import rotations_of

    relative = model.points - (centre_of(model.points) if centre is None else centre)
    if not (np.abs(relative) < FARTHEST).all():
        return np.inf
    count = len(model.observation_points)
    seen = np.arange(0, count, max(1, -(-count // SAMPLE)))
    if not len(seen):
        return 0.0
    point, image = model.observation_points[seen], np.searchsorted(model.observation_indptr, seen, "right") - 1
    moved = np.linalg.norm(relative[point].astype(np.float32) - relative[point], axis=1)
    centres = -np.einsum("nij,ni->nj", rotations_of(model.quaternions), model.translations)
    focal = focal_lengths(model)
    focal = np.where(np.isnan(focal), model.camera_sizes.max(axis=1, initial=0), focal)[model.image_cameras]
    distance = np.linalg.norm(model.points[point] - centres[image], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.percentile(np.nan_to_num(focal[image] * moved / distance, nan=np.inf), 99))
