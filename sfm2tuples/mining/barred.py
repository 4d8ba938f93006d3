"""`/barred` of a tuple file: which images of one place may not be each other's negatives. method.md section 12."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sfm2tuples.files.columns import gather_rows, indptr_of
from sfm2tuples.files.rules import Rule, Rules
from sfm2tuples.index.opened import OpenedIndex

if TYPE_CHECKING:
    from sfm2tuples.similarity.barred_rows import BarredRows

# What needs numba is imported where it is called: processes that decode photos read tuple files, and need none of it.

VAL_NAMES = "val_names"
"""The option of an index, and of tuples of it, that names a held-out walk; absent or None where there is none."""
NO_FRAGMENT = -1
"""Of an image that is unknown to its whole place."""


@dataclass(frozen=True)
class Barred:
    """`/barred`: of the images of one place, the pairs that are positives or unknown; all other pairs are proven.

    An image of the same place may be a negative if it is of the same fragment and not named here.
    """

    place: np.ndarray
    """(n,) int64, place of each image in the index, by its row there; -1 for a photo of none of its places."""
    fragment: np.ndarray
    """(n,) int64; images of one place and of different fragments are unknown to each other; -1: unknown to all."""
    indptr: np.ndarray
    """(n + 1,) int64, where each image's barred images start."""
    image: np.ndarray
    """(u,) int64, rows of images of the same place, rising: those that share points with it, and the unknown."""

    @property
    def home(self) -> np.ndarray:
        """(n, 2) int64, place and fragment, as `BarredRows` takes them."""
        return np.stack([self.place, self.fragment], axis=1)

    def whole_places(self, spot: np.ndarray) -> np.ndarray:
        """A number for the place of each image, one for all spots of a place: (n,) int64; `spot` is its row."""
        return np.where(self.place >= 0, self.place, self.place.max(initial=-1) + 1 + spot)

    def rows(self, query: np.ndarray, pool: np.ndarray) -> BarredRows:
        """What is barred in a pool.

        Parameters
        ----------
        query, pool : (q,), (s,) int64
            Rows of images; those of the pool rising.
        """
        from sfm2tuples.similarity.barred_rows import BarredRows

        at = np.full(len(self.place), -1, np.int64)
        at[pool] = np.arange(len(pool))
        indptr, position = gather_rows(self.indptr, query)
        row = at[self.image[position]]
        of = np.repeat(np.arange(len(query)), np.diff(indptr))[row >= 0]
        home = self.home
        counts = np.bincount(of, minlength=len(query))
        return BarredRows(home[query], home[pool], indptr_of(counts), row[row >= 0])

    def holds(self, query: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Whether each of some pairs is barred: two arrays of rows, of one shape, to bool of that shape."""
        from sfm2tuples.mining import barred_loops

        pairs = np.ascontiguousarray(query).ravel(), np.ascontiguousarray(image).ravel()
        return barred_loops.holds(*pairs, self.home, self.indptr, self.image).reshape(image.shape)

    @property
    def is_sound(self) -> bool:
        """Whether the barred images of each image rise, and each pair is there both ways.

        A pair that is there one way alone would be a negative the other way, and nothing proves it.
        """
        n, of = len(self.place), np.repeat(np.arange(len(self.place)), np.diff(self.indptr))
        listed = of * n + self.image
        return bool((np.diff(listed) > 0).all() and (np.sort(self.image * n + of) == listed).all())

    def of(self, row: int) -> np.ndarray:
        """The images that may not be negatives of one image, itself among them: (k,) int64, rising."""
        unknown = self.place == self.place[row] if self.place[row] >= 0 else np.zeros(len(self.place), bool)
        if self.fragment[row] >= 0:
            unknown &= self.fragment != self.fragment[row]
        unknown[row] = True
        unknown[self.image[self.indptr[row] : self.indptr[row + 1]]] = True
        return np.flatnonzero(unknown)

    def have_negative(self, query: np.ndarray, rows: np.ndarray, spot: np.ndarray) -> np.ndarray:
        """Which queries have an image among `rows` that may be their negative: (q,) bool.

        Parameters
        ----------
        query, rows : (q,), (r,) int64
        spot : (n,) int64
            Images of a query's own spot are none.
        """
        from sfm2tuples.mining import barred_loops

        return barred_loops.have_negative(query, rows, spot, self.home, self.indptr, self.image)


RULES: Rules = {
    "barred/place": Rule(("images",), "int64", least=-1, only_with="barred"),
    "barred/fragment": Rule(("images",), "int64", least=-1, only_with="barred"),
    "barred/indptr": Rule(("images + 1",), "int64", starts_of="barred images", only_with="barred"),
    "barred/image": Rule(("barred images",), "int64", row_of="images", only_with="barred"),
}
"""What is true of every column; the group is there only where tuples were mined inside."""


def barred_of_index(index: OpenedIndex, row_of: np.ndarray, count: int, unknown: np.ndarray | None = None) -> Barred:
    """What an index's graph and `Inside` bar among some of its photos.

    Parameters
    ----------
    index : OpenedIndex
        It has `Inside`.
    row_of : (n,) int64
        Row of each image's photo among the chosen ones; -1 for one that is left out.
    count : int
        How many photos are chosen.
    unknown : (k, 2) int64, optional
        Pairs of chosen photos that are unknown whatever the index says.

    Returns
    -------
    Barred
        A pair of photos is barred where any pair of their images is. A photo of several models is unknown to all of
        its place, unless the models are known to be apart; so is one with too few points.

    Raises
    ------
    FileFormatError
        As `relations_of`.
    """
    from sfm2tuples.relations.site import are_fragments_apart, relations_of

    relations = relations_of(index)
    if relations is None:
        raise ValueError("the index has no relations inside its places")
    pairs = [_pairs(relations.indptr, relations.barred, row_of, count)]
    if unknown is not None:
        pairs += [unknown[:, 0] * count + unknown[:, 1], unknown[:, 1] * count + unknown[:, 0]]
    first, second = np.divmod(np.unique(np.concatenate(pairs)), max(count, 1))
    chosen = np.flatnonzero(row_of >= 0)
    place, fragment, row = np.full(count, -1, np.int64), np.full(count, NO_FRAGMENT, np.int64), row_of[chosen]
    place[row], fragment[row] = relations.place[chosen], relations.fragment[chosen]
    if are_fragments_apart(index):
        fragment = np.where(fragment >= 0, 0, NO_FRAGMENT)
    return Barred(place, fragment, indptr_of(np.bincount(first, minlength=count)), second)


def _pairs(indptr: np.ndarray, other: np.ndarray, row_of: np.ndarray, count: int) -> np.ndarray:
    """Pairs of different chosen photos of a CSR over images, as ``first * count + second``: (k,) int64."""
    one, two = row_of[np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))], row_of[other]
    chosen = (one >= 0) & (two >= 0) & (one != two)
    return one[chosen] * count + two[chosen]
