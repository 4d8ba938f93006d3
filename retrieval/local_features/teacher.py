"""The BoW teacher's rankings: tf-idf, spatial verification of the first ones, query expansion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from retrieval.local_features.bag_of_words import BagOfWords, InvertedFile, hard_counts, idf_of, unit_rows
from retrieval.local_features.feature_files import LocalFeatures, inside
from retrieval.local_features.hamming import HammingFile, HammingOptions, SignedFeatures, confirmed_features
from retrieval.local_features.spatial_verification import (
    VerificationOptions,
    photo_features,
    put_verified_first,
    verify,
)
from sfm2tuples.errors import UsageError


@dataclass(frozen=True)
class TeacherOptions:
    """What is done beyond one search of the inverted file."""

    power: float = 1.0
    """Of a word's count in a photo, see `InvertedFile`."""
    num_verified: int = 0
    """First images of a query that are verified and, where they are, go in front; 0: none."""
    num_expanded: int = 0
    """Images that a query is averaged with for a second search, whose order is then the answer: of the verified ones
    where there is verification, else of the first; a query without any keeps its first answer. 0: none."""
    hamming: HammingOptions | None = None
    """Tell features of one word apart by their bits, in searching and expanding; words are then the nearest alone,
    and `power` is not looked at."""
    verification: VerificationOptions = field(default_factory=VerificationOptions)
    """How images are verified."""
    jobs: int = 1
    """Processes that verify; changes no figure."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if not 0 <= self.power <= 1:
            raise UsageError(f"power must be 0 to 1, not {self.power}")
        if min(self.num_verified, self.num_expanded) < 0 or self.jobs < 1:
            raise UsageError("images to verify or expand with cannot be negative, and jobs must be at least 1")

    def as_dict(self) -> dict[str, Any]:
        """The options that change figures, as plain values."""
        plain: dict[str, Any] = {
            "power": self.power,
            "num_verified": self.num_verified,
            "num_expanded": self.num_expanded,
        }
        plain |= {"hamming": asdict(self.hamming)} if self.hamming else {}
        return plain | (asdict(self.verification) if self.num_verified else {})


class Engine(Protocol):
    """Ranks a database for queries that it was made with."""

    def rank(self, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """Rows by falling similarity, (q, n) int64, for queries expanded by some rows of the database each."""


class WordEngine:
    """Plain tf-idf; an expanded query is the sum of its vector and those of the rows chosen for it."""

    def __init__(self, queries: sparse.csr_matrix, database: sparse.csr_matrix, power: float) -> None:
        self._inverted = InvertedFile(database, power)
        self._vectors = self._inverted.vectors(queries)

    def rank(self, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """See `Engine`."""
        query = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
        row = np.concatenate([np.empty(0, np.int64), *chosen])
        shape = (len(chosen), self._inverted.database.shape[0])
        choose = sparse.csr_matrix((np.ones(len(row)), (query, row)), shape)
        return self._inverted.rank(unit_rows(self._vectors + choose @ self._inverted.database))


class HammingEngine:
    """Hamming embedding; an expanded query has the features of the rows chosen for it that another photo confirms."""

    def __init__(self, queries: SignedFeatures, database: BagOfWords, options: HammingOptions) -> None:
        self._queries, self._database, self._options = queries, database.signed(), options
        holders = np.asarray((hard_counts(self._database, len(database.words)) > 0).sum(axis=0)).ravel()
        self._file = HammingFile(self._database, idf_of(holders, len(database.features.names)), options)

    def rank(self, chosen: Sequence[np.ndarray]) -> np.ndarray:
        """See `Engine`."""
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
    engine: Engine
    if options.hamming is None:
        engine = WordEngine(asked.counts(keep), held.counts(), options.power)
    else:
        engine = HammingEngine(asked.signed(keep), held, options.hamming)
    nobody = [np.empty(0, np.int64)] * len(queries)
    rankings = engine.rank(nobody)
    short = _first_others(rankings, own, max(options.num_verified, options.num_expanded))
    inliers = np.zeros(short.shape, np.int64)
    if options.num_verified:
        looked_at = short[:, : options.num_verified]
        pictures = [
            photo_features(asked.features, query, None if boxes is None else boxes[query])
            for query in range(len(queries))
        ]
        photo_of = partial(photo_features, held.features)
        counts = verify(pictures, looked_at, photo_of, options.verification, options.jobs)
        inliers[:, : options.num_verified] = counts
    chosen = _averaged_with(short, inliers, options) if options.num_expanded else nobody
    expanded = engine.rank(chosen) if options.num_expanded else rankings
    for query, rows in enumerate(chosen):
        # The second search has learned from the verified photos; to put them in front again made it worse.
        rankings[query] = (
            expanded[query] if len(rows) else put_verified_first(rankings[query], short[query], inliers[query])
        )
    return rankings


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


def _averaged_with(short: np.ndarray, inliers: np.ndarray, options: TeacherOptions) -> list[np.ndarray]:
    """Rows that each query is averaged with."""
    if not options.num_verified:
        return [row[row >= 0][: options.num_expanded] for row in short]
    order = np.argsort(-inliers, axis=1, kind="stable")[:, : options.num_expanded]
    least = options.verification.expand_inliers
    return [row[best][count[best] >= least] for row, best, count in zip(short, order, inliers, strict=True)]
