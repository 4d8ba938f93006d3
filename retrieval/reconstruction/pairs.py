"""Which photos are compared: the nearest by the network, neighbours in a sequence, or all."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from retrieval.reconstruction.options import ReconstructionOptions
from sfm2tuples.similarity.best_rows import PoolRules
from sfm2tuples.similarity.exact_search import Search

_COUNTED = re.compile(r"(\d+)(\D*)$")
"""The last number of a name without its suffix (.jp2 counts nothing), and what follows it."""
SPARSE = 3
"""Names count up where the numbers of a folder are at most so many times as far apart as there are photos."""
SHORTEST = 5
"""Photos of the shortest sequence."""


def all_pairs(rows: np.ndarray) -> np.ndarray:
    """Every pair of rows (m,): (m (m - 1) / 2, 2) int64, the lower first."""
    first, second = np.triu_indices(len(rows), 1)
    return np.stack([rows[first], rows[second]], axis=1)


def nearest_pairs(rows: np.ndarray, descriptors: np.ndarray, count: int, search: Search) -> np.ndarray:
    """Each photo with those that are most similar to it.

    Parameters
    ----------
    rows : (m,) int64
        The photos.
    descriptors : (m, D) float32
        Of norm 1.
    count : int
        How many for each.
    search : Search

    Returns
    -------
    (k, 2) int64
        Pairs of rows, the lower first, each once, rising.
    """
    own = np.arange(len(rows))
    found, _ = search(descriptors, descriptors, min(count, max(1, len(rows) - 1)), PoolRules(own, own, own))
    query, neighbour = np.repeat(own, found.shape[1]), found.ravel()
    some = neighbour >= 0
    return _each_once(np.stack([rows[query[some]], rows[neighbour[some]]], axis=1))


def sequence_pairs(rows: np.ndarray, names: Sequence[str], sizes: np.ndarray, ahead: int) -> np.ndarray:
    """Photos of one size whose names count up, each with the next ones.

    Parameters
    ----------
    rows : (m,) int64
        The photos.
    names : sequence of str
        Of all rows.
    sizes : (n, 2) int64
        Of all rows: photos of different cameras make no sequence.
    ahead : int
        How many next photos.

    Returns
    -------
    (k, 2) int64
        As `nearest_pairs`.
    """
    groups: dict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
    for row in rows.tolist():
        stem, suffix = os.path.splitext(names[row])
        counted = _COUNTED.search(stem)
        if counted is not None and len(counted[1]) <= 18:
            before, behind = stem[: counted.start()], counted[2] + suffix
            groups[(before, behind, *sizes[row].tolist())].append((int(counted[1]), row))
    pairs = [np.zeros((0, 2), np.int64)]
    for group in groups.values():
        numbers = sorted(group)
        if len(numbers) >= SHORTEST and numbers[-1][0] - numbers[0][0] <= SPARSE * len(numbers):
            order = np.array([row for _, row in numbers], np.int64)
            steps = range(1, min(ahead, len(order) - 1) + 1)
            pairs += [np.stack([order[:-step], order[step:]], axis=1) for step in steps]
    return _each_once(np.concatenate(pairs))


def chosen_pairs(
    rows: np.ndarray,
    names: Sequence[str],
    sizes: np.ndarray,
    descriptors: np.ndarray | None,
    options: ReconstructionOptions,
    search: Search,
) -> np.ndarray:
    """The pairs of photos to compare: all where there are no descriptors; as `nearest_pairs`."""
    if descriptors is None:
        return all_pairs(rows)
    nearest = nearest_pairs(rows, descriptors, options.num_neighbours, search)
    return _each_once(np.concatenate([nearest, sequence_pairs(rows, names, sizes, options.sequence)]))


def _each_once(pairs: np.ndarray) -> np.ndarray:
    return np.unique(np.sort(pairs, axis=1), axis=0) if len(pairs) else pairs
