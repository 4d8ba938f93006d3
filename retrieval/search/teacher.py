"""The BoW teacher's rankings: tf-idf, spatial verification of the first ones, query expansion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import sparse

from retrieval.local_features.bag_of_words import BagOfWords, InvertedFile, hard_counts, idf_of, unit_rows
from retrieval.local_features.feature_files import LocalFeatures, inside
from retrieval.local_features.hamming import HammingFile, SignedFeatures, confirmed_features
from retrieval.local_features.options import HammingOptions
from retrieval.search.feature_verifier import FeatureTables, FeatureVerifier
from retrieval.search.options import Expansion, TeacherOptions
from retrieval.search.ranked_lists import Pipeline, RankedLists, whole_rankings


class Ranker(Protocol):
    """Ranks a database for queries that it was made with."""

    def rank(self, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """Rows by falling similarity, (q, n) int64, for queries expanded by some rows of the database each."""


class WordRanker:
    """Plain tf-idf; an expanded query is the sum of its vector and those of the rows chosen for it."""

    def __init__(self, queries: sparse.csr_matrix, database: sparse.csr_matrix, power: float) -> None:
        self._inverted = InvertedFile(database, power)
        self._vectors = self._inverted.vectors(queries)

    def rank(self, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """See `Ranker`."""
        query = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
        row = np.concatenate([np.empty(0, np.int64), *chosen])
        shape = (len(chosen), self._inverted.database.shape[0])
        choose = sparse.csr_matrix((np.ones(len(row)), (query, row)), shape)
        return self._inverted.rank(unit_rows(self._vectors + choose @ self._inverted.database))


class HammingRanker:
    """Hamming embedding; an expanded query has the features of the rows chosen for it that another photo confirms."""

    def __init__(self, queries: SignedFeatures, database: BagOfWords, options: HammingOptions) -> None:
        self._queries, self._database, self._options = queries, database.signed(), options
        holders = np.asarray((hard_counts(self._database, len(database.words)) > 0).sum(axis=0)).ravel()
        self._file = HammingFile(self._database, idf_of(holders, len(database.features.names)), options)

    def rank(self, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """See `Ranker`."""
        rankings = []
        for query, rows in enumerate(chosen):
            own = self._queries.rows(np.array([query]))
            word, signature = confirmed_features(
                self._database, self._queries.word[own], self._queries.signature[own], rows, self._options
            )
            rankings.append(np.argsort(-self._file.similarities(word, signature), kind="stable"))
        return np.array(rankings, np.int64).reshape(len(chosen), len(self._database.indptr) - 1)


def rank_by_words(
    bag: BagOfWords,
    queries: Sequence[str],
    database: Sequence[str],
    own: np.ndarray,
    options: TeacherOptions,
    boxes: np.ndarray | None = None,
) -> np.ndarray:
    """Rank a database for each query.

    Parameters
    ----------
    bag : BagOfWords
        Holds queries and database.
    queries, database : sequences of str
        Names of photos.
    own : (q,) int64
        The query's own row of the database, which is neither verified nor averaged with it; -1 for none.
    options : TeacherOptions
    boxes : (q, 4) float64, optional
        Left, top, right, bottom in pixels of the query's file: features outside do not count.

    Returns
    -------
    (q, n) int64
        Rows of the database, best first.

    Raises
    ------
    DataError
        A photo is not in the bag.
    """
    asked, held = bag.only(queries), bag.only(database)
    keep = None if boxes is None else inside_boxes(asked.features, boxes)
    ranker: Ranker
    if options.hamming is None:
        ranker = WordRanker(asked.counts(keep), held.counts(), options.power)
    else:
        ranker = HammingRanker(asked.signed(keep), held, options.hamming)
    verifier = None
    if options.num_verified:
        tables = FeatureTables([bag.features])
        verifier = FeatureVerifier(tables, queries, database, options.verification, options.jobs, boxes)
    pipeline = Pipeline(options.refinement, verifier=verifier)
    nobody = [np.empty(0, np.int64)] * len(queries)
    rankings = ranker.rank(nobody)
    short = _first_others(rankings, own, pipeline.depth)
    lists = pipeline.run(RankedLists(nobody, short, np.where(short >= 0, 0.0, -np.inf)), _averaged_with)
    if options.num_expanded:
        rankings = ranker.rank(lists.queries)
    if lists.inliers is None:
        return rankings
    # Only what is verified goes in front: the query's own row stays among those that are not.
    verified = lists.only(lists.inliers > 0).row
    return np.array(list(whole_rankings(verified, rankings)), np.int64).reshape(rankings.shape)


def inside_boxes(features: LocalFeatures, boxes: np.ndarray) -> np.ndarray:
    """Features whose centre is inside the box of their photo, (m,) bool; boxes (n, 4) in pixels of the files."""
    return inside(features.keypoints, np.repeat(boxes, np.diff(features.indptr), axis=0))


def _first_others(rankings: np.ndarray, own: np.ndarray, count: int) -> np.ndarray:
    """The first `count` rows of each ranking without the query's own: (q, count) int64, -1 where there are fewer."""
    short = np.full((len(rankings), count), -1, np.int64)
    for number, (ranking, row) in enumerate(zip(rankings, own, strict=True)):
        others = ranking[: count + 1]
        others = others[others != row][:count]
        short[number, : len(others)] = others
    return short


def _averaged_with(queries: Sequence[np.ndarray], near: RankedLists, expansion: Expansion) -> list[np.ndarray]:
    """Rows that each query is averaged with: the `Average` of words, which has no weights."""
    return [row[row >= 0][: expansion.num_images] for row in near.row]
