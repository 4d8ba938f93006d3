"""Negatives: the pool, and the rules N1, N2, random and semi-hard. method.md section 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sfm2tuples.compute.random_draws import draw, smallest
from sfm2tuples.mining.options import MiningOptions, PoolStrategy
from sfm2tuples.mining.queries import rank_in_run
from sfm2tuples.similarity.barred_rows import BarredRows
from sfm2tuples.similarity.best_rows import PoolRules
from sfm2tuples.similarity.exact_search import Search, most_similar
from sfm2tuples.similarity.rows import Matrix

Choice = tuple[np.ndarray, np.ndarray]
"""Rows and similarities, as `choose_negatives` gives them."""


def choose_pool(
    strategy: PoolStrategy,
    images: np.ndarray,
    image_place: np.ndarray,
    image_number: np.ndarray,
    ends: np.ndarray,
    seed: int,
    round: int,
) -> np.ndarray:
    """Draw the pool of a round.

    Parameters
    ----------
    strategy : PoolStrategy
    images : (m,) int64
        Rows that may be in the pool.
    image_place, image_number : (n,) int64, (n,) uint64
        Place of every image, and its number in draws.
    ends : (e,) int64
        The chosen queries and positives.

    Returns
    -------
    (s,) int64
        Rising rows.
    """
    ends = np.unique(ends) if strategy.ends else np.zeros(0, np.int64)
    if strategy.per_place:
        # [E16]: 20 of every place, whether or not they are ends already.
        luck = draw(seed, round, "pool", image_number[images])
        order = np.lexsort((images, luck, image_place[images]))
        drawn = images[order[rank_in_run(image_place[images][order]) < strategy.per_place]]
        return np.union1d(ends, drawn)
    wanted = strategy.total - len(ends)
    if wanted <= 0:
        return ends
    others = np.setdiff1d(images, ends)
    luck = draw(seed, round, "pool", image_number[others])
    return np.union1d(ends, others[smallest(luck, wanted)])


@dataclass(frozen=True)
class NegativePool:
    """The images that negatives are chosen from, with what a choice looks at."""

    row: np.ndarray
    """(s,) int64, rows of the image table, rising."""
    place: np.ndarray
    """(s,) int64."""
    number: np.ndarray
    """(s,) uint64, number of each image in draws."""
    descriptors: Matrix | None
    """(s, D) float32, L2-normalised; None for random negatives."""


@dataclass(frozen=True)
class Queries:
    """The queries that negatives are chosen for."""

    place: np.ndarray
    """(t,) int64."""
    number: np.ndarray
    """(t,) uint64, number of each query in draws."""
    descriptors: np.ndarray | None
    """(t, D) float32, L2-normalised; None for random negatives."""
    positive_similarity: np.ndarray
    """(t,) float64, similarity to the first positive, for semi-hard."""
    barred: BarredRows | None = None
    """Rows of the pool that are never a negative of single queries; None: nothing but their own places."""

    def take(self, rows: np.ndarray) -> Queries:
        """Some of the queries."""
        descriptors = None if self.descriptors is None else self.descriptors[rows]
        barred = None if self.barred is None else self.barred.of_queries(rows)
        return Queries(self.place[rows], self.number[rows], descriptors, self.positive_similarity[rows], barred)


def choose_negatives(
    queries: Queries, pool: NegativePool, options: MiningOptions, round: int, search: Search = most_similar
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the negatives of each query from other places, none of them barred.

    Parameters
    ----------
    queries, pool : Queries, NegativePool
    search : Search
        How the most similar are found: on the CPU where left out.

    Returns
    -------
    row : (t, K) int64
        Rows of the image table, most similar first (random: in the order drawn); -1 where there are fewer.
    similarity : (t, K) float64
        -inf where there is no negative or no descriptor.
    """
    return RULES[options.negatives](queries, pool, options, round, search)


def semi_hard_bounds(positive_similarity: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Similarities (t,) between which a negative has d(q,p) < d(q,n) < d(q,p) + margin.

    d = sqrt(2 - 2 s) for L2-normalised descriptors of similarity s.
    """
    distance = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * positive_similarity))
    return 1.0 - (distance + margin) ** 2 / 2.0, positive_similarity


def _nearest_images(queries: Queries, pool: NegativePool, options: MiningOptions, round: int, search: Search) -> Choice:
    """N1: the most similar images, whatever their places."""
    every = np.arange(len(pool.row))
    return _nearest(queries, pool, options.num_negatives, every, None, _ceiling(queries, options), search)


def _nearest_places(queries: Queries, pool: NegativePool, options: MiningOptions, round: int, search: Search) -> Choice:
    """N2: the most similar images, one a place."""
    return _nearest(queries, pool, options.num_negatives, pool.place, None, _ceiling(queries, options), search)


def _semi_hard(queries: Queries, pool: NegativePool, options: MiningOptions, round: int, search: Search) -> Choice:
    """The nearest that are semi-hard, one a place, filled up by N2."""
    count, ceiling = options.num_negatives, _ceiling(queries, options)
    above, below = semi_hard_bounds(queries.positive_similarity, options.margin)
    row, similarity = _nearest(queries, pool, count, pool.place, above, np.minimum(below, ceiling), search)
    short = np.flatnonzero((row < 0).any(axis=1))
    if len(short):
        # A query that lacks negatives has fewer than `count` places, so the best 2 x count places hold enough others.
        more, more_similarity = _nearest(queries.take(short), pool, 2 * count, pool.place, None, ceiling[short], search)
        place_of = dict(zip(pool.row.tolist(), pool.place.tolist(), strict=True))
        for position, t in enumerate(short.tolist()):
            taken = {place_of[r] for r in row[t].tolist() if r >= 0}
            spare = [i for i, r in enumerate(more[position].tolist()) if r >= 0 and place_of[r] not in taken]
            for slot, i in zip(np.flatnonzero(row[t] < 0), spare, strict=False):
                row[t, slot], similarity[t, slot] = more[position, i], more_similarity[position, i]
    order = np.lexsort((row, -similarity), axis=1)
    return np.take_along_axis(row, order, 1), np.take_along_axis(similarity, order, 1)


def _random(queries: Queries, pool: NegativePool, options: MiningOptions, round: int, search: Search) -> Choice:
    """Draw other places, then one image of each, all alike likely. Seed, round, query and image name each draw."""
    order = np.argsort(pool.place, kind="stable")
    places, start = np.unique(pool.place[order], return_index=True)
    start = np.append(start, len(order))
    # The draw of a place is named by the least number of its images, which does not depend on their order.
    place_number = np.minimum.reduceat(pool.number[order], start[:-1]) if len(order) else pool.number[:0]
    row = np.full((len(queries.place), options.num_negatives), -1, np.int64)
    every = np.arange(len(pool.row))
    for t in range(len(row)):
        number = queries.number[t : t + 1]
        barred = None if queries.barred is None else queries.barred.mask(np.array([t]), every)[0]
        turn = np.argsort(draw(options.seed, round, "random place", number, place_number), kind="stable")
        found: list[int] = []
        for c in turn[places[turn] != queries.place[t]].tolist():
            if len(found) == options.num_negatives:
                break
            members = order[start[c] : start[c + 1]]
            members = members if barred is None else members[~barred[members]]
            if len(members):
                luck = draw(options.seed, round, "random image", number, pool.number[members])
                found.append(int(pool.row[members[np.argmin(luck)]]))
        row[t, : len(found)] = found
    return row, np.full(row.shape, -np.inf)


def _nearest(
    queries: Queries,
    pool: NegativePool,
    count: int,
    group: np.ndarray,
    above: np.ndarray | None,
    below: np.ndarray,
    search: Search,
) -> Choice:
    if queries.descriptors is None or pool.descriptors is None:
        raise ValueError("these negatives are chosen by descriptors, and none were given")
    rules = PoolRules(queries.place, pool.place, group, above, below, queries.barred)
    position, similarity = search(queries.descriptors, pool.descriptors, count, rules)
    return np.append(pool.row, -1)[position], similarity


def _ceiling(queries: Queries, options: MiningOptions) -> np.ndarray:
    """(t,) float64, what a negative's similarity must be below."""
    most = options.max_negative_similarity
    return np.full(len(queries.place), np.inf if most is None else np.nextafter(most, np.inf))


RULES: dict[str, Callable[[Queries, NegativePool, MiningOptions, int, Search], Choice]] = {
    "N1": _nearest_images,
    "N2": _nearest_places,
    "random": _random,
    "semi-hard": _semi_hard,
}
"""The function of each rule that `--negatives` names."""
