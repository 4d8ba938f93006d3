"""Short lists in the order that local features give them, and queries averaged with what is verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from retrieval.search.query_expansion import Expansion, expand_by_rows
from sfm2tuples.errors import UsageError

NO_FEATURES = "--rerank geometry compares local features: give --features, made by extract-features"


class Verifier(Protocol):
    """Looks at the photos of short lists: `feature_verifier.FeatureVerifier`."""

    expand_inliers: int
    """Inliers that an image needs for a query to be averaged with it."""

    def count(self, row: np.ndarray) -> np.ndarray:
        """Inliers between queries and rows of the database, (q, n) int64 both; 0 where a row is -1 or not verified."""


@dataclass(frozen=True)
class VerifiedLists:
    """Short lists: verified images by falling inliers, equal ones in their order; then the others in theirs."""

    row: np.ndarray
    """(q, n) int64: rows of the database; -1 where there are fewer."""
    similarity: np.ndarray
    """(q, n) float64: as they were found; -inf where there is none."""
    inliers: np.ndarray
    """(q, n) int64: 0 where an image is not verified."""
    expand_inliers: int
    """Inliers that an image needs for a query to be averaged with it."""

    def of(self, row: np.ndarray) -> np.ndarray:
        """Inliers of other lists of rows for the same queries, (q, k) int32; 0 where a row was not looked at."""
        found = np.zeros(row.shape, np.int32)
        for query, (known, counts) in enumerate(zip(self.row, self.inliers, strict=True)):
            inliers_of = dict(zip(known.tolist(), counts.tolist(), strict=True))
            found[query] = [inliers_of.get(one, 0) for one in row[query].tolist()]
        return found

    def expand(self, queries: np.ndarray, database: np.ndarray, expansion: Expansion) -> tuple[np.ndarray, np.ndarray]:
        """Average queries with the first of their images that have enough inliers (Chum et al., ICCV 2007).

        Parameters
        ----------
        queries : (q, D) float32, L2-normalised
        database : (n, D) float32, L2-normalised
        expansion : Expansion
            Says how many, and their weights by similarity.

        Returns
        -------
        vectors : (q, D) float32
            Unchanged where no image has so many.
        expanded : (q,) bool
            Where one has.
        """
        enough = self.inliers >= self.expand_inliers
        row, similarity = np.where(enough, self.row, -1), np.where(enough, self.similarity, -np.inf)
        return expand_by_rows(queries, row, similarity, database, expansion), np.asarray(enough.any(axis=1))


def verify_lists(row: np.ndarray, similarity: np.ndarray, verifier: Verifier | None) -> VerifiedLists:
    """Put the images of short lists, (q, n), in the order of their inliers [P07].

    Raises
    ------
    UsageError
        There is nothing to verify with.
    """
    if verifier is None:
        raise UsageError(NO_FEATURES)
    inliers = verifier.count(row)
    order = np.argsort(-inliers, axis=1, kind="stable")
    row, similarity, inliers = (np.take_along_axis(part, order, 1) for part in (row, similarity, inliers))
    return VerifiedLists(row, similarity, inliers, verifier.expand_inliers)
