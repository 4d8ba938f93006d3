"""The graph batches of a round: chosen anew with the current network."""

from __future__ import annotations

import numpy as np

from retrieval.search.torch_similarity import exact_search
from retrieval.training.remining import options_of_round
from retrieval.training.state import TrainingState
from sfm2tuples.mining.batch_options import HARD
from sfm2tuples.mining.graph_batches import GraphBatch, plan_batches
from sfm2tuples.mining.rounds import search_for


def batches_of_round(state: TrainingState, round: int, kept_out: np.ndarray) -> list[GraphBatch]:
    """The batches of one round, in the order of training, the same in every process of a team.

    Each process of a team describes its share of the photos, and chooses for its share of the batches. What a photo
    was like in earlier steps changes nothing: one process alone knows of it, and a run that goes on does not.

    Parameters
    ----------
    state : TrainingState
        Of a training with graph batches.
    round : int
    kept_out : (k,) int64
        Rows of `/images` that are in no batch.

    Raises
    ------
    MiningError
        The tuple file's places do not allow what is asked.
    SfmTuplesError
        Another process of the team failed at its share.
    """
    sampling = state.options.graph
    if sampling is None:
        raise ValueError("this training takes tuples")
    mining = options_of_round(state.tuples, state.options)
    plan = plan_batches(state.tuples, mining, sampling, state.options.batch_choice or HARD, round, kept_out)
    needed = plan.rows_needed
    descriptors = state.describe(needed, f"round {round} mine", strict=False) if len(needed) else None
    unread = needed[:0] if descriptors is None else needed[~descriptors.any(axis=1)]
    unfit = np.union1d(kept_out, unread)
    search = search_for(mining.search, exact_search(state.network.device))
    own = state.team.rows(len(plan.start))
    with state.team.shared_work():
        share = plan.other_queries(own, descriptors, unfit, search)
    return plan.batches(state.team.gather_rows(share, len(plan.start)), unfit)
