"""Re-ranking by the best window of each photo: R of [R16], approximate max-pooling localisation (method.md section 10).

A window's MAC is approximated by (sum of x^10)^(1/10), which an integral image gives in four look-ups a channel. Of all
windows with step 3 whose shape is about the query's the most similar one is taken, and its sides are then moved as
long as that helps.
"""

from __future__ import annotations

from typing import Protocol

import numba
import numpy as np

from retrieval.search.options import Expansion
from retrieval.search.query_expansion import expand

EXPONENT = 10
"""Of the generalised mean that stands for the maximum [R16]."""
STEP = 3
"""Cells between the sides of the windows that are looked at first [R16]."""
ASPECT = 1.1
"""How much a window's width / height may differ from the query's, as a factor [R16]."""
SWEEPS = 5
"""Sweeps over a window's four sides with one step, at most [R16]."""

RESIDUE = 1e-14
"""Share of a channel's whole sum below which a difference of sums is rounding: 4 % of the channel's largest value."""
TINY = float(np.finfo(np.float64).tiny)


class WindowFinder(Protocol):
    """Finds windows in the photos of short lists: `window_descriptors.PhotoWindows`."""

    def find(self, row: np.ndarray) -> np.ndarray:
        """Descriptors of the windows.

        Parameters
        ----------
        row : (q, n) int64
            Rows of the database for each query; -1 for none.

        Returns
        -------
        (q, n, D) float32
            Zero where there is no row.
        """


def rerank(
    row: np.ndarray, similarity: np.ndarray, queries: np.ndarray, windows: np.ndarray, expansion: Expansion | None
) -> tuple[np.ndarray, np.ndarray]:
    """Order short lists by the similarity of their windows; what lies behind them stays there as it was.

    Parameters
    ----------
    row, similarity : (q, k)
        As found; -1 and -inf where there are fewer.
    queries : (q, D) float32, L2-normalised
    windows : (q, n, D) float32, n <= k
        Descriptors of the windows of the first n.
    expansion : Expansion, optional
        Expand the queries by their best windows, and order by the similarity to that [RM].

    Returns
    -------
    row, similarity : (q, k)
        The first n have the similarity of their windows; ties: the lower row.
    """
    n = windows.shape[1]
    found = row[:, :n] >= 0
    score = _scores(queries, windows, found)
    if expansion is not None:
        best = np.lexsort((row[:, :n], -score), axis=1)[:, : expansion.num_images]
        vectors = np.take_along_axis(windows, best[..., None], 1)
        queries = expand(queries, vectors, np.take_along_axis(score, best, 1), expansion)
        score = _scores(queries, windows, found)
    order = np.lexsort((row[:, :n], -score), axis=1)
    return (
        np.concatenate([np.take_along_axis(row[:, :n], order, 1), row[:, n:]], axis=1),
        np.concatenate([np.take_along_axis(score, order, 1), similarity[:, n:]], axis=1),
    )


def _scores(queries: np.ndarray, windows: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.where(found, np.einsum("qd,qnd->qn", queries, windows, dtype=np.float64), -np.inf)


def mac_of(features: np.ndarray) -> np.ndarray:
    """MAC (K,) float64 of a map (K, h, w), nothing below 0 counting, L2-normalised; zero where the map is."""
    largest = np.maximum(features.max(axis=(1, 2)), 0).astype(np.float64)
    return largest / max(float(np.linalg.norm(largest)), TINY)


def integral_image(features: np.ndarray) -> np.ndarray:
    """Sums of x^10 over all windows that start in the corner.

    Parameters
    ----------
    features : (K, h, w) float32
        Nothing below 0 counts.

    Returns
    -------
    (h + 1, w + 1, K) float64
        Of the map divided by its largest value, so that no power leaves the range of numbers.
    """
    sums = np.zeros((features.shape[1] + 1, features.shape[2] + 1, features.shape[0]))
    _add_up(np.ascontiguousarray(features.transpose(1, 2, 0)), max(float(features.max(initial=0.0)), TINY), sums)
    return sums


def locate(sums: np.ndarray, query: np.ndarray, ratio: float) -> np.ndarray:
    """The window most similar to a query.

    Parameters
    ----------
    sums : (h + 1, w + 1, K) float64
        See `integral_image`.
    query : (K,) float64
        The query's MAC.
    ratio : float
        Width / height of the query.

    Returns
    -------
    (4,) int64
        top, left, bottom, right in cells, the latter two exclusive. The whole map where no window has about the
        query's shape and none is better.
    """
    window = _coarse(sums, query, float(ratio))
    _refine(sums, query, window)
    return window


@numba.njit(cache=True, nogil=True)
def _add_up(features, largest, sums):  # type: ignore[no-untyped-def]
    """Fill the integral image of a map (h, w, K): one pass, O(h w K)."""
    height, width, channels = features.shape
    for y in range(height):
        row = np.zeros(channels)
        for x in range(width):
            for k in range(channels):
                value = max(np.float64(features[y, x, k]), 0.0) / largest
                square = value * value
                fourth = square * square
                row[k] += fourth * fourth * square
                sums[y + 1, x + 1, k] = sums[y, x + 1, k] + row[k]


@numba.njit(cache=True, nogil=True)
def _similarity(sums, query, top, left, bottom, right):  # type: ignore[no-untyped-def]
    """Cosine of a query and a window's approximate MAC; 0 for an empty window."""
    product, square = 0.0, 0.0
    whole = sums[-1, -1]
    for k in range(len(query)):
        total = sums[bottom, right, k] - sums[top, right, k] - sums[bottom, left, k] + sums[top, left, k]
        if total > RESIDUE * whole[k]:
            value = total ** (1.0 / EXPONENT)
            product += value * query[k]
            square += value * value
    return product / np.sqrt(square) if square > 0.0 else 0.0


@numba.njit(cache=True, nogil=True)
def _coarse(sums, query, ratio):  # type: ignore[no-untyped-def]
    """The best of the windows whose sides lie STEP cells apart, the map's own far sides included."""
    height, width = sums.shape[0] - 1, sums.shape[1] - 1
    best = np.array([0, 0, height, width])
    highest = -np.inf
    for top in range(0, height, STEP):
        for down in range(1, (height - top + STEP - 1) // STEP + 1):
            bottom = min(top + down * STEP, height)
            for left in range(0, width, STEP):
                for across in range(1, (width - left + STEP - 1) // STEP + 1):
                    right = min(left + across * STEP, width)
                    change = (right - left) / (bottom - top) / ratio
                    if change > ASPECT or change * ASPECT < 1.0:
                        continue
                    similarity = _similarity(sums, query, top, left, bottom, right)
                    if similarity > highest:
                        highest = similarity
                        best[:] = top, left, bottom, right
    return best


@numba.njit(cache=True, nogil=True)
def _refine(sums, query, window):  # type: ignore[no-untyped-def]
    """Move one side after the other by 3, 2, then 1 cells wherever the window gets more similar."""
    limit = np.array([0, 0, sums.shape[0] - 1, sums.shape[1] - 1])
    highest = _similarity(sums, query, window[0], window[1], window[2], window[3])
    for step in range(STEP, 0, -1):
        for _ in range(SWEEPS):
            moved = False
            for side in range(4):
                start = window[side]
                for sign in (-1, 1):
                    place = start + sign * step
                    axis = side % 2
                    outside = place < 0 or place > limit[2 + axis]
                    empty = place >= window[2 + axis] if side < 2 else place <= window[axis]
                    if outside or empty:
                        continue
                    kept = window[side]
                    window[side] = place
                    similarity = _similarity(sums, query, window[0], window[1], window[2], window[3])
                    if similarity > highest:
                        highest, moved = similarity, True
                    else:
                        window[side] = kept
            if not moved:
                break
