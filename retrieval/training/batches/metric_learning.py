"""Losses of pytorch-metric-learning over all known pairs of a batch, told by its `indices_tuple`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retrieval.training.batches.described import BatchLoss, DescribedBatch
from retrieval.training.losses_by_name import LossOptions
from retrieval.training.metric_learning import Indices, loss_of_pairs, why_not
from sfm2tuples.errors import UsageError

HELD = 1e-5
"""Relative difference of a loss that may be rounding."""


def pml_of_batch(options: LossOptions) -> BatchLoss:
    """The loss ``pml:NAME`` of the pairs of a batch that are known, times the batch's anchors.

    The package's own reduction, most often a mean, holds within a batch; times the anchors it is a sum, as ours are.

    Raises
    ------
    UsageError
        As for `metric_learning.pml_loss`; or the loss also looks at pairs that are unknown.
    """
    loss = loss_of_pairs(options)
    _try_once(loss, options.name)
    return lambda batch: _times_anchors(loss, batch)


def pairs_of_batch(batch: DescribedBatch) -> Indices:
    """The pairs as the package takes them: anchors and their positives, anchors and their negatives."""
    positive, negative = (mask.nonzero(as_tuple=True) for mask in (batch.positive, batch.negative))
    return positive[0], positive[1], negative[0], negative[1]


def _times_anchors(loss: nn.Module, batch: DescribedBatch) -> Tensor:
    anchors = batch.anchors
    if not anchors:
        return batch.descriptors.sum() * 0
    value: Tensor = loss(batch.descriptors, indices_tuple=pairs_of_batch(batch)) * anchors
    return value


def _try_once(loss: nn.Module, name: str) -> None:
    """Take the loss of a made batch, and its gradient; refuse one that cannot be, or that unknown pairs change."""
    try:
        value, other = (_times_anchors(loss, made_batch(unknown)) for unknown in (0.1, 0.6))
        value.backward()
    except Exception as error:  # each loss of the package fails in its own way at what it does not know
        what = f"loss {name} cannot be taken of graph batches ({why_not(error)})"
        raise UsageError(f"{what}; choose a loss of pairs, or mend loss_option") from error
    if not bool(torch.isfinite(value)):
        raise UsageError(f"loss {name} of a batch is {value.item()}; mend loss_option, or choose another")
    if abs(value.item() - other.item()) > HELD * max(abs(value.item()), 1):
        raise UsageError(f"loss {name} also looks at pairs that are unknown; choose one that looks at given pairs only")


def made_batch(unknown: float) -> DescribedBatch:
    """Six unit descriptors of three places of which one pair is unknown, and has this cosine; others do not change."""
    place = torch.arange(6) // 2
    same = place[:, None] == place[None, :]
    cosines = torch.where(same, 0.4, 0.2)
    cosines[0, 2] = cosines[2, 0] = unknown
    cosines.fill_diagonal_(1.0)
    known = torch.ones(6, 6, dtype=torch.bool).fill_diagonal_(False)
    known[0, 2] = known[2, 0] = False
    return DescribedBatch(torch.linalg.cholesky(cosines).requires_grad_(), same & known, ~same & known)
