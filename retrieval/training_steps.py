"""One round of steps: photos to descriptors, loss, gradient, step; on a CPU one photo a forward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from retrieval.extraction import to_input
from retrieval.losses import tuple_loss
from retrieval.network import Network
from retrieval.photo_loading import TuplePhotos
from retrieval.training_options import BF16, TrainingOptions
from sfm2tuples.errors import SfmTuplesError
from sfm2tuples.random_draws import draw, item_numbers
from sfm2tuples.tuples import TupleSet


@dataclass(frozen=True)
class Trained:
    """What a round of steps was like."""

    loss: float
    """Mean loss of a tuple, each at the moment it was trained on."""
    positive_similarity: float
    """Mean cosine of queries and positives."""
    negative_similarity: float
    """Mean cosine of queries and negatives; NaN without negatives."""
    queries: int
    """Tuples."""


@dataclass(frozen=True)
class _Parts:
    """One tuple as rows of the image table and positions among its distinct ones."""

    rows: list[int]
    """Distinct rows; the query first."""
    positive: Tensor
    """(P,) int64, positions in `rows`; -1 where missing."""
    negative: Tensor
    """(K,) int64, positions in `rows`; -1 where missing."""


def train_round(
    network: Network,
    optimiser: torch.optim.Optimizer,
    chosen: TupleSet,
    photos: TuplePhotos,
    options: TrainingOptions,
    round: int,
    progress: str | None = None,
) -> Trained:
    """Train on each tuple once, in an order of its own for every seed and round.

    The gradient of a tuple is added up at once, so that memory holds one tuple's photos; a step follows every
    `batch_size` tuples, and the last ones.

    Raises
    ------
    SfmTuplesError
        A loss is not finite.
    PhotoError
        A photo is absent or unreadable.
    """
    tuples = [_parts(chosen, row) for row in _order(chosen, photos, options.seed, round)]
    totals = np.zeros(5)  # loss; sum and count of positives' cosines; likewise of negatives
    network.train()
    optimiser.zero_grad(set_to_none=True)
    bar = tqdm(total=len(tuples), desc=progress, unit="tuple", disable=True if progress is None else None, leave=False)
    with bar:
        loaded = photos.in_order([parts.rows for parts in tuples])
        for number, (parts, pictures) in enumerate(zip(tuples, loaded, strict=True), 1):
            descriptors = describe(network, pictures, options.precision)
            loss = _loss(descriptors, parts, options)
            if not math.isfinite(loss.item()):
                raise _not_finite(loss.item(), round, photos.names(np.array(parts.rows[:1]))[0])
            loss.backward()
            if number % options.batch_size == 0 or number == len(tuples):
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            totals += [loss.item(), *_similarities(descriptors.detach(), parts)]
            bar.set_postfix_str(f"loss {totals[0] / number:.4f}", refresh=False)
            bar.update()
    return Trained(
        loss=_mean(totals[0], len(tuples)),
        positive_similarity=_mean(totals[1], totals[2]),
        negative_similarity=_mean(totals[3], totals[4]),
        queries=len(tuples),
    )


def describe(network: Network, pictures: Sequence[np.ndarray], precision: str) -> Tensor:
    """Descriptors (n, D) float32 of photos of any sizes, with gradient."""
    device = network.device
    # One photo a forward: on a CPU a batch is slower than its photos one by one (docs/performance.md).
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == BF16):
        rows = [network(to_input([picture], device)) for picture in pictures]
    return torch.cat(rows).float()


def _order(chosen: TupleSet, photos: TuplePhotos, seed: int, round: int) -> list[int]:
    """Rows of the tuples in the order of a draw by seed, round and query; rows of one query stay in theirs."""
    luck = draw(seed, round, "order of tuples", item_numbers(photos.names(chosen.query)))
    return np.argsort(luck, kind="stable").tolist()


def _parts(chosen: TupleSet, row: int) -> _Parts:
    """Each distinct photo of a tuple is described once."""
    ends = [chosen.positive[row].tolist(), chosen.negative[row].tolist()]
    rows = list(dict.fromkeys(r for r in [int(chosen.query[row]), *ends[0], *ends[1]] if r >= 0))
    position = {r: i for i, r in enumerate(rows)} | {-1: -1}
    positive, negative = (torch.tensor([position[r] for r in end], dtype=torch.int64) for end in ends)
    return _Parts(rows, positive, negative)


def _loss(descriptors: Tensor, parts: _Parts, options: TrainingOptions) -> Tensor:
    positive, negative = parts.positive.to(descriptors.device), parts.negative.to(descriptors.device)
    return tuple_loss(
        options.loss,
        descriptors[:1],
        descriptors[positive.clamp(min=0)][None],
        descriptors[negative.clamp(min=0)][None],
        options.margin,
        (positive >= 0)[None],
        (negative >= 0)[None],
        options.eps,
    )


def _similarities(descriptors: Tensor, parts: _Parts) -> list[float]:
    """Sum and count of the query's cosines with its positives, then with its negatives."""
    cosines = (descriptors @ descriptors[0]).cpu()
    values: list[float] = []
    for end in (parts.positive, parts.negative):
        there = cosines[end[end >= 0]]
        values += [there.sum().item(), float(len(there))]
    return values


def _not_finite(loss: float, round: int, query: str) -> SfmTuplesError:
    return SfmTuplesError(
        f"round {round}: the loss is {loss} at the tuple of query {query}; lower --learning-rate, or --precision fp32"
    )


def _mean(total: float, count: float) -> float:
    return float(total / count) if count else math.nan
