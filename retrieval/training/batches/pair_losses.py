"""Our losses of batches (method.md section 13): sums over anchors; pairs that are unknown count for nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from retrieval.training.batches.described import BatchLoss, DescribedBatch
from retrieval.training.losses import grade_of, likeness, overlap_weight, positive_terms, squared_gaps
from retrieval.training.losses_by_name import LossOptions
from sfm2tuples.errors import UsageError

HARDEST = 5
"""Negatives of an anchor that the contrastive loss looks at; as many as a tuple has."""
ALPHA, BETA, BASE = 2.0, 50.0, 0.5
"""Constants of multi-similarity [Wang et al., CVPR 2019]."""
TEMPERATURE = 0.01
"""Of smooth-AP's sigmoid [Brown et al., ECCV 2020]."""


Factors = tuple[Tensor | None, Tensor | None]
"""Of the positive pairs: the factor of each one's term, and of the term that it would have as a negative."""


def contrastive_of_pairs(
    batch: DescribedBatch,
    margin: float,
    eps: float = 0.0,
    hardest: int = HARDEST,
    factors_of: Callable[[Tensor], Factors] | None = None,
) -> Tensor:
    """Per anchor: mean of ½ D² over its positives, and sum of ½ max(0, margin - D)² over its hardest negatives.

    An anchor so weighs as a tuple does: a batch that is one tuple of one positive and `hardest` negatives has that
    tuple's contrastive loss. The hardest are the nearest.

    Parameters
    ----------
    batch : DescribedBatch
    margin, eps : float
        As for `losses.contrastive`.
    hardest : int
    factors_of : callable, optional
        From the overlaps of positive pairs (m,) to their factors; without, pairs weigh alike.

    Returns
    -------
    scalar
        Sum over anchors. Memory: O(pairs that count), not O(n² D).
    """
    similarity = batch.similarities().detach()
    count = min(hardest, similarity.shape[1])
    far = similarity.masked_fill(~batch.negative, -torch.inf)
    value, column = far.topk(count, dim=1)
    there = value > -torch.inf
    hard = torch.arange(len(far), device=far.device)[:, None].expand_as(column)[there], column[there]
    near = batch.positive.nonzero(as_tuple=True)
    positive = _squared_distances(batch.descriptors, near, eps)
    negative = _squared_distances(batch.descriptors, hard, eps)
    factors = (None, None) if factors_of is None else factors_of(batch.overlap_of(near))
    per_positive = 1 / batch.positive.sum(dim=1).to(positive)[near[0]]
    terms = positive_terms(positive, margin, *factors) * per_positive
    return 0.5 * (terms.sum() + squared_gaps(negative, margin).sum())


def multi_similarity(
    batch: DescribedBatch, margin: float, alpha: float = ALPHA, beta: float = BETA, base: float = BASE
) -> Tensor:
    """Multi-similarity with its miner [Wang et al., CVPR 2019], summed over anchors.

    Per anchor ``log(1 + Σ exp(-alpha (s - base))) / alpha`` over the positives that are mined, and
    ``log(1 + Σ exp(beta (s - base))) / beta`` over the negatives. Mined are the positives less similar than the most
    similar negative + margin, and the negatives more similar than the least similar positive - margin; nothing of an
    anchor without positives or without negatives.
    """
    similarity = batch.similarities()
    seen = similarity.detach()
    hardest_negative = seen.masked_fill(~batch.negative, -torch.inf).amax(dim=1, keepdim=True)
    hardest_positive = seen.masked_fill(~batch.positive, torch.inf).amin(dim=1, keepdim=True)
    positive = batch.positive & (seen < hardest_negative + margin)
    negative = batch.negative & (seen > hardest_positive - margin)
    near = _log_of_one_and_sum(-alpha * (similarity - base), positive) / alpha
    far = _log_of_one_and_sum(beta * (similarity - base), negative) / beta
    return (near + far).sum()


def smooth_ap(batch: DescribedBatch, temperature: float = TEMPERATURE) -> Tensor:
    """1 - smooth AP of each anchor with positives [Brown et al., ECCV 2020], summed over anchors.

    The rank of a positive i is 1 + Σ sigmoid((s_j - s_i) / temperature) over the other known images j; its precision
    is the same sum over the positives alone, divided by that. Unknown images are in no rank. O(positive pairs x n)
    memory.
    """
    similarity = batch.similarities()
    anchor, image = batch.positive.nonzero(as_tuple=True)
    ahead = torch.sigmoid((similarity[anchor] - similarity[anchor, image][:, None]) / temperature)
    other = torch.ones_like(ahead, dtype=torch.bool).scatter_(1, image[:, None], False)
    near = 1 + ahead.masked_fill(~(batch.positive[anchor] & other), 0.0).sum(dim=1)
    far = ahead.masked_fill(~batch.negative[anchor], 0.0).sum(dim=1)
    per_positive = 1 / batch.positive.sum(dim=1).to(near)[anchor]
    return ((1 - near / (near + far)) * per_positive).sum()


def contrastive_of_batch(options: LossOptions) -> BatchLoss:
    """`contrastive_of_pairs` with margin and eps of the options; its one setting is ``hardest``."""
    options.refuse_settings(["hardest"])
    hardest = _hardest(options)
    return lambda batch: contrastive_of_pairs(batch, options.margin, options.eps, hardest)


def graded_of_batch(options: LossOptions) -> BatchLoss:
    """`contrastive_of_batch` with each positive weighted by `losses.overlap_weight`; ``grade`` is a setting more."""
    options.refuse_settings(["grade", "hardest"])
    hardest, grade = _hardest(options), grade_of(options)

    def factors_of(overlap: Tensor) -> Factors:
        return overlap_weight(overlap, grade), None

    return lambda batch: contrastive_of_pairs(batch, options.margin, options.eps, hardest, factors_of)


def generalized_of_batch(options: LossOptions) -> BatchLoss:
    """The generalized contrastive loss (`losses.generalized_loss`) over the pairs of `contrastive_of_batch`."""
    options.refuse_settings(["hardest"])
    hardest = _hardest(options)
    return lambda batch: contrastive_of_pairs(batch, options.margin, options.eps, hardest, likeness)


def multi_similarity_of_batch(options: LossOptions) -> BatchLoss:
    """`multi_similarity` with the margin of the options for its miner; its settings are its constants."""
    options.refuse_settings(["alpha", "beta", "base"])
    alpha, beta = (_number(options, name, value, above=0) for name, value in (("alpha", ALPHA), ("beta", BETA)))
    base = _number(options, "base", BASE, above=-math.inf)
    return lambda batch: multi_similarity(batch, options.margin, alpha, beta, base)


def smooth_ap_of_batch(options: LossOptions) -> BatchLoss:
    """`smooth_ap`; its one setting is ``temperature``."""
    options.refuse_settings(["temperature"])
    temperature = _number(options, "temperature", TEMPERATURE, above=0)
    return lambda batch: smooth_ap(batch, temperature)


def _hardest(options: LossOptions) -> int:
    hardest = options.values().get("hardest", HARDEST)
    if isinstance(hardest, bool) or not isinstance(hardest, int) or hardest < 1:
        raise UsageError(f"hardest must be a whole number from 1 on, not {hardest}")
    return hardest


def _number(options: LossOptions, name: str, otherwise: float, above: float) -> float:
    value = options.values().get(name, otherwise)
    if isinstance(value, bool | str) or not above < value < math.inf:
        bound = "" if above == -math.inf else f" above {above:g}"
        raise UsageError(f"{name} must be a number{bound}, not {value}")
    return float(value)


def _squared_distances(descriptors: Tensor, pairs: tuple[Tensor, ...], eps: float) -> Tensor:
    """||first - second + eps||² of pairs of rows (m,), (m,): (m,)."""
    return (descriptors[pairs[0]] - descriptors[pairs[1]] + eps).square().sum(dim=1)


def _log_of_one_and_sum(exponent: Tensor, there: Tensor) -> Tensor:
    """log(1 + Σ exp(exponent)) over what is there of each row: (n,)."""
    one = exponent.new_zeros((len(exponent), 1))
    return torch.cat([one, exponent.masked_fill(~there, -torch.inf)], dim=1).logsumexp(dim=1)
