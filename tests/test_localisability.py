"""What a localiser gets from results: points seen, near photos and their figures, against naive loops."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracles_localisation as oracles
import pytest
from hand_made import run
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Index, random_index, unit_rows, write_whole

from retrieval.evaluation import measurement
from retrieval.evaluation.database_images import DatabaseImages
from retrieval.evaluation.evaluation_file import read_evaluation
from retrieval.evaluation.intervals import mean_interval, mean_intervals
from retrieval.evaluation.localisability import DEPTHS, ENOUGH, first_results, localisability
from retrieval.localisation.lifting import nearest_observations
from retrieval.localisation.options import MOST_MATCHED, parse_thresholds
from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.metrics.kept_images import FIRST
from retrieval.metrics.pose_differences import centre_distances, first_within, rotation_angles
from retrieval.metrics.results import evaluate_rankings
from retrieval.metrics.seen_points import count_attainable, count_seen
from retrieval.protocols.sfm import sfm_benchmark
from sfm2tuples.errors import FileFormatError, UsageError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.index.schema import VAL


@st.composite
def databases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Photos with few points, seen twice or by nobody; queries, and results with repeats, gaps and strangers."""
    seen = draw(st.lists(st.lists(st.integers(0, 8), max_size=7), min_size=1, max_size=6))
    queries = draw(st.lists(st.integers(0, len(seen) - 1), max_size=4))
    columns = draw(st.integers(0, 5))
    rows = st.lists(st.integers(-1, len(seen) + 2), min_size=columns, max_size=columns)
    results = [draw(rows) for _ in queries]
    point = np.array([p for s in seen for p in s], np.int64)
    indptr = indptr_of(np.array([len(s) for s in seen]))
    return indptr, point, np.array(queries, np.int64), np.array(results, np.int64).reshape(len(queries), columns)


@given(databases())
@settings(deadline=None)
def test_points_seen_are_those_of_the_naive_loop(case: tuple[np.ndarray, ...]) -> None:
    observed, seen = count_seen(*case)
    expected = oracles.seen_points(*case)
    assert observed.tolist() == expected[0].tolist()
    assert seen.tolist() == expected[1].tolist()
    assert (np.diff(seen, axis=1) >= 0).all()
    assert (seen <= observed[:, None]).all()
    indptr, point, queries, _ = case
    assert count_attainable(indptr, point, queries).tolist() == oracles.attainable_points(*case[:3]).tolist()


@given(
    st.lists(st.tuples(st.integers(-2, 9), st.integers(-2, 9)), max_size=12),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.booleans()), max_size=12),
    st.sampled_from([0.4, 1.0, 2.5]),
)
@settings(deadline=None)
def test_keypoints_find_the_nearest_observation_of_ties_the_first(
    keypoints: list[tuple[int, int]], observed: list[tuple[int, int, bool]], most: float
) -> None:
    xy = np.array([(x, np.nan if unknown else y) for x, y, unknown in observed], np.float32).reshape(-1, 2)
    at = np.array(keypoints, np.float64).reshape(-1, 2)
    expected = [oracles.nearest_observation(keypoint, xy, most) for keypoint in at]
    assert nearest_observations(at, xy, most).tolist() == expected


def test_keypoints_at_any_distance_find_the_nearest_observation() -> None:
    rng = np.random.default_rng(0)
    xy, at = rng.uniform(0, 60, (300, 2)).astype(np.float32), rng.uniform(-9, 69, (200, 2))
    for most in (0.5, 3.0, 200.0):
        expected = [oracles.nearest_observation(keypoint, xy, most) for keypoint in at]
        assert nearest_observations(at, xy, most).tolist() == expected


def posed(rng: np.random.Generator, index: Index) -> Index:
    """The index with random poses that are near each other, and points before and behind them."""
    count = len(index.images.key)
    quaternion = np.array([1.0, 0, 0, 0]) + rng.normal(0, 0.08, (count, 4))
    images = replace(index.images, quaternion=quaternion, translation=rng.normal(0, 0.4, (count, 3)))
    xyz = rng.normal(0, 1, (len(index.points.xyz), 3)) + np.array([0, 0, 2])
    return replace(index, images=images, points=replace(index.points, xyz=xyz))


def test_pose_differences_are_those_of_their_definitions() -> None:
    index = posed(np.random.default_rng(0), random_index(np.random.default_rng(1), (12,), (0,)))
    poses = index.opened().poses()
    for a, b in itertools.pairwise(poses):
        assert centre_distances(a, b) == pytest.approx(oracles.pose_distance(a.tolist(), b.tolist()))
        assert np.degrees(rotation_angles(a, b)) == pytest.approx(oracles.rotation_degrees(a.tolist(), b.tolist()))
    half_turn = np.diag([-1.0, -1, 1])
    assert rotation_angles(np.eye(3), half_turn) == pytest.approx(np.pi)
    assert rotation_angles(np.eye(3), np.eye(3)) == 0
    assert first_within(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2), bool), 2).tolist() == [[-1, -1]] * 2


@pytest.mark.parametrize("scale", [None, 2.0])
def test_ranks_of_near_photos_are_those_of_the_naive_loop(scale: float | None) -> None:
    rng = np.random.default_rng(3)
    index = posed(rng, random_index(rng, (7, 6), (0, 0)))
    photo = np.arange(13)
    photo[[8, 9]] = 1, 2  # two photos are in both models
    index = replace(index, images=replace(index.images, photo=photo))
    rows = np.unique(photo)
    keys = [index.images.key[row] for row in rows]
    images = [np.flatnonzero(photo == row).tolist() for row in rows]
    queries = np.arange(len(rows))
    results = np.array([rng.permutation(len(rows) + 2)[:6] for _ in queries]) - 1
    poses = parse_thresholds("0.3:8,0.6:180,5:12", scale)
    found = localisability(DatabaseImages.of_photos(index.opened(), keys), queries, results, poses)
    for query, row in zip(queries.tolist(), results.tolist(), strict=True):
        expected = [
            oracles.first_photo_within(index, images, query, row, one.distance, one.degrees, scale)
            for one in poses.thresholds
        ]
        assert found.first_right[query].tolist() == expected
    assert len(set(found.first_right.ravel().tolist())) > 3, "the case is too easy"
    points = [np.concatenate([points_of_image(index, a) for a in own]) for own in images]
    indptr = indptr_of(np.array([len(one) for one in points]))
    expected_counts = oracles.seen_points(indptr, np.concatenate(points), queries, results)
    assert found.observed.tolist() == expected_counts[0].tolist()
    assert found.seen.tolist() == expected_counts[1].tolist()


def points_of_image(index: Index, image: int) -> np.ndarray:
    return index.observations.point[slice(*index.observations.indptr[image : image + 2])]


def test_figures_are_means_of_the_queries_and_localisable_means_enough_points() -> None:
    rng = np.random.default_rng(5)
    index = dense_index(rng)
    keys = index.images.key
    results = np.array([rng.permutation(len(keys))[:MOST_MATCHED] for _ in keys])
    queries = np.arange(len(keys))
    found = localisability(DatabaseImages.of_photos(index.opened(), keys), queries, results, parse_thresholds(None))
    figures = found.figures
    observed, seen = oracles.seen_points(index.observations.indptr, index.observations.point, queries, results)
    for k in DEPTHS:
        share = [s[k - 1] / n for s, n in zip(seen, observed, strict=True)]
        assert figures["points seen"][str(k)].mean == pytest.approx(np.mean(share))
        for least in ENOUGH:
            localisable = np.array([float(s[k - 1] >= least) for s in seen])
            interval = figures[f"localisable, {least} points"][str(k)]
            expected = mean_interval(localisable)
            assert (interval.mean, interval.low, interval.high) == pytest.approx(
                (expected.mean, expected.low, expected.high)
            )
    assert 0 < figures["localisable, 30 points"]["1"].mean < 1, "the case is too easy"


def dense_index(rng: np.random.Generator) -> Index:
    """One place of 24 images that each see 60 to 150 of 400 points."""
    index = random_index(rng, (24,), (0,))
    seen = [rng.integers(400, size=rng.integers(60, 150)) for _ in range(24)]
    points = replace(index.points, id=np.arange(400), xyz=rng.normal(0, 1, (400, 3)), error=np.zeros(400))
    observations = replace(
        index.observations,
        indptr=indptr_of(np.array([len(s) for s in seen])),
        point=np.concatenate(seen),
        xy=np.zeros((sum(map(len, seen)), 2), np.float32),
    )
    models = replace(index.models, point_start=np.array([0, 400]))
    return posed(rng, replace(index, models=models, points=points, observations=observations))


def test_several_intervals_are_those_of_one_figure_each() -> None:
    values = np.random.default_rng(2).random((30, 3))
    values[:, 2] = 1
    for column, found in zip(values.T, mean_intervals(values, draws=200, seed=4), strict=True):
        one = mean_interval(column, draws=200, seed=4)
        assert (found.mean, found.low, found.high) == pytest.approx((one.mean, one.low, one.high), abs=1e-12)
    assert all(np.isnan(one.mean) for one in mean_intervals(values[:0]))
    with pytest.raises(UsageError, match="mean nothing"):
        mean_intervals(values, draws=0)


def test_the_query_is_not_among_its_results_and_junk_is() -> None:
    assert FIRST >= MOST_MATCHED >= max(DEPTHS), "an evaluation keeps too few results"
    count = 60
    junk = [np.r_[0:30], np.array([1])]
    truth = make_ground_truth(np.array([0, 1]), [np.array([40]), np.array([0])], junk, np.zeros(2), ["place"])
    rankings = [np.r_[0:count], np.array([5, 1, 7])]
    found = first_results(evaluate_rankings(rankings, truth, count))
    assert found[0].tolist() == list(range(1, 21))
    assert found[1].tolist() == [5, 7] + [-1] * 18


@pytest.mark.parametrize("text", ["", "1", "1:2:3", "a:2", "1:0", "-1:5", "1:181", "nan:1", "1:2,", "inf:1"])
def test_thresholds_without_meaning_are_refused(text: str) -> None:
    if text:
        with pytest.raises(UsageError, match="DISTANCE:DEGREES"):
            parse_thresholds(text)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--scale"):
            parse_thresholds(None, scale)


def test_thresholds_come_tightest_first_and_say_their_unit() -> None:
    assert parse_thresholds("5:10,0.25:2").texts() == ["0.25 depths 2°", "5 depths 10°"]
    assert parse_thresholds(None, 0.5).texts() == ["0.25 m 2°", "0.5 m 5°", "5 m 10°"]
    assert parse_thresholds(None).texts() == ["0.025 depths 2°", "0.05 depths 5°", "0.5 depths 10°"]


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A folder with an index of two places, and descriptors of its photos and of two distractors."""
    rng = np.random.default_rng(0)
    index = posed(rng, random_index(rng, (12, 12), (0, 1), val=2))
    write_whole(tmp_path / "index.h5", index)
    write_descriptors(tmp_path / "d.h5", Descriptors(index.images.key, unit_rows(rng, 24, 8)))
    write_descriptors(tmp_path / "other.h5", Descriptors(["x", "y"], unit_rows(rng, 2, 8)))
    return tmp_path


def evaluated(folder: Path, *words: object) -> dict:
    asked = ("--index", folder / "index.h5", "--descriptors", folder / "d.h5", "--min-shared", 3, *words)
    assert run("evaluate", *asked, "-o", folder / "r.json", "--force") == 0
    return json.loads((folder / "r.json").read_text())


def test_evaluate_says_what_a_localiser_gets_in_table_file_and_page(
    measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = evaluated(measured, "--distractors", measured / "other.h5")
    said = capsys.readouterr().out
    assert "localisable, 30 points" in said
    assert "photo within 0.5 depths 10°" in said
    assert "--scale METRES_PER_UNIT" in said
    assert "setups" in content["localisable"]
    with OpenedBenchmark(measured) as (index, benchmark):
        rows = {key: row for row, key in enumerate(index.images.key)}
        indptr, point = index.observations.indptr[:], index.observations.point[:]
        for entry in content["per_query"]:
            ranked = [rows.get(name, -1) for name in entry["first"] if name != entry["query"]][:MOST_MATCHED]
            query = np.array([rows[entry["query"]]])
            observed, seen = oracles.seen_points(indptr, point, query, np.array([ranked]))
            assert entry["localisable"]["points"] == observed[0]
            assert [entry["localisable"]["seen"][str(k)] for k in DEPTHS] == [seen[0, k - 1] for k in DEPTHS]
        assert len(content["per_query"]) == len(benchmark.queries)
    assert run("report", measured / "r.json", "-o", measured / "page") == 0
    page = (measured / "page" / "index.html").read_text(encoding="utf-8")
    assert '<section id="localise">' in page
    assert "localisable, 100 points" in page


def test_evaluations_with_and_without_these_figures_are_compared(measured: Path) -> None:
    content = evaluated(measured)
    (measured / "with.json").write_text(json.dumps(content))
    del content["localisable"]
    (measured / "without.json").write_text(json.dumps(content))
    for one, other in (("with", "without"), ("without", "with"), ("with", "with")):
        files = measured / f"{one}.json", "--compare", measured / f"{other}.json"
        assert run("report", *files, "-o", measured / "page", "--force") == 0
        page = (measured / "page" / "index.html").read_text(encoding="utf-8")
        assert page.count('<table class="intervals">') == (one, other).count("with")


class OpenedBenchmark:
    """The index of a folder, and the protocol of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "index.h5"

    def __enter__(self):
        from sfm2tuples.index.opened import open_index

        self.index = open_index(self.path)
        return self.index, sfm_benchmark(self.index, VAL, 3)

    def __exit__(self, *_: object) -> None:
        self.index.close()


def test_metres_scale_distances(measured: Path) -> None:
    near, far = (evaluated(measured, "--scale", scale, "--pose-thresholds", "1:180") for scale in (0.5, 50))
    assert near["localisable"]["unit"] == "m"
    assert near["localisable"]["metres_per_unit"] == 0.5
    by_scale = [one["localisable"]["setups"]["sfm"]["figures"]["photo within 1 m 180°"]["20"] for one in (near, far)]
    assert by_scale[0]["mean"] > by_scale[1]["mean"]


def test_an_index_that_is_built_again_while_photos_are_described_changes_nothing(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, described = evaluated(measured), []

    def build_again(*asked: Any) -> Any:
        (measured / "new.h5").write_text("another index")
        (measured / "new.h5").replace(measured / "index.h5")
        described.append(True)
        return honest(*asked)

    honest = measurement.benchmark_descriptors
    monkeypatch.setattr(measurement, "benchmark_descriptors", build_again)
    assert evaluated(measured) == before
    assert described


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scale", 0), "--scale is the metres"),
        (("--pose-thresholds", "1"), "DISTANCE:DEGREES"),
        (("--num-matched", 3), "--num-matched is for --localise"),
        (("--localise",), "does not say where its images see their points"),
    ],
)
def test_what_cannot_be_is_one_line(
    measured: Path, words: tuple[object, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_nan(measured / "index.h5")
    asked = ("--index", measured / "index.h5", "--descriptors", measured / "d.h5", "--min-shared", 3)
    assert run("evaluate", *asked, *words) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def with_nan(path: Path) -> None:
    """Write the same index without positions of its observations."""
    rng = np.random.default_rng(0)
    index = posed(rng, random_index(rng, (12, 12), (0, 1), val=2))
    unknown = replace(index.observations, xy=np.full_like(index.observations.xy, np.nan))
    path.unlink()
    write_whole(path, replace(index, observations=unknown))
    rows = Descriptors(index.images.key, unit_rows(rng, 24, 8))
    path.with_name("d.h5").unlink()
    write_descriptors(path.with_name("d.h5"), rows)


@pytest.mark.parametrize("flag", ["--localise", "--scale 2", "--pose-thresholds 1:2"])
def test_other_protocols_have_no_poses(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", "--labels", tmp_path, *flag.split()) == 2
    assert "is for --index" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("unit", 3), ("metres_per_unit", "long"), ("thresholds", [[1]]), ("thresholds", 5), ("setups", {"other": {}}),
        ("setups", []), ("entry points", -1), ("entry seen", {"1": "many"}), ("entry first_within", [0.5]),
        ("entry pose", None), ("entry pose", {"reason": 1}), ("figures", {"a": {"ten": {}}}),
        ("figures", {"a": {"1": {"mean": "x", "low": 0, "high": 1}}}), ("failures", {"a": "b"}),
    ],
)  # fmt: skip
def test_a_damaged_part_is_refused(measured: Path, where: str, value: object) -> None:
    content = evaluated(measured)
    part = content["localisable"]
    if where.startswith("entry "):
        content["per_query"][0]["localisable"][where.removeprefix("entry ")] = value
    elif where in ("figures", "failures"):
        part["setups"]["sfm"][where] = value
    else:
        part[where] = value
    (measured / "r.json").write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="lacks the results of its queries"):
        read_evaluation(measured / "r.json")
