"""Spots: communities as good as NetworkX's, of bounded size, the same in every run."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from sfm2tuples.files.columns import indptr_of
from sfm2tuples.relations.louvain import communities
from sfm2tuples.relations.spots import LEAST_IMAGES, LEAST_WEIGHT, MOST_IMAGES, RESOLUTION, spots_of
from sfm2tuples.relations.unknown_pairs import Graph


def walk_weights(rng: np.random.Generator, n: int, reach: int = 8) -> csr_matrix:
    """Weights of images along a walk: near ones share more; some pairs share nothing."""
    apart = abs(np.arange(n)[:, None] - np.arange(n))
    weights = np.triu(
        np.where((apart < reach) & (rng.random((n, n)) < 0.8), rng.uniform(0.05, 1, (n, n)) / (1 + apart), 0), 1
    )
    return csr_matrix(weights + weights.T)


def groups(labels: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]


@pytest.mark.parametrize("seed", range(5))
def test_communities_are_as_good_as_those_of_networkx(seed: int) -> None:
    weights = walk_weights(np.random.default_rng(seed), 150)
    graph = nx.from_scipy_sparse_array(weights)
    ours = nx.community.modularity(graph, groups(communities(weights, 2.0, 1000, seed)), resolution=2.0)
    theirs = [
        nx.community.modularity(graph, nx.community.louvain_communities(graph, resolution=2.0, seed=k), resolution=2.0)
        for k in range(3)
    ]
    assert ours >= min(theirs) - 0.01


def test_two_cliques_are_two_communities() -> None:
    weights = np.zeros((8, 8))
    weights[:4, :4] = weights[4:, 4:] = 1
    weights[3, 4] = weights[4, 3] = 0.1
    np.fill_diagonal(weights, 0)
    assert communities(csr_matrix(weights), 1.0, 100, 0).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_nodes_without_edges_stay_alone(n: int) -> None:
    assert communities(csr_matrix((n, n)), 2.0, 100, 0).tolist() == list(range(n))


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 12))
@settings(max_examples=25)
def test_no_community_is_larger_than_asked_and_all_hang_together(seed: int, n: int, most: int) -> None:
    weights = walk_weights(np.random.default_rng(seed), n)
    found = communities(weights, 2.0, most, seed)
    assert np.bincount(found).max() <= most
    first = [np.flatnonzero(found == label)[0] for label in range(found.max() + 1)]
    assert first == sorted(first)
    np.testing.assert_array_equal(found, communities(weights, 2.0, most, seed))


def graph_of(shared: np.ndarray) -> tuple[Graph, np.ndarray]:
    first, other = np.nonzero(shared)
    return Graph(indptr_of(np.bincount(first, minlength=len(shared))), other), shared[first, other]


def test_spots_leave_out_who_takes_no_part_and_join_the_small_ones() -> None:
    shared = np.zeros((9, 9), int)
    shared[:4, :4] = shared[4:7, 4:7] = 60
    shared[7, 0] = shared[0, 7] = 2  # Image 7 shares too little for an edge that counts; image 8 nothing at all.
    np.fill_diagonal(shared, 0)
    takes_part = np.ones(9, bool)
    takes_part[6] = False
    graph, counts = graph_of(shared)
    found = spots_of(graph, counts, np.full(9, 100), takes_part, seed=0)
    assert found.tolist() == [0, 0, 0, 0, 1, 1, -1, 0, 2]


def test_a_spot_that_is_full_takes_no_small_one() -> None:
    n = MOST_IMAGES + 1
    shared = np.full((n, n), 90)
    shared[-1] = shared[:, -1] = 3
    np.fill_diagonal(shared, 0)
    graph, counts = graph_of(shared)
    found = spots_of(graph, counts, np.full(n, 100), np.ones(n, bool), seed=0)
    assert np.bincount(found).max() <= MOST_IMAGES
    assert found[-1] != found[0] or np.bincount(found)[found[0]] <= MOST_IMAGES


def test_a_spots_weight_is_the_share_of_the_image_with_fewer_points() -> None:
    shared = np.zeros((6, 6), int)
    shared[:3, :3] = shared[3:, 3:] = 40
    shared[2, 3] = shared[3, 2] = 40
    np.fill_diagonal(shared, 0)
    graph, counts = graph_of(shared)
    weak = spots_of(graph, counts, np.array([50, 50, 5000, 5000, 50, 50]), np.ones(6, bool), seed=0)
    assert weak.tolist() == [0, 0, 0, 1, 1, 1]


def test_the_constants_are_those_of_the_method() -> None:
    assert (RESOLUTION, LEAST_WEIGHT) == (2.0, 0.05)
    assert LEAST_IMAGES < MOST_IMAGES
