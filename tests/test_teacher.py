"""The BoW teacher: rankings by words, verified photos in front, queries averaged with what they found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from retrieval.local_features.bag_of_words import BagOfWords, InvertedFile, learn_bag_of_words
from retrieval.local_features.feature_files import LocalFeatures
from retrieval.local_features.options import VerificationOptions
from retrieval.local_features.vocabulary import WordOptions
from retrieval.search.options import TeacherOptions
from retrieval.search.teacher import inside_boxes, rank_by_words
from sfm2tuples.errors import UsageError
from sfm2tuples.files.columns import indptr_of
from tests.textures import root_sift

NOBODY = np.array([-1])


def wall(rng: np.random.Generator, descriptors: np.ndarray, move: bool) -> tuple[np.ndarray, np.ndarray]:
    """A photo of things with these descriptors: where a wall's points are, or anywhere."""
    points = (
        np.random.default_rng(7).uniform(0, 300, (len(descriptors), 2))
        if move
        else rng.uniform(0, 300, (len(descriptors), 2))
    )
    return points * [0.9, 1.1] + rng.uniform(0, 20, 2), descriptors


def bag_of(photos: list[tuple[np.ndarray, np.ndarray]], words: int = 60) -> BagOfWords:
    """Photos called 0, 1, ... of points and descriptors."""
    total = indptr_of(np.array([len(points) for points, _ in photos], np.int64))
    keypoints = np.ones((total[-1], 4), np.float32)
    keypoints[:, :2] = np.concatenate([points for points, _ in photos])
    descriptors = np.concatenate([descriptors for _, descriptors in photos])
    names = [str(number) for number in range(len(photos))]
    size, zoom = np.full((len(photos), 2), 400, np.int32), np.ones(len(photos))
    return learn_bag_of_words(LocalFeatures(names, size, zoom, total, keypoints, descriptors), WordOptions(words))


@pytest.fixture
def bag() -> BagOfWords:
    """0: a wall; 1: its things in disorder; 2: half of it in order; 3: a third beside things of 4; 4, 5: others."""
    rng = np.random.default_rng(0)
    things, strange, others = root_sift(rng, 60), root_sift(rng, 60), root_sift(rng, 60)
    half = wall(rng, things, True)
    mixed = np.concatenate([things[:20], strange[:40]])
    return bag_of(
        [
            wall(rng, things, True),
            wall(rng, things, False),
            (half[0][:30], half[1][:30]),
            wall(rng, mixed, True),
            wall(rng, strange, False),
            wall(rng, others, False),
        ],
        150,
    )


def test_without_more_the_ranking_is_the_inverted_file_s(bag: BagOfWords) -> None:
    ranked = rank_by_words(bag, ["0"], bag.features.names, np.array([0]), TeacherOptions())
    file = InvertedFile(bag.counts())
    assert np.array_equal(ranked, file.rank(file.vectors(bag.only(["0"]).counts())))
    assert ranked[0, :2].tolist() == [0, 1]


def test_verification_prefers_what_is_in_order(bag: BagOfWords) -> None:
    pytest.importorskip("pycolmap")
    options = TeacherOptions(num_verified=4, verification=VerificationOptions("affine"))
    ranked = rank_by_words(bag, ["0"], bag.features.names, np.array([0]), options)
    assert ranked[0, :3].tolist() == [2, 3, 0]
    assert sorted(ranked[0].tolist()) == list(range(6))


def test_expansion_finds_what_only_the_found_ones_show(bag: BagOfWords) -> None:
    ranked = rank_by_words(bag, ["0"], ["1", "3", "4", "5"], NOBODY, TeacherOptions(num_expanded=2))
    assert ranked[0].tolist()[-2:] == [2, 3]
    file = InvertedFile(bag.only(["1", "3", "4", "5"]).counts())
    query = file.vectors(bag.only(["0"]).counts()).toarray()[0]
    database = file.database.toarray()
    before = database @ query
    first = np.argsort(-before)[:2]
    mean = query + database[first].sum(axis=0)
    assert 5 * before[2] < (database @ mean)[2] / np.linalg.norm(mean)
    assert ranked[0].tolist() == np.argsort(-(database @ mean), kind="stable").tolist()


def test_a_query_is_not_averaged_with_itself(bag: BagOfWords) -> None:
    names, options = bag.features.names, TeacherOptions(num_expanded=2)
    # 0 and 1 have the same words, so that a mean with both is nearer to them than to the query.
    assert rank_by_words(bag, ["2"], names, np.array([2]), options)[0, :3].tolist() == [0, 1, 2]
    assert rank_by_words(bag, ["2"], names, NOBODY, options)[0, :3].tolist() == [2, 0, 1]


def test_a_query_is_averaged_with_what_has_enough_inliers(bag: BagOfWords) -> None:
    pytest.importorskip("pycolmap")
    affine = VerificationOptions("affine")
    search = TeacherOptions(num_verified=4, num_expanded=4, verification=affine)
    names, own = bag.features.names, np.array([0])

    def expanded_with(least: int) -> np.ndarray:
        options = replace(search, verification=replace(affine, expand_inliers=least))
        return rank_by_words(bag, ["0"], names, own, options)

    # 2 agrees in 30 points, 3 in 20: what 3 shows besides comes in with it alone.
    all_of_them, the_best, none = expanded_with(15), expanded_with(25), expanded_with(99)
    only_verified = rank_by_words(bag, ["0"], names, own, replace(search, num_expanded=0))
    assert np.array_equal(none, only_verified)
    file = InvertedFile(bag.counts())
    query, database = file.vectors(bag.only(["0"]).counts()).toarray()[0], file.database.toarray()
    for found, rows in ((all_of_them, [2, 3]), (the_best, [2])):
        similarity = database @ (query + database[rows].sum(axis=0))
        # Rows that are equally similar but for rounding may stand in either order.
        assert np.all(np.diff(similarity[found[0]]) < 1e-9)
    assert not np.array_equal(all_of_them, only_verified)


def test_features_outside_of_the_box_do_not_count(bag: BagOfWords) -> None:
    box = np.array([[0.0, 0.0, 150.0, 400.0]])
    inside = bag.features.keypoints[bag.features.of(0), 0] <= 150
    kept = inside_boxes(bag.features.only(["0"]), box)
    assert np.array_equal(kept, inside)
    assert 0 < kept.sum() < len(kept)
    ranked = rank_by_words(bag, ["0"], ["2", "3"], NOBODY, TeacherOptions(), box)
    file = InvertedFile(bag.only(["2", "3"]).counts())
    asked = bag.only(["0"])
    assert np.array_equal(ranked, file.rank(file.vectors(asked.counts(inside))))


def test_a_query_without_features_has_a_ranking(bag: BagOfWords) -> None:
    nothing = np.array([[-9.0, -9.0, -5.0, -5.0]])
    options = TeacherOptions(num_verified=2, num_expanded=2)
    ranked = rank_by_words(bag, ["0"], ["2", "3"], NOBODY, options, nothing)
    assert ranked.tolist() == [[0, 1]]


def test_options_without_meaning_are_refused() -> None:
    for options in ({"power": 2.0}, {"num_verified": -1}, {"jobs": 0}):
        with pytest.raises(UsageError):
            replace(TeacherOptions(), **options)
