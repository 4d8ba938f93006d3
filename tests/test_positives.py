"""Positives: M(q), m1, m2, m3."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import random_index, table_of, unit_rows

from sfm2tuples.compute.random_draws import item_numbers
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.positives import choose_positives, count_near_duplicates, find_candidates, possible_queries
from sfm2tuples.mining.tuple_file import Candidates

SEEDS = st.integers(0, 10**6)


def found(index, options):
    images, _, table_row = table_of(index)
    return images, find_candidates(index.opened(), table_row, images.place, options)


def entries(candidates, query):
    at = np.flatnonzero(candidates.query == query)
    if len(at) == 0:
        return []
    e = slice(candidates.indptr[at[0]], candidates.indptr[at[0] + 1])
    columns = (candidates.image, candidates.shared, candidates.overlap, candidates.scale_change, candidates.angle)
    return list(zip(*(c[e].tolist() for c in columns), strict=True))


def same(ours, theirs):
    return len(ours) == len(theirs) and all(
        a[:2] == b[:2] and np.allclose(a[2:], b[2:], equal_nan=True) for a, b in zip(ours, theirs, strict=True)
    )


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from([(), (1,), (9,), (7, 6)]), st.sampled_from([1, 3, 100]), st.integers(1, 4))
def test_candidates_are_the_images_with_most_shared_points(seed, sizes, k, min_shared):
    index = random_index(np.random.default_rng(seed), sizes or (0,), tuple(range(len(sizes or (0,)))))
    _, candidates = found(index, MiningOptions(num_candidates=k, min_shared=min_shared))
    for row in range(len(index.images.key)):
        assert same(entries(candidates, row), oracles.candidate_set(index, row, k, min_shared))


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_candidates_keep_to_the_viewing_angle(seed):
    index = random_index(np.random.default_rng(seed), (10,), (0,))
    _, candidates = found(index, MiningOptions(max_angle=30))
    assert (candidates.angle <= np.float32(np.radians(30))).all()
    for row in range(10):
        assert same(entries(candidates, row), oracles.candidate_set(index, row, 100, 1, 30))


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from([0.1, 0.25, 0.5, 1.0]), st.sampled_from([2, 100]))
def test_near_duplicates_are_no_candidates_and_leave_room_for_others(seed, max_overlap, k):
    index = random_index(np.random.default_rng(seed), (10, 5), (0, 1))
    options = MiningOptions(max_overlap=max_overlap, num_candidates=k)
    images, candidates = found(index, options)
    pairs = set()
    for row in range(15):
        expected = oracles.candidate_set(index, row, k, max_overlap=max_overlap)
        assert same(entries(candidates, row), expected)
        every = {e[0] for e in oracles.candidate_set(index, row, 100)}
        kept = {e[0] for e in oracles.candidate_set(index, row, 100, max_overlap=max_overlap)}
        pairs |= {frozenset((row, other)) for other in every - kept}
    counted = count_near_duplicates(index.opened(), np.arange(15), images.place, options)
    assert counted == len(pairs)
    assert max_overlap < 1 or counted == 0


def test_without_a_limit_on_overlap_none_is_counted():
    index = random_index(np.random.default_rng(0), (10,), (0,))
    assert count_near_duplicates(index.opened(), np.arange(10), np.zeros(10, int), MiningOptions()) == 0


def test_photos_that_one_model_calls_near_duplicates_are_so_in_all():
    index = random_index(np.random.default_rng(1), (6, 6), (0, 0))
    photo = index.images.photo.copy()
    photo[6:] = photo[:6]  # every photo is in both models
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, photo=photo))
    _, candidates = found(index, MiningOptions(max_overlap=0.2))
    near = set()
    for row in range(12):
        kept = {e[0] for e in oracles.candidate_set(index, row, 100, max_overlap=0.2)}
        near |= {(row % 6, e[0] % 6) for e in oracles.candidate_set(index, row, 100) if e[0] not in kept}
    both = {(row, other) for row, other in near if (row + 6) in range(12) and row != other}
    assert both
    query = np.repeat(candidates.query, np.diff(candidates.indptr)).tolist()
    assert not both & set(zip(query, candidates.image.tolist(), strict=True))


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_an_image_is_never_its_own_positive_nor_is_the_same_photo_in_another_model(seed):
    index = random_index(np.random.default_rng(seed), (8, 8), (0, 0))
    photo = index.images.photo.copy()
    photo[[9, 10, 3]] = [1, 2, 2]  # twins across the models, and within one
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, photo=photo))
    images, candidates = found(index, MiningOptions())
    query = np.repeat(candidates.query, np.diff(candidates.indptr))
    assert (query != candidates.image).all()
    for row in candidates.query:
        assert len({e[0] for e in entries(candidates, row)}) == len(entries(candidates, row))
    table_row = np.searchsorted(np.unique(photo), photo)
    for row in range(len(images.key)):
        best = {}
        for index_row in np.flatnonzero(table_row == row):
            for e in oracles.candidate_set(index, index_row, 100):
                best[table_row[e[0]]] = max(best.get(table_row[e[0]], 0), e[1])
        assert {e[0]: e[1] for e in entries(candidates, row)} == best


def test_an_image_without_a_photo_is_no_candidate_and_has_none():
    index = random_index(np.random.default_rng(3), (8,), (0,))
    table_row = np.array([0, 1, -1, 2, 3, 4, -1, 5])
    candidates = find_candidates(index.opened(), table_row, np.zeros(6, int), MiningOptions())
    kept = np.flatnonzero(table_row >= 0)
    has_photo = table_row >= 0
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, has_photo=has_photo))
    for row, index_row in enumerate(kept):
        expected = [(int(table_row[e[0]]), *e[1:]) for e in oracles.candidate_set(index, index_row, 100)]
        assert same(entries(candidates, row), expected)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.booleans())
def test_m1_m2_m3_are_the_papers_rules(seed, tied):
    rng = np.random.default_rng(seed)
    index = random_index(rng, (12, 5), (0, 1))
    images, candidates = found(index, MiningOptions())
    numbers, vectors = item_numbers(images.key), unit_rows(rng, 17, 6, distinct=2 if tied else 0)
    chosen = {}
    for rule in ("m1", "m2", "m3"):
        options = MiningOptions(positives=rule)
        query = possible_queries(candidates, options)
        edge = choose_positives(candidates, query, numbers, options, 0, vectors, np.arange(17))
        assert (edge >= 0).all()
        chosen[rule] = dict(zip(query.tolist(), candidates.image[edge[:, 0]].tolist(), strict=True))
    for row in range(17):
        m_of_q = oracles.candidate_set(index, row, 100)
        similarity = [oracles.exact_similarity(vectors[row], v) for v in vectors]
        assert chosen["m1"].get(row, -1) == oracles.m1(m_of_q, similarity)
        assert chosen["m2"].get(row, -1) == oracles.m2(m_of_q)
        permitted = oracles.m3_allowed(m_of_q)
        assert (row in chosen["m3"]) == bool(permitted)
        if permitted:
            assert chosen["m3"][row] in permitted


def one_query(overlap, scale_change):
    count = len(overlap)
    return Candidates(
        np.array([0]), np.array([0, count]), np.arange(1, count + 1), np.full(count, 10, np.int32),
        np.array(overlap, np.float32), np.array(scale_change, np.float32), np.zeros(count, np.float32),
    )  # fmt: skip


def test_m3_takes_its_limits_in_and_an_unknown_scale_change_never():
    candidates = one_query([0.2, 0.7, 0.19, 0.9, 0.9], [1.5, 1.0, 1.0, 1.51, np.nan])
    for overlap, expected in ((0.2, [1, 2]), (0.7, [2])):
        options = MiningOptions(min_overlap=overlap, num_positives=5)
        edge = choose_positives(candidates, np.array([0]), item_numbers([str(i) for i in range(9)]), options, 0)[0]
        assert sorted(candidates.image[edge[edge >= 0]].tolist()) == expected
        assert (edge[len(expected) :] == -1).all()


def test_m3_draws_every_allowed_candidate_alike_over_rounds():
    candidates = one_query([0.5] * 5, [1.0] * 5)
    numbers = item_numbers([str(i) for i in range(9)])
    drawn = [choose_positives(candidates, np.array([0]), numbers, MiningOptions(), r)[0, 0] for r in range(2000)]
    assert np.allclose(np.bincount(drawn, minlength=5) / 2000, 0.2, atol=0.04)


def test_m3_draws_from_other_sequences_first_and_evenly_among_them():
    candidates = dataclasses.replace(one_query([0.5] * 5, [1.0] * 5), across=np.array([False, True, False, True, True]))
    numbers = item_numbers([str(i) for i in range(9)])
    drawn = [choose_positives(candidates, np.array([0]), numbers, MiningOptions(), r)[0, 0] for r in range(2000)]
    assert np.allclose(np.bincount(drawn, minlength=5) / 2000, np.array([0, 1, 0, 1, 1]) / 3, atol=0.04)
    four = choose_positives(candidates, np.array([0]), numbers, MiningOptions(num_positives=5), 3)[0]
    assert set(four[:3].tolist()) == {1, 3, 4}
    assert set(four[3:].tolist()) == {0, 2}


def test_m3_takes_its_own_sequence_where_no_other_is_allowed():
    across = np.array([True, False])
    candidates = dataclasses.replace(one_query([0.1, 0.5], [1.0, 1.0]), across=across)  # the first shares too little
    edge = choose_positives(candidates, np.array([0]), item_numbers(["a", "b", "c"]), MiningOptions(), 0)
    assert edge.tolist() == [[1]]


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 3), st.booleans())
def test_sequences_change_the_order_of_m3_alone(seed, count, any_other):
    rng = np.random.default_rng(seed)
    images, candidates = found(random_index(rng, (10, 6), (0, 1)), MiningOptions())
    across = (rng.random(len(candidates.image)) < 0.5) & any_other
    told, numbers = dataclasses.replace(candidates, across=across), item_numbers(images.key)
    for rule in ("m2", "m3"):
        options = MiningOptions(positives=rule, num_positives=count)
        query = possible_queries(candidates, options)
        without = choose_positives(candidates, query, numbers, options, 1)
        with_them = choose_positives(told, query, numbers, options, 1)
        if rule == "m2" or not any_other:
            assert np.array_equal(without, with_them)
            continue
        everything = MiningOptions(positives=rule, num_positives=100)
        drawn = choose_positives(candidates, query, numbers, everything, 1)
        for row, order in zip(with_them.tolist(), drawn.tolist(), strict=True):
            order = [edge for edge in order if edge >= 0]
            expected = [e for e in order if across[e]] + [e for e in order if not across[e]]
            assert [edge for edge in row if edge >= 0] == expected[:count]


def test_pairs_are_found_in_the_columns_of_candidates():
    _, candidates = found(random_index(np.random.default_rng(2), (9, 4), (0, 1)), MiningOptions())
    asked = np.repeat(candidates.query, np.diff(candidates.indptr)).tolist()
    place = {pair: e for e, pair in enumerate(zip(asked, candidates.image.tolist(), strict=True))}
    query, image = (m.ravel() for m in np.meshgrid(np.arange(13), np.arange(-1, 13)))
    expected = [place.get(pair, -1) for pair in zip(query.tolist(), image.tolist(), strict=True)]
    assert candidates.positions(query, image).tolist() == expected
    empty = np.zeros(0, np.int64)
    none = Candidates(empty, indptr_of(empty), empty, *(np.zeros(0, np.float32),) * 4)
    assert none.positions(np.array([3]), np.array([0])).tolist() == [-1]


def test_m3_of_a_query_does_not_depend_on_the_other_queries():
    index = random_index(np.random.default_rng(5), (12,), (0,))
    images, candidates = found(index, MiningOptions())
    numbers, options = item_numbers(images.key), MiningOptions(num_positives=2)
    query = possible_queries(candidates, options)
    together = choose_positives(candidates, query, numbers, options, 3)
    for q, edge in zip(query, together, strict=True):
        assert np.array_equal(choose_positives(candidates, np.array([q]), numbers, options, 3)[0], edge)


def test_a_query_without_candidates_is_no_query():
    empty = np.zeros(0, np.int64)
    candidates = Candidates(empty, indptr_of(empty), empty, *(np.zeros(0, np.float32),) * 4)
    assert len(possible_queries(candidates, MiningOptions())) == 0
    assert choose_positives(candidates, empty, item_numbers(["a"]), MiningOptions(), 0).shape == (0, 1)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.sampled_from([1, 7, 60]), st.sampled_from([{}, {"num_candidates": 3, "max_overlap": 0.4}]))
def test_candidates_are_the_same_however_many_edges_are_looked_at_together(seed, at_once, limits):
    """Photos that several models show lie in several blocks, with images that no other model shows between them."""
    rng = np.random.default_rng(seed)
    index = random_index(rng, (8, 7, 6, 9), (0, 0, 0, 1))
    photo = np.arange(30)
    shown_again = rng.choice(np.arange(8, 21), 6, replace=False)
    photo[shown_again] = rng.integers(0, 8, 6)
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, photo=photo))
    options = MiningOptions(**limits)
    expected = vars(found(index, options)[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sfm2tuples.mining.positives.EDGES_AT_ONCE", at_once)
        blocked = vars(found(index, options)[1])
    for name, column in expected.items():
        np.testing.assert_array_equal(blocked[name], column, name)
