"""Co-visibility against sets and loops."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import oracles
import pytest
from hand_made import model_of, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm2tuples.covisibility import pair_loops
from sfm2tuples.covisibility.graph import Covisibility, covisibility, focal_lengths
from sfm2tuples.files.columns import gather_rows
from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.sparse_model import SparseModel


def views_of(model: SparseModel) -> list[tuple]:
    """A model as the oracle takes it."""
    starts = itertools.pairwise(model.observation_indptr.tolist())
    focal = [_focal(model, camera) for camera in model.image_cameras]
    return [
        (model.observation_points[a:b].tolist(), oracles.rotation_matrix(q), t.tolist(), f)
        for (a, b), q, t, f in zip(starts, model.quaternions, model.translations, focal, strict=True)
    ]


def _focal(model: SparseModel, camera: int) -> float | None:
    name = CAMERA_MODELS[int(model.camera_models[camera])].name
    first, second = model.camera_params[model.camera_indptr[camera] :][:2].tolist()
    if name == "EQUIRECTANGULAR":
        return None
    one = name.startswith("SIMPLE_") or name in ("RADIAL", "RADIAL_FISHEYE")
    return first if one else (first + second) / 2


def assert_equal_to_oracle(graph: Covisibility, expected: dict, min_shared: int = 1) -> None:
    """Each edge in both directions with the same bits, neighbours rising, nothing else."""
    found = {}
    for i, (a, b) in enumerate(itertools.pairwise(graph.indptr.tolist())):
        assert (np.diff(graph.neighbour[a:b]) > 0).all()
        for k in range(a, b):
            found[i, int(graph.neighbour[k])] = k
    kept = {pair: value for pair, value in expected.items() if value[0] >= min_shared}
    assert set(found) == set(kept) | {(j, i) for i, j in kept}
    for (i, j), (shared, scale_change, angle, axis_angle) in kept.items():
        for k in (found[i, j], found[j, i]):
            assert graph.shared[k] == shared
            np.testing.assert_allclose(graph.scale_change[k], scale_change, rtol=1e-6)
            np.testing.assert_allclose(graph.angle[k], angle, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(graph.axis_angle[k], axis_angle, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_the_graph_equals_sets_and_loops_on_random_models(seed: int) -> None:
    model = random_model(seed)
    graph = covisibility(model)
    assert_equal_to_oracle(graph, oracles.covisibility_by_sets(views_of(model), model.points))
    assert len(graph.neighbour) > 50


@pytest.mark.parametrize("min_shared", [2, 5, 1000])
def test_min_shared_drops_weak_edges_and_nothing_else(min_shared: int) -> None:
    model = random_model(3)
    expected = oracles.covisibility_by_sets(views_of(model), model.points)
    assert_equal_to_oracle(covisibility(model, min_shared), expected, min_shared)


def test_many_pairs_outgrow_the_first_buffer() -> None:
    model = random_model(1, num_images=80, num_points=40, max_seen=20)
    graph = covisibility(model)
    assert len(graph.neighbour) // 2 > 1024
    assert_equal_to_oracle(graph, oracles.covisibility_by_sets(views_of(model), model.points))


def test_a_point_seen_twice_by_one_image_counts_once() -> None:
    model = model_of([[0, 0, 1], [0, 1, 1, 1]], [[0, 0, 5], [1, 0, 5]], translations=np.array([[0, 0, 0], [1.0, 0, 0]]))
    assert covisibility(model).shared.tolist() == [2, 2]


@pytest.mark.parametrize("seen", [[], [[]], [[], []], [[0], [1]], [[], [0], []]])
def test_images_without_shared_points_have_no_edge(seen: list[list[int]]) -> None:
    graph = covisibility(model_of(seen, [[0, 0, 5], [1, 0, 5]]))
    assert graph.indptr.tolist() == [0] * (len(seen) + 1)
    assert len(graph.neighbour) == len(graph.scale_change) == len(graph.axis_angle) == 0


def test_scale_change_is_the_ratio_of_pixel_sizes_made_at_least_one() -> None:
    """The second camera stands twice as far away: its pixels are twice as large on the wall."""
    model = model_of([[0], [0]], [[0, 0, 5]], translations=np.array([[0, 0, 0], [0, 0, 5.0]]))
    graph = covisibility(model)
    np.testing.assert_allclose(graph.scale_change, [2, 2], rtol=1e-6)
    np.testing.assert_array_equal(graph.angle, [0, 0])


def test_the_viewing_angle_is_taken_at_the_point() -> None:
    model = model_of([[0], [0]], [[0, 0, 5]], translations=np.array([[0, 0, 0], [-5.0, 0, 0]]))
    np.testing.assert_allclose(covisibility(model).angle, [math.pi / 4] * 2, rtol=1e-6)


def test_opposite_views_have_an_axis_angle_of_exactly_pi() -> None:
    turned = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    graph = covisibility(model_of([[0], [0]], [[0, 0, 5]], quaternions=turned))
    np.testing.assert_array_equal(graph.axis_angle, np.full(2, np.pi, np.float32))


def test_points_behind_a_camera_are_left_out_of_the_scale_and_counted() -> None:
    model = model_of([[0, 1], [0, 1]], [[0, 0, 5], [0, 0, -5]], translations=np.array([[0, 0, 0], [0, 0, 5.0]]))
    graph = covisibility(model)
    assert graph.shared.tolist() == [2, 2]
    np.testing.assert_allclose(graph.scale_change, [2, 2], rtol=1e-6)
    assert graph.behind == 2  # once behind the first camera, once in the plane of the second
    assert math.isfinite(graph.angle[0])  # one shared point lies where the second camera stands: no angle there


def test_a_pair_with_no_valid_point_has_no_scale_change() -> None:
    graph = covisibility(model_of([[0], [0]], [[0, 0, -5]]))
    assert graph.shared.tolist() == [1, 1]
    assert np.isnan(graph.scale_change).all()


def test_a_point_at_a_camera_has_no_angle() -> None:
    assert np.isnan(covisibility(model_of([[0], [0]], [[0, 0, 0]])).angle).all()


def test_a_point_at_a_camera_has_no_depth() -> None:
    """Rounding leaves it 4e-13 before the camera, as in `machu_picchu`: it must not decide the scale of the pair."""
    points = [[0, 0, 10], [1, 0, 10], [0, 0, 5 + 4e-13]]
    graph = covisibility(model_of([[0, 1, 2], [0, 1, 2]], points, translations=np.array([[0, 0, 0], [0, 0, -5.0]])))
    np.testing.assert_allclose(graph.scale_change, [2, 2], rtol=1e-6)
    assert graph.behind == 1


def test_equirectangular_cameras_have_no_scale_change_and_are_counted() -> None:
    model = model_of([[0], [0], [0]], [[0, 0, 5]], camera_models=[1, 17, 8])
    graph = covisibility(model)
    scale = {(i, int(j)): s for i in range(3) for j, s in zip(*_row(graph, i), strict=True)}
    assert graph.without_focal_length == 1
    assert graph.behind == 0
    assert math.isnan(scale[0, 1])
    assert math.isnan(scale[1, 2])
    np.testing.assert_allclose(scale[0, 2], 1.5, rtol=1e-6)  # (100 + 200) / 2 against a fisheye's 100


def _row(graph: Covisibility, i: int) -> tuple[list[int], list[float]]:
    part = slice(graph.indptr[i], graph.indptr[i + 1])
    return graph.neighbour[part].tolist(), graph.scale_change[part].tolist()


def test_focal_lengths_are_colmaps_mean_focal_length() -> None:
    pycolmap = pytest.importorskip("pycolmap")
    model = model_of([], np.zeros((0, 3)), camera_models=sorted(CAMERA_MODELS))
    for row, (number, focal) in enumerate(zip(model.camera_models.tolist(), focal_lengths(model), strict=True)):
        params = model.camera_params[model.camera_indptr[row] : model.camera_indptr[row + 1]]
        camera = pycolmap.Camera(model=CAMERA_MODELS[number].name, width=200, height=200, params=params)
        if number == 17:
            assert math.isnan(focal)
        else:
            assert focal == camera.mean_focal_length()


def test_a_focal_length_that_is_not_positive_is_none() -> None:
    assert np.isnan(focal_lengths(model_of([[0]], [[0, 0, 5]], focal=-100.0))).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), shuffle=st.integers(0, 10**6))
def test_the_order_of_points_and_observations_changes_nothing(seed: int, shuffle: int) -> None:
    model = random_model(seed, num_images=6, num_points=12, max_seen=10)
    random = np.random.default_rng(shuffle)
    place = random.permutation(len(model.points))
    points = np.empty_like(model.points)
    points[place] = model.points
    order = np.concatenate(
        [a + random.permutation(b - a) for a, b in itertools.pairwise(model.observation_indptr.tolist())]
    ).astype(np.int64)
    moved = dataclasses.replace(
        model, points=points, observation_points=np.ascontiguousarray(place[model.observation_points][order])
    )
    assert_same_graph(covisibility(model), covisibility(moved))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), shuffle=st.integers(0, 10**6))
def test_the_order_of_images_changes_nothing_but_the_rows(seed: int, shuffle: int) -> None:
    model = random_model(seed, num_images=6, num_points=12, max_seen=10)
    order = np.random.default_rng(shuffle).permutation(6)
    indptr, positions = gather_rows(model.observation_indptr, order)
    moved = covisibility(
        dataclasses.replace(
            model,
            image_cameras=model.image_cameras[order],
            quaternions=model.quaternions[order],
            translations=model.translations[order],
            observation_indptr=indptr,
            observation_points=model.observation_points[positions],
        )
    )
    edges = {(i, j): s for i, j, s in _edges(covisibility(model))}
    assert {(order[i], order[j]): s for i, j, s in _edges(moved)}.keys() == edges.keys()
    for i, j, figures in _edges(moved):
        np.testing.assert_allclose(figures, edges[order[i], order[j]], rtol=1e-6, atol=1e-9)


def _edges(graph: Covisibility) -> list[tuple[int, int, list[float]]]:
    rows = np.repeat(np.arange(len(graph.indptr) - 1), np.diff(graph.indptr))
    figures = np.stack([graph.shared, graph.scale_change, graph.angle, graph.axis_angle], axis=1)
    return list(zip(rows.tolist(), graph.neighbour.tolist(), figures.tolist(), strict=True))


def assert_same_graph(a: Covisibility, b: Covisibility) -> None:
    """Equal edges; figures equal up to the order of their sums."""
    np.testing.assert_array_equal(a.indptr, b.indptr)
    np.testing.assert_array_equal(a.neighbour, b.neighbour)
    np.testing.assert_array_equal(a.shared, b.shared)
    np.testing.assert_allclose(a.scale_change, b.scale_change, rtol=1e-6)
    np.testing.assert_allclose(a.angle, b.angle, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(a.axis_angle, b.axis_angle)
    assert (a.behind, a.without_focal_length) == (b.behind, b.without_focal_length)


@pytest.mark.parametrize("offset", [1e-7, 1e-5, 1e-3, 0.1, 10.0])
def test_small_angles_are_as_exact_as_large_ones(offset: float) -> None:
    """A point straight ahead of one camera, the other a step aside: the angle is atan(step / distance)."""
    model = model_of([[0], [0]], [[0, 0, 5]], translations=np.array([[0, 0, 0], [-offset, 0, 0]]))
    np.testing.assert_allclose(covisibility(model).angle, [math.atan(offset / 5)] * 2, rtol=1e-6)


def test_angles_far_from_the_origin_are_those_near_it() -> None:
    """A model in map coordinates, millions of metres from its origin."""
    far = np.array([4e6, -3e6, 5e6])
    model = model_of([[0], [0]], far + np.array([[0, 0, 5]]), translations=np.array([-far, -far - [0.01, 0, 0]]))
    np.testing.assert_allclose(covisibility(model).angle, [math.atan(0.01 / 5)] * 2, rtol=1e-5)


def test_the_arc_sine_of_a_root_is_that_of_the_library() -> None:
    squares = np.concatenate([[0.0, 0.25, 1.0], np.geomspace(1e-30, 1, 2000), np.linspace(0, 1, 2000)])
    ours = [pair_loops._arcsin_of_root(square) for square in squares.tolist()]
    np.testing.assert_allclose(ours, np.arcsin(np.sqrt(squares)), rtol=1e-9)
