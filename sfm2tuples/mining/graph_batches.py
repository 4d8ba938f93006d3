"""Batches of places: one query of each and its positives, and of each pair what the models say. method.md section 13.

A tuple file says of two images that they show the same (m3), that they show different things, or neither. In a batch
every pair is used, so that it must be known which of these it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from sfm2tuples.compute.random_draws import draw, item_numbers
from sfm2tuples.errors import MiningError
from sfm2tuples.mining.barred import Barred
from sfm2tuples.mining.batch_options import HARD, GraphSampling
from sfm2tuples.mining.negatives import NegativePool, Queries, choose_negatives
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.positives import allowed, choose_positives, possible_queries
from sfm2tuples.mining.rounds import plan_round
from sfm2tuples.mining.tuple_file import Candidates, ImageTable, TupleFile
from sfm2tuples.similarity.exact_search import Search, most_similar
from sfm2tuples.similarity.rows import Matrix, block_of, select

POSITIVE, UNKNOWN, NEGATIVE = 1, 0, -1
"""What is known of a pair."""
SPARE = 4
"""First queries that are drawn for each full batch: batches are smaller where places or positives are few."""


@dataclass(frozen=True)
class GraphBatch:
    """One batch."""

    row: np.ndarray
    """(n,) int64, distinct rows of the image table: each place's query, then its positives."""
    relation: np.ndarray
    """(n, n) int8, symmetric: `POSITIVE`, `NEGATIVE` or `UNKNOWN`; a photo with itself is unknown."""
    places: int
    """How many places."""
    overlap: np.ndarray
    """(n, n) float32: of a positive pair, the share of the row's points that the column's image sees; NaN where that is
    not known, and elsewhere."""


@dataclass(frozen=True)
class Relations:
    """What is known of any two images of a tuple file."""

    place: np.ndarray
    """(n,) int64, place of each image; inside, its spot."""
    pair: np.ndarray
    """(m,) int64, rising: ``lower row * n + higher row`` of the pairs that m3 allows in either direction."""
    barred: Barred | None
    """Inside: the pairs of one place that are not proven negatives."""
    candidate: np.ndarray
    """(k,) int64, rising: ``query * n + image`` of all candidates."""
    overlap: np.ndarray
    """(k,) float32, the overlap of each: shared points over the query's points, or NaN."""

    @classmethod
    def of(cls, place: np.ndarray, candidates: Candidates, options: MiningOptions, barred: Barred | None) -> Relations:
        """Of the places of all images, and the candidates of a split."""
        edge = allowed(candidates, replace(options, positives="m3"))
        query, image = candidates.queries, candidates.image
        pair = (np.minimum(query, image) * len(place) + np.maximum(query, image))[edge]
        number = query * len(place) + image
        order = np.argsort(number)
        return cls(place, np.unique(pair), barred, number[order], candidates.overlap[order])

    def among(self, row: np.ndarray) -> np.ndarray:
        """The relation of each two of some images: rows (n,) to (n, n) int8. O(n² log m).

        Two images of one spot are never negatives, as in mining; nor is a pair that is barred in either direction.
        """
        first, second = np.broadcast_arrays(row[:, None], row[None, :])
        pair = np.minimum(first, second) * len(self.place) + np.maximum(first, second)
        is_positive = _find(self.pair, pair)[1]
        is_negative = self.place[first] != self.place[second]
        if self.barred is not None:
            holds = self.barred.holds(first, second)
            is_negative &= ~holds & ~holds.T
        return np.where(is_positive, POSITIVE, np.where(is_negative, NEGATIVE, UNKNOWN)).astype(np.int8)

    def overlaps(self, row: np.ndarray, relation: np.ndarray) -> np.ndarray:
        """The overlap of the positive pairs of some images, as `GraphBatch` has it: (n, n) float32. O(n² log k).

        Where only one image of a pair has the other among its candidates, that overlap stands for both directions.
        """
        at, there = _find(self.candidate, row[:, None] * len(self.place) + row[None, :])
        known = np.full(there.shape, np.nan, np.float32)
        known[there] = self.overlap[at[there]]
        known = np.where(np.isnan(known), known.T, known)
        return np.where(relation == POSITIVE, known, np.float32(np.nan))


@dataclass(frozen=True)
class BatchPlan:
    """What the batches of a round are to be chosen from, before any descriptor is known."""

    sampling: GraphSampling
    options: MiningOptions
    """As the tuples were mined, with m3, and N2 or random for the places of a batch."""
    round: int
    """Names the draws."""
    photos: int
    """How many photos the round is to show: batches are made until they have as many."""
    start: np.ndarray
    """(b,) int64, the query that each batch begins with, in the order of training; more than full batches need."""
    possible: np.ndarray
    """(s,) int64, rising rows of the images that may be queries of the other places."""
    images: ImageTable
    candidates: Candidates
    relations: Relations

    @property
    def rows_needed(self) -> np.ndarray:
        """(m,) int64, rising rows whose descriptors the choice looks at; none where places are drawn at random."""
        return np.union1d(self.start, self.possible) if self.options.needs_descriptors else self.possible[:0]

    def other_queries(
        self,
        which: np.ndarray,
        descriptors: Matrix | None,
        unfit: np.ndarray,
        search: Search = most_similar,
    ) -> np.ndarray:
        """The queries of the other places of some batches.

        Parameters
        ----------
        which : (r,) int64
            Positions in `start`.
        descriptors : (m, D) float32
            L2-normalised, one for each of `rows_needed`; None where that is empty.
        unfit : (u,) int64
            Rows that are not to be chosen.
        search : Search

        Returns
        -------
        (r, P - 1) int64
            The nearest image of each of the nearest places, nearest first; or of places drawn at random. -1 where there
            are fewer. Inside, only proven negatives of the first query are chosen.
        """
        start, possible = self.start[which], np.setdiff1d(self.possible, unfit)
        of_start = of_possible = None
        if self.options.needs_descriptors:
            if descriptors is None or len(descriptors) != len(self.rows_needed):
                raise ValueError(f"the plan needs {len(self.rows_needed)} descriptors")
            of_start = block_of(descriptors, np.searchsorted(self.rows_needed, start))
            of_possible = select(descriptors, np.searchsorted(self.rows_needed, possible))
        place, barred = self.relations.place, self.relations.barred
        no_similarity = np.full(len(start), -np.inf)
        queries = Queries(
            place[start],
            _numbers(start, self.images),
            of_start,
            no_similarity,
            None if barred is None else barred.rows(start, possible),
        )
        pool = NegativePool(possible, place[possible], _numbers(possible, self.images), of_possible)
        return choose_negatives(queries, pool, self.options, self.round, search)[0]

    def batches(self, others: np.ndarray, unfit: np.ndarray) -> list[GraphBatch]:
        """The batches, with up to K - 1 positives drawn for each query, until they show `photos` photos.

        Parameters
        ----------
        others : (b, P - 1) int64
            As `other_queries` gives them, for all of `start`.
        unfit : (u,) int64
            Rows that are in no batch.

        Raises
        ------
        MiningError
            No batch has two places.
        """
        queries = np.column_stack([self.start, others])
        queries = queries[~np.isin(self.start, unfit) & (others >= 0).any(axis=1)]
        if not len(queries):
            raise MiningError(
                f"none of {len(self.start):,} graph batches finds a second place among {len(self.possible):,} images "
                "that may be queries; enlarge --pool, add models, or train with --sampling tuples"
            )
        every = np.unique(queries[queries >= 0])
        edge = choose_positives(self.candidates, every, item_numbers(self.images.key), self.options, self.round)
        positive = np.where(edge >= 0, np.append(self.candidates.image, -1)[edge], -1)
        groups = dict(zip(every.tolist(), np.column_stack([every, positive]).tolist(), strict=True))
        never = {-1, *unfit.tolist()}
        made: list[GraphBatch] = []
        shown = 0
        for batch in queries.tolist():
            if shown >= self.photos:
                break
            held = dict.fromkeys(row for query in batch if query >= 0 for row in groups[query])
            rows = np.array([row for row in held if row not in never], np.int64)
            shown += len(rows)
            relation = self.relations.among(rows)
            places = sum(query >= 0 for query in batch)
            made.append(GraphBatch(rows, relation, places, self.relations.overlaps(rows, relation)))
        return made


def plan_batches(
    tuples: TupleFile,
    options: MiningOptions,
    sampling: GraphSampling,
    choice: str,
    round: int,
    kept_out: np.ndarray | None = None,
) -> BatchPlan:
    """Draw the first queries of a round's batches, among the queries and the pool that its tuples would have.

    There are as many batches as show as many photos as the round's tuples would, or as first queries allow.

    Parameters
    ----------
    tuples : TupleFile
    options : MiningOptions
        How tuples are mined; its positives and negatives decide the number of photos alone.
    sampling : GraphSampling
    choice : str
        One of `BATCH_CHOICES`.
    round : int
        Every round draws anew.
    kept_out : (k,) int64, optional
        Rows that are in no batch.

    Raises
    ------
    MiningError
        There is one place only, no image with a positive by m3, or none of these with a proven negative inside.
    """
    photos = 1 + options.num_positives + options.num_negatives
    plain = replace(options, positives="m3", num_positives=1, num_negatives=1, negatives="random")
    images, candidates = tuples.images, tuples.candidates["train"]
    plan = plan_round(images, tuples.places, candidates, plain, "train", round, tuples.barred)
    left_out = np.zeros(0, np.int64) if kept_out is None else kept_out
    with_positive = np.setdiff1d(possible_queries(candidates, plain), left_out)
    query = np.setdiff1d(plan.query, left_out)
    possible = np.intersect1d(with_positive, np.union1d(plan.pool, query))
    photos *= len(plan.query)
    count = SPARE * math.ceil(photos / (sampling.places * sampling.photos))
    number = _numbers(possible, images)
    luck = draw(plain.seed, round, "start of graph batch", number)
    # The round's queries come first; where small batches need more, other images of the pool follow.
    start = possible[np.lexsort((luck, ~np.isin(possible, query)))][:count]
    rule = replace(
        plain,
        num_positives=sampling.photos - 1,
        num_negatives=sampling.places - 1,
        negatives="N2" if choice == HARD else "random",
    )
    relations = Relations.of(images.place, candidates, plain, tuples.barred)
    return BatchPlan(sampling, rule, round, photos, start, possible, images, candidates, relations)


def _numbers(row: np.ndarray, images: ImageTable) -> np.ndarray:
    """(k,) uint64, numbers of some images in draws."""
    return item_numbers([images.key[r] for r in row.tolist()])


def _find(rising: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where numbers of any shape stand among rising ones, and which of them do."""
    if not len(rising):
        return np.zeros(wanted.shape, np.int64), np.zeros(wanted.shape, bool)
    at = np.minimum(np.searchsorted(rising, wanted), len(rising) - 1)
    return at, rising[at] == wanted
