"""One round of steps: photos to descriptors, loss, gradient, step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from retrieval.networks.network import Network
from retrieval.photos.augmentation import TupleChange
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.losses import tuple_loss
from retrieval.training.optimisation import set_learning_rate, warmed_up
from retrieval.training.options import TrainingOptions
from retrieval.training.passes import Passes, add_gradient, to_device
from retrieval.training.team import Team
from sfm2tuples.compute.random_draws import draw, item_numbers
from sfm2tuples.errors import SfmTuplesError
from sfm2tuples.mining.tuple_file import TupleSet


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
class Means:
    """What a round is carried out with; it changes results by rounding only."""

    passes: Passes = field(default_factory=Passes)
    """How photos go through the network."""
    team: Team = field(default_factory=Team)
    """The processes that share each step's tuples."""
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    """Keeps fp16's gradients from vanishing; does nothing in other precisions."""


@dataclass(frozen=True)
class _Parts:
    """One tuple as rows of the image table and positions among its distinct ones."""

    row: int
    """Row of the tuple set."""
    rows: list[int]
    """Distinct rows of the image table; the query first."""
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
    means: Means | None = None,
    rate: float | None = None,
    steps_before: int = 0,
) -> Trained:
    """Train on each tuple once, in an order of its own for every seed and round.

    A step follows every `batch_size` tuples, and the last ones. The gradient of a step is added up over portions of
    its tuples, and over the processes of a team, each of which takes its share.

    Parameters
    ----------
    network, optimiser, chosen, photos, options
    round : int
        Names the draws.
    progress : str, optional
        Title of a progress bar.
    means : Means, optional
        One process, one photo a forward, where left out.
    rate, steps_before
        For the warm-up: the round's learning rate, and the steps of earlier rounds.

    Raises
    ------
    SfmTuplesError
        A loss is not finite.
    PhotoError
        A photo is absent or unreadable.
    """
    means = means or Means()
    order = _order(chosen, photos, options.seed, round)
    steps = [order[start : start + options.batch_size] for start in range(0, len(order), options.batch_size)]
    shares = [[_parts(chosen, row) for row in means.team.share(step)] for step in steps]
    totals: list[Tensor] = []  # (5,) each: loss; sum and count of positives' cosines; likewise of negatives
    network.train()
    optimiser.zero_grad(set_to_none=True)
    bar = tqdm(total=len(order), desc=progress, unit="tuple", disable=True if progress is None else None, leave=False)
    loaded = _load(photos, [parts for share in shares for parts in share], options, round)
    with bar:
        for number, (step, share) in enumerate(zip(steps, shares, strict=True)):
            for portion in _portions(share, means.passes.tuples):
                pictures = [picture for group in islice(loaded, len(portion)) for picture in group]
                totals.append(_add_portion(network, pictures, portion, chosen, photos, options, means, round))
            if rate is not None and options.warm_up:
                set_learning_rate(optimiser, warmed_up(rate, steps_before + number, options.warm_up))
            _step(network, optimiser, means)
            bar.update(len(step))
    return _trained(means.team.add_up(_sum(totals)), len(order))


def _sum(totals: Sequence[Tensor]) -> np.ndarray:
    """(5,) float64; fetched from the device at the end, so that a GPU works while the next photos are gathered."""
    return torch.stack([torch.zeros(5), *(part.cpu() for part in totals)]).numpy().sum(axis=0, dtype=np.float64)


def _trained(totals: np.ndarray, tuples: int) -> Trained:
    loss, *cosines = totals
    return Trained(_mean(loss, tuples), _mean(*cosines[:2]), _mean(*cosines[2:]), tuples)


def _portions(share: Sequence[_Parts], size: int) -> list[Sequence[_Parts]]:
    return [share[start : start + size] for start in range(0, len(share), size)]


def _load(
    photos: TuplePhotos, tuples: Sequence[_Parts], options: TrainingOptions, round: int
) -> Iterator[list[np.ndarray]]:
    """Photos of each tuple, decoded ahead, and augmented where that is asked for."""
    changes = None
    if not options.augmentation.is_off:
        queries = photos.names(np.array([parts.rows[0] for parts in tuples], np.int64))
        changes = [
            TupleChange(options.augmentation, options.seed, round, f"{query} {parts.row}")
            for query, parts in zip(queries, tuples, strict=True)
        ]
    return photos.in_order([parts.rows for parts in tuples], changes)


def _add_portion(
    network: Network,
    pictures: Sequence[np.ndarray],
    portion: Sequence[_Parts],
    chosen: TupleSet,
    photos: TuplePhotos,
    options: TrainingOptions,
    means: Means,
    round: int,
) -> Tensor:
    """Add the gradient of some tuples; give back their part of the totals, (5,) float32, still on the device."""
    query, positive, negative = _positions(portion, network.device)
    overlap = to_device(torch.from_numpy(chosen.overlap[[parts.row for parts in portion]]), network.device)

    def loss_of(descriptors: Tensor) -> Tensor:
        loss = _loss(descriptors, query, positive, negative, overlap, options)
        if not math.isfinite(loss.item()):
            raise _not_finite(loss.item(), round, photos.names(np.array(portion[0].rows[:1]))[0])
        return loss

    loss, descriptors = add_gradient(network, pictures, options.precision, means.passes, loss_of, means.scaler.scale)
    return torch.stack([loss, *_similarities(descriptors, query, positive, negative)])


def _step(network: Network, optimiser: torch.optim.Optimizer, means: Means) -> None:
    means.team.add_up_gradients(network)
    means.scaler.step(optimiser)
    means.scaler.update()
    optimiser.zero_grad(set_to_none=True)


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
    return _Parts(row, rows, positive, negative)


def _positions(portion: Sequence[_Parts], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where the descriptors of a portion's queries (B,), positives (B, P) and negatives (B, K) are; -1: missing."""
    first = np.cumsum([0, *(len(parts.rows) for parts in portion[:-1])]).tolist()
    ends = []
    for name in ("positive", "negative"):
        own = [getattr(parts, name) for parts in portion]
        shifted = [torch.where(end >= 0, end + start, -1) for end, start in zip(own, first, strict=True)]
        ends.append(to_device(torch.stack(shifted), device))
    return to_device(torch.tensor(first), device), ends[0], ends[1]


def _loss(
    descriptors: Tensor, query: Tensor, positive: Tensor, negative: Tensor, overlap: Tensor, options: TrainingOptions
) -> Tensor:
    return tuple_loss(
        options.loss,
        descriptors[query],
        descriptors[positive.clamp(min=0)],
        descriptors[negative.clamp(min=0)],
        options.margin,
        positive >= 0,
        negative >= 0,
        options.eps,
        overlap,
        options.loss_option,
    )


def _similarities(descriptors: Tensor, query: Tensor, positive: Tensor, negative: Tensor) -> list[Tensor]:
    """Sum and count of the queries' cosines with their positives, then with their negatives."""
    values: list[Tensor] = []
    for end in (positive, negative):
        cosines = (descriptors[query][:, None] * descriptors[end.clamp(min=0)]).sum(dim=2)
        values += [torch.where(end >= 0, cosines, 0.0).sum(), (end >= 0).sum().float()]
    return values


def _not_finite(loss: float, round: int, query: str) -> SfmTuplesError:
    return SfmTuplesError(
        f"round {round}: the loss is {loss} at the tuple of query {query}; lower --learning-rate, or --precision fp32"
    )


def _mean(total: float, count: float) -> float:
    return float(total / count) if count else math.nan
