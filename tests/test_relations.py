"""The relations of one model: equal to the loop over all pairs, and what must hold of any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.relations.frusta import LEAST_POINTS, REACH, SAMPLE, frusta_of
from sfm2tuples.relations.model_relations import ModelRelations, relations_of_model
from sfm2tuples.relations.point_tree import CHILDREN, LEAF, tree_of
from sfm2tuples.relations.unknown_pairs import MOST_STEPS, SHARE_OF, Graph
from tests.oracles_relations import naive_relations
from tests.site_models import PINHOLE, model_of, moved, random_site, reordered, tied_site


def relations(model: SparseModel, min_shared: int = 1, threads: int | None = 1) -> ModelRelations:
    graph = covisibility(model, min_shared)
    return relations_of_model(model, Graph(graph.indptr, graph.neighbour), min_shared == 1, threads)


def pairs_of(found: ModelRelations) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(np.arange(len(found.takes_part)), np.diff(found.unknown.indptr)), found.unknown.other


def assert_equal_to_naive(model: SparseModel, min_shared: int = 1) -> int:
    """Every image and pair is as the loop says; gives the number of proven pairs."""
    found, right = relations(model, min_shared), naive_relations(model, min_shared)
    np.testing.assert_array_equal(found.takes_part, right.takes_part)
    rows, others = pairs_of(found)
    np.testing.assert_array_equal(np.stack([rows, others]), np.nonzero(right.unknown))
    np.testing.assert_array_equal(found.unknown.hops, right.hops[rows, others])
    np.testing.assert_array_equal(found.unknown.into, right.into[rows, others].astype(np.float32))
    np.testing.assert_allclose(found.unknown.distance, right.distance[rows, others], rtol=1e-5, atol=1e-7)
    takes_part = right.takes_part[:, None] & right.takes_part
    return int((takes_part & ~right.positive & ~right.unknown).sum() - takes_part.diagonal().sum())


@pytest.mark.parametrize("seed", range(4))
def test_random_sites_equal_the_loop(seed: int) -> None:
    assert assert_equal_to_naive(random_site(np.random.default_rng(seed))) > 100


@pytest.mark.parametrize("seed", range(4))
def test_sites_full_of_ties_equal_the_loop(seed: int) -> None:
    assert_equal_to_naive(tied_site(np.random.default_rng(seed)))


@pytest.mark.parametrize("min_shared", [2, 5])
def test_pairs_that_share_less_than_the_graph_wants_are_unknown_one_step_apart(min_shared: int) -> None:
    model = random_site(np.random.default_rng(9), side=9.0, points=1000)
    assert_equal_to_naive(model, min_shared)
    assert (relations(model, min_shared).unknown.hops == 1).any()


CAMERAS = {
    "distorted": [(4, [100.0, 100, 100, 100, -0.2, 0.03, 0.001, 0.002]), (2, [90.0, 100, 100, 0.1])],
    "fisheye": [(14, [60.0, 100, 100]), (5, [70.0, 70, 100, 100, 0.01, 0, 0, 0]), (16, [80.0, 80, 100, 100, 0.6, 1.1])],
    "some spherical": [(17, [100.0, 100]), PINHOLE],
}


@pytest.mark.parametrize("cameras", CAMERAS.values(), ids=CAMERAS)
def test_other_cameras_equal_the_loop(cameras: list[tuple[int, list[float]]]) -> None:
    assert_equal_to_naive(random_site(np.random.default_rng(2), cameras=cameras))


def test_a_spherical_camera_takes_no_part() -> None:
    found = relations(random_site(np.random.default_rng(2), cameras=[(17, [100.0, 100])]))
    assert not found.takes_part.any()
    assert not len(found.unknown.other)


def test_a_camera_whose_size_nobody_says_takes_no_part() -> None:
    model = random_site(np.random.default_rng(2))
    assert not relations(replace(model, camera_sizes=np.zeros((1, 2), np.int64))).takes_part.any()


@pytest.mark.parametrize("images", [0, 1, 2])
def test_models_of_nothing_have_no_pairs(images: int) -> None:
    nothing = [np.zeros(0, np.int64)] * images
    model = model_of(np.tile(np.eye(3), (images, 1, 1)), np.zeros((images, 3)), np.zeros((0, 3)), nothing, [PINHOLE])
    found = relations(model)
    assert found.unknown.indptr.tolist() == [0] * (images + 1)
    assert not found.takes_part.any()


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_pairs_are_symmetric_and_proven_ones_are_never_near(seed: int) -> None:
    model = random_site(np.random.default_rng(seed), images=25, side=10.0)
    found = relations(model)
    rows, others = pairs_of(found)
    both = {(i, j): h for i, j, h in zip(rows.tolist(), others.tolist(), found.unknown.hops.tolist(), strict=True)}
    assert all(both.get((j, i)) == h for (i, j), h in both.items())
    assert all(i != j for i, j in both)
    assert found.takes_part[others].all()
    assert ((found.unknown.into >= 0) & (found.unknown.into <= 1)).all()


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_other_coordinates_change_no_relation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_site(rng, images=25, side=10.0)
    a, b = relations(model), relations(moved(model, rng))
    np.testing.assert_array_equal(a.takes_part, b.takes_part)
    for column in ("indptr", "other", "hops", "into"):
        np.testing.assert_array_equal(getattr(a.unknown, column), getattr(b.unknown, column))
    np.testing.assert_allclose(a.unknown.distance, b.unknown.distance, rtol=1e-4)


@given(st.integers(0, 10**6))
@settings(max_examples=15)
def test_the_order_of_images_changes_no_relation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, order = random_site(rng, images=25, side=10.0), rng.permutation(25)
    a, b = relations(model), relations(reordered(model, order))
    np.testing.assert_array_equal(a.takes_part[order], b.takes_part)
    where = {(i, j): k for k, (i, j) in enumerate(zip(*(part.tolist() for part in pairs_of(a)), strict=True))}
    rows, others = pairs_of(b)
    same = [where[i, j] for i, j in zip(order[rows].tolist(), order[others].tolist(), strict=True)]
    assert sorted(same) == list(range(len(where)))
    for column in ("hops", "into", "distance"):
        np.testing.assert_array_equal(getattr(a.unknown, column)[same], getattr(b.unknown, column))


@pytest.mark.parametrize("away", [1e60, 1e200, 1e300])
def test_evidence_of_absurd_poses_is_finite(away: float) -> None:
    model = random_site(np.random.default_rng(2))
    translations = model.translations.copy()
    translations[::5, 0] = away
    found = relations(replace(model, translations=translations)).unknown
    assert np.isfinite(found.distance).all()
    assert (found.distance == np.finfo(np.float32).max).any()


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_site(np.random.default_rng(4), images=120, side=20.0, points=9000)
    one = relations(model)
    monkeypatch.setattr("sfm2tuples.compute.threads.ENTRIES_A_THREAD", 1)
    many = relations(model, threads=3)
    for column, values in vars(one.unknown).items():
        np.testing.assert_array_equal(values, getattr(many.unknown, column))


def test_the_sample_is_drawn_evenly_from_different_points() -> None:
    points = np.random.default_rng(0).normal((0, 0, 9), size=(400, 3))
    seen = np.concatenate([np.arange(250), np.arange(250)])
    frusta = frusta_of(model_of(np.eye(3)[None], np.zeros((1, 3)), points, [seen], [PINHOLE]))
    np.testing.assert_array_equal(frusta.sample[0], np.arange(100) * 250 // 100)
    assert frusta.size.tolist() == [100]


def test_the_tree_has_every_point_in_boxes_that_hold_it() -> None:
    for count in (0, 1, LEAF, LEAF + 1, LEAF * CHILDREN + 1, 3000):
        xyz = np.random.default_rng(count).normal(size=(count, 3)) ** 5
        tree = tree_of(xyz)
        np.testing.assert_array_equal(np.sort(tree.order), np.arange(count))
        np.testing.assert_array_equal(tree.xyz, xyz[tree.order])
        size = LEAF
        for level in range(len(tree.starts) - 1):
            boxes = tree.boxes[tree.starts[level] : tree.starts[level + 1]]
            for b, box in enumerate(boxes):
                own = tree.xyz[b * size : (b + 1) * size]
                np.testing.assert_array_equal(box, np.r_[own.min(axis=0), own.max(axis=0)])
            size *= CHILDREN
        assert not count or len(boxes) == 1


def test_the_constants_are_those_of_the_method() -> None:
    assert (LEAST_POINTS, SAMPLE, REACH, MOST_STEPS, 1 / SHARE_OF) == (15, 100, 3.0, 2, 0.05)
