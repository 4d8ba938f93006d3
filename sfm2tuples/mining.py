"""One round of mining: plan which descriptors it needs, then choose the tuples with them. METHOD.md sections 3 to 5."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.errors import MiningError
from sfm2tuples.index import SPLITS, TRAIN
from sfm2tuples.mining_options import MiningOptions, mining_options, parse_pool
from sfm2tuples.negatives import Asking, Pool, choose_negatives, choose_pool
from sfm2tuples.positives import choose_positives, possible_queries
from sfm2tuples.queries import choose_queries
from sfm2tuples.random_draws import item_numbers
from sfm2tuples.rows import Matrix, block_of, select
from sfm2tuples.similarity import Search, most_similar, pair_similarities
from sfm2tuples.tuples import Candidates, ImageTable, PlaceTable, TupleSet

__all__ = ["MiningOptions", "Plan", "choose_tuples", "mining_options", "plan_round"]


@dataclass(frozen=True)
class Plan:
    """What a round is to choose from, before any descriptor is known."""

    split: str
    """``train`` or ``val``."""
    round: int
    """Number of the round; it names the draws."""
    query: np.ndarray
    """(t,) int64, rising rows of the image table."""
    positive: np.ndarray
    """(t, P) int64, positions in the candidates' columns; -1 for missing, and for all of m1 as yet."""
    pool: np.ndarray
    """(s,) int64, rising rows; the positives of m1 are added when they are chosen."""
    rows_needed: np.ndarray
    """(m,) int64, rising rows whose descriptors the choice looks at; empty where it looks at none."""
    without_positive: int
    """Images of the split that can be no query, because the rule allows them no positive."""


def plan_round(
    images: ImageTable, places: PlaceTable, candidates: Candidates, options: MiningOptions, split: str, round: int
) -> Plan:
    """Draw the queries and the pool of a round, and choose the positives of m2 and m3.

    Parameters
    ----------
    images, places : ImageTable, PlaceTable
    candidates : Candidates
        Those of the split.
    options : MiningOptions
    split : str
        ``train``: the pool holds images of training places; ``val``: of all places.
    round : int
        Every round draws anew.

    Raises
    ------
    MiningError
        Training has too few places for the negatives asked, or no image with a positive; m2 of imported pairs.
    """
    eligible = possible_queries(candidates, options)
    is_split = places.split[images.place] == SPLITS.index(split)
    registered = int(np.count_nonzero(is_split & (images.index_row >= 0)))
    if options.positives == "m2" and candidates.unknown.any():
        raise MiningError(
            f"m2 chooses by shared points, which {int(candidates.unknown.sum()):,} imported pairs do not have; "
            "choose m3, which draws among them, or m1"
        )
    if split == SPLITS[TRAIN]:
        _check_places(images.place[is_split], options)
        _check_queries(eligible, registered, options)
    number = item_numbers(images.key)
    query = choose_queries(eligible, images.place, number, item_numbers(places.name), options, round)
    if options.positives == "m1":
        positive = np.full((len(query), options.num_positives), -1, np.int64)
    else:
        positive = choose_positives(candidates, query, number, options, round)
    ends = np.concatenate([query, candidates.image[positive[positive >= 0]]])
    may_be_in_pool = np.flatnonzero(is_split) if split == SPLITS[TRAIN] else np.arange(len(images.key))
    pool = choose_pool(parse_pool(options.pool), may_be_in_pool, images.place, number, ends, options.seed, round)
    needed = np.zeros(0, np.int64)
    if options.needs_descriptors:
        needed = np.union1d(ends, pool)
        if options.positives == "m1":
            needed = np.union1d(needed, _candidates_of(candidates, query))
    return Plan(split, round, query, positive, pool, needed, registered - len(eligible))


def choose_tuples(
    plan: Plan,
    descriptors: Matrix | None,
    images: ImageTable,
    candidates: Candidates,
    options: MiningOptions,
    search: Search = most_similar,
) -> TupleSet:
    """Choose the positives (m1) and negatives of a planned round.

    Parameters
    ----------
    plan : Plan
    descriptors : (m, D) float32
        L2-normalised, one for each of `plan.rows_needed`; None where that is empty.
    images, candidates, options
        As given to `plan_round`.
    search : Search
        How the most similar are found: on the CPU where left out.

    Raises
    ------
    MiningError
        A training query finds fewer negatives than asked in the pool.
    """
    row_of = np.full(len(images.key), -1, np.int64)
    row_of[plan.rows_needed] = np.arange(len(plan.rows_needed))
    number = item_numbers(images.key)
    if not options.needs_descriptors:
        descriptors = None
    elif descriptors is None or len(descriptors) != len(plan.rows_needed):
        raise ValueError(f"the plan needs {len(plan.rows_needed)} descriptors")
    edge, pool = plan.positive, plan.pool
    if options.positives == "m1":
        edge = choose_positives(candidates, plan.query, number, options, plan.round, descriptors, row_of)
        if parse_pool(options.pool).ends:
            pool = np.union1d(pool, candidates.image[edge[edge >= 0]])
    positive = np.where(edge >= 0, np.append(candidates.image, -1)[edge], -1)
    similarity = _positive_similarity(plan.query, positive, descriptors, row_of)
    negative, negative_similarity = choose_negatives(
        _asking(plan.query, images, number, descriptors, row_of, similarity[:, 0]),
        _pool(pool, images, number, descriptors, row_of),
        options,
        plan.round,
        search,
    )
    if plan.split == SPLITS[TRAIN] and options.max_negative_similarity is None:
        _check_negatives(negative, images, plan.query, options)
    return TupleSet(
        query=plan.query,
        positive=positive,
        negative=negative,
        shared=np.append(candidates.shared, np.int32(0))[edge],
        overlap=np.append(candidates.overlap, np.float32(np.nan))[edge],
        scale_change=np.append(candidates.scale_change, np.float32(np.nan))[edge],
        angle=np.append(candidates.angle, np.float32(np.nan))[edge],
        positive_similarity=similarity.astype(np.float32),
        negative_similarity=negative_similarity.astype(np.float32),
        pool=pool,
    )


def _candidates_of(candidates: Candidates, query: np.ndarray) -> np.ndarray:
    """Rows of all candidates of some queries."""
    of = np.repeat(candidates.query, np.diff(candidates.indptr))
    return np.unique(candidates.image[np.isin(of, query)])


def _asking(
    query: np.ndarray,
    images: ImageTable,
    number: np.ndarray,
    descriptors: Matrix | None,
    row_of: np.ndarray,
    positive_similarity: np.ndarray,
) -> Asking:
    values = None if descriptors is None else block_of(descriptors, row_of[query])
    return Asking(images.place[query], number[query], values, positive_similarity)


def _pool(
    row: np.ndarray, images: ImageTable, number: np.ndarray, descriptors: Matrix | None, row_of: np.ndarray
) -> Pool:
    values = None if descriptors is None else select(descriptors, row_of[row])
    return Pool(row, images.place[row], number[row], values)


def _positive_similarity(
    query: np.ndarray, positive: np.ndarray, descriptors: Matrix | None, row_of: np.ndarray
) -> np.ndarray:
    """(t, P) float64; -inf where there is no positive or no descriptor."""
    similarity = np.full(positive.shape, -np.inf)
    if descriptors is not None:
        t, slot = np.nonzero(positive >= 0)
        left, right = row_of[query[t]], row_of[positive[t, slot]]
        similarity[t, slot] = pair_similarities(descriptors, descriptors, left, right)
    return similarity


def _check_places(place: np.ndarray, options: MiningOptions) -> None:
    """One place a negative, and the query's own: refuse rather than run off the end, as [C] does."""
    count, need = len(np.unique(place)), options.num_negatives + 1
    if options.negatives == "N1":
        need = 2
    if count < need:
        raise MiningError(
            f"there are {count} training places with photos, and {options.num_negatives} negatives need {need}; "
            "add models, lower --num-negatives, or give photos of other places with --distractors"
        )


def _check_queries(eligible: np.ndarray, registered: int, options: MiningOptions) -> None:
    if len(eligible) == 0:
        hint = "; lower --min-overlap or raise --max-scale-change" if options.positives == "m3" else ""
        raise MiningError(f"none of {registered:,} training images has a positive by {options.positives}{hint}")


def _check_negatives(negative: np.ndarray, images: ImageTable, query: np.ndarray, options: MiningOptions) -> None:
    short = np.flatnonzero((negative < 0).any(axis=1))
    if len(short):
        raise MiningError(
            f"{len(short):,} training queries find fewer than {options.num_negatives} negatives in the pool "
            f"{options.pool}, first {images.key[int(query[short[0]])]}; enlarge --pool or lower --num-negatives"
        )
