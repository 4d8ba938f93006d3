"""Queries: how many of each place, drawn how."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm2tuples.compute.random_draws import item_numbers
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.queries import choose_queries, queries_of_places, rank_in_run


@pytest.mark.parametrize(
    ("size", "share", "cap", "expected"),
    [(25, 0.1, 30, 3), (30, 0.1, 30, 3), (11042, 0.1, 30, 30), (1, 0.1, 30, 1), (0, 0.1, 30, 0), (20, 1.0, 15, 15)],
)
def test_a_place_has_a_tenth_of_its_images_rounded_up_and_at_most_thirty(size, share, cap, expected):
    options = MiningOptions(query_share=share, queries_per_place=cap)
    assert queries_of_places(np.array([size]), options).tolist() == [expected]


def drawn(sizes, eligible=None, round=0, **options):
    """Queries of places with the given sizes, as names, so that worlds of different sizes can be compared."""
    names = [f"{p}/{i}" for p, size in enumerate(sizes) for i in range(size)]
    place = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.arange(len(names)) if eligible is None else np.array([names.index(e) for e in eligible])
    places = item_numbers([f"place {p}" for p in range(len(sizes))])
    chosen = choose_queries(rows, place, item_numbers(names), np.array(sizes), places, MiningOptions(**options), round)
    assert np.array_equal(chosen, np.unique(chosen))
    return [names[i] for i in chosen]


def test_only_images_with_a_positive_are_drawn_but_all_count_for_the_share():
    assert set(drawn([30], [f"0/{i}" for i in range(3)], query_share=0.5)) == {"0/0", "0/1", "0/2"}
    assert len(drawn([30], [f"0/{i}" for i in range(20)], query_share=0.5)) == 15


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 100))
def test_another_place_does_not_change_the_draws_of_these(sizes, seed):
    before = drawn(sizes, seed=seed)
    assert drawn([*sizes, 33], seed=seed)[: len(before)] == before


def test_one_more_image_displaces_at_most_one_query():
    before, after = set(drawn([40], query_share=0.5)), set(drawn([41], query_share=0.5))
    assert len(before - after) <= 1


def test_queries_are_drawn_anew_by_round_and_seed():
    draws = {tuple(drawn([100], round=r, seed=s)) for r in (0, 1) for s in (0, 1)}
    assert len(draws) == 4


def test_every_image_becomes_a_query_alike():
    count = np.zeros(20)
    for round in range(600):
        for name in drawn([20], round=round):
            count[int(name[2:])] += 1
    assert np.allclose(count / 600, 0.1, atol=0.05)


def test_places_take_turns_under_a_limit_so_that_a_huge_one_does_not_fill_the_round():
    chosen = drawn([1000, 20, 20, 20], query_share=1.0, queries_per_place=1000, num_queries=40)
    per_place = np.bincount([int(name[0]) for name in chosen], minlength=4)
    assert per_place.tolist() == [10, 10, 10, 10]
    small = drawn([1000, 2, 2, 2], query_share=1.0, queries_per_place=1000, num_queries=40)
    assert np.bincount([int(name[0]) for name in small]).tolist() == [34, 2, 2, 2]


def test_the_places_left_over_by_a_limit_change_from_round_to_round():
    first = {drawn([5, 5, 5, 5], round=r, num_queries=1)[0][0] for r in range(40)}
    assert first == {"0", "1", "2", "3"}


def test_rank_in_run():
    assert rank_in_run(np.array([3, 3, 7, 3])).tolist() == [0, 1, 0, 0]
    assert rank_in_run(np.zeros(0, int)).tolist() == []
