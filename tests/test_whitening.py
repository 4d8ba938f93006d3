"""Whitening: L_w and PCA_w equal their definitions, the file carries them, and λ is chosen on places left out."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import unit_rows

from retrieval.whitening.learning import PairStatistics, learn_lw, learn_pca
from retrieval.whitening.linear_algebra import cholesky_with_jitter, mean_of, shrink
from retrieval.whitening.projection import apply, cut, read_whitening, settings_mismatch, write_whitening
from retrieval.whitening.shrinkage import choose_shrinkage, pairs_truth, spread_places
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.similarity.rows import select


def normalised(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def world(places: int, images: int, dimension: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Descriptors of images around a centre for each place, all ordered pairs within places, and the places."""
    draw = np.random.default_rng(seed)
    place = np.repeat(np.arange(places), images)
    spread = np.linspace(0.2, 2.0, dimension)
    rows = draw.normal(size=(places, dimension))[place] + draw.normal(size=(len(place), dimension)) * spread
    pairs = [(i, j) for i in range(len(place)) for j in range(len(place)) if i != j and place[i] == place[j]]
    return normalised(rows + 1), np.array(pairs), place


def equal_up_to_signs(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-8) -> bool:
    return all(
        min(np.abs(x - y).max(), np.abs(x + y).max()) <= tolerance * np.abs(y).max() for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_lw_by_cholesky_equals_the_inverse_root_up_to_signs(shrinkage: float) -> None:
    descriptors, pairs, _ = world(20, 6, 12)
    whitening = learn_lw(descriptors, pairs, shrinkage)
    mean, projection = oracles.lw_by_inverse_root(descriptors, pairs.tolist(), shrinkage)
    np.testing.assert_allclose(whitening.mean, mean, atol=1e-12)
    assert equal_up_to_signs(whitening.projection, projection)
    assert (whitening.rank, whitening.jitter, whitening.num_pairs) == (12, 0.0, len(pairs))


def test_lw_makes_matching_differences_white_and_other_axes_uncorrelated_in_falling_order() -> None:
    descriptors, pairs, _ = world(20, 6, 12)
    whitening = learn_lw(descriptors, pairs)
    projected = (descriptors - whitening.mean) @ whitening.projection.T
    difference = projected[pairs[:, 0]] - projected[pairs[:, 1]]
    np.testing.assert_allclose(difference.T @ difference / len(pairs), np.eye(12), atol=1e-9)
    moment = projected.T @ projected / len(projected)
    variances = np.diag(moment)
    np.testing.assert_allclose(moment, np.diag(variances), atol=1e-9)
    assert np.all(np.diff(variances) < 0)


def test_lw_takes_its_mean_from_the_queries_each_once() -> None:
    descriptors, pairs, _ = world(5, 4, 6)
    some = pairs[:7]
    queries = sorted(set(some[:, 0].tolist()))
    assert len(queries) < len(some)
    mean = sum(descriptors[query].astype(np.float64) for query in queries) / len(queries)
    np.testing.assert_allclose(learn_lw(descriptors, some).mean, mean, atol=1e-12)


def test_lw_is_indifferent_to_the_order_of_pairs_and_images() -> None:
    descriptors, pairs, _ = world(8, 5, 10)
    order = np.random.default_rng(1).permutation(len(descriptors))
    place_of = np.argsort(order)
    moved = learn_lw(descriptors[order], place_of[pairs][::-1], 0.2)
    straight = learn_lw(descriptors, pairs, 0.2)
    np.testing.assert_allclose(moved.projection, straight.projection, rtol=1e-6, atol=1e-9)


def test_lw_similarities_do_not_change_when_all_descriptors_are_rotated() -> None:
    descriptors, pairs, _ = world(8, 5, 10)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(10, 10)))
    rotated = descriptors.astype(np.float64) @ rotation
    a = apply(learn_lw(descriptors, pairs, 0.3), descriptors)
    b = apply(learn_lw(rotated, pairs, 0.3), rotated)
    np.testing.assert_allclose(a @ a.T, b @ b.T, atol=1e-5)


def test_lw_learns_its_rotation_over_the_images_named() -> None:
    descriptors, pairs, place = world(8, 5, 10)
    rows = np.flatnonzero(place < 6)
    some = learn_lw(descriptors, pairs[place[pairs[:, 0]] < 6], 0.3, rows)
    alone = learn_lw(descriptors[rows], pairs[place[pairs[:, 0]] < 6], 0.3)
    np.testing.assert_array_equal(some.projection, alone.projection)
    assert not equal_up_to_signs(some.projection, learn_lw(descriptors, pairs[place[pairs[:, 0]] < 6], 0.3).projection)


def test_lw_with_fewer_pairs_than_dimensions_logs_the_jitter_as_published(caplog: pytest.LogCaptureFixture) -> None:
    descriptors, _, _ = world(8, 5, 12)
    descriptors[:, 0] = 0
    pairs = np.array([(0, 1), (5, 6), (10, 11)])
    with caplog.at_level(logging.WARNING):
        whitening = learn_lw(descriptors, pairs)
    assert whitening.rank == 3
    assert whitening.jitter >= 1e-10
    assert "3 pairs has rank 3 of 12" in caplog.text
    assert f"{whitening.jitter:g}" in caplog.text
    assert np.isfinite(apply(whitening, descriptors)).all()


@pytest.mark.parametrize("shrinkage", [0.0, 0.5])
def test_pairs_of_equal_descriptors_whiten_nothing_and_that_is_said(
    shrinkage: float, caplog: pytest.LogCaptureFixture
) -> None:
    descriptors = np.repeat(np.eye(4, 6, dtype=np.float32), 2, axis=0)
    with caplog.at_level(logging.WARNING):
        whitening = learn_lw(descriptors, np.array([[0, 1], [2, 3], [4, 5]]), shrinkage)
    assert "the same descriptors: nothing is whitened" in caplog.text
    rows = whitening.projection / np.linalg.norm(whitening.projection, axis=1, keepdims=True)
    np.testing.assert_allclose(rows @ rows.T, np.eye(6), atol=1e-9)


def test_shrinkage_makes_few_pairs_factor_without_jitter(caplog: pytest.LogCaptureFixture) -> None:
    descriptors, _, _ = world(8, 5, 12)
    with caplog.at_level(logging.WARNING):
        whitening = learn_lw(descriptors, np.array([(0, 1), (5, 6), (10, 11)]), 0.3)
    assert (whitening.jitter, caplog.text) == (0.0, "")


def test_the_jitter_starts_at_1e_10_and_grows_tenfold_until_the_matrix_factors() -> None:
    matrix = np.diag([1.0, 1.0, -2e-8])
    lower, jitter = cholesky_with_jitter(matrix)
    assert jitter == pytest.approx(1e-7)
    np.testing.assert_allclose(lower @ lower.T, matrix + jitter * np.eye(3), atol=1e-15)
    assert cholesky_with_jitter(np.eye(3))[1] == 0


def test_shrinking_keeps_the_trace_and_ends_in_a_multiple_of_the_identity() -> None:
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    np.testing.assert_array_equal(shrink(matrix, 0), matrix)
    np.testing.assert_allclose(shrink(matrix, 0.5), [[1.75, 0.25], [0.25, 1.25]])
    np.testing.assert_allclose(shrink(matrix, 1), 1.5 * np.eye(2))
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            shrink(matrix, wrong)


def test_pca_makes_the_images_white() -> None:
    descriptors, _, _ = world(10, 6, 12)
    whitening = learn_pca(descriptors)
    projected = (descriptors - whitening.mean) @ whitening.projection.T
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(projected.T @ projected / len(projected), np.eye(12), atol=1e-9)
    covariance = np.cov(descriptors.T.astype(np.float64), bias=True)
    np.testing.assert_allclose(
        1 / np.linalg.norm(whitening.projection, axis=1) ** 2, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-9
    )


def test_pca_leaves_out_what_does_not_vary_unless_shrunk(caplog: pytest.LogCaptureFixture) -> None:
    descriptors, _, _ = world(1, 5, 12)
    with caplog.at_level(logging.WARNING):
        whitening = learn_pca(descriptors)
    assert whitening.projection.shape == (4, 12)
    assert "8 of 12 dimensions do not vary" in caplog.text
    assert learn_pca(descriptors, 0.1).projection.shape == (12, 12)


def test_applying_gives_unit_rows_and_fewer_dimensions_are_the_first_ones() -> None:
    descriptors, pairs, _ = world(10, 6, 32)
    whitening = learn_lw(descriptors, pairs, 0.1)
    whole, short = apply(whitening, descriptors), apply(whitening, descriptors, dim=16)
    assert (whole.shape, short.shape, short.dtype) == ((60, 32), (60, 16), np.float32)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(short, normalised(whole[:, :16]), atol=1e-6)
    np.testing.assert_array_equal(apply(cut(whitening, 16), descriptors), short)


def test_a_descriptor_that_is_the_mean_stays_zero() -> None:
    descriptors, pairs, _ = world(3, 3, 4)
    whitening = learn_lw(descriptors, pairs, 0.5)
    np.testing.assert_array_equal(apply(whitening, whitening.mean[None]), np.zeros((1, 4)))


def test_what_does_not_fit_is_a_usage_error() -> None:
    descriptors, pairs, _ = world(3, 3, 4)
    whitening = learn_lw(descriptors, pairs, 0.5)
    with pytest.raises(UsageError, match="4 dimensions, these have 5"):
        apply(whitening, np.ones((2, 5), np.float32))
    for wrong in (0, 5):
        with pytest.raises(UsageError, match="between 1 and the 4"):
            apply(whitening, descriptors, dim=wrong)
    with pytest.raises(UsageError, match="no matching pairs"):
        learn_lw(descriptors, np.empty((0, 2), int))
    with pytest.raises(UsageError, match="at least two images"):
        learn_pca(descriptors[:1])
    with pytest.raises(UsageError, match="all descriptors here are the same"):
        learn_pca(np.repeat(descriptors[:1], 3, axis=0))


def test_a_whitening_comes_back_from_its_file(tmp_path: Path) -> None:
    descriptors, pairs, _ = world(5, 4, 6)
    whitening = replace(learn_lw(descriptors, pairs, 0.3), settings={"size": 512, "scales": [1.0]})
    write_whitening(tmp_path / "w.h5", whitening, ["f" * 64])
    read = read_whitening(tmp_path / "w.h5")
    np.testing.assert_array_equal(read.mean, whitening.mean)
    np.testing.assert_array_equal(read.projection, whitening.projection)
    assert replace(read, mean=None, projection=None, fingerprint="") == replace(whitening, mean=None, projection=None)
    write_whitening(tmp_path / "again.h5", whitening, ["f" * 64])
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "w.h5").read_bytes()


def test_a_spoiled_whitening_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with pytest.raises(DataError, match="no such file"):
        read_whitening(path)
    descriptors, pairs, _ = world(5, 4, 6)
    write_whitening(path, learn_lw(descriptors, pairs, 0.3))
    whole = path.read_bytes()
    with h5py.File(path, "r+") as file:
        file["mean"][0] = np.nan
    with pytest.raises(FileFormatError, match="NaN"):
        read_whitening(path)
    with h5py.File(path, "r+") as file:
        del file["mean"]
        file["mean"] = np.zeros(5)
    with pytest.raises(FileFormatError, match="does not fit"):
        read_whitening(path)
    for length in range(0, len(whole), 211):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            read_whitening(path)


def test_other_settings_are_named_in_one_line_and_unknown_ones_are_not_compared() -> None:
    learned = {"size": 1024, "scales": [1.0], "network": "a" * 64}
    assert settings_mismatch(learned, {"size": 1024, "scales": (1.0,), "network": "a" * 64}) is None
    assert settings_mismatch(learned, {}) is None
    message = settings_mismatch(learned, {"size": 362, "scales": [1.0], "network": "b" * 64})
    assert message is not None
    assert "size 1024 there, 362 here" in message
    assert "network aaaa" in message
    assert "scales" not in message
    assert "\n" not in message


def hard_world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Few places, many dimensions: a few directions vary within places, most tell places apart."""
    draw = np.random.default_rng(3)
    places, images, dimension = 12, 6, 64
    place = np.repeat(np.arange(places), images)
    nuisance = draw.normal(size=(len(place), 6)) @ draw.normal(size=(6, dimension))
    noise = 1.5 * draw.normal(size=(len(place), dimension))
    rows = draw.normal(size=(places, dimension))[place] + 0.5 * nuisance + noise
    pairs = [(i, j) for i in range(len(place)) for j in range(len(place)) if i != j and place[i] == place[j]]
    return normalised(rows), np.array(pairs), place


def test_the_best_shrinkage_is_the_one_that_serves_places_left_out() -> None:
    descriptors, pairs, places = hard_world()
    few = pairs[places[pairs[:, 0]] < 8]
    curve = choose_shrinkage(descriptors, few, places, (0.0, 0.01, 0.3, 1.0))
    assert curve.best == 0.3
    assert curve.mean[2] > max(curve.mean[1], curve.unwhitened) + 0.01
    assert curve.num_places == 8
    assert [row[0] for row in curve.table()] == ["none", "0", "0.01", "0.3", "1"]
    again = choose_shrinkage(descriptors, few, places, (0.0, 0.01, 0.3, 1.0))
    np.testing.assert_array_equal(curve.mean, again.mean)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_leaving_the_last_rotation_out_changes_no_similarity(shrinkage: float) -> None:
    descriptors, pairs, _ = hard_world()
    statistics = PairStatistics.of(descriptors, pairs)
    whole = apply(statistics.whitening(descriptors, shrinkage), descriptors)
    short = statistics.whitened(descriptors, shrinkage)
    np.testing.assert_allclose(short @ short.T, whole @ whole.T, rtol=0, atol=1e-5)


@given(
    seed=st.integers(0, 99),
    dimension=st.integers(1, 12),
    count=st.integers(2, 20),
    shrinkage=st.sampled_from([0.01, 0.1, 0.5, 0.9, 1.0]),
    equal=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_shrinking_in_the_covariances_own_axes_is_shrinking(
    seed: int, dimension: int, count: int, shrinkage: float, equal: bool
) -> None:
    """Random, equal and few descriptors: the similarities are those of a factor for each shrinkage."""
    draw = np.random.default_rng(seed)
    descriptors = unit_rows(draw, count, dimension)
    if equal:
        descriptors[1] = descriptors[0]
    statistics = PairStatistics.of(descriptors, np.stack([np.arange(count), (np.arange(count) + 1) % count], 1))
    if statistics.covariance.trace() == 0:
        return
    left = statistics.whitened(descriptors, shrinkage)
    right = statistics.in_own_axes(descriptors).whitened(shrinkage)
    np.testing.assert_allclose(right @ right.T, left @ left.T, rtol=0, atol=2e-4)
    assert not equal or np.array_equal(right[0], right[1])


def test_a_network_that_describes_all_photos_alike_has_a_curve_too() -> None:
    descriptors, pairs, places = hard_world()
    curve = choose_shrinkage(np.repeat(descriptors[:1], len(descriptors), axis=0), pairs, places, (0.0, 0.1, 0.5))
    assert np.ptp(curve.mean) == 0


def test_a_covariance_of_few_pairs_has_no_whitening_in_its_axes_without_shrinkage() -> None:
    descriptors, pairs, _ = hard_world()
    with pytest.raises(UsageError, match="does not factor"):
        PairStatistics.of(descriptors, pairs[:10]).in_own_axes(descriptors).whitened(0.0)


def test_the_curve_is_the_same_where_all_dimensions_are_named() -> None:
    """The last dimension less takes the way of eigenvectors; where it says nothing, the curve is all but the same."""
    descriptors, pairs, places = hard_world()
    curve = choose_shrinkage(descriptors, pairs, places, (0.1, 0.3))
    named = choose_shrinkage(descriptors, pairs, places, (0.1, 0.3), dim=descriptors.shape[1])
    np.testing.assert_array_equal(curve.mean, named.mean)
    fewer = choose_shrinkage(descriptors, pairs, places, (0.1, 0.3), dim=descriptors.shape[1] - 1)
    np.testing.assert_allclose(fewer.mean, curve.mean, atol=0.03)


def test_a_place_left_out_is_not_learned_from() -> None:
    """With two places, each fold's curve is that of a whitening learned on the other place's pairs and images alone."""
    descriptors, pairs, places = world(2, 6, 8)
    curve = choose_shrinkage(descriptors, pairs, places, (0.5,))
    expected = []
    for left_out in (0, 1):
        learned = learn_lw(descriptors, pairs[places[pairs[:, 0]] != left_out], 0.5, np.flatnonzero(places != left_out))
        whitened = apply(learned, descriptors)
        own = np.flatnonzero(places == left_out).tolist()
        rankings = {q: oracles.ranking_by_sorting(whitened[q], whitened) for q in own}
        expected += [oracles.average_precision_by_walking(rankings[q], set(own) - {q}, {q}) for q in own]
    assert curve.mean[0] == pytest.approx(np.mean(expected), abs=1e-12)


def test_partners_are_right_and_the_rest_of_the_place_is_junk() -> None:
    places = np.array([0, 0, 0, 0, 1, 1, -1])
    truth = pairs_truth(np.array([(0, 1), (0, 2), (4, 5)]), places, 30)
    assert truth.queries.tolist() == [0, 4]
    assert truth.positives_of(0).tolist() == [1, 2]
    assert truth.junk_of(0).tolist() == [0, 3]
    assert (truth.positives_of(1).tolist(), truth.junk_of(1).tolist()) == ([5], [4])
    assert truth.group_names == ("0", "1")


def test_one_place_cannot_be_left_out() -> None:
    descriptors, pairs, places = world(1, 5, 4)
    with pytest.raises(UsageError, match="two places, here are 1"):
        choose_shrinkage(descriptors, pairs, places)
    with pytest.raises(UsageError, match="here are 0"):
        choose_shrinkage(descriptors, np.empty((0, 2), int), places)


def test_the_middle_of_equally_good_shrinkages_is_taken() -> None:
    from retrieval.whitening.shrinkage import middle_of_plateau

    flat = np.array([[0.5, 0.6], [0.99, 0.97], [0.98, 0.99], [0.97, 1.0], [0.99, 0.98], [0.2, 0.3]])
    assert middle_of_plateau(flat) == 3
    clear = np.array([[0.1, 0.2], [0.8, 0.9], [0.5, 0.6]])
    assert middle_of_plateau(clear) == 1


def test_of_many_images_the_shrinkage_is_chosen_on_evenly_spread_places(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors, pairs, places = world(24, 10, 8)
    everything = choose_shrinkage(descriptors, pairs, places, (0.1, 0.3))
    monkeypatch.setattr("retrieval.whitening.shrinkage.MOST_IMAGES", 120)
    some = choose_shrinkage(descriptors, pairs, places, (0.1, 0.3))
    assert (everything.num_places, some.num_places) == (24, 12)
    kept = spread_places(np.unique(places), places, 120, 10)
    rows = np.flatnonzero(np.isin(places, kept))
    inside = np.isin(places[pairs], kept).all(axis=1)
    alone = choose_shrinkage(descriptors[rows], np.searchsorted(rows, pairs[inside]), places[rows], (0.1, 0.3))
    np.testing.assert_array_equal(some.mean, alone.mean)


def test_spread_places_are_few_but_never_too_few() -> None:
    places = np.repeat(np.arange(20), 5)
    assert spread_places(np.arange(20), places, 50, 4).tolist() == [0, 2, 4, 6, 8, 11, 13, 15, 17, 19]
    assert spread_places(np.arange(20), places, 5, 4).tolist() == [0, 6, 13, 19]
    assert spread_places(np.arange(2), places, 1, 4).tolist() == [0, 1]


def test_a_whitening_of_chosen_rows_of_a_mapped_file_is_that_of_their_copy(tmp_path: Path) -> None:
    descriptors, pairs, _ = world(30, 12, 6)
    np.save(tmp_path / "rows.npy", descriptors)
    mapped, rows = np.load(tmp_path / "rows.npy", mmap_mode="r"), np.arange(len(descriptors))[::-1]
    for learn in (lambda values: learn_lw(values, pairs, 0.2), learn_pca):
        lazy, copied = learn(select(mapped, rows)), learn(descriptors[rows])
        np.testing.assert_array_equal(lazy.projection, copied.projection)
        np.testing.assert_array_equal(lazy.mean, copied.mean)


@pytest.mark.parametrize("rows", [None, np.arange(40)[::3]])
def test_the_mean_in_blocks_is_the_mean(rows: np.ndarray | None, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    monkeypatch.setattr("retrieval.whitening.linear_algebra.BLOCK_ROWS", 7)
    expected = (values if rows is None else values[rows]).astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(mean_of(values, rows), expected, atol=1e-12)
