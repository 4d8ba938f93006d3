"""Choice of L_w's shrinkage by leaving places out: learn on some places, measure on the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth, make_ground_truth
from retrieval.metrics.results import evaluate_descriptors
from retrieval.whitening.learning import PairStatistics
from retrieval.whitening.projection import apply, cut
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import UsageError
from sfm2tuples.similarity.rows import Matrix, block_of

GRID = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
FOLDS = 5
QUERIES_PER_PLACE = 30
MOST_IMAGES = 30_000
"""Images that λ is chosen on; of more, evenly spread places with about as many are looked at. As many images as the
paper's validation has [E16]; what λ is best hardly depends on more, and the time grows with the square."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShrinkageCurve:
    """What each shrinkage reached on places that it was not learned on."""

    grid: tuple[float, ...]
    """The values of λ tried."""
    mean: np.ndarray
    """(len(grid),) float64: mAP, mean over the queries of a place, then over places."""
    unwhitened: float
    """The same without whitening."""
    num_places: int
    """Places measured, each left out once."""
    best: float
    """The middle one of the values of λ that are as good as the highest mean, within a standard error."""

    def table(self) -> list[tuple[str, str]]:
        """Rows for people: λ and mAP in percent."""
        rows = [("none", f"{100 * self.unwhitened:.2f}")]
        return rows + [(f"{value:g}", f"{100 * mean:.2f}") for value, mean in zip(self.grid, self.mean, strict=True)]


def choose_shrinkage(
    descriptors: Matrix,
    pairs: np.ndarray,
    places: np.ndarray,
    grid: Sequence[float] = GRID,
    dim: int | None = None,
    num_folds: int = FOLDS,
    queries_per_place: int = QUERIES_PER_PLACE,
) -> ShrinkageCurve:
    """Choose λ by leaving places out.

    The places that have pairs are dealt into folds, in order. For each fold a whitening is learned on all other
    places. The images of the fold's places are then queries: their partners in the pairs are right, other images of
    their place are junk, and all images are searched. See `middle_of_plateau` for the choice. Of more than
    `MOST_IMAGES` images only those of some places take part, see `spread_places`.

    Parameters
    ----------
    descriptors : (n, K) float32, L2-normalised
    pairs : (m, 2) int
        Rows of matching images, the query first.
    places : (n,) int
        Place of each row; -1 for an image of no place, which is never junk.
    grid : sequence of float
        Values of λ to try.
    dim : int, optional
        Dimension that the whitening will be used at; all by default.
    num_folds : int
        Fewer where there are fewer places.
    queries_per_place : int
        At most so many queries of a place, evenly spread, so that the cost stays in sight:
        num_folds x (K³ + len(grid) x queries x n x K). Where `dim` is less than K, each value of the grid needs
        eigenvectors of its own, another 10 K³.

    Raises
    ------
    UsageError
        Fewer than two places have pairs.
    """
    with_pairs = np.unique(places[pairs[:, 0]]) if len(pairs) else np.empty(0, np.int64)
    if len(with_pairs) < 2:
        raise UsageError(
            f"shrinkage by leaving places out needs matching pairs of two places, here are {len(with_pairs)}; "
            "give a number, such as --shrinkage 0.5"
        )
    if len(places) > MOST_IMAGES:
        with_pairs = spread_places(with_pairs, places, MOST_IMAGES, 2 * num_folds)
        descriptors, pairs, places = _of_places(descriptors, pairs, places, with_pairs)
    descriptors = block_of(descriptors, slice(None))
    folds = [with_pairs[k::num_folds] for k in range(min(num_folds, len(with_pairs)))]
    with ProgressBar(total=len(folds) * len(grid), desc="leave places out", unit="whitening", leave=False) as bar:
        results = [_measure_fold(descriptors, pairs, places, fold, grid, dim, queries_per_place, bar) for fold in folds]
    by_place = np.concatenate(results, axis=1)
    best = float(grid[middle_of_plateau(by_place[1:])])
    means = by_place.mean(axis=1)
    curve = ShrinkageCurve(tuple(grid), means[1:], float(means[0]), len(with_pairs), best)
    logger.info("shrinkage %g is best on %d places left out", best, len(with_pairs))
    return curve


def spread_places(with_pairs: np.ndarray, places: np.ndarray, most: int, fewest: int) -> np.ndarray:
    """Evenly spread places that have about so many images.

    Parameters
    ----------
    with_pairs : (k,) int64
        Places that have pairs, rising.
    places : (n,) int
        Place of each image.
    most : int
        Images wanted of these places together; a few large places may have more.
    fewest : int
        Places that are taken in any case, as far as there are so many.

    Returns
    -------
    (j,) int64, rising
    """
    images = int(np.isin(places, with_pairs).sum())
    count = min(len(with_pairs), max(fewest, round(len(with_pairs) * min(1.0, most / max(1, images)))))
    return with_pairs[np.linspace(0, len(with_pairs) - 1, count).round().astype(int)]


def _of_places(
    descriptors: Matrix, pairs: np.ndarray, places: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The images of some places: their descriptors, the pairs among them, the place of each."""
    rows = np.flatnonzero(np.isin(places, kept))
    number = np.cumsum(np.bincount(rows, minlength=len(places))) - 1
    inside = np.isin(places[pairs], kept).all(axis=1)
    return block_of(descriptors, rows), number[pairs[inside]], places[rows]


def middle_of_plateau(by_place: np.ndarray) -> int:
    """Choose among settings that a few places can hardly tell apart.

    A network that has learned its places by heart finds almost everything there under any shrinkage. Chance then
    decides which mean is the highest, often one at the end of the grid. Therefore a setting counts as equal to the best
    one if its loss is within one standard error over places (of the paired differences). The middle one of these is
    taken.

    Parameters
    ----------
    by_place : (settings, places) float64
        What each setting reached on each place.

    Returns
    -------
    int
        Row of the setting.
    """
    loss = by_place[np.argmax(by_place.mean(axis=1))] - by_place
    error = loss.std(axis=1) / np.sqrt(by_place.shape[1])
    plateau = np.flatnonzero(loss.mean(axis=1) <= error)
    return int(plateau[len(plateau) // 2])


def _measure_fold(
    descriptors: np.ndarray,
    pairs: np.ndarray,
    places: np.ndarray,
    fold: np.ndarray,
    grid: Sequence[float],
    dim: int | None,
    queries_per_place: int,
    bar: ProgressBar,
) -> np.ndarray:
    """MAP of each place of the fold, unwhitened and at each λ: (1 + len(grid), places of the fold)."""
    inside = np.isin(places[pairs[:, 0]], fold)
    truth = pairs_truth(pairs[inside], places, queries_per_place)
    statistics = PairStatistics.of(descriptors, pairs[~inside])
    images = descriptors[~np.isin(places, fold)]
    rows = [_place_means(descriptors, truth)]
    kept = min(dim or descriptors.shape[1], descriptors.shape[1])
    own_axes = statistics.in_own_axes(descriptors) if kept == descriptors.shape[1] else None
    for shrinkage in grid:
        if own_axes is None:
            whitened = apply(cut(statistics.whitening(images, shrinkage), kept), descriptors)
        elif shrinkage > 0 and own_axes.variances[0] > 0:
            whitened = own_axes.whitened(shrinkage)
        else:  # As published, or pairs that do not differ: something may have to be added so that it factors.
            whitened = statistics.whitened(descriptors, shrinkage)
        rows.append(_place_means(whitened, truth))
        bar.update()
    return np.array(rows)


def _place_means(descriptors: np.ndarray, truth: GroundTruth) -> list[float]:
    evaluation = evaluate_descriptors(descriptors[truth.queries], descriptors, truth)
    return [mean for _, _, mean in evaluation.group_means()]


def pairs_truth(pairs: np.ndarray, places: np.ndarray, queries_per_place: int) -> GroundTruth:
    """Ground truth from pairs: positives by the pairs, every other image of the place junk, the query too.

    Parameters
    ----------
    pairs : (m, 2) int
        Rows of matching images, the query first.
    places : (n,) int
        Place of each row.
    queries_per_place : int
        At most so many queries of a place, evenly spread over its queries.
    """
    queries = _spread(np.unique(pairs[:, 0]), places, queries_per_place)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts, ends = (np.searchsorted(pairs[:, 0], queries, side=side) for side in ("left", "right"))
    own = zip(queries, starts, ends, strict=True)
    positives = [np.setdiff1d(pairs[start:end, 1], query) for query, start, end in own]
    members = {place: np.flatnonzero(places == place) for place in np.unique(places[queries])}
    junk = [np.setdiff1d(members[places[q]], p) for q, p in zip(queries, positives, strict=True)]
    names, groups = np.unique(places[queries], return_inverse=True)
    return make_ground_truth(queries, positives, junk, groups, [str(name) for name in names])


def _spread(queries: np.ndarray, places: np.ndarray, most: int) -> np.ndarray:
    """At most `most` queries of each place, evenly spaced."""
    chosen = []
    for place in np.unique(places[queries]):
        own = queries[places[queries] == place]
        chosen.append(own[np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int)])
    return np.concatenate(chosen)
