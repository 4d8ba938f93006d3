"""Which images become queries: a share of every place, drawn anew in each round."""

from __future__ import annotations

import numpy as np

from sfm2tuples.compute.random_draws import draw
from sfm2tuples.mining.options import MiningOptions


def queries_of_places(place_size: np.ndarray, options: MiningOptions) -> np.ndarray:
    """How many queries each place may have: `query_share` of its images rounded up, at most `queries_per_place`.

    [E16]: 10 % of a place's images, at most 30. method.md section 3.

    Parameters
    ----------
    place_size : (p,) int64
        Images of the index of each place that have a photo.

    Returns
    -------
    (p,) int64
    """
    # 0.1 * 30 is 3.0000000000000004 in floating point, and must not become 4.
    share = np.ceil(np.round(options.query_share * place_size, 9))
    return np.minimum(share, options.queries_per_place).astype(np.int64)


def choose_queries(
    eligible: np.ndarray,
    image_place: np.ndarray,
    image_number: np.ndarray,
    place_size: np.ndarray,
    place_number: np.ndarray,
    options: MiningOptions,
    round: int,
) -> np.ndarray:
    """Draw the queries of a round among the images that have a positive.

    Parameters
    ----------
    eligible : (e,) int64
        Rows of images that may be queries.
    image_place, image_number : (n,) int64, (n,) uint64
        Place of every image, and its number in draws.
    place_size, place_number : (p,) int64, (p,) uint64
        Images of each place, distractors left out, and its number in draws.
    round : int
        Queries are drawn anew every round. [E16]

    Returns
    -------
    (q,) int64
        Rising rows. Under `num_queries` the places take turns, so that a huge place does not fill a round.
    """
    quota = queries_of_places(place_size, options)
    luck = draw(options.seed, round, "query", image_number[eligible])
    place = image_place[eligible]
    order = np.lexsort((eligible, luck, place))
    turn = np.empty(len(order), np.int64)
    turn[order] = rank_in_run(place[order])
    chosen = turn < quota[place]
    rows, turn, place = eligible[chosen], turn[chosen], place[chosen]
    if options.num_queries is not None and len(rows) > options.num_queries:
        place_luck = draw(options.seed, round, "turn of place", place_number[place])
        rows = rows[np.lexsort((place, place_luck, turn))[: options.num_queries]]
    return np.sort(rows)


def rank_in_run(labels: np.ndarray) -> np.ndarray:
    """Position of each element in its run of equal labels: ``[3, 3, 7]`` gives ``[0, 1, 0]``; (n,) int64."""
    starts = np.flatnonzero(np.r_[True, labels[1:] != labels[:-1]]) if len(labels) else np.zeros(0, np.int64)
    return np.arange(len(labels)) - np.repeat(starts, np.diff(np.r_[starts, len(labels)]))
