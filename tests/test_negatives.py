"""Negatives: N1, N2, semi-hard, random, the pool."""

from __future__ import annotations

from functools import partial

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import drawn_worlds, unit_rows

from sfm2tuples.compute.random_draws import draw, item_numbers
from sfm2tuples.errors import UsageError
from sfm2tuples.mining.negatives import RULES, NegativePool, Queries, choose_negatives, choose_pool, semi_hard_bounds
from sfm2tuples.mining.options import NEGATIVES, MiningOptions, PoolStrategy, mining_options
from sfm2tuples.similarity.best_rows import PoolRules
from sfm2tuples.similarity.exact_search import most_similar

WORLDS = drawn_worlds(40, 6, count=st.integers(1, 6))


def make(seed, pool, queries, places, distinct, count):
    """A pool and queries; with `distinct` only few different descriptors, so that most similarities tie."""
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng, pool + queries, 7, distinct)
    row = np.sort(rng.choice(200, pool, replace=False))
    numbers = item_numbers([str(i) for i in range(300)])
    asking = Queries(rng.integers(places, size=queries), numbers[200 : 200 + queries], vectors[pool:],
                    rng.uniform(-0.5, 0.9, queries))  # fmt: skip
    return asking, NegativePool(row, rng.integers(places, size=pool), numbers[row], vectors[:pool])


def similarities(queries, pool, t):
    return [oracles.exact_similarity(queries.descriptors[t], d) for d in pool.descriptors]


def present(rows):
    return [r for r in rows.tolist() if r >= 0]


@settings(deadline=None, max_examples=60)
@given(WORLDS)
def test_n2_is_sort_and_walk(world):
    queries, pool = make(**world)
    row, similarity = choose_negatives(queries, pool, MiningOptions(num_negatives=world["count"]), 0)
    for t in range(len(row)):
        s = similarities(queries, pool, t)
        expected = oracles.n2_negatives(s, pool.row.tolist(), pool.place.tolist(), queries.place[t], world["count"])
        assert present(row[t]) == expected
        assert np.allclose(similarity[t, : len(expected)], [dict(zip(pool.row, s, strict=True))[r] for r in expected])
        assert (similarity[t, len(expected) :] == -np.inf).all()


@settings(deadline=None, max_examples=60)
@given(WORLDS)
def test_n1_is_the_nearest_of_other_places(world):
    queries, pool = make(**world)
    row, _ = choose_negatives(queries, pool, MiningOptions(negatives="N1", num_negatives=world["count"]), 0)
    for t in range(len(row)):
        s = similarities(queries, pool, t)
        expected = oracles.n1_negatives(s, pool.row.tolist(), pool.place.tolist(), queries.place[t], world["count"])
        assert present(row[t]) == expected


@settings(deadline=None, max_examples=60)
@given(WORLDS)
def test_semi_hard_lie_within_the_margin_and_n2_fills_up(world):
    queries, pool = make(**world)
    options = MiningOptions(negatives="semi-hard", num_negatives=world["count"], margin=0.2)
    row, _ = choose_negatives(queries, pool, options, 0)
    for t in range(len(row)):
        expected = oracles.semi_hard_negatives(
            similarities(queries, pool, t), pool.row.tolist(), pool.place.tolist(), queries.place[t], world["count"],
            queries.positive_similarity[t], 0.2,
        )  # fmt: skip
        assert present(row[t]) == expected


@settings(deadline=None, max_examples=60)
@given(WORLDS, st.sampled_from(["N1", "N2", "random", "semi-hard"]))
def test_no_negative_is_of_the_querys_place_and_one_of_each_but_for_n1(world, rule):
    queries, pool = make(**world)
    row, _ = choose_negatives(queries, pool, MiningOptions(negatives=rule, num_negatives=world["count"]), 0)
    place_of = dict(zip(pool.row.tolist(), pool.place.tolist(), strict=True))
    for t in range(len(row)):
        places = [place_of[r] for r in present(row[t])]
        assert queries.place[t] not in places
        assert len(set(present(row[t]))) == len(places)
        if rule != "N1":
            others = set(pool.place.tolist()) - {int(queries.place[t])}
            assert len(places) == len(set(places)) == min(world["count"], len(others))


@settings(deadline=None, max_examples=60)
@given(WORLDS, st.sampled_from(["N1", "N2", "semi-hard"]), st.integers(1, 50))
def test_order_of_the_pool_and_block_size_do_not_matter(world, rule, block):
    queries, pool = make(**world)
    options = MiningOptions(negatives=rule, num_negatives=world["count"])
    row, similarity = choose_negatives(queries, pool, options, 0)
    again = choose_negatives(queries, pool, options, 0, partial(most_similar, block=block))
    assert np.array_equal(row, again[0])
    assert np.array_equal(similarity, again[1])


@settings(deadline=None, max_examples=30)
@given(WORLDS)
def test_the_best_do_not_depend_on_the_order_of_the_pool(world):
    queries, pool = make(**{**world, "distinct": 0})
    order = np.random.default_rng(world["seed"]).permutation(len(pool.row))
    rules = PoolRules(queries.place, pool.place, pool.place)
    position, similarity = most_similar(queries.descriptors, pool.descriptors, world["count"], rules)
    shuffled = PoolRules(queries.place, pool.place[order], pool.place[order])
    moved, again = most_similar(queries.descriptors, pool.descriptors[order], world["count"], shuffled, block=5)
    assert np.array_equal(similarity, again)
    assert np.array_equal(position, np.where(moved >= 0, np.append(order, -1)[moved], -1))


def test_equal_descriptors_tie_whatever_block_they_fall_in():
    rng = np.random.default_rng(0)
    pool = unit_rows(rng, 5000, 64, distinct=2)
    queries = unit_rows(rng, 33, 64)
    nowhere, place = np.full(33, -1), np.arange(5000)
    row, _ = most_similar(queries, pool, 4, PoolRules(nowhere, place, place), block=1037)
    for q, best in zip(queries, row, strict=True):
        nearest = pool[best[0]]
        assert oracles.exact_similarity(q, nearest) == max(
            oracles.exact_similarity(q, p) for p in np.unique(pool, axis=0)
        )
        assert best.tolist() == np.flatnonzero((pool == nearest).all(axis=1))[:4].tolist()


def test_too_similar_images_are_no_negatives_where_a_limit_is_given():
    pool = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], np.float32)
    queries = Queries(np.array([9]), item_numbers(["q"]), np.array([[1, 0]], np.float32), np.array([0.0]))
    options = MiningOptions(num_negatives=3, max_negative_similarity=float(np.float32(0.8)))
    row, _ = choose_negatives(queries, NegativePool(np.arange(3), np.arange(3), item_numbers("abc"), pool), options, 0)
    assert row.tolist() == [[1, 2, -1]]


def test_a_descriptor_that_is_not_a_number_is_never_chosen():
    pool = np.array([[np.nan, 0], [0.6, 0.8]], np.float32)
    queries = Queries(np.array([9]), item_numbers(["q"]), np.array([[1, 0]], np.float32), np.array([0.0]))
    row, _ = choose_negatives(
        queries, NegativePool(np.arange(2), np.arange(2), item_numbers("ab"), pool), MiningOptions(), 0
    )
    assert row[0].tolist() == [1, -1, -1, -1, -1]


def test_random_negatives_take_every_other_place_alike():
    count, places = 2000, np.repeat(np.arange(4), [1, 2, 30, 4])
    queries = Queries(np.zeros(count, np.int64), item_numbers([str(i) for i in range(count)]), None, np.zeros(count))
    pool = NegativePool(np.arange(37), places, item_numbers([f"p{i}" for i in range(37)]), None)
    row, _ = choose_negatives(queries, pool, MiningOptions(negatives="random", num_negatives=1), 0)
    share = np.bincount(places[row[:, 0]], minlength=4) / count
    assert share[0] == 0
    assert np.allclose(share[1:], 1 / 3, atol=0.05)
    assert len(set(row[places[row[:, 0]] == 2, 0].tolist())) == 30


def test_pool_holds_the_ends_and_so_many_of_every_place():
    place = np.repeat(np.arange(3), [5, 30, 40])
    number = item_numbers([str(i) for i in range(75)])
    ends = np.array([70, 0, 70])
    pool = choose_pool(PoolStrategy.of("ends+per-place:20"), np.arange(75), place, number, ends, 0, 0)
    assert np.array_equal(pool, np.unique(pool))
    assert {0, 70} <= set(pool.tolist())
    per_place = np.bincount(place[pool])
    assert per_place[0] == 5
    assert per_place[1] == 20
    assert per_place[2] in (20, 21)


def test_pool_of_ends_and_random_has_the_size_asked_for():
    number, place = item_numbers([str(i) for i in range(75)]), np.zeros(75, np.int64)
    ends = np.array([3, 4, 5])
    pool = choose_pool(PoolStrategy.of("ends+random:30"), np.arange(75), place, number, ends, 0, 0)
    assert len(pool) == 30
    assert {3, 4, 5} <= set(pool.tolist())
    only_random = choose_pool(PoolStrategy.of("random:30"), np.arange(75), place, number, ends, 0, 0)
    assert len(only_random) == 30
    assert not np.array_equal(pool, only_random)
    assert len(choose_pool(PoolStrategy.of("random:500"), np.arange(75), place, number, ends, 0, 0)) == 75


def test_pool_is_drawn_anew_in_every_round_and_by_every_seed():
    number, place = item_numbers([str(i) for i in range(75)]), np.zeros(75, np.int64)
    pools = {
        tuple(choose_pool(PoolStrategy.of("random:10"), np.arange(75), place, number, np.zeros(0, int), seed, round))
        for seed in (0, 1)
        for round in (0, 1)
    }
    assert len(pools) == 4


@pytest.mark.parametrize("name", ["", "ends", "ends+per-place", "ends+per-place:", "random:-1", "random:0", "all:3"])
def test_an_unknown_pool_is_refused(name):
    with pytest.raises(UsageError, match="pool"):
        mining_options({"pool": name})


@pytest.mark.parametrize("name", ["ends+per-place:20", "ends+random:22000", "random:7"])
def test_a_pool_is_written_as_it_was_given(name):
    options = mining_options({"pool": name})
    assert options.as_dict()["pool"] == str(options.pool) == name
    assert mining_options(options.as_dict()) == options


def test_every_name_of_a_rule_for_negatives_has_a_function():
    assert set(RULES) == set(NEGATIVES)


@settings(deadline=None, max_examples=60)
@given(WORLDS)
def test_semi_hard_searches_again_only_for_queries_that_lack_negatives(world):
    queries, pool = make(**world)
    options = MiningOptions(negatives="semi-hard", num_negatives=world["count"], margin=0.2)
    asked = []

    def search(descriptors, *arguments):
        asked.append(len(descriptors))
        return most_similar(descriptors, *arguments)

    choose_negatives(queries, pool, options, 0, search)
    above, below = semi_hard_bounds(queries.positive_similarity, 0.2)
    rules = PoolRules(queries.place, pool.place, pool.place, above, below)
    position, _ = most_similar(queries.descriptors, pool.descriptors, world["count"], rules)
    short = int((position < 0).any(axis=1).sum())
    assert asked == [len(queries.place)] + [short] * (short > 0)


@pytest.mark.parametrize(
    ("text", "drawn"), [("ends+per-place:2", [8]), ("random:3", [8]), ("ends+random:1", []), ("ends+random:5", [6])]
)
def test_a_pool_draws_only_for_images_that_may_be_chosen(text, drawn, monkeypatch):
    asked = []

    def counted(seed, round, purpose, numbers):
        asked.append(len(numbers))
        return draw(seed, round, purpose, numbers)

    monkeypatch.setattr("sfm2tuples.mining.negatives.draw", counted)
    numbers = item_numbers([str(i) for i in range(8)])
    choose_pool(PoolStrategy.of(text), np.arange(8), np.arange(8) // 4, numbers, np.array([1, 6]), 0, 0)
    assert asked == drawn
