"""Average precision, rankings and the result of an evaluation, against walks down the list."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.metrics.average_precision import average_precision, precision_at
from retrieval.metrics.ground_truth import GroundTruth, make_ground_truth
from retrieval.metrics.kept_images import AT_MOST, FIRST, JUNK, LAST, RIGHT, WRONG, ImageCollector
from retrieval.metrics.ranking import Rankings
from retrieval.metrics.results import evaluate_descriptors, evaluate_rankings
from sfm2tuples.errors import UsageError


def truth_of(positives: list, junk: list, groups: list | None = None) -> GroundTruth:
    groups = groups or [0] * len(positives)
    names = [f"g{i}" for i in range(max(groups) + 1)]
    return make_ground_truth(np.arange(len(positives)), positives, junk, np.array(groups), names)


def normalised(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_perfect_ranking_has_precision_one_and_precision_before_the_first_item_is_one() -> None:
    assert average_precision(np.array([0, 1, 2]), 3) == 1.0
    # One positive, second of the list: precision 0 before it, 1/2 at it.
    assert average_precision(np.array([1]), 1) == 0.25
    assert average_precision(np.array([0]), 1) == 1.0


def test_a_positive_never_ranked_adds_nothing() -> None:
    assert average_precision(np.array([0]), 2) == 0.5
    assert average_precision(np.array([], int), 2) == 0.0
    assert math.isnan(average_precision(np.array([], int), 0))


@pytest.mark.parametrize("cut", [0, 1, 7, 40, 100])
def test_average_precision_equals_a_walk_down_random_rankings(cut: int) -> None:
    draw = np.random.default_rng(cut)
    rankings, positives, junk = [], [], []
    for _ in range(30):
        items = draw.permutation(100)
        positives.append(items[: draw.integers(0, 20)])
        junk.append(items[20 : 20 + draw.integers(0, 30)])
        rankings.append(draw.permutation(100)[:cut])
    evaluation = evaluate_rankings(rankings, truth_of(positives, junk), 100)
    for query in range(30):
        case = rankings[query].tolist(), positives[query].tolist(), junk[query].tolist()
        expected = oracles.average_precision_by_walking(*case)
        assert evaluation.average_precision[query] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        for k in (1, 5, 10):
            found = precision_at(evaluation.ranks_of(query), k)
            assert found == pytest.approx(oracles.precision_at_by_walking(*case, k), abs=1e-12)


def test_junk_is_taken_out_as_if_it_had_never_been_ranked() -> None:
    truth = truth_of([[3, 4]], [[0, 1]])
    with_junk = evaluate_rankings([np.array([0, 3, 1, 2, 4])], truth, 5)
    without = evaluate_rankings([np.array([3, 2, 4])], truth, 5)
    assert with_junk.average_precision == without.average_precision
    assert with_junk.top[0, :4].tolist() == [3, 2, 4, -1]


def test_padding_of_a_ranking_is_skipped() -> None:
    truth = truth_of([[3, 4]], [[]])
    padded = evaluate_rankings([np.array([3, -1, 4, -1])], truth, 5)
    assert padded.average_precision[0] == 1.0


def test_precision_at_k_divides_by_the_last_positives_rank_where_that_is_less() -> None:
    assert precision_at(np.array([0, 1]), 10) == 1.0
    assert precision_at(np.array([0, 3]), 10) == 0.5
    assert precision_at(np.array([0, 3]), 1) == 1.0
    assert precision_at(np.array([4]), 2) == 0.0
    assert precision_at(np.array([], int), 5) == 0.0


def test_means_are_over_queries_and_over_groups_and_leave_out_queries_without_positives() -> None:
    truth = truth_of([[1], [1], [0], []], [[], [], [], []], [0, 0, 1, 2])
    rankings = [np.array(r) for r in ([1, 0], [0, 1], [0, 1], [0, 1])]
    evaluation = evaluate_rankings(rankings, truth, 2)
    assert evaluation.average_precision[:3].tolist() == [1.0, 0.25, 1.0]
    assert evaluation.mean_over_queries == pytest.approx(0.75)
    assert evaluation.mean_over_groups == pytest.approx((0.625 + 1) / 2)
    assert evaluation.n_left_out == 1
    assert evaluation.mean_precision_at(1) == pytest.approx(2 / 3)
    assert evaluation.group_means() == [("g0", 2, 0.625), ("g1", 1, 1.0)]
    assert evaluation.table() == [
        ("g0", "2", "62.5"),
        ("g1", "1", "100.0"),
        ("mean over groups", "3", "81.2"),
        ("mean over queries", "3", "75.0"),
    ]


def test_an_evaluation_without_any_positives_is_nan_and_still_json() -> None:
    evaluation = evaluate_rankings([np.array([0, 1])], truth_of([[]], [[]]), 2)
    assert math.isnan(evaluation.mean_over_queries)
    assert json.loads(json.dumps(evaluation.as_dict()))["mean_over_queries"] is None


def test_the_result_of_each_query_goes_to_json_by_name() -> None:
    truth = truth_of([[2, 1]], [[0]])
    evaluation = evaluate_rankings([np.array([0, 2, 3, 1])], truth, 4)
    assert evaluation.as_dict()["per_query"][0]["top"] == [2, 3, 1]
    named = replace(evaluation, names=("q.jpg", "b.jpg", "c.jpg", "d.jpg"))
    result = json.loads(json.dumps(named.as_dict(), allow_nan=False))
    assert result["per_query"] == [
        {
            "query": "q.jpg",
            "group": "g0",
            "average_precision": pytest.approx((1 + 1 + 1 / 2 + 2 / 3) / 4),
            "positives": 2,
            "ranks": [0, 2],
            "top": ["c.jpg", "d.jpg", "b.jpg"],
            "first": ["q.jpg", "c.jpg", "d.jpg", "b.jpg"],
            "verdicts": ["junk", "right", "wrong", "right"],
            "nearest": "c.jpg",
            "last": [{"image": "b.jpg", "rank": 2}, {"image": "c.jpg", "rank": 0}],
        }
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 120), st.floats(0, 1))
def test_what_is_kept_to_be_looked_at_is_what_lists_give(seed: int, n: int, junk: float) -> None:
    draw = np.random.default_rng(seed)
    ranking = draw.permutation(n)[: draw.integers(0, n + 1)]
    shares = [(1 - junk) / 2, (1 - junk) / 2, junk]
    verdict = draw.choice([WRONG, RIGHT, JUNK], n, p=shares).astype(np.int8)
    kept = ImageCollector()
    counted = ranking[verdict[ranking] != JUNK]
    rank, head = np.flatnonzero(verdict[counted] == RIGHT), ranking[:AT_MOST]
    kept.add(head, verdict[head], counted[rank], rank, np.flatnonzero(verdict == RIGHT))
    pictures = kept.all()
    first, verdicts, last = oracles.first_and_last_by_lists(ranking.tolist(), verdict.tolist(), FIRST, AT_MOST, LAST)
    assert pictures.first[0][pictures.first[0] >= 0].tolist() == first
    assert pictures.verdict[0][pictures.first[0] >= 0].tolist() == verdicts
    assert list(zip(pictures.last[0].tolist(), pictures.last_rank[0].tolist(), strict=True))[: len(last)] == last
    assert (pictures.last[0][len(last) :] == -1).all()
    assert pictures.nearest.tolist() == [next((row for row in ranking.tolist() if verdict[row] == RIGHT), -1)]


def test_similarities_are_kept_where_the_ranking_is_by_them() -> None:
    draw = np.random.default_rng(0)
    database = normalised(draw.normal(size=(6, 5)))
    truth = truth_of([[1, 2], [3]], [[0], []])
    entries = evaluate_descriptors(database[:2], database, truth).as_dict()["per_query"]
    for query, entry in enumerate(entries):
        expected = [float(np.dot(database[query], database[row])) for row in entry["first"]]
        assert entry["similarities"] == pytest.approx(expected, abs=1e-4)
        assert entry["similarities"] == sorted(entry["similarities"], reverse=True)
    ranked = evaluate_rankings([np.array([0, 1]), np.array([2])], truth, 6)
    assert "similarities" not in ranked.as_dict()["per_query"][0]


@pytest.mark.parametrize("block_bytes", [1, 5_000, 1 << 27])
def test_rankings_equal_a_sort_by_similarity_whatever_the_block(block_bytes: int) -> None:
    draw = np.random.default_rng(0)
    database = normalised(draw.normal(size=(60, 7)))
    queries = database[::7]
    rankings = list(Rankings(queries, database, block_bytes))
    assert len(rankings) == len(queries)
    for query, ranking in zip(queries, rankings, strict=True):
        assert ranking.tolist() == oracles.ranking_by_sorting(query, database)


@given(st.integers(0, 2**32 - 1), st.integers(1, 150), st.integers(1, 4), st.floats(0, 1))
def test_what_is_looked_at_of_similarities_is_what_whole_rankings_give(
    seed: int, n: int, dimension: int, junk: float
) -> None:
    """Few directions of few steps: many are equally similar. Positives may be named twice, and be junk too."""
    draw = np.random.default_rng(seed)
    database = normalised(draw.integers(-1, 2, (n, dimension)) + np.float32(0.25))
    queries = draw.integers(0, n, 5)
    positives = [draw.integers(0, n, draw.integers(0, n + 1)) for _ in queries]
    others = [draw.choice(n, round(junk * draw.integers(0, n + 1)), replace=False) for _ in queries]
    truth = truth_of(positives, others)
    rankings = Rankings(database[queries], database)
    expected, found = evaluate_rankings(list(rankings), truth, n), evaluate_rankings(rankings, truth, n)
    for name, column in vars(expected).items():
        if isinstance(column, np.ndarray):
            np.testing.assert_array_equal(getattr(found, name), column, name)
    for name, column in vars(expected.kept).items():
        np.testing.assert_array_equal(getattr(found.kept, name), column, name)


def test_equal_descriptors_are_ranked_by_row() -> None:
    draw = np.random.default_rng(1)
    distinct = normalised(draw.normal(size=(11, 129)))
    database = distinct[np.arange(1000) % 11]
    for ranking in Rankings(distinct[:5], database):
        kinds = ranking % 11
        changes = np.flatnonzero(np.diff(kinds))
        assert len(changes) == 10
        assert all(np.all(np.diff(run) > 0) for run in np.split(ranking, changes + 1))


def test_descriptors_are_ranked_and_measured_in_one_call() -> None:
    angles = np.radians([0, 10, 20, 90, 100])
    database = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    truth = truth_of([[1, 3], [4]], [[0], [1]])
    evaluation = evaluate_descriptors(database[[0, 3]], database, truth)
    # Query 0 sees 1 2 3 4: ranks 0 and 2. Query 3 sees 3 4 2 0 without 1: rank 1.
    assert [evaluation.ranks_of(q).tolist() for q in (0, 1)] == [[0, 2], [1]]
    assert evaluation.average_precision[1] == 0.25


def test_a_ranking_for_each_query_is_needed() -> None:
    with pytest.raises(UsageError, match="1 rankings for 2 queries"):
        evaluate_rankings([np.array([0])], truth_of([[0], [0]], [[], []]), 1)
