"""One round of steps: photos to descriptors, loss, gradient, step."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from retrieval.photos.augmentation import TupleChange
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.adaptation.frozen_part import Picture
from retrieval.training.described_tuples import DescribedTuples, TuplePositions
from retrieval.training.optimisation import learning_rate, set_learning_rate, warmed_up
from retrieval.training.passes import add_gradient, to_device
from retrieval.training.state import TrainingState
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.compute.random_draws import draw, item_numbers
from sfm2tuples.errors import DataError, NotFiniteError, PhotoError
from sfm2tuples.mining.tuple_file import TupleSet

MOST_LEFT_OUT = 0.05
"""Share of a round's tuples that may be left out for photos that cannot be read; one may in any case."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepFigures:
    """What a round of steps was like."""

    loss: float
    """Mean loss of a tuple, or of an anchor of graph batches, each at the moment it was trained on."""
    positive_similarity: float
    """Mean cosine of queries and positives, of graph batches of all such pairs."""
    negative_similarity: float
    """Mean cosine of queries and negatives, likewise; NaN without negatives."""
    queries: int
    """Tuples, or queries of graph batches, that were trained on."""
    left_out: int = 0
    """Tuples that were not, since a photo of theirs cannot be read."""


@dataclass(frozen=True)
class _Tuple:
    """One tuple: its distinct photos, and which of them are its positives and negatives."""

    row: int
    """Row of the tuple set."""
    rows: list[int]
    """Distinct rows of the image table; the query first."""
    positive: Tensor
    """(P,) int64, positions in `rows`; -1 where missing."""
    negative: Tensor
    """(K,) int64, positions in `rows`; -1 where missing."""
    overlap: np.ndarray
    """(P,) float32, as in `TupleSet`."""


def train_round(state: TrainingState, chosen: TupleSet, round: int, steps_before: int = 0) -> StepFigures:
    """Train on each tuple once, in an order of its own for every seed and round.

    A step follows every `batch_size` tuples, and the last ones. The gradient of a step is added up over portions of
    its tuples, and over the processes of a team, each of which takes its share.

    Parameters
    ----------
    state : TrainingState
        Its network and optimiser change.
    chosen : TupleSet
    round : int
        From 1; decides the learning rate and names the draws.
    steps_before : int
        Steps of earlier rounds, for the warm-up.

    Raises
    ------
    NotFiniteError
        A loss is not finite.
    DataError
        More than `MOST_LEFT_OUT` of the tuples hold a photo that cannot be read.
    """
    options = state.options
    rate = learning_rate(options, round)
    set_learning_rate(state.optimiser, rate)
    order = _order(chosen, state.photos, options.seed, round)
    steps = [order[start : start + options.batch_size] for start in range(0, len(order), options.batch_size)]
    shares = [[_tuple(chosen, row) for row in state.team.share(step)] for step in steps]
    shares = [[one for one in share if state.unreadable.keys().isdisjoint(one.rows)] for share in shares]
    totals: list[Tensor] = []  # (6,) each: loss; sum and count of positives' cosines; likewise of negatives; tuples
    state.network.train()
    state.optimiser.zero_grad(set_to_none=True)
    everyone = [one for share in shares for one in share]
    queries = state.photos.names(chosen.query)
    named = [f"{queries[one.row]} {one.row}" for one in everyone]
    loaded = load_groups(state, [one.rows for one in everyone], named, round)
    title = state.title(f"round {round} train")
    with ProgressBar(total=len(order), desc=title, unit="tuple", disable=title is None, leave=False) as bar:
        for number, (step, share) in enumerate(zip(steps, shares, strict=True)):
            for portion in _portions(share, state.resources.plan.tuples):
                groups = list(islice(loaded, len(portion)))
                read = [one for one, group in zip(portion, groups, strict=True) if group is not None]
                if read:
                    pictures = [picture for group in groups if group is not None for picture in group]
                    totals.append(_add_portion(state, pictures, read))
            if options.warm_up:
                set_learning_rate(state.optimiser, warmed_up(rate, steps_before + number, options.warm_up))
            follow_gradient(state)
            bar.update(len(step))
    return _figures(state, state.team.add_up(_sum(totals)), len(order), round)


def _sum(totals: Sequence[Tensor]) -> np.ndarray:
    """(6,) float64; fetched from the device at the end, so that a GPU works while the next photos are gathered."""
    return torch.stack([torch.zeros(6), *(total.cpu() for total in totals)]).numpy().sum(axis=0, dtype=np.float64)


def _figures(state: TrainingState, totals: np.ndarray, tuples: int, round: int) -> StepFigures:
    loss, *cosines, trained = totals
    figures = StepFigures(
        _mean(loss, trained), _mean(*cosines[:2]), _mean(*cosines[2:]), int(trained), tuples - int(trained)
    )
    if figures.left_out:
        _say_left_out(state, figures, tuples, round)
    return figures


def _say_left_out(state: TrainingState, figures: StepFigures, tuples: int, round: int) -> None:
    """Warn of tuples that were left out for their photos; refuse many."""
    shown = state.shown_unreadable()
    what = f"round {round}: {figures.left_out:,} of {tuples:,} tuples hold a photo that cannot be read"
    if figures.left_out > max(1, MOST_LEFT_OUT * tuples) or not figures.queries:
        raise DataError(state.tuples.path, f"{what}, first: {shown}", "put the photos right, or mine the tuples again")
    if state.team.leads:
        logger.warning("%s and are left out, first: %s", what, shown)


def _portions(share: Sequence[_Tuple], size: int) -> list[Sequence[_Tuple]]:
    return [share[start : start + size] for start in range(0, len(share), size)]


def load_groups(
    state: TrainingState, groups: Sequence[list[int]], names: Sequence[str], round: int
) -> Iterator[list[Picture] | None]:
    """Photos of each group, decoded ahead, and augmented where that is asked for; None where one cannot be read.

    Where the network has a frozen part and photos are not augmented, what that puts out stands in place of a photo.

    Parameters
    ----------
    state : TrainingState
        Its `unreadable` learns of photos that cannot be read.
    groups : sequence of lists of rows of `/images`
        None of them empty.
    names : sequence of str
        One a group; with the round it names the draws of the augmentation. Groups of one name are mirrored together.
    round : int
    """
    options, changes, frozen = state.options, None, state.frozen
    if not options.augmentation.is_off:
        changes = [TupleChange(options.augmentation, options.seed, round, name) for name in names]
        frozen = None
    # A photo whose output is kept already is not decoded.
    wanted = groups if frozen is None else [frozen.unknown(rows) for rows in groups]
    first = 0
    while first < len(groups):
        try:
            for pictures in state.photos.in_order(wanted[first:], changes and changes[first:]):
                first += 1
                if frozen is None:
                    yield [*pictures]
                else:
                    yield frozen.seen(groups[first - 1], dict(zip(wanted[first - 1], pictures, strict=True)))
        except PhotoError as error:
            # The groups behind it are decoded anew: photos are tried when tuples are made, so this is rare.
            row = state.photos.row_called(error.path, groups[first])
            if row is None:
                raise
            state.unreadable.setdefault(row, str(error))
            first += 1
            yield None


def _add_portion(state: TrainingState, pictures: Sequence[Picture], portion: Sequence[_Tuple]) -> Tensor:
    """Add the gradient of some tuples; give back their part of the totals, (5,) float32, still on the device."""
    positions, loss_of_tuples = _positions(portion, state.network.device), state.loss

    def loss_of(descriptors: Tensor) -> Tensor:
        loss = loss_of_tuples(positions.take(descriptors)) + state.taught(descriptors, [one.rows for one in portion])
        if not math.isfinite(loss.item()):
            query = state.photos.names(np.array(portion[0].rows[:1]))[0]
            raise NotFiniteError(query, f"the loss of this query's tuple is {loss.item()}", "lower --learning-rate")
        return loss

    plan, scale = state.resources.plan, state.resources.scaler.scale
    loss, descriptors = add_gradient(state.network, pictures, state.options.precision, plan, loss_of, scale)
    trained = loss.new_tensor(len(portion))
    return torch.stack([loss, *_similarities(positions.take(descriptors)), trained])


def follow_gradient(state: TrainingState) -> None:
    """Step along the gradient of all processes; nothing where none has any, since all its tuples were left out."""
    scaler = state.resources.scaler
    if not state.team.add_up_gradients(state.network):
        return
    # Makes the scale where this process had no tuple of its own yet, and could not step else.
    scaler.scale(torch.zeros((), device=state.network.device))
    state.adaptation.before_step()
    scaler.step(state.optimiser)
    scaler.update()
    state.adaptation.after_step()
    state.optimiser.zero_grad(set_to_none=True)


def _order(chosen: TupleSet, photos: TuplePhotos, seed: int, round: int) -> list[int]:
    """Rows of the tuples in the order of a draw by seed, round and query; rows of one query stay in theirs."""
    luck = draw(seed, round, "order of tuples", item_numbers(photos.names(chosen.query)))
    return np.argsort(luck, kind="stable").tolist()


def _tuple(chosen: TupleSet, row: int) -> _Tuple:
    """Each distinct photo of a tuple is described once."""
    ends = [chosen.positive[row].tolist(), chosen.negative[row].tolist()]
    rows = list(dict.fromkeys(r for r in [int(chosen.query[row]), *ends[0], *ends[1]] if r >= 0))
    position = {r: i for i, r in enumerate(rows)} | {-1: -1}
    positive, negative = (torch.tensor([position[r] for r in end], dtype=torch.int64) for end in ends)
    return _Tuple(row, rows, positive, negative, chosen.overlap[row])


def _positions(portion: Sequence[_Tuple], device: torch.device) -> TuplePositions:
    """Where the descriptors of a portion's photos are, one tuple's after the other's."""
    first = np.cumsum([0, *(len(one.rows) for one in portion[:-1])]).tolist()
    ends = []
    for name in ("positive", "negative"):
        own = [getattr(one, name) for one in portion]
        shifted = [torch.where(end >= 0, end + start, -1) for end, start in zip(own, first, strict=True)]
        ends.append(torch.stack(shifted))
    overlap = torch.from_numpy(np.stack([one.overlap for one in portion]))
    return TuplePositions(*(to_device(column, device) for column in (torch.tensor(first), *ends, overlap)))


def _similarities(tuples: DescribedTuples) -> list[Tensor]:
    """Sum and count of the queries' cosines with their positives, then with their negatives."""
    values: list[Tensor] = []
    for cosines, there in tuples.cosines():
        values += [torch.where(there, cosines, 0.0).sum(), there.sum().float()]
    return values


def _mean(total: float, count: float) -> float:
    return float(total / count) if count else math.nan
