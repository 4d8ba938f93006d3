"""The relations of a model from the words of method.md section 12: a loop over all pairs, slow and obvious."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.relations.pictures import WIDE, pictures_of


@dataclass(frozen=True)
class NaiveRelations:
    """What is true of each image and each pair (n, n)."""

    takes_part: np.ndarray
    positive: np.ndarray
    unknown: np.ndarray
    hops: np.ndarray
    into: np.ndarray
    distance: np.ndarray


def naive_relations(model: SparseModel, min_shared: int = 1) -> NaiveRelations:
    """For every image and pair, what the section says."""
    n = len(model.image_names)
    views = [_View(model, row) for row in range(n)]
    seen = [set(view.points) for view in views]
    shared = np.array([[len(a & b) * (a is not b) for b in seen] for a in seen], int).reshape(n, n)
    hops = np.full((n, n), 3)
    for i in range(n):
        for j in range(n):
            if shared[i, j]:
                hops[i, j] = 1
            elif ((shared[i] > 0) & (shared[j] > 0)).any():
                hops[i, j] = 2
    into = np.array([[a.share_seen_by(b) for b in views] for a in views]).reshape(n, n)
    distance = np.array([[np.linalg.norm(a.centre - b.centre) / a.median for b in views] for a in views]).reshape(n, n)
    takes_part = np.array([view.takes_part for view in views], bool)
    positive = shared >= min_shared
    proven = (hops == 3) & (into <= 0.05) & (into.T <= 0.05)
    unknown = takes_part[:, None] & takes_part & ~positive & ~proven & ~np.eye(n, dtype=bool)
    return NaiveRelations(takes_part, positive, unknown, hops, into, distance)


class _View:
    """One image: its camera, pose and points."""

    def __init__(self, model: SparseModel, row: int) -> None:
        start, stop = model.observation_indptr[row : row + 2]
        self.points = list(dict.fromkeys(model.observation_points[start:stop].tolist()))
        self.rotation = Rotation.from_quat(model.quaternions[row][[1, 2, 3, 0]]).as_matrix()
        self.translation = model.translations[row]
        self.centre = -self.rotation.T @ self.translation
        camera = model.image_cameras[row]
        first, last = model.camera_indptr[camera : camera + 2]
        self.kind = CAMERA_MODELS[int(model.camera_models[camera])]
        self.params, self.size = model.camera_params[first:last], model.camera_sizes[camera]
        self.box = pictures_of(
            model.camera_models[[camera]], model.camera_sizes[[camera]], np.array([0, last - first]), self.params
        ).box[0]
        count = min(100, len(self.points))
        self.sample = model.points[[self.points[k * len(self.points) // count] for k in range(count)]]
        depths = self.depth(model.points[self.points])
        depths = depths[depths > 0]
        self.takes_part = len(depths) >= 15 and self.kind.num_focal > 0 and bool((self.size > 0).all())
        self.median = np.median(depths) if len(depths) else np.nan
        self.reach = 3 * np.percentile(depths, 90, method="higher") if len(depths) else np.nan

    def depth(self, points: np.ndarray) -> np.ndarray:
        local = points @ self.rotation.T + self.translation
        return np.linalg.norm(local, axis=1) if self.kind.name in WIDE else local[:, 2]

    def share_seen_by(self, other: _View) -> float:
        return other.sees(self.sample).sum() / max(1, len(self.sample))

    def sees(self, points: np.ndarray) -> np.ndarray:
        """Which of some points, (n, 3), lie before the camera, in its picture and in its reach."""
        x, y, z = (points @ self.rotation.T + self.translation).T
        depth = self.depth(points)
        with np.errstate(all="ignore"):
            if self.kind.name in ("PINHOLE", "SIMPLE_PINHOLE"):
                focal_x, focal_y = self.params[0], self.params[self.kind.num_focal - 1]
                column, line = self.params[-2] + focal_x * x / z, self.params[-1] + focal_y * y / z
                inside = (column >= 0) & (column <= self.size[0]) & (line >= 0) & (line <= self.size[1])
            else:
                aside = np.hypot(x, y)
                scale = np.where(aside > 0, np.arctan2(aside, z) / aside, 0) if self.kind.name in WIDE else 1 / z
                inside = (self.box[0] <= x * scale) & (x * scale <= self.box[1])
                inside &= (self.box[2] <= y * scale) & (y * scale <= self.box[3])
        return inside & (depth > 0) & (depth <= self.reach)
