"""The tables of a tuple file: photos, places, candidates, and the tuples of a round."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sfm2tuples.files.columns import gather_rows
from sfm2tuples.files.remote.address import AnyPath, photo_at

UNKNOWN_SHARED = np.int32(-1)
"""Shared points of a pair that came from elsewhere without evidence."""


@dataclass(frozen=True)
class ImageTable:
    """`/images`: every photo that mining may use, each once, in the order of the index."""

    key: list[str]
    """The photo's key, as in the index and in descriptor files."""
    root: list[str]
    """Folder of the photo on the machine that mined; the photo is `root` / `name`."""
    name: list[str]
    """Path of the photo below `root`."""
    place: np.ndarray
    """(n,) int64, row of `/places`."""
    size: np.ndarray
    """(n, 2) int64, width and height of the photo in pixels."""
    index_row: np.ndarray
    """(n,) int64, row in the index, or number in an imported file; -1 for a distractor, which has none."""

    def path(self, row: int) -> AnyPath:
        """Where the photo lay when the tuples were mined."""
        return photo_at(self.root[row], self.name[row])


@dataclass(frozen=True)
class PlaceTable:
    """`/places`: name and split of each place; where tuples were mined inside, of each spot."""

    name: list[str]
    """Name of the place; of a spot, ``PLACE#k``."""
    split: np.ndarray
    """(k,) int8, `TRAIN` or `VAL`."""


@dataclass(frozen=True)
class Candidates:
    """`/train/candidates`, `/val/candidates`: M(q) of each possible query with evidence, as CSR.

    method.md section 4: the k images with most shared points, falling, ties by lower row. m1 and m3 choose from
    them anew in each round, without index or models.
    """

    query: np.ndarray
    """(c,) int64, rising rows of `/images` that have a candidate."""
    indptr: np.ndarray
    """(c + 1,) int64, where each query's candidates start."""
    image: np.ndarray
    """(k,) int64, row of the candidate."""
    shared: np.ndarray
    """(k,) int32, shared points; -1 for an imported pair, which came without evidence."""
    overlap: np.ndarray
    """(k,) float32, shared points over the query's points, or NaN."""
    scale_change: np.ndarray
    """(k,) float32, >= 1 or NaN."""
    angle: np.ndarray
    """(k,) float32, mean viewing angle in radians, or NaN."""
    across: np.ndarray | None = None
    """(k,) bool, whether the candidate is of another sequence than its query; absent where nobody asked."""

    @property
    def unknown(self) -> np.ndarray:
        """(k,) bool, which pairs came without evidence: whoever made them has chosen them."""
        return self.shared == UNKNOWN_SHARED

    @property
    def queries(self) -> np.ndarray:
        """(k,) int64, row of the query that each candidate is of."""
        return np.repeat(self.query, np.diff(self.indptr))

    def positions(self, query: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Where pairs of query and candidate stand in the columns; -1 for a pair that does not.

        O(candidates of the queries asked).

        Parameters
        ----------
        query, image : (r,) int64
            Rows of `/images`; -1 for none.

        Returns
        -------
        (r,) int64
        """
        place = np.searchsorted(self.query, query)
        asked = np.flatnonzero(np.append(self.query, -1)[place] == query)
        indptr, position = gather_rows(self.indptr, place[asked])
        of = np.repeat(asked, np.diff(indptr))
        same = self.image[position] == image[of]
        found = np.full(len(query), -1, np.int64)
        found[of[same]] = position[same]
        return found


@dataclass(frozen=True)
class TupleSet:
    """`/train`, `/val`: the tuples of one round, row by row, with what speaks for each choice."""

    query: np.ndarray
    """(t,) int64, row of `/images`."""
    positive: np.ndarray
    """(t, P) int64, rows of `/images`; -1 where there are fewer."""
    negative: np.ndarray
    """(t, K) int64, most similar first; -1 where there are fewer (in validation, inside, and under
    `max_negative_similarity`)."""
    shared: np.ndarray
    """(t, P) int32, shared points of query and positive; -1 for an imported pair."""
    overlap: np.ndarray
    """(t, P) float32, shared points over the query's points, or NaN."""
    scale_change: np.ndarray
    """(t, P) float32, >= 1 or NaN."""
    angle: np.ndarray
    """(t, P) float32, mean viewing angle in radians, or NaN."""
    positive_similarity: np.ndarray
    """(t, P) float32, cosine of the descriptors used; -inf where there is none."""
    negative_similarity: np.ndarray
    """(t, K) float32, likewise of query and negative."""
    pool: np.ndarray
    """(s,) int64, rising rows that negatives were chosen from."""

    def take(self, rows: np.ndarray) -> TupleSet:
        """The tuples of some rows, with the whole pool."""
        columns = {column.name: getattr(self, column.name) for column in fields(TupleSet)}
        return TupleSet(**{name: value if name == "pool" else value[rows] for name, value in columns.items()})
