"""One round of mining: plan which descriptors it needs, then choose the tuples with them. method.md sections 3 to 5."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sfm2tuples.compute.random_draws import item_numbers
from sfm2tuples.errors import MiningError
from sfm2tuples.index.schema import SPLITS, TRAIN
from sfm2tuples.mining.barred import Barred
from sfm2tuples.mining.negatives import NegativePool, Queries, choose_negatives, choose_pool
from sfm2tuples.mining.options import IVF, MiningOptions
from sfm2tuples.mining.positives import choose_positives, possible_queries
from sfm2tuples.mining.queries import choose_queries
from sfm2tuples.mining.tuple_file import Candidates, ImageTable, PlaceTable, TupleSet
from sfm2tuples.similarity.best_rows import pair_similarities
from sfm2tuples.similarity.exact_search import Search, most_similar
from sfm2tuples.similarity.ivf_search import IvfSearch
from sfm2tuples.similarity.rows import Matrix, block_of, select


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
    without_negative: int = 0
    """Images with a positive that can be no query for training, because no image is their proven negative."""


def plan_round(
    images: ImageTable,
    places: PlaceTable,
    candidates: Candidates,
    options: MiningOptions,
    split: str,
    round: int,
    barred: Barred | None = None,
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
    barred : Barred, optional
        Of tuples that are mined inside: only an image that may have a negative is a query for training.

    Raises
    ------
    MiningError
        Training has too few places for the negatives asked, no image with a positive, or none of these with a negative
        inside; m2 of imported pairs.
    """
    eligible = possible_queries(candidates, options)
    is_split = places.split[images.place] == SPLITS.index(split)
    registered = int(np.count_nonzero(is_split & (images.index_row >= 0)))
    if options.positives == "m2" and candidates.unknown.any():
        raise MiningError(
            f"m2 chooses by shared points, which {int(candidates.unknown.sum()):,} imported pairs do not have; "
            "choose m3, which draws among them, or m1"
        )
    without_positive = registered - len(eligible)
    if split == SPLITS[TRAIN]:
        if barred is None:
            _check_places(images.place[is_split], options)
        _check_queries(eligible, registered, options)
        eligible = _with_negative(eligible, np.flatnonzero(is_split), images.place, barred)
    without_negative = registered - without_positive - len(eligible)
    number = item_numbers(images.key)
    size = np.bincount(images.place[images.index_row >= 0], minlength=len(places.name))
    query = choose_queries(eligible, images.place, number, size, item_numbers(places.name), options, round)
    if options.positives == "m1":
        positive = np.full((len(query), options.num_positives), -1, np.int64)
    else:
        positive = choose_positives(candidates, query, number, options, round)
    ends = np.concatenate([query, candidates.image[positive[positive >= 0]]])
    may_be_in_pool = np.flatnonzero(is_split) if split == SPLITS[TRAIN] else np.arange(len(images.key))
    pool = choose_pool(options.pool, may_be_in_pool, images.place, number, ends, options.seed, round)
    needed = np.union1d(ends, pool) if options.needs_descriptors else np.zeros(0, np.int64)
    if options.positives == "m1":
        needed = np.union1d(needed, _candidates_of(candidates, query))
    return Plan(split, round, query, positive, pool, needed, without_positive, without_negative)


@dataclass(frozen=True)
class Negatives:
    """The negatives of some queries of a plan, a row each."""

    positive_similarity: np.ndarray
    """(r, P) float32, as in `TupleSet`."""
    negative: np.ndarray
    """(r, K) int64, as in `TupleSet`."""
    negative_similarity: np.ndarray
    """(r, K) float32, as in `TupleSet`."""


@dataclass(frozen=True)
class RoundChoice:
    """The choice of a planned round, for all its queries at once or for shares of them.

    Several processes may each choose for a share of the queries. No rule looks at two queries, and every draw is named
    by its query, so that the shares together are equal to the whole. Under m1 the pool may hold the positives of all
    queries. Therefore all positives are chosen first (`with_positives`), and then the negatives.
    """

    plan: Plan
    """Its positives are chosen: those of m2 and m3 from the start, those of m1 after `with_positives`."""
    descriptors: Matrix | None
    """(m, D) float32, L2-normalised, one for each of `plan.rows_needed`; None where no choice looks at any."""
    images: ImageTable
    """As given to `plan_round`."""
    candidates: Candidates
    """As given to `plan_round`."""
    options: MiningOptions
    """As given to `plan_round`."""
    search: Search = most_similar
    """How the most similar are found: on the CPU where left out."""
    barred: Barred | None = None
    """As given to `plan_round`."""

    def __post_init__(self) -> None:
        """Refuse descriptors that are not those of the plan."""
        given = 0 if self.descriptors is None else len(self.descriptors)
        if self.options.needs_descriptors and (self.descriptors is None or given != len(self.plan.rows_needed)):
            raise ValueError(f"the plan needs {len(self.plan.rows_needed)} descriptors")

    def positives(self, which: np.ndarray) -> np.ndarray:
        """Choose the positives of some queries.

        Parameters
        ----------
        which : (r,) int64
            Positions in `plan.query`, rising.

        Returns
        -------
        (r, P) int64
            Positions in the candidates' columns; -1 where there are fewer.
        """
        if self.options.positives != "m1":
            return self.plan.positive[which]
        number = np.zeros(len(self.images.key), np.uint64)  # names draws, and m1 has none
        query = self.plan.query[which]
        return choose_positives(
            self.candidates, query, number, self.options, self.plan.round, self.descriptors, self._row_of()
        )

    def with_positives(self, positive: np.ndarray) -> RoundChoice:
        """Take the positives of all queries: (t, P) int64, as `positives` gives them; under m1 the pool gets them."""
        pool = self.plan.pool
        if self.options.positives == "m1" and self.options.pool.ends:
            pool = np.union1d(pool, self.candidates.image[positive[positive >= 0]])
        return replace(self, plan=replace(self.plan, positive=positive, pool=pool))

    def negatives(self, which: np.ndarray) -> Negatives:
        """Choose the negatives of some queries: (r,) int64, positions in `plan.query`."""
        descriptors = self.descriptors if self.options.needs_descriptors else None
        query, row_of = self.plan.query[which], self._row_of()
        similarity = _positive_similarity(query, self._positive_rows()[which], descriptors, row_of)
        images, pool = self.images, self.plan.pool
        of_queries = None if descriptors is None else block_of(descriptors, row_of[query])
        of_pool = None if descriptors is None else select(descriptors, row_of[pool])
        barred = None if self.barred is None else self.barred.rows(query, pool)
        negative, negative_similarity = choose_negatives(
            Queries(images.place[query], _numbers(query, images), of_queries, similarity[:, 0], barred),
            NegativePool(pool, images.place[pool], _numbers(pool, images), of_pool),
            self.options,
            self.plan.round,
            self.search,
        )
        return Negatives(similarity.astype(np.float32), negative, negative_similarity.astype(np.float32))

    def tuples(self, negatives: Negatives) -> TupleSet:
        """The tuples, where `negatives` has a row for each query of the plan.

        Inside, and under `max_negative_similarity`, a training tuple may have fewer negatives than asked, and one
        without any is left out.

        Raises
        ------
        MiningError
            A training query finds fewer negatives than asked in the pool; where it may, none finds any.
        """
        trains = self.plan.split == SPLITS[TRAIN]
        if trains and self.barred is None and self.options.max_negative_similarity is None:
            _check_negatives(negatives.negative, self.images, self.plan.query, self.options)
        edge, candidates = self.plan.positive, self.candidates
        found = TupleSet(
            query=self.plan.query,
            positive=self._positive_rows(),
            negative=negatives.negative,
            shared=np.append(candidates.shared, np.int32(0))[edge],
            overlap=np.append(candidates.overlap, np.float32(np.nan))[edge],
            scale_change=np.append(candidates.scale_change, np.float32(np.nan))[edge],
            angle=np.append(candidates.angle, np.float32(np.nan))[edge],
            positive_similarity=negatives.positive_similarity,
            negative_similarity=negatives.negative_similarity,
            pool=self.plan.pool,
        )
        fit = np.flatnonzero((found.negative >= 0).any(axis=1))
        if not trains or len(fit) == len(found.query):
            return found
        if not len(fit):
            kind = "negative" if self.barred is None else "proven negative"
            limit = self.options.max_negative_similarity
            below = "" if limit is None else f" that is at most {limit:g} similar (--max-negative-similarity)"
            raise MiningError(f"no training query has a {kind}{below} in {self.options.pool}; enlarge --pool")
        return found.take(fit)

    def _positive_rows(self) -> np.ndarray:
        """(t, P) int64, rows of the image table; -1 where there are fewer."""
        edge = self.plan.positive
        return np.where(edge >= 0, np.append(self.candidates.image, -1)[edge], -1)

    def _row_of(self) -> np.ndarray:
        """(n,) int64, row of every image's descriptor; -1 where it has none."""
        row_of = np.full(len(self.images.key), -1, np.int64)
        row_of[self.plan.rows_needed] = np.arange(len(self.plan.rows_needed))
        return row_of


def choose_tuples(
    plan: Plan,
    descriptors: Matrix | None,
    images: ImageTable,
    candidates: Candidates,
    options: MiningOptions,
    search: Search = most_similar,
    barred: Barred | None = None,
) -> TupleSet:
    """Choose the positives (m1) and negatives of a planned round, all by this process; for shares see `RoundChoice`.

    Parameters
    ----------
    plan : Plan
    descriptors : (m, D) float32
        L2-normalised, one for each of `plan.rows_needed`; None where that is empty.
    images, candidates, options
        As given to `plan_round`.
    search : Search
        How the most similar are found: on the CPU where left out.
    barred : Barred, optional
        As given to `plan_round`.

    Raises
    ------
    MiningError
        A training query finds fewer negatives than asked in the pool; inside, none finds any.
    """
    choice = RoundChoice(plan, descriptors, images, candidates, options, search, barred)
    every = np.arange(len(plan.query))
    choice = choice.with_positives(choice.positives(every))
    return choice.tuples(choice.negatives(every))


def _candidates_of(candidates: Candidates, query: np.ndarray) -> np.ndarray:
    """Rows of all candidates of some queries."""
    of = np.repeat(candidates.query, np.diff(candidates.indptr))
    return np.unique(candidates.image[np.isin(of, query)])


def _numbers(row: np.ndarray, images: ImageTable) -> np.ndarray:
    """(k,) uint64, numbers of some images in draws."""
    return item_numbers([images.key[r] for r in row.tolist()])


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
            "add models, lower --num-negatives, give photos of other places with --distractors, or build the index "
            "with --inside, which proves negatives inside a place"
        )


def _check_queries(eligible: np.ndarray, registered: int, options: MiningOptions) -> None:
    if len(eligible) == 0:
        hint = "; lower --min-overlap or raise --max-scale-change" if options.positives == "m3" else ""
        raise MiningError(f"none of {registered:,} training images has a positive by {options.positives}{hint}")


def _with_negative(eligible: np.ndarray, rows: np.ndarray, spot: np.ndarray, barred: Barred | None) -> np.ndarray:
    """The possible queries that have a proven negative among some rows; all of them where nothing is barred."""
    if barred is None:
        return eligible
    found = eligible[barred.have_negative(eligible, rows, spot)]
    if not len(found):
        raise MiningError(
            f"none of {len(eligible):,} training images with a positive has a proven negative: the others of their "
            "place share points with them, or may see what they see; give photos of other places with --distractors, "
            "or build the index with --fragments apart where its models show different parts"
        )
    return found


def _check_negatives(negative: np.ndarray, images: ImageTable, query: np.ndarray, options: MiningOptions) -> None:
    short = np.flatnonzero((negative < 0).any(axis=1))
    if len(short):
        raise MiningError(
            f"{len(short):,} training queries find fewer than {options.num_negatives} negatives in the pool "
            f"{options.pool}, first {images.key[int(query[short[0]])]}; enlarge --pool or lower --num-negatives"
        )


def search_for(search: str, exact: Search) -> Search:
    """The search that `MiningOptions.search` asks for."""
    return IvfSearch(exact) if search == IVF else exact
