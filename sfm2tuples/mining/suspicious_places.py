"""Places that may be one: a landmark split over two places gives false negatives, the classical trap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.similarity.best_rows import PoolRules
from sfm2tuples.similarity.exact_search import most_similar

NEAREST_PLACES = 5
"""How many other places each image is compared with: those that it is most similar to."""
SUSPICIOUS = 0.4
"""Two places are suspicious where their images are this share as similar to each other as to those of their own place.
Chosen on real models, where a castle and its portal reach it and one pair in twenty does."""


@dataclass(frozen=True)
class SuspiciousPair:
    """Two places whose images look alike."""

    first: int
    """Row of the place whose images find the other."""
    second: int
    """Row of the place that they find."""
    likeness: float
    """Similarity across the two over that within the first, see `suspicious_places`."""


def suspicious_places(
    descriptors: np.ndarray,
    place: np.ndarray,
    least: float = SUSPICIOUS,
    block: int = 4096,
    distractor: np.ndarray | None = None,
) -> list[SuspiciousPair]:
    """Pairs of places that may show the same thing, the most alike first.

    Parameters
    ----------
    descriptors : (n, D) float32
        L2-normalised, of some images of every place.
    place : (n,) int64
        Their places.
    least : float
        Pairs below this likeness are left out.
    block : int
        Images compared at once; bounds the memory.
    distractor : (n,) bool, optional
        Images that are negatives only: two places of such images are no pair, since none is a negative of the other.

    Returns
    -------
    list of SuspiciousPair
        The likeness of A to B is the mean, over A's images, of the similarity to the best image of B, over the same
        mean within A. The mean descriptor is subtracted first, since descriptors of all photos have much in common.
        Each pair is named once, in the direction that is more alike.
    """
    if len(np.unique(place)) < 2:
        return []
    centred = descriptors - descriptors.mean(axis=0)
    centred = (centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    row, similarity = most_similar(centred, centred, NEAREST_PLACES, PoolRules(place, place, place), block=block)
    image, slot = np.nonzero(row >= 0)
    pair, which = np.unique(np.stack([place[image], place[row[image, slot]]], axis=1), axis=0, return_inverse=True)
    across = np.bincount(which.ravel(), np.maximum(similarity[image, slot], 0), minlength=len(pair))
    within, size = _similarity_within(centred, place)
    first, second = pair.T
    mined = np.bincount(place, None if distractor is None else ~distractor) > 0
    usable = (within[first] > 0) & (mined[first] | mined[second])
    likeness = np.zeros(len(pair))
    likeness[usable] = across[usable] / size[first[usable]] / within[first[usable]]
    best: dict[tuple[int, int], SuspiciousPair] = {}
    for i in np.lexsort((second, first, -likeness)).tolist():
        a, b = int(first[i]), int(second[i])
        if likeness[i] >= least:
            best.setdefault((min(a, b), max(a, b)), SuspiciousPair(a, b, float(likeness[i])))
    return list(best.values())


def _similarity_within(centred: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per place: mean similarity of an image to the most similar other one (0 where there is none); its size."""
    size = np.bincount(place)
    within = np.zeros(len(size))
    order = np.argsort(place, kind="stable")
    start = np.r_[0, np.cumsum(size)]
    for p in np.flatnonzero(size > 1):
        members = centred[order[start[p] : start[p + 1]]]
        own = members @ members.T
        np.fill_diagonal(own, -np.inf)
        within[p] = own.max(axis=1).mean()
    return within, size
