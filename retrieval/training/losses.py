"""Our losses of tuples (method.md section 6): sums over the batch, in which what is missing counts for nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from retrieval.training.described_tuples import DescribedTuples
from retrieval.training.losses_by_name import Loss, LossOptions
from sfm2tuples.errors import UsageError

GRADE = 0.5
"""Exponent of the overlap in a positive's weight; ours: a positive that sees a quarter of the points weighs half."""


def contrastive(tuples: DescribedTuples, margin: float, eps: float = 0.0, weight: Tensor | None = None) -> Tensor:
    """Sum of ½ D² over positives and ½ max(0, margin - D)² over negatives, D = ||query - other|| ([E16], [P18]).

    Parameters
    ----------
    tuples : DescribedTuples
    margin : float
        Distance from which on a negative is far enough (tau).
    eps : float
        Added to every component of the difference before the norm, 1e-6 in [C].
    weight : (B, P) float, optional
        Factor of each positive's term.

    Returns
    -------
    scalar
        No division by anything, so that accumulated batches add up.
    """
    positive = _squared_distances(tuples.query, tuples.positives, tuples.has_positive, eps)
    if weight is not None:
        positive = positive * weight
    negative = _squared_distances(tuples.query, tuples.negatives, tuples.has_negative, eps)
    # The root's slope at 0 is infinite; below the floor the clamp has none, so equal descriptors give gradient 0.
    distance = negative.clamp(min=torch.finfo(negative.dtype).tiny).sqrt()
    gap = (margin - distance).clamp(min=0)
    near = positive.masked_fill(~tuples.has_positive, 0.0).sum()
    return 0.5 * (near + gap.square().masked_fill(~tuples.has_negative, 0.0).sum())


def triplet(tuples: DescribedTuples, margin: float) -> Tensor:
    """Sum over all pairs of positive and negative of max(0, ||q - p||² - ||q - n||² + margin) ([E16])."""
    positive = _squared_distances(tuples.query, tuples.positives, tuples.has_positive)[:, :, None]
    negative = _squared_distances(tuples.query, tuples.negatives, tuples.has_negative)[:, None, :]
    terms = (positive - negative + margin).clamp(min=0)
    return terms.masked_fill(~(tuples.has_positive[:, :, None] & tuples.has_negative[:, None, :]), 0.0).sum()


def overlap_weight(overlap: Tensor, grade: float = GRADE) -> Tensor:
    """Weight of a positive in the graded contrastive loss: ``overlap ** grade``, 1 where the overlap is not known.

    Ours: a positive that shows little of what the query shows need not be as near as one that shows all of it.

    Parameters
    ----------
    overlap : (B, P) float
        As in `DescribedTuples`.
    grade : float
        0 gives the contrastive loss itself, 1 weights in proportion.
    """
    return overlap.clamp(0.0, 1.0).pow(grade).nan_to_num(nan=1.0)


def contrastive_loss(options: LossOptions) -> Loss:
    """`contrastive` with the margin and eps of the options."""
    options.refuse_settings()
    return lambda tuples: contrastive(tuples, options.margin, options.eps)


def triplet_loss(options: LossOptions) -> Loss:
    """`triplet` with the margin of the options."""
    options.refuse_settings()
    return lambda tuples: triplet(tuples, options.margin)


def graded_loss(options: LossOptions) -> Loss:
    """`contrastive` with each positive weighted by `overlap_weight`; its one setting is ``grade``, from 0 on."""
    options.refuse_settings(["grade"])
    grade = options.values().get("grade", GRADE)
    if isinstance(grade, str | bool) or not 0 <= grade < float("inf"):
        raise UsageError(f"grade must be a number from 0 on, not {grade}")
    exponent = float(grade)

    def loss(tuples: DescribedTuples) -> Tensor:
        weight = overlap_weight(tuples.overlap.to(tuples.query), exponent)
        return contrastive(tuples, options.margin, options.eps, weight)

    return loss


def _squared_distances(query: Tensor, others: Tensor, there: Tensor, eps: float = 0.0) -> Tensor:
    """||query - other + eps||² : (B, D) and (B, N, D) to (B, N); 0 where there is no other."""
    difference = query[:, None, :] - others + eps
    # Masked before squaring: a NaN that stands for "missing" must not reach the gradient as 0 x NaN.
    return difference.masked_fill(~there[:, :, None], 0.0).square().sum(dim=2)
