"""Ranked lists, and the steps that follow a first search: each takes ranked lists and gives ranked lists.

`Pipeline` puts the steps that were asked for in their order. The `search` command, `evaluate` and the BoW teacher run
the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from retrieval.search.engines import columns
from retrieval.search.options import NO_FEATURES, Expansion, Refinement
from retrieval.search.query_expansion import expand_by_rows
from retrieval.search.window_search import WindowFinder, rerank
from sfm2tuples.errors import UsageError

NO_PHOTOS = "--rerank R looks at photos: name the network of the descriptors, and the photos (--photos)"


@dataclass(frozen=True)
class RankedLists:
    """A list of database rows for each query, best first."""

    queries: Any
    """What the queries are now: (q, D) float32 descriptors; the BoW teacher has what each is averaged with."""
    row: np.ndarray
    """(q, k) int64: rows of the database; -1 where there are fewer."""
    similarity: np.ndarray
    """(q, k) float64: what the row was ranked by; -inf where there is none."""
    inliers: np.ndarray | None = None
    """(q, k) int64: matches of local features that agree, 0 where an image is not verified or was not looked at; None
    before verification."""

    def cut(self, count: int) -> RankedLists:
        """The same with exactly `count` columns."""
        inliers = None if self.inliers is None else columns(self.inliers, count, 0)
        row, similarity = columns(self.row, count, -1), columns(self.similarity, count, -np.inf)
        return replace(self, row=row, similarity=similarity, inliers=inliers)

    def ordered(self, order: np.ndarray) -> RankedLists:
        """The same with the columns of each list in another order, (q, k) int64."""
        row, similarity = np.take_along_axis(self.row, order, 1), np.take_along_axis(self.similarity, order, 1)
        inliers = None if self.inliers is None else np.take_along_axis(self.inliers, order, 1)
        return replace(self, row=row, similarity=similarity, inliers=inliers)

    def only(self, kept: np.ndarray) -> RankedLists:
        """Take out what is not kept, (q, k) bool; what stays moves up, in its order."""
        row, similarity = np.where(kept, self.row, -1), np.where(kept, self.similarity, -np.inf)
        inliers = None if self.inliers is None else np.where(kept, self.inliers, 0)
        return RankedLists(self.queries, row, similarity, inliers).ordered(np.argsort(~kept, axis=1, kind="stable"))

    def found_again(self, which: np.ndarray, row: np.ndarray, similarity: np.ndarray) -> RankedLists:
        """The same with other lists for some queries, `which` (q,) bool; rows keep the inliers that they had."""
        width = self.row.shape[1]
        rows, similarities = self.row.copy(), self.similarity.copy()
        rows[which], similarities[which] = columns(row, width, -1), columns(similarity, width, -np.inf)
        inliers = None if self.inliers is None else _inliers_of(rows, self.row, self.inliers)
        return replace(self, row=rows, similarity=similarities, inliers=inliers)


class Verifier(Protocol):
    """Compares the photos of short lists with the queries': `feature_verifier.FeatureVerifier`."""

    expand_inliers: int
    """Inliers that an image needs for a query to be averaged with it."""

    def count(self, row: np.ndarray) -> np.ndarray:
        """Inliers between queries and rows of the database, (q, n) int64 both; 0 where a row is -1 or not verified."""


Average = Callable[[Any, RankedLists, Expansion], Any]
"""Averages queries with the images of lists, of which the first are taken."""
Again = Callable[[Any, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Searches again for some of the queries, (q,) bool: rows and similarities of these."""


def nothing_again(queries: Any, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find nothing: for rankings of the whole database, which are made from the queries at the end."""
    return np.empty((int(which.sum()), 0), np.int64), np.empty((int(which.sum()), 0))


@dataclass(frozen=True)
class Pipeline:
    """The steps of a refinement, and what looks at the photos of short lists for them."""

    refinement: Refinement = field(default_factory=Refinement)
    """What was asked for."""
    finder: WindowFinder | None = None
    """For re-ranking by windows."""
    verifier: Verifier | None = None
    """For re-ranking by geometry."""

    def __post_init__(self) -> None:
        """Refuse re-ranking without what it needs."""
        if self.refinement.num_windows and self.finder is None:
            raise UsageError(NO_PHOTOS)
        if self.refinement.num_verified and self.verifier is None:
            raise UsageError(NO_FEATURES)

    @property
    def depth(self) -> int:
        """Images of each query that the steps look at."""
        return self.refinement.num_reranked or self.refinement.num_averaged

    def run(self, lists: RankedLists, average: Average, again: Again = nothing_again) -> RankedLists:
        """Put lists through all steps.

        Parameters
        ----------
        lists : RankedLists
            Of the first search, at least `depth` columns where the database has so many rows.
        average : callable
            How queries are averaged with images.
        again : callable
            How averaged queries are searched for; not at all by default.
        """
        for step in self._steps(average, again):
            lists = step(lists)
        return lists

    def _steps(self, average: Average, again: Again) -> Iterator[Callable[[RankedLists], RankedLists]]:
        qe = self.refinement.qe
        if self.finder is not None and self.refinement.num_windows:
            yield WindowStep(self.finder, self.refinement.num_windows, qe)
            return
        least = 0
        if self.verifier is not None and self.refinement.num_verified:
            yield VerificationStep(self.verifier, self.refinement.num_verified)
            least = self.verifier.expand_inliers
        if qe is not None:
            yield ExpansionStep(qe, least, average, again)


@dataclass(frozen=True)
class WindowStep:
    """Puts the first images in the order of their best windows [R16]."""

    finder: WindowFinder
    """Describes the windows."""
    num_images: int
    """How many of the first."""
    expansion: Expansion | None
    """Averages the query with its best windows before they are ordered."""

    def __call__(self, lists: RankedLists) -> RankedLists:
        """Re-rank."""
        windows = self.finder.find(lists.row[:, : self.num_images])
        row, similarity = rerank(lists.row, lists.similarity, lists.queries, windows, self.expansion)
        return replace(lists, row=row, similarity=similarity)


@dataclass(frozen=True)
class VerificationStep:
    """Puts verified images first, by falling inliers; the others follow in their order [P07]."""

    verifier: Verifier
    """Counts the inliers."""
    num_images: int
    """How many of the first are looked at."""

    def __call__(self, lists: RankedLists) -> RankedLists:
        """Re-rank."""
        inliers = columns(self.verifier.count(lists.row[:, : self.num_images]), lists.row.shape[1], 0)
        return replace(lists, inliers=inliers).ordered(np.argsort(-inliers, axis=1, kind="stable"))


@dataclass(frozen=True)
class ExpansionStep:
    """Averages queries with what they found, with what is verified where there is verification, and searches again.

    After verification the new order stands: it has learned from the verified images (Chum et al., ICCV 2007). A query
    without an image to be averaged with keeps its list.
    """

    expansion: Expansion
    """How many images, and their weights."""
    least_inliers: int
    """Inliers that an image needs; not looked at before verification."""
    average: Average
    """Averages."""
    again: Again
    """Searches."""

    def __call__(self, lists: RankedLists) -> RankedLists:
        """Expand."""
        near = lists if lists.inliers is None else lists.only(lists.inliers >= self.least_inliers)
        expanded = np.asarray((near.row >= 0).any(axis=1))
        queries = self.average(lists.queries, near, self.expansion)
        return replace(lists, queries=queries).found_again(expanded, *self.again(queries, expanded))


def average_with(queries: np.ndarray, near: RankedLists, expansion: Expansion, database: np.ndarray) -> np.ndarray:
    """Average descriptors (q, D) with those of the first images of their lists: the `Average` of descriptors."""
    return expand_by_rows(queries, near.row, near.similarity, database, expansion)


def whole_rankings(first: np.ndarray, rankings: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Whole rankings (n,) of a database with some rows of each, (q, m), -1 for none, put in front of all others."""
    for short, ranking in zip(first, rankings, strict=True):
        rows = short[short >= 0]
        behind = np.ones(len(ranking), bool)
        behind[rows] = False
        yield np.concatenate([rows, ranking[behind[ranking]]])


def _inliers_of(row: np.ndarray, known: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Inliers of other lists for the same queries; 0 where a row was not looked at."""
    found = np.zeros(row.shape, np.int64)
    for query in range(len(row)):
        inliers_of = dict(zip(known[query].tolist(), counts[query].tolist(), strict=True))
        found[query] = [inliers_of.get(one, 0) for one in row[query].tolist()]
    return found
