"""The steps: features of the photos that are needed, then each query's pose; what was done before is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from retrieval.local_features.feature_extraction import FeatureOptions, features_in_turn
from retrieval.local_features.sift import SiftOptions
from retrieval.localisation.absolute_poses import DIED, UNREADABLE, LocaliseJob, failure, localise_query
from retrieval.localisation.features_cache import (
    cached_answers,
    cached_states,
    opened_cache,
    prepare_cache,
    state_of,
    store_answer,
    store_features_of,
)
from retrieval.localisation.options import LocalisationOptions
from retrieval.photos.sources import PhotoSources
from retrieval.reconstruction.progress import told
from sfm2tuples.compute.worker_pools import LocalProcesses, run_jobs
from sfm2tuples.errors import DataError, PhotoError
from sfm2tuples.index.opened import OpenedIndex

Names = tuple[tuple[str, tuple[int, ...]], ...]
"""Keys of photos with their rows in the index."""


@dataclass(frozen=True)
class PoseAnswers:
    """What came out for each query; rows of all columns are queries."""

    reason: list[str]
    """Why there is no pose; empty where there is one."""
    model: np.ndarray
    """(q,) int64, row of the model that the pose is in; -1 for none."""
    pose: np.ndarray
    """(q, 3, 4) float64, world-to-camera; NaN for none."""
    matches: np.ndarray
    """(q,) int64, correspondences of 2D and 3D that PnP was given."""
    inliers: np.ndarray
    """(q,) int64, those that the pose explains."""


def localise(
    index: OpenedIndex,
    photos: PhotoSources,
    queries: Names,
    found: Sequence[Names],
    options: LocalisationOptions,
    jobs: int = 1,
) -> PoseAnswers:
    """Localise queries by the photos that were found for each.

    Parameters
    ----------
    index : OpenedIndex
        Its cameras, points and observations.
    photos : PhotoSources
        Photos of all keys.
    queries : Names
    found : sequence of Names
        Photos found for each query, best first, the query itself not among them.
    options : LocalisationOptions
    jobs : int
        Processes that run pycolmap, each on one core; changes no figure.

    Raises
    ------
    UsageError
        pycolmap is not installed, or older than version 4.
    DataError
        The index does not say where its images see their points, or the cache cannot be used.
    """
    _check_positions(index, found)
    if options.localise_cache is not None:
        return _localise(options.localise_cache, index, photos, queries, found, options, jobs)
    with TemporaryDirectory() as folder:
        return _localise(Path(folder) / "cache.db", index, photos, queries, found, options, jobs)


def _check_positions(index: OpenedIndex, found: Sequence[Names]) -> None:
    """Refuse an index that has no positions for any image found."""
    for image in sorted({image for names in found for _, images in names for image in images}):
        if np.isfinite(index.points_of(image).xy).any():
            return
    what = "does not say where its images see their points (xy), so nothing can be localised"
    raise DataError(index.path, what, "leave out --localise, or build it from models that hold observations")


def _localise(
    cache: Path,
    index: OpenedIndex,
    photos: PhotoSources,
    queries: Names,
    found: Sequence[Names],
    options: LocalisationOptions,
    jobs: int,
) -> PoseAnswers:
    looked_at = _feature_options(options)
    made_with = json.dumps(looked_at.as_dict(), sort_keys=True)
    prepare_cache(cache)
    # Of photos with the same content the first stands for all.
    keys = list(dict.fromkeys([key for key, _ in queries] + [key for names in found for key, _ in names]))
    wanted = photos.only(keys)
    states = {key: state_of(source) for key, source in zip(keys, wanted.sources, strict=True)}
    _add_features(cache, made_with, wanted, states, looked_at, jobs)
    work = [
        LocaliseJob(str(cache), made_with, index, key, images, names)
        for (key, images), names in zip(queries, found, strict=True)
    ]
    made_of = [_digest(job, states) for job in work]
    answers = _answer(cache, work, made_of, jobs)
    return _columns([answers[one] for one in made_of])


def _feature_options(options: LocalisationOptions) -> FeatureOptions:
    """COLMAP's own thresholds, so that features lie where the models' observations are."""
    sift = SiftOptions(max_features=options.max_features, peak_threshold=0.02 / 3, affine_shape=False)
    return FeatureOptions(options.feature_size, sift)


def _add_features(
    cache: Path,
    made_with: str,
    photos: PhotoSources,
    states: dict[str, tuple[int, int]],
    options: FeatureOptions,
    jobs: int,
) -> None:
    """Look at the photos that the cache does not hold as they are now."""
    with opened_cache(cache) as connection:
        held = cached_states(connection, made_with)
        missing = [row for row, key in enumerate(photos.keys) if held.get(key) != states[key]]
        with told("features", len(photos.keys) - len(missing), len(photos.keys), "photo", None) as add:
            for row, result in features_in_turn(photos, missing, options, jobs):
                key, kept = photos.keys[row], str(result) if isinstance(result, PhotoError) else result
                store_features_of(connection, key, made_with, states[key], kept)
                add(1)


def _answer(cache: Path, work: list[LocaliseJob], made_of: list[str], jobs: int) -> dict[str, dict[str, Any]]:
    """Answers by digest: those of the cache, and of the queries that it lacks, each kept as soon as it is there."""
    with opened_cache(cache) as connection:
        answers = cached_answers(connection)
        missing = {one: job for one, job in zip(made_of, work, strict=True) if one not in answers}
        digest_of = {job.query: one for one, job in missing.items()}
        pool = LocalProcesses(jobs)
        try:
            with told("localise", len(work) - len(missing), len(work), "photo", None) as add:
                for job, result in run_jobs(list(missing.values()), localise_query, pool, lambda job: ()):
                    one = digest_of[job.query]
                    answers[one] = failure(DIED) if result is None else result
                    if answers[one]["reason"] not in (DIED, UNREADABLE):  # these are tried again
                        store_answer(connection, one, answers[one])
                    add(1)
        finally:
            pool.close()
    return answers


def _digest(job: LocaliseJob, states: dict[str, tuple[int, int]]) -> str:
    """Of all that an answer depends on."""
    names = [(job.query, job.query_images), *job.found]
    content = [job.made_with, job.index.header.content, [(key, states[key], images) for key, images in names]]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "surrogateescape")).hexdigest()


def _columns(answers: list[dict[str, Any]]) -> PoseAnswers:
    poses = [one["pose"] or [np.nan] * 12 for one in answers]
    return PoseAnswers(
        [str(one["reason"]) for one in answers],
        np.array([one["model"] for one in answers], np.int64),
        np.array(poses, np.float64).reshape(-1, 3, 4),
        np.array([one["matches"] for one in answers], np.int64),
        np.array([one["inliers"] for one in answers], np.int64),
    )
