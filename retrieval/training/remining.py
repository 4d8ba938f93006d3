"""The tuples of a round: mined anew with the current network, or the tuple file's own."""

from __future__ import annotations

import logging
from dataclasses import fields

import numpy as np

from retrieval.search.torch_similarity import exact_search
from retrieval.training.options import TrainingOptions
from retrieval.training.state import TrainingState
from retrieval.training.team import Team
from sfm2tuples.compute.random_draws import draw, item_numbers, smallest
from sfm2tuples.errors import DataError, FileFormatError, shown
from sfm2tuples.files.plain_fields import odd_field
from sfm2tuples.mining.options import MiningOptions, mining_options
from sfm2tuples.mining.rounds import Negatives, RoundChoice, plan_round, search_for
from sfm2tuples.mining.tuple_file import TupleFile, TupleSet
from sfm2tuples.similarity.ivf_search import IvfSearch, SearchReport

logger = logging.getLogger(__name__)


def tuples_of_round(state: TrainingState, round: int) -> TupleSet:
    """Training tuples of one round, at most `queries_per_round`, the same in every process of a team.

    Each process of a team describes its share of the photos, and chooses for its share of the queries.

    Raises
    ------
    MiningError
        The tuple file's places do not allow what is asked.
    DataError
        Without mining anew: the file has no training tuples, or they have no negatives, as imported ones.
    SfmTuplesError
        Another process of the team failed at its share.
    """
    tuples = state.tuples
    if not state.options.remine:
        return _from_file(tuples, state.options, round)
    mining = options_of_round(tuples, state.options)
    candidates = tuples.candidates["train"]
    plan = plan_round(tuples.images, tuples.places, candidates, mining, "train", round, tuples.barred)
    needed = plan.rows_needed
    descriptors = state.describe(needed, f"round {round} mine", strict=False) if len(needed) else None
    search = search_for(mining.search, exact_search(state.network.device))
    choosing = RoundChoice(plan, descriptors, tuples.images, candidates, mining, search, tuples.barred)
    chosen = choose_in_shares(choosing, state.team)
    if isinstance(search, IvfSearch):
        _say_recall(search.report, state.team)
    if len(chosen.query) < len(plan.query) and state.team.leads:
        missing = len(plan.query) - len(chosen.query)
        logger.info("round %d: %d of %d queries found no negative and are left out", round, missing, len(plan.query))
    return chosen


def choose_in_shares(choosing: RoundChoice, team: Team) -> TupleSet:
    """Choose the tuples of a round, each process of a team for its share of the queries.

    Returns
    -------
    TupleSet
        In every process, bit by bit what one process would choose.

    Raises
    ------
    MiningError
        A training query finds fewer negatives than asked in the pool; inside, none finds any. Counted over all shares.
    SfmTuplesError
        Another process failed at its share.
    """
    count = len(choosing.plan.query)
    own = team.rows(count)
    with team.shared_work():
        positive = choosing.positives(own)
    choosing = choosing.with_positives(team.gather_rows(positive, count))
    with team.shared_work():
        share = choosing.negatives(own)
    columns = (share.positive_similarity, share.negative, share.negative_similarity)
    return choosing.tuples(Negatives(*(team.gather_rows(column, count) for column in columns)))


def _say_recall(report: SearchReport | None, team: Team) -> None:
    """Log how well the lists did, over the samples of all processes; where none had a query there is nothing to say."""
    sampled, recall = (report.sampled, report.recall) if report is not None and report.sampled else (0, 0.0)
    total, found = team.add_up(np.array([sampled, sampled * recall])).tolist()
    if total and team.leads:
        logger.info("negatives by inverted lists: recall %.3f, measured on %d queries", found / total, int(total))


def options_of_round(tuples: TupleFile, options: TrainingOptions) -> MiningOptions:
    """How the file's tuples were mined, with what the training changes: overrides, number of queries and seed.

    Raises
    ------
    FileFormatError
        The file has an option of another kind than mining has.
    UsageError
        An override is no option of mining.
    """
    known = {field.name for field in fields(MiningOptions)}
    mined = {name: value for name, value in tuples.header.options.items() if name in known}
    odd = odd_field({name: value for name, value in mined.items() if name != "pool"}, MiningOptions)
    if odd is None and not isinstance(mined.get("pool", ""), str):
        odd = "pool"
    if odd is not None:
        raise FileFormatError(tuples.path, f"its options have {shown(mined[odd])} for {odd}", "mine it again")
    most = min(options.queries_per_round, mined.get("num_queries") or options.queries_per_round)
    return mining_options(mined | options.mining_overrides() | {"num_queries": most, "seed": options.seed})


def _from_file(tuples: TupleFile, options: TrainingOptions, round: int) -> TupleSet:
    """The file's tuples; where it has more than a round takes, a draw of them, as in [C]."""
    train = tuples.tuples["train"]
    if len(train.query) == 0:
        raise DataError(tuples.path, "has no training tuples", "mine again, or leave out --no-remine")
    if (train.negative < 0).all():
        raise DataError(
            tuples.path, "its training tuples have no negatives", "leave out --no-remine, so that each round mines them"
        )
    if len(train.query) <= options.queries_per_round:
        return train
    number = item_numbers([str(row) for row in range(len(train.query))])
    luck = draw(options.seed, round, "tuples of round", number)
    return train.take(smallest(luck, options.queries_per_round))
