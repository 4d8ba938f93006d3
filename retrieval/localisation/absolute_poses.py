"""One query's pose: match its features, bring the matches to 3D points, PnP. What a worker process does."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.local_features.spatial_verification import match_unit_features
from retrieval.local_features.vocabulary import unit_length
from retrieval.localisation.features_cache import CachedFeatures, cached_features, opened_cache
from retrieval.localisation.lifting import nearest_observations
from sfm2tuples.errors import FileFormatError
from sfm2tuples.index.answers import ImageCamera
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS, CAMERA_MODELS

RATIO = 0.8
"""Most distance of a match over that of the second-nearest: hloc's."""
MAX_ERROR = 12 / 1024
"""Reprojection error of an inlier, as a share of the longest side: hloc's 12 pixels at its 1024."""
MAX_OFFSET = 3 / 1024
"""How far an observation may lie from the keypoint that stands for it, likewise."""
MIN_INLIERS = 12
"""Correspondences that a pose needs. [method.md section 10]"""
SEED = 0
"""Of RANSAC's draws, so that two runs agree."""
SAME_SHAPE = 0.02
"""How far the sides of a photo may be scaled apart from its camera's: rounding to whole pixels."""
UNKNOWN_SIZE = (0, 0)
"""Of a camera whose model does not say it."""
HELD = 64
"""Photos whose features a worker keeps at hand, about two megabytes each."""
UNREADABLE, SHAPE = "photo cannot be read", "photo of another shape"
NO_FOCAL, NO_SIZE = "camera without a focal length", "camera without a size"
"""As of an unknown camera of kapture, and of Bundler's and VisualSFM's models, which say no size."""
FEW, NO_POSE, DIED = "too few matched points", "no pose that they agree on", "pycolmap ended its process"


@dataclass(frozen=True)
class LocaliseJob:
    """A query and the photos that were found for it."""

    cache: str
    """Path of the cache that holds the features of all of them."""
    made_with: str
    """The settings of these features."""
    index: OpenedIndex
    """Travels as a path."""
    query: str
    """Key of the query."""
    query_images: tuple[int, ...]
    """Its rows in the index, whose cameras are taken."""
    found: tuple[tuple[str, tuple[int, ...]], ...]
    """Key and rows of each photo found, best first."""


def localise_query(job: LocaliseJob) -> dict[str, Any]:
    """Find the pose of a query in the model that explains most of its matches.

    Returns
    -------
    dict
        Plain values: ``reason`` (empty where there is a pose), ``model``, ``pose`` (12 numbers, [R | t] by rows),
        ``matches`` (correspondences of 2D and 3D in that model) and ``inliers``.
    """
    query = _features(job.cache, job.made_with, job.query)
    if query is None:
        return failure(UNREADABLE)
    index = _opened(str(job.index.path), job.index.header.content)
    cameras = {int(index.images.model[image]): _camera(index, image) for image in job.query_images}
    usual = next(iter(cameras.values()))
    best: dict[str, Any] | None = None
    for model, (keypoint, point) in sorted(_correspondences(job, query, index).items()):
        camera = cameras.get(model, usual)
        scale = _scale(camera, query[0].size)
        focal = camera.params[: CAMERA_MODELS[CAMERA_MODEL_IDS[camera.model]].num_focal]
        if not len(focal) or not (focal > 0).all():
            answer = failure(NO_FOCAL)
        elif camera.size == UNKNOWN_SIZE:
            answer = failure(NO_SIZE)
        elif scale is None:
            answer = failure(SHAPE)
        else:
            answer = _solve(model, camera, query[0].points[keypoint] * scale, index.points.xyz[point])
        if best is None or (answer["inliers"], answer["matches"]) > (best["inliers"], best["matches"]):
            best = answer
    return best or failure(FEW)


def failure(reason: str, matches: int = 0) -> dict[str, Any]:
    """An answer without a pose."""
    return {"reason": reason, "model": -1, "pose": None, "matches": matches, "inliers": 0}


def _correspondences(
    job: LocaliseJob, query: tuple[CachedFeatures, np.ndarray], index: OpenedIndex
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Rows of the query's features and of 3D points that match, each pair of a place and a point once, by model."""
    pairs: dict[int, list[np.ndarray]] = defaultdict(list)
    index_at = str(job.index.path), job.index.header.content
    for name, images in job.found:
        other = _features(job.cache, job.made_with, name)
        if other is None:
            continue
        matches = match_unit_features(query[1], other[1], RATIO)
        for image in images:
            points = _points_of_keypoints(job.cache, job.made_with, name, *index_at, image)
            point = points[matches[:, 1]]
            lifted = point >= 0
            pairs[int(index.images.model[image])].append(np.stack([matches[lifted, 0], point[lifted]], axis=1))
    # A place with two orientations is two features, and would count twice.
    _, where = np.unique(query[0].points, axis=0, return_inverse=True)
    found = {}
    for model, parts in pairs.items():
        both = np.concatenate(parts)
        _, first = np.unique(np.stack([where.ravel()[both[:, 0]], both[:, 1]], axis=1), axis=0, return_index=True)
        found[model] = both[first, 0], both[first, 1]
    return found


def _solve(model: int, camera: ImageCamera, xy: np.ndarray, xyz: np.ndarray) -> dict[str, Any]:
    """PnP with RANSAC, then refinement, both pycolmap's."""
    import pycolmap

    pycolmap.logging.minloglevel = 2
    if len(xy) < MIN_INLIERS:
        return failure(FEW, len(xy))
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error, options.ransac.random_seed = MAX_ERROR * max(camera.size), SEED
    width, height = camera.size
    taken = pycolmap.Camera(model=camera.model, width=width, height=height, params=camera.params)
    found = pycolmap.estimate_and_refine_absolute_pose(np.asarray(xy, np.float64), xyz, taken, options)
    inliers = 0 if found is None else int(found["num_inliers"])
    if found is None or inliers < MIN_INLIERS:
        return failure(NO_POSE, len(xy))
    pose = np.asarray(found["cam_from_world"].matrix(), np.float64)
    if not np.isfinite(pose).all():
        return failure(NO_POSE, len(xy))
    return {"reason": "", "model": model, "pose": pose.ravel().tolist(), "matches": len(xy), "inliers": inliers}


def _camera(index: OpenedIndex, image: int) -> ImageCamera:
    """The camera of an image; of a wrong number of parameters pycolmap would read what lies behind them."""
    camera = index.camera(image)
    wanted = CAMERA_MODELS[CAMERA_MODEL_IDS[camera.model]].num_params
    has_size = min(camera.size) >= 1 or camera.size == UNKNOWN_SIZE
    if len(camera.params) != wanted or not has_size or not np.isfinite(camera.params).all():
        what = f"the {camera.model} camera of {index.images.key[image]} is none: it needs a size and {wanted} numbers"
        raise FileFormatError(index.path, what, "build it again")
    return camera


def _scale(camera: ImageCamera, size: tuple[int, int]) -> np.ndarray | None:
    """Pixels of the camera for one of the photo, across and down; None where the photo has another shape, or the camera
    has no size."""
    if camera.size == UNKNOWN_SIZE:
        return None
    scale = np.array(camera.size, np.float64) / size
    return scale if abs(scale[0] / scale[1] - 1) <= SAME_SHAPE else None


@lru_cache(HELD)
def _features(cache: str, made_with: str, name: str) -> tuple[CachedFeatures, np.ndarray] | None:
    """Features of a photo, and their descriptors at length 1."""
    with opened_cache(Path(cache)) as connection:
        found = cached_features(connection, name, made_with)
    return None if found is None else (found, unit_length(found.descriptors))


@lru_cache(4 * HELD)
def _points_of_keypoints(cache: str, made_with: str, name: str, path: str, fingerprint: str, image: int) -> np.ndarray:
    """Row of the 3D point that each feature of a photo stands for, (m,) int64; -1 for none."""
    found, index = _features(cache, made_with, name), _opened(path, fingerprint)
    camera = _camera(index, image)
    scale = None if found is None else _scale(camera, found[0].size)
    if found is None or scale is None:
        return np.full(0 if found is None else len(found[0].points), -1, np.int64)
    observed = index.points_of(image)
    near = nearest_observations(found[0].points * scale, observed.xy, MAX_OFFSET * max(camera.size))
    return np.where(near >= 0, observed.point[near], -1) if len(observed.point) else near


@lru_cache(1)
def _opened(path: str, fingerprint: str) -> OpenedIndex:
    return OpenedIndex(path, fingerprint)
