"""Whether two photos show the same rigid thing: matches of their features that one geometry explains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.local_features.feature_files import LocalFeatures, inside
from retrieval.local_features.options import VerificationOptions
from retrieval.local_features.vocabulary import unit_length
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.compute.worker_pools import LocalProcesses, run_jobs
from sfm2tuples.errors import UsageError

SEED = 0
"""Of RANSAC's draws, so that two runs agree."""
CONFIDENCE, TRIALS = 0.999, (50, 2000)
"""When RANSAC stops, and the least and most it tries."""


@dataclass(frozen=True)
class PhotoFeatures:
    """Features of one photo, or of a part of it."""

    points: np.ndarray
    """(m, 2) float64: in pixels of the photo as it was looked at."""
    descriptors: np.ndarray
    """(m, 128) uint8."""


def photo_features(features: LocalFeatures, photo: int, box: np.ndarray | None = None) -> PhotoFeatures:
    """Features of a photo of a table; only those inside of a box, (4,) in pixels of its file, where one is given."""
    rows = features.of(photo)
    keypoints, descriptors = np.asarray(features.keypoints[rows]), np.asarray(features.descriptors[rows])
    if box is not None:
        kept = inside(keypoints, box)
        keypoints, descriptors = keypoints[kept], descriptors[kept]
    return PhotoFeatures((keypoints[:, :2] / features.zoom[photo]).astype(np.float64), descriptors)


def match_features(left: np.ndarray, right: np.ndarray, ratio: float) -> np.ndarray:
    """Pairs of descriptors that are each other's nearest and much nearer than the left one's second.

    Parameters
    ----------
    left, right : (m, 128), (n, 128) uint8
    ratio : float
        Of the distances to the nearest and to the second; with one descriptor on the right nothing matches.

    Returns
    -------
    (k, 2) int64
        Rows of left and right.
    """
    return match_unit_features(unit_length(left), unit_length(right), ratio)


def match_unit_features(left: np.ndarray, right: np.ndarray, ratio: float) -> np.ndarray:
    """`match_features` of descriptors of length 1, (m, 128) and (n, 128) float32: O(m n), the time of the product."""
    if len(left) == 0 or len(right) < 2:
        return np.empty((0, 2), np.int64)
    similarity = left @ right.T
    rows = np.arange(len(left))
    nearest = similarity.argmax(axis=1)
    best = similarity[rows, nearest]
    # The largest of a column is found ten times as fast as where it is; of equal ones the first row is the nearest.
    mutual = np.flatnonzero(best == similarity.max(axis=0)[nearest])
    mutual = mutual[np.unique(nearest[mutual], return_index=True)[1]]
    mutual.sort()
    second_of = similarity[mutual]
    second_of[np.arange(len(mutual)), nearest[mutual]] = -np.inf
    # Squared distances of descriptors of length 1 are 2 - 2 cosines.
    near, far = np.maximum(2 - 2 * best[mutual], 0), np.maximum(2 - 2 * second_of.max(axis=1, initial=-np.inf), 0)
    kept = mutual[near < ratio**2 * far]
    return np.stack([kept, nearest[kept]], axis=1)


def count_inliers(left: PhotoFeatures, right: PhotoFeatures, options: VerificationOptions) -> int:
    """Matches between two photos that the best geometry found explains; 0 where there is none.

    Raises
    ------
    UsageError
        pycolmap is not installed, or older than version 4.
    """
    matches = match_features(left.descriptors, right.descriptors, options.ratio)
    if len(matches) < options.min_inliers:
        return 0
    found = _estimate(left.points[matches[:, 0]], right.points[matches[:, 1]], options)
    return 0 if found is None else int(found["num_inliers"])


def verify(
    queries: Iterable[PhotoFeatures],
    short: np.ndarray,
    database: Callable[[int], PhotoFeatures],
    options: VerificationOptions,
    jobs: int = 1,
) -> np.ndarray:
    """Count inliers between queries and their short lists, in processes of their own.

    Parameters
    ----------
    queries : q PhotoFeatures
        Taken one after the other.
    short : (q, s) int64
        Rows of the database; -1 for none.
    database : callable
        Gives the features of a row; asked for what is in a query's short list when it is the query's turn.
    options : VerificationOptions
    jobs : int
        Processes; each runs pycolmap alone.

    Returns
    -------
    (q, s) int64
        Inliers, 0 where there are fewer than `min_inliers`, and where pycolmap ended its process.
    """
    inliers = np.zeros(short.shape, np.int64)
    if short.size == 0:
        return inliers
    pool = LocalProcesses(jobs)
    try:
        for number, query in enumerate(ProgressBar(queries, "verify", len(short), unit="query")):
            columns = np.flatnonzero(short[number] >= 0)
            size = max(1, -(-len(columns) // (2 * jobs)))
            parts = [columns[start : start + size] for start in range(0, len(columns), size)]
            work = [_Job(part, query, [database(int(row)) for row in short[number, part]], options) for part in parts]
            for job, counts in run_jobs(work, _count_all, pool, _one_by_one):
                inliers[number, job.columns] = 0 if counts is None else counts
    finally:
        pool.close()
    return np.where(inliers >= options.min_inliers, inliers, 0)


@dataclass(frozen=True)
class _Job:
    """Some of a query's short list."""

    columns: np.ndarray
    query: PhotoFeatures
    photos: list[PhotoFeatures]
    options: VerificationOptions


def _count_all(job: _Job) -> list[int]:
    """What a worker does."""
    return [count_inliers(job.query, photo, job.options) for photo in job.photos]


def _one_by_one(job: _Job) -> list[_Job]:
    return [
        _Job(job.columns[i : i + 1], job.query, job.photos[i : i + 1], job.options) for i in range(len(job.columns))
    ]


def _estimate(left: np.ndarray, right: np.ndarray, options: VerificationOptions) -> dict[str, Any] | None:
    try:
        import pycolmap
    except ImportError as error:
        raise UsageError("spatial verification needs pycolmap 4 or newer; pip install 'pycolmap>=4'") from error
    ransac = pycolmap.RANSACOptions()
    ransac.max_error, ransac.confidence, ransac.random_seed = options.max_error, CONFIDENCE, SEED
    ransac.min_num_trials, ransac.max_num_trials = TRIALS
    estimators = {
        "fundamental": pycolmap.estimate_fundamental_matrix,
        "homography": pycolmap.estimate_homography_matrix,
        "affine": pycolmap.estimate_affine2d_robust,
    }
    found: dict[str, Any] | None = estimators[options.geometry](left, right, ransac)
    return found
