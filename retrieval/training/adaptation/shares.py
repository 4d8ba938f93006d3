"""Weights between a run's start and its best round, chosen on the held-out places (Wortsman et al., CVPR 2022).

The network before training and the best round are among the candidates, so what is kept is never worse than either on
what was held out.
"""

from __future__ import annotations

import logging
from dataclasses import asdict

from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.interpolation import between
from retrieval.networks.network import Network
from retrieval.training.last_round import LAST
from retrieval.training.run_folder import BEST, BEST_ROUND, START, ChosenShare, Run
from retrieval.training.state import TrainingState
from retrieval.training.watch import Watch

logger = logging.getLogger(__name__)


def choose_share(run: Run, state: TrainingState, watch: Watch) -> ChosenShare | None:
    """Measure the shares that the options ask for; the leader makes the best of all the run's `BEST`.

    The network of the state is afterwards as before. The work is the same whether or not it was done before, so that a
    run which was killed meanwhile does it again.

    Returns
    -------
    ChosenShare or None
        None where no share is asked for, no round was trained, or nothing is held out.
    """
    if not run.options.shares or run.round < 1:
        return None
    if run.is_blind:
        if state.team.leads:
            logger.warning("interpolate: no place is held out, so no share between start and end can be chosen")
        return None
    end = run.best_round or run.round
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    ends: list[Network] = []
    with state.team.shared_work():
        if state.team.leads:
            files = (START, BEST_ROUND if run.best_round else LAST)
            ends = [load_network(run.folder / name).to(state.network.device) for name in files]
    known = {0.0: run.history[0].measure, 1.0: run.history[end].measure}
    for share in run.options.shares:
        if share not in known:
            _put_between(state, ends, share)
            known[share] = watch.measure(state, run.round)
    chosen = ChosenShare(end, tuple(sorted(known)), tuple(known[share] for share in sorted(known)))
    with state.team.shared_work():
        if state.team.leads:
            kept = between(ends[0], ends[1], chosen.share)
            kept.upright = state.network.upright
            save_checkpoint(
                run.folder / BEST, kept, **run.state(), interpolated=asdict(chosen) | {"kept": chosen.share}
            )
    state.network.load_state_dict(before)
    return chosen


def _put_between(state: TrainingState, ends: list[Network], share: float) -> None:
    """Give every process of a team the weights between the leader's two networks."""
    if ends:
        state.network.load_state_dict(between(ends[0], ends[1], share).state_dict())
    state.team.same_weights(state.network)
