"""Searches for the most similar: on a torch device, by inverted lists, on threads; and the choice among them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import drawn_worlds, unit_rows

from retrieval.search.torch_similarity import TorchSearch, exact_search
from sfm2tuples.mining.rounds import search_for
from sfm2tuples.similarity.best_rows import BestRows, PoolRules, pair_similarities
from sfm2tuples.similarity.exact_search import most_similar
from sfm2tuples.similarity.ivf_search import IvfSearch, inverted_lists
from sfm2tuples.similarity.rows import MatrixRows, block_of, select

CPU = torch.device("cpu")
WORLDS = drawn_worlds(60, 9, one_a_place=st.booleans())


def make(seed, pool, queries, places, distinct, one_a_place):
    """Queries, pool, count and rules, as a search takes them."""
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng, pool + queries, 7, distinct)
    place = rng.integers(places, size=pool)
    group = place if one_a_place else np.arange(pool)
    return rows[pool:], rows[:pool], 4, PoolRules(rng.integers(places, size=queries), place, group)


def equal(first, second):
    return np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


@pytest.mark.parametrize("search", [most_similar, TorchSearch(CPU), IvfSearch()])
def test_a_search_for_nothing_finds_nothing(search):
    queries, pool, _, rules = make(0, 30, 5, 3, 30, False)
    row, similarity = search(queries, pool, 0, rules)
    assert row.shape == similarity.shape == (5, 0)


@settings(deadline=None, max_examples=80)
@given(WORLDS, st.integers(1, 70), st.sampled_from([None, 0.0, 0.5]), st.sampled_from([None, -0.5]))
def test_a_torch_device_finds_what_the_processor_finds(world, block, below, above):
    queries, pool, count, rules = make(**world)
    bounds = [None if bound is None else np.full(len(queries), bound) for bound in (above, below)]
    asked = (queries, pool, count, replace(rules, above=bounds[0], below=bounds[1]))
    assert equal(TorchSearch(CPU, block)(*asked), most_similar(*asked))


def test_a_torch_device_finds_the_same_among_many():
    rng = np.random.default_rng(0)
    pool, queries = unit_rows(rng, 9000, 48, distinct=8000), unit_rows(rng, 70, 48)
    place = rng.integers(40, size=9000)
    asked = (queries, pool, 5, PoolRules(rng.integers(40, size=70), place, place))
    for block in (500, 4096):
        assert equal(TorchSearch(CPU, block)(*asked), most_similar(*asked))


def test_what_lies_below_the_lower_bound_does_not_come_back_from_a_torch_device(monkeypatch):
    rng = np.random.default_rng(0)
    pool, queries, rows = unit_rows(rng, 3000, 48), unit_rows(rng, 20, 48), np.arange(3000)
    above = np.sort((queries @ pool.T).astype(np.float64), axis=1)[:, -10]
    offered = []
    offer = BestRows.offer_pairs
    monkeypatch.setattr(BestRows, "offer_pairs", lambda *given: offered.append(len(given[1])) or offer(*given))
    asked = (queries, pool, 50, PoolRules(np.full(20, -1), rows, rows, above))  # there are fewer than 50
    assert equal(TorchSearch(CPU)(*asked), most_similar(*asked))
    assert sum(offered) <= 20 * 10


def test_descriptors_that_are_no_numbers_are_never_found_on_a_torch_device():
    pool = np.array([[np.nan, 0], [0.6, 0.8]], np.float32)
    rules = PoolRules(np.array([9]), np.arange(2), np.arange(2))
    row, _ = TorchSearch(CPU)(np.array([[1, 0]], np.float32), pool, 3, rules)
    assert row.tolist() == [[1, -1, -1]]


def test_a_torch_search_leaves_the_precision_of_products_as_it_was():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        TorchSearch(CPU)(*make(0, 20, 2, 5, 0, True))
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def test_threads_change_nothing():
    rng = np.random.default_rng(1)
    pool, queries = unit_rows(rng, 3000, 24, distinct=2000), unit_rows(rng, 200, 24)
    place = rng.integers(40, size=3000)
    asked = (queries, pool, 5, PoolRules(rng.integers(40, size=200), place, place))
    assert equal(most_similar(*asked, threads=1), most_similar(*asked, threads=3))


@settings(deadline=None, max_examples=20)
@given(WORLDS)
def test_lists_that_are_all_looked_into_are_exact(world):
    asked = make(**world)
    search = IvfSearch(probes=10**6)
    assert equal(search(*asked), most_similar(*asked))
    assert search.report.recall == 1 or not (most_similar(*asked)[0] >= 0).any()


def clusters(rng, places=60, size=70, queries=40):
    """A pool of places whose images look alike, and queries of some of them."""
    centre = unit_rows(rng, places, 16)
    place = np.repeat(np.arange(places), size)
    rows = centre[place] + 0.15 * rng.standard_normal((len(place), 16))
    pool = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    chosen = rng.choice(len(place), queries, replace=False)
    return pool[chosen], pool, 5, PoolRules(place[chosen], place, place)


def test_the_recall_that_is_reported_is_the_share_of_exact_rows_found():
    asked = clusters(np.random.default_rng(2))
    search = IvfSearch(probes=5, sample=10**6)
    row, similarity = search(*asked)
    exact, _ = most_similar(*asked)
    found = sum(len(set(a) & set(b) - {-1}) for a, b in zip(row.tolist(), exact.tolist(), strict=True))
    assert search.report.recall == pytest.approx(found / (exact >= 0).sum())
    assert 0.5 < search.report.recall < 1
    assert np.array_equal(similarity, np.sort(similarity, axis=1)[:, ::-1])


def test_a_row_found_by_lists_has_its_exact_similarity_and_keeps_the_rules():
    queries, pool, count, rules = clusters(np.random.default_rng(3))
    row, similarity = IvfSearch(probes=4)(queries, pool, count, rules)
    query = np.repeat(np.arange(len(queries)), count)
    assert np.array_equal(similarity.ravel(), pair_similarities(queries, pool, query, row.ravel()))
    assert all(len(set(rules.pool_place[r])) == count for r in row)
    assert (rules.pool_place[row] != rules.query_place[:, None]).all()


def test_where_too_few_places_are_found_twice_as_many_lists_are_looked_into_and_counted():
    asked = clusters(np.random.default_rng(4))
    many = inverted_lists(asked[1])
    search = IvfSearch(probes=1, lists=many)
    row, _ = search(*asked)
    assert (row >= 0).all()
    assert search.report.doubled > 0
    plenty = IvfSearch(probes=20, lists=many)
    plenty(*asked)
    assert plenty.report.doubled == 0


def test_lists_are_searched_where_they_are_asked_for_only():
    exact = partial(most_similar, block=7)
    assert search_for("exact", exact) is exact
    assert isinstance(search_for("ivf", exact), IvfSearch)


def test_the_processor_searches_with_numpy_and_other_devices_with_torch():
    assert not isinstance(exact_search(CPU), TorchSearch)
    assert isinstance(exact_search(torch.device("meta")), TorchSearch)


def test_rows_of_a_mapped_file_are_found_like_rows_in_memory(tmp_path):
    queries, pool, count, rules = clusters(np.random.default_rng(5))
    np.save(tmp_path / "pool.npy", pool)
    mapped = np.load(tmp_path / "pool.npy", mmap_mode="r")
    chosen = np.arange(len(pool))[::-3]
    rows = select(MatrixRows(mapped, np.arange(len(pool))), chosen)
    assert np.array_equal(block_of(rows, slice(2, 9)), pool[chosen][2:9])
    asked = (count, PoolRules(rules.query_place, rules.pool_place[chosen], rules.group[chosen]))
    assert equal(most_similar(queries, rows, *asked, block=100), most_similar(queries, pool[chosen], *asked))
    left, right = np.array([0, 3]), np.array([5, 7])
    assert np.array_equal(
        pair_similarities(rows, rows, left, right), pair_similarities(pool, pool, chosen[left], chosen[right])
    )
