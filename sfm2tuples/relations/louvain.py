"""Communities of a weighted graph by the method of Louvain, with a bound on their size.

Blondel, Guillaume, Lambiotte, Lefebvre: Fast unfolding of communities in large networks, J. Stat. Mech. 2008; the
resolution as in Reichardt and Bornholdt, 2006.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.sparse import csr_matrix

MOST_PASSES = 100
"""Over all nodes of a level; each raises the modularity, so that few are needed."""
LEAST_GAIN = 1e-10
"""A node moves only where this share of the graph's weight is gained, so that rounding moves none for ever."""


def communities(weights: csr_matrix, resolution: float, most: int, seed: int) -> np.ndarray:
    """Find communities.

    Nodes are visited in an order that the seed draws; a node moves to the community where modularity gains most,
    ties by the lower number, unless the community would have too many nodes. Communities become nodes, and so on
    until none moves.

    Parameters
    ----------
    weights : (n, n) csr_matrix
        Symmetric, not negative, zeros on the diagonal.
    resolution : float
        Higher values make smaller communities.
    most : int
        Nodes of a community, at most.
    seed : int

    Returns
    -------
    (n,) int64
        The community of each node; numbers from 0 in the order of the communities' first nodes.
    """
    random = np.random.default_rng(seed)
    graph = csr_matrix(weights, dtype=np.float64)
    graph.sort_indices()
    of_node, size = np.arange(graph.shape[0]), np.ones(graph.shape[0], np.int64)
    while graph.nnz:
        order = random.permutation(graph.shape[0])
        indptr, indices = graph.indptr.astype(np.int64), graph.indices.astype(np.int64)
        moved_to = _move_nodes(indptr, indices, graph.data, order, size, resolution, most)
        found = _numbered(moved_to)
        count = int(found.max(initial=-1)) + 1
        of_node = found[of_node]
        if count == graph.shape[0]:
            break
        belongs = csr_matrix((np.ones(len(found)), (found, np.arange(len(found)))), (count, len(found)))
        # What lies inside a community stays as a loop: it counts in the community's degree.
        graph = (belongs @ graph @ belongs.T).tocsr()
        graph.sort_indices()
        size = np.bincount(found, size, count).astype(np.int64)
    return _numbered(of_node)


def _numbered(labels: np.ndarray) -> np.ndarray:
    """The same groups with numbers from 0 in the order of their first members."""
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[group.ravel()]


@njit(nogil=True, cache=True)
def _move_nodes(indptr, indices, weights, order, size, resolution, most):  # type: ignore[no-untyped-def]
    """Move nodes until none gains: the community of each, named after one of the nodes. O(edges) a pass."""
    n = len(indptr) - 1
    community, members, degree = np.arange(n), size.copy(), np.zeros(n)
    total = 0.0
    for i in range(n):
        for k in range(indptr[i], indptr[i + 1]):
            degree[i] += weights[k]
        total += degree[i]
    inside, to = degree.copy(), np.zeros(n)
    touched = np.empty(n, np.int64)
    for _ in range(MOST_PASSES):
        moves = 0
        for i in order:
            num_touched = 0
            for k in range(indptr[i], indptr[i + 1]):
                if indices[k] != i:
                    c = community[indices[k]]
                    if to[c] == 0:
                        touched[num_touched] = c
                        num_touched += 1
                    to[c] += weights[k]
            own = community[i]
            inside[own] -= degree[i]
            members[own] -= size[i]
            best, most_gained = own, to[own] - resolution * degree[i] * inside[own] / total
            least = most_gained + LEAST_GAIN * total
            for place in range(num_touched):
                c = touched[place]
                gained = to[c] - resolution * degree[i] * inside[c] / total
                if members[c] + size[i] > most or gained <= least:
                    continue
                if best == own or gained > most_gained or (gained == most_gained and c < best):
                    best, most_gained = c, gained
            for place in range(num_touched):
                to[touched[place]] = 0
            community[i] = best
            inside[best] += degree[i]
            members[best] += size[i]
            moves += best != own
        if moves == 0:
            break
    return community
