"""The batches of a round of photos of which only the teacher says anything."""

from __future__ import annotations

import numpy as np

from retrieval.search.torch_similarity import exact_search
from retrieval.training.distillation.sampling import FEWEST, PhotoSampling
from retrieval.training.distillation.teaching import Teaching
from retrieval.training.state import TrainingState
from sfm2tuples.compute.random_draws import draw, item_numbers
from sfm2tuples.errors import MiningError
from sfm2tuples.mining.graph_batches import UNKNOWN, GraphBatch
from sfm2tuples.similarity.best_rows import PoolRules
from sfm2tuples.similarity.exact_search import Search


def photo_batches(state: TrainingState, round: int, kept_out: np.ndarray) -> list[GraphBatch]:
    """The batches of one round, in the order of training, the same in every process of a team.

    Photos are drawn, at most `queries_per_round`, each once; each comes with its K - 1 nearest by the teacher, so that
    a batch has near and far pairs. Which photos show the same is not asked: every pair of a batch is unknown.

    Parameters
    ----------
    state : TrainingState
        Of a training with batches of photos.
    round : int
        Every round draws anew.
    kept_out : (k,) int64
        Rows of `/images` that are in no batch.

    Raises
    ------
    MiningError
        No batch has photos enough.
    """
    sampling, teaching = state.options.photo_batches, state.teaching
    if sampling is None or teaching is None:
        raise ValueError("this training takes no batches of photos")
    fit = np.setdiff1d(teaching.rows, kept_out)
    luck = draw(state.options.seed, round, "photos of a batch", item_numbers(state.photos.names(fit)))
    start = fit[np.argsort(luck, kind="stable")][: state.options.queries_per_round]
    own = state.team.rows(len(start))
    with state.team.shared_work():
        share = nearest(teaching, start[own], fit, sampling.near - 1, exact_search(state.network.device))
    made = _batches(np.column_stack([start, state.team.gather_rows(share, len(start))]), sampling)
    if not made:
        what = f"no batch of {state.options.sampling} has {FEWEST} photos: a round draws {len(start):,}"
        raise MiningError(f"{what}; raise --queries-per-round, or K of --sampling")
    return made


def nearest(teaching: Teaching, queries: np.ndarray, rows: np.ndarray, count: int, search: Search) -> np.ndarray:
    """The nearest of some photos by the teacher, among others: never a photo itself.

    Parameters
    ----------
    teaching : Teaching
    queries, rows : (q,), (r,) int64
        Rows of `/images`; `rows` rising.
    count : int
    search : Search

    Returns
    -------
    (q, count) int64
        Of `rows`, nearest first, ties by lower row; -1 where there are fewer. Time: the product of both.
    """
    rules = PoolRules(queries, rows, np.arange(len(rows)))
    found, _ = search(teaching.of(queries), teaching.of(rows), count, rules)
    return np.where(found >= 0, np.append(rows, -1)[found], -1)


def _batches(groups: np.ndarray, sampling: PhotoSampling) -> list[GraphBatch]:
    """Batches of `sampling.photos` groups (n, K), each photo once; the last has what is left."""
    made = []
    for first in range(0, len(groups), sampling.photos):
        chosen = groups[first : first + sampling.photos]
        row = np.array([row for row in dict.fromkeys(chosen.ravel().tolist()) if row >= 0], np.int64)
        if len(row) >= FEWEST:
            relation = np.full((len(row), len(row)), UNKNOWN, np.int8)
            made.append(GraphBatch(row, relation, len(chosen), np.full(relation.shape, np.nan, np.float32)))
    return made
