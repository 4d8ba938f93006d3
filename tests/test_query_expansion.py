"""Average and α query expansion, and database-side augmentation, against loops from the definition."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import unit_rows

from retrieval.search.options import Expansion, Refinement, SearchOptions, parse_expansion
from retrieval.search.query_expansion import augment, expand, expand_by_rows
from retrieval.search.ranked_lists import Pipeline
from retrieval.search.ranked_search import search
from sfm2tuples.files.descriptors import Descriptors
from sfm2tuples.similarity.exact_search import most_similar


def refined(**texts: str) -> Pipeline:
    return Pipeline(Refinement.parse(**texts))


def test_expansions_are_read_with_the_papers_numbers_as_defaults():
    assert parse_expansion("average") == Expansion(5, 0.0)
    assert parse_expansion("average:7") == Expansion(7, 0.0)
    assert parse_expansion("alpha") == Expansion(50, 3.0)
    assert parse_expansion("alpha:20:2.5") == Expansion(20, 2.5)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 9), st.sampled_from([0.0, 1.0, 3.0]))
def test_an_expanded_query_is_the_weighted_mean_of_itself_and_what_it_found(seed, size, n, alpha):
    rng = np.random.default_rng(seed)
    database, queries = unit_rows(rng, size, 5), unit_rows(rng, 3, 5)
    row = np.full((3, 9), -1)
    similarity = np.full((3, 9), -np.inf)
    for i in range(3):
        found = oracles.most_similar_by_sorting(queries[i], database, -1, 9)
        row[i, : len(found)], similarity[i, : len(found)] = zip(*found, strict=True)
    expanded = expand_by_rows(queries, row, similarity, database, Expansion(n, alpha))
    for i in range(3):
        pairs = [(database[r], s) for r, s in zip(row[i, :n], similarity[i, :n], strict=True) if r >= 0]
        np.testing.assert_allclose(expanded[i], oracles.expanded_query(queries[i], pairs, alpha), atol=1e-6)


def test_what_is_less_than_orthogonal_has_no_weight_under_alpha_and_full_weight_in_the_average():
    query = np.array([[1, 0]], np.float32)
    found = np.array([[[-0.6, 0.8]]], np.float32)
    similarity = np.array([[-0.6]])
    np.testing.assert_array_equal(expand(query, found, similarity, Expansion(1, 3.0)), query)
    np.testing.assert_allclose(
        expand(query, found, similarity, Expansion(1)), [[0.4, 0.8]] / np.sqrt([[0.8]]), rtol=1e-6
    )


def test_a_query_that_found_nothing_stays_as_it_was():
    query = unit_rows(np.random.default_rng(0), 1, 4)
    nothing = np.full((1, 2, 4), np.nan, np.float32)
    np.testing.assert_array_equal(expand(query, nothing, np.full((1, 2), -np.inf), Expansion(2)), query)


def test_a_mean_without_direction_leaves_the_vector():
    query = np.array([[1, 0]], np.float32)
    np.testing.assert_array_equal(expand(query, -query[:, None], np.array([[-1.0]]), Expansion(1)), query)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_an_augmented_image_is_averaged_with_its_neighbours_and_not_with_itself_twice(alpha, monkeypatch):
    monkeypatch.setattr("retrieval.search.query_expansion.BLOCK", 4)
    monkeypatch.setattr("retrieval.search.query_expansion.AT_ONCE", 3)
    database = unit_rows(np.random.default_rng(1), 11, 5, distinct=8)
    augmented = augment(database, Expansion(3, alpha))
    for i in range(11):
        found = oracles.most_similar_by_sorting(database[i], database, i, 3)
        wanted = oracles.expanded_query(database[i], [(database[r], s) for r, s in found], alpha)
        np.testing.assert_allclose(augmented[i], wanted, atol=1e-6)


def test_an_average_of_many_images_is_taken_of_few_vectors_at_once_with_the_same_bits(monkeypatch):
    rng = np.random.default_rng(3)
    database, queries = unit_rows(rng, 40, 6), unit_rows(rng, 9, 6)
    row, near = np.argsort(-(queries @ database.T), axis=1), np.sort(queries @ database.T, axis=1)[:, ::-1]
    wanted, seen = expand_by_rows(queries, row, near, database, Expansion(30, 3.0)), []

    def watched(vectors, found, similarity, expansion):
        seen.append(found.size)
        return expand(vectors, found, similarity, expansion)

    monkeypatch.setattr("retrieval.search.query_expansion.MOST_VALUES", 2 * 30 * 6)
    monkeypatch.setattr("retrieval.search.query_expansion.expand", watched)
    np.testing.assert_array_equal(expand_by_rows(queries, row, near, database, Expansion(30, 3.0)), wanted)
    assert max(seen) == 2 * 30 * 6


def test_a_search_expands_the_query_without_its_own_image_and_searches_again():
    values = unit_rows(np.random.default_rng(2), 40, 6)
    database = Descriptors([str(i) for i in range(40)], values)
    queries = Descriptors(["7"], values[7:8])
    ranks = search(queries, database, SearchOptions(num_results=5), refined(qe="alpha:4:3")).ranks
    found = oracles.most_similar_by_sorting(values[7], values, 7, 4)
    expanded = oracles.expanded_query(values[7], [(values[r], s) for r, s in found], 3)
    wanted = oracles.most_similar_by_sorting(np.float32(expanded), values, 7, 5)
    assert ranks.row[0].tolist() == [r for r, _ in wanted]
    np.testing.assert_allclose(ranks.similarity[0], [s for _, s in wanted], atol=1e-6)


def test_more_images_may_be_averaged_than_are_wanted_as_results():
    values = unit_rows(np.random.default_rng(3), 30, 6)
    data = Descriptors([str(i) for i in range(30)], values)
    few = search(data, data, SearchOptions(num_results=2), refined(qe="average:9")).ranks
    many = search(data, data, SearchOptions(num_results=20), refined(qe="average:9")).ranks
    np.testing.assert_array_equal(few.row, many.row[:, :2])


def test_an_augmented_database_is_searched_in_place_of_the_database():
    values = unit_rows(np.random.default_rng(4), 30, 6)
    data = Descriptors([str(i) for i in range(30)], values)
    ranks = search(data, data, SearchOptions(num_results=4), refined(dba="average:2")).ranks
    augmented = augment(values, Expansion(2))
    for i in range(30):
        wanted = oracles.most_similar_by_sorting(values[i], augmented, i, 4)
        assert ranks.row[i].tolist() == [r for r, _ in wanted]


def test_a_database_is_augmented_by_what_multiplies_in_the_search():
    values, asked = unit_rows(np.random.default_rng(0), 9, 4), []

    def counted(queries, pool, count, rules):
        asked.append(len(queries))
        return most_similar(queries, pool, count, rules)

    database = Descriptors([str(row) for row in range(9)], values)
    pipeline = Pipeline(Refinement(dba=Expansion(2)))
    search(database, database, SearchOptions(num_results=3), pipeline, counted)
    assert asked == [9, 9]  # the augmentation, and the search
