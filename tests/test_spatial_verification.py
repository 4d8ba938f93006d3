"""Spatial verification: matches by their definition, inliers that one geometry explains."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from retrieval.local_features.feature_files import LocalFeatures
from retrieval.local_features.options import VerificationOptions
from retrieval.local_features.spatial_verification import (
    PhotoFeatures,
    count_inliers,
    match_features,
    photo_features,
    verify,
)
from sfm2tuples.errors import UsageError
from tests import oracles
from tests.textures import made_features, root_sift

pytest.importorskip("pycolmap")


def two_views(seed: int, agreeing: int, others: int) -> tuple[PhotoFeatures, PhotoFeatures]:
    """Points in space seen by two cameras, and others that match without reason."""
    rng = np.random.default_rng(seed)
    space = rng.uniform(-1, 1, (agreeing, 3)) + np.array([0, 0, 4])
    moved = space @ np.array([[0.98, 0, 0.199], [0, 1, 0], [-0.199, 0, 0.98]]) + np.array([0.5, 0.1, 0.2])
    seen = [300 * points[:, :2] / points[:, 2:] + 200 for points in (space, moved)]
    stray = [rng.uniform(0, 400, (others, 2)) for _ in range(2)]
    descriptors = root_sift(rng, agreeing + others)
    left, right = (PhotoFeatures(np.concatenate(pair), descriptors) for pair in zip(seen, stray, strict=True))
    return left, right


def flat_views(seed: int, agreeing: int, others: int) -> tuple[PhotoFeatures, PhotoFeatures]:
    """A wall in two photos that an affine map joins, and others that match without reason."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 400, (agreeing + others, 2))
    moved = points @ np.array([[0.9, 0.2], [-0.1, 1.1]]) + [10, 20]
    moved[agreeing:] = rng.uniform(0, 400, (others, 2))
    descriptors = root_sift(rng, agreeing + others)
    return PhotoFeatures(points, descriptors), PhotoFeatures(moved, descriptors)


@pytest.mark.parametrize("ratio", [0.7, 0.9, 1.0])
def test_matches_are_as_defined(ratio: float) -> None:
    rng = np.random.default_rng(0)
    left = root_sift(rng, 30)
    noise = rng.integers(-25, 26, (30, 128))
    right = np.clip(left[rng.permutation(30)].astype(int) + noise, 0, 255).astype(np.uint8)
    found = match_features(left, right, ratio)
    assert len(found) > 5
    assert [tuple(pair) for pair in found.tolist()] == oracles.mutual_matches(left, right, ratio)


def test_nothing_matches_an_empty_photo() -> None:
    descriptors = root_sift(np.random.default_rng(0), 5)
    assert match_features(descriptors[:0], descriptors, 0.8).shape == (0, 2)
    assert match_features(descriptors, descriptors[:1], 0.8).shape == (0, 2)


@pytest.mark.parametrize("geometry", ["affine", "homography", "fundamental"])
def test_inliers_are_those_that_agree(geometry: str) -> None:
    views = two_views if geometry == "fundamental" else flat_views
    left, right = views(1, 60, 30)
    assert 60 <= count_inliers(left, right, VerificationOptions(geometry, max_error=2.0)) <= 64


def test_matches_without_reason_are_not_verified() -> None:
    left, right = flat_views(2, 0, 60)
    assert count_inliers(left, right, VerificationOptions("homography", min_inliers=12)) < 12


def database_of(photos: list[PhotoFeatures]) -> LocalFeatures:
    made = made_features(np.random.default_rng(9), tuple(len(photo.points) for photo in photos))
    made.keypoints[:, :2] = np.concatenate([photo.points for photo in photos])
    made.descriptors[:] = np.concatenate([photo.descriptors for photo in photos])
    return made


@pytest.mark.parametrize("jobs", [1, 2])
def test_workers_count_what_one_process_counts(jobs: int) -> None:
    left, right = flat_views(1, 40, 10)
    database = partial(photo_features, database_of([flat_views(5, 0, 30)[1], right, flat_views(6, 0, 30)[1]]))
    options = VerificationOptions("affine")
    inliers = verify([left, right], np.array([[0, 1, -1], [2, 1, 0]]), database, options, jobs)
    assert inliers[0].tolist() == [0, count_inliers(left, right, options), 0]
    assert inliers[1].tolist() == [0, 50, 0]


def test_pixels_are_those_of_the_photo_as_it_was_looked_at() -> None:
    left, right = flat_views(1, 40, 0)
    database = database_of([right])
    database.keypoints[:, :2] *= 8
    larger = LocalFeatures(
        database.names, database.size, 8 * database.zoom, database.indptr, database.keypoints, database.descriptors
    )
    noisy = PhotoFeatures(left.points + np.random.default_rng(0).normal(0, 0.5, left.points.shape), left.descriptors)
    assert verify([noisy], np.array([[0]]), partial(photo_features, larger), VerificationOptions("affine"))[0, 0] == 40


def test_options_without_meaning_are_refused() -> None:
    wrong = ({"geometry": "rigid"}, {"ratio": 0.0}, {"max_error": 0.0}, {"min_inliers": 6}, {"expand_inliers": 0})
    for options in wrong:
        with pytest.raises(UsageError):
            VerificationOptions(**options)
