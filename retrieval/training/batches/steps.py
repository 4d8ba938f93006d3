"""One round of graph batches: a step a batch, all of whose photos are described once for all their pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from retrieval.training.adaptation.frozen_part import Picture
from retrieval.training.batches.described import DescribedBatch, described_batch
from retrieval.training.distillation.sampling import FEWEST
from retrieval.training.optimisation import learning_rate, set_learning_rate, warmed_up
from retrieval.training.passes import add_cached_gradient, add_gradient
from retrieval.training.state import TrainingState
from retrieval.training.steps import MOST_LEFT_OUT, StepFigures, follow_gradient, load_groups
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import DataError, NotFiniteError
from sfm2tuples.mining.graph_batches import GraphBatch


@dataclass(frozen=True)
class _Read:
    """What was read of a batch."""

    batch: GraphBatch
    fit: np.ndarray
    """(n,) int64, positions in the batch of the photos that some process has read, rising."""
    own: np.ndarray
    """(s,) int64, which of `fit` this process has read, rising."""
    pictures: list[Picture]
    """Those, as `load_groups` gives them."""

    def described(self, descriptors: Tensor) -> DescribedBatch:
        """Descriptors (n, D) of `fit`, and what is known of their pairs."""
        fit = np.ix_(self.fit, self.fit)
        return described_batch(descriptors, self.batch.relation[fit], self.batch.overlap[fit])


def train_on_batches(state: TrainingState, batches: list[GraphBatch], round: int, steps_before: int = 0) -> StepFigures:
    """Take one step for each batch, in order; a teacher judges all its pairs.

    Where a batch is more than one forward, the loss gives the gradient of each descriptor, and each forward's part
    goes back [Gao et al. 2021]. Forwards whose activations find no room are done again, so memory holds the plan's
    `held` bytes and one forward more. Each process of a team describes its share of a batch, and has all descriptors
    for the loss.

    Parameters
    ----------
    state : TrainingState
        Its network and optimiser change.
    batches : list of GraphBatch
        Of `batches_of_round`.
    round, steps_before : int
        As for `steps.train_round`.

    Raises
    ------
    NotFiniteError
        A loss is not finite.
    DataError
        More than `MOST_LEFT_OUT` of the photos cannot be read.
    """
    rate = learning_rate(state.options, round)
    set_learning_rate(state.optimiser, rate)
    shares = [state.team.rows(len(batch.row)) for batch in batches]
    # A photo is a group, so that one that cannot be read costs no other; a batch is mirrored as a whole, as a tuple is.
    groups = [[row] for batch, share in zip(batches, shares, strict=True) for row in batch.row[share].tolist()]
    named = [f"batch {number}" for number, share in enumerate(shares) for _ in share]
    loaded = load_groups(state, groups, named, round)
    totals = np.zeros(6)  # loss; sum and count of positives' cosines; likewise of negatives; anchors
    queries = left_out = 0
    state.network.train()
    state.optimiser.zero_grad(set_to_none=True)
    title = state.title(f"round {round} train")
    with ProgressBar(total=len(batches), desc=title, unit="step", disable=title is None, leave=False) as bar:
        for number, batch in enumerate(batches):
            read = _read(state, batch, shares[number], list(islice(loaded, len(shares[number]))))
            left_out += len(batch.row) - len(read.fit)
            if state.options.warm_up:
                set_learning_rate(state.optimiser, warmed_up(rate, steps_before + number, state.options.warm_up))
            taught = state.teaching is not None and len(read.fit) >= FEWEST
            if taught or (batch.relation[np.ix_(read.fit, read.fit)] != 0).any():
                totals += _add_batch(state, read)
                queries += batch.places
                follow_gradient(state)
            bar.update(1)
    _refuse_many(state, left_out, sum(len(batch.row) for batch in batches), round, queries)
    loss, near, nears, far, fars, anchors = totals.tolist()
    return StepFigures(_mean(loss, anchors), _mean(near, nears), _mean(far, fars), queries)


def _read(state: TrainingState, batch: GraphBatch, share: np.ndarray, photos: list[list[Picture] | None]) -> _Read:
    """What all processes have read of a batch, and what this one has."""
    is_read = np.zeros(len(batch.row), np.int64)
    is_read[share] = [photo is not None for photo in photos]
    own = np.flatnonzero(is_read)
    fit = np.flatnonzero(state.team.add_up(is_read))
    return _Read(batch, fit, np.searchsorted(fit, own), [photo[0] for photo in photos if photo is not None])


def _add_batch(state: TrainingState, read: _Read) -> np.ndarray:
    """Add the gradient of a batch to the network's; the batch's part of the totals, (6,) float64."""

    def loss_of(descriptors: Tensor) -> Tensor:
        rows = read.batch.row[read.fit]
        loss = state.batch_loss(read.described(descriptors)) + state.taught(descriptors, [rows])
        if not math.isfinite(loss.item()):
            query = state.photos.names(read.batch.row[:1])[0]
            raise NotFiniteError(query, f"the loss of this query's batch is {loss.item()}", "lower --learning-rate")
        return loss

    plan, precision, scale = state.resources.plan, state.options.precision, state.resources.scaler.scale
    network = state.network
    if state.team.size == 1:
        cached = replace(plan, chunked=plan.chunked or len(read.pictures) > plan.photos)
        loss, descriptors = add_gradient(network, read.pictures, precision, cached, loss_of, scale)
    else:
        own = torch.from_numpy(read.own).to(network.device)

        def gather(described: Tensor) -> Tensor:
            whole = np.zeros((len(read.fit), network.dimension), np.float32)
            whole[read.own] = described.cpu().numpy()
            return torch.from_numpy(state.team.add_up(whole)).to(network.device)

        loss, descriptors = add_cached_gradient(network, read.pictures, precision, plan, loss_of, scale, own, gather)
    batch = read.described(descriptors)
    cosines = batch.descriptors @ batch.descriptors.T
    values = [loss]
    for mask in (batch.positive, batch.negative):
        values += [cosines[mask].sum(), mask.sum()]
    # Of photos that a teacher alone judges, each is an anchor.
    anchors = batch.anchors if state.options.photo_batches is None else len(read.fit)
    return np.array([*(value.item() for value in values), int(anchors)])


def _refuse_many(state: TrainingState, left_out: int, photos: int, round: int, queries: int) -> None:
    """Refuse batches of which many photos cannot be read."""
    if left_out > max(1, MOST_LEFT_OUT * photos) or not queries:
        kind = "graph batches" if state.options.photo_batches is None else "batches"
        what = f"round {round}: {left_out:,} of {photos:,} photos of {kind} cannot be read"
        remedy = "mine the tuples again" if state.tuples.header.format else "say by --images where a list's names start"
        shown = state.shown_unreadable()
        raise DataError(state.tuples.path, f"{what}, first: {shown}", f"put the photos right, or {remedy}")


def _mean(total: float, count: float) -> float:
    return total / count if count else math.nan
