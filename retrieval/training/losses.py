"""Our losses of tuples (method.md section 6): sums over the batch, in which what is missing counts for nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from retrieval.training.described_tuples import DescribedTuples
from retrieval.training.losses_by_name import Loss, LossOptions
from sfm2tuples.errors import UsageError

GRADE = 0.5
"""Exponent of the overlap in a positive's weight; ours: a positive that sees a quarter of the points weighs half."""


def contrastive(
    tuples: DescribedTuples,
    margin: float,
    eps: float = 0.0,
    weight: Tensor | None = None,
    apart: Tensor | None = None,
) -> Tensor:
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
    apart : (B, P) float, optional
        Factor of the term that each positive would have as a negative, added to its own.

    Returns
    -------
    scalar
        No division by anything, so that accumulated batches add up.
    """
    positive = _squared_distances(tuples.query, tuples.positives, tuples.has_positive, eps)
    terms = positive_terms(positive, margin, weight, apart)
    negative = _squared_distances(tuples.query, tuples.negatives, tuples.has_negative, eps)
    near = terms.masked_fill(~tuples.has_positive, 0.0).sum()
    return 0.5 * (near + squared_gaps(negative, margin).masked_fill(~tuples.has_negative, 0.0).sum())


def squared_gaps(squared: Tensor, margin: float) -> Tensor:
    """max(0, margin - D)² of squared distances D² of any shape."""
    # The root's slope at 0 is infinite; below the floor the clamp has none, so equal descriptors give gradient 0.
    distance = squared.clamp(min=torch.finfo(squared.dtype).tiny).sqrt()
    return (margin - distance).clamp(min=0).square()


def positive_terms(squared: Tensor, margin: float, weight: Tensor | None, apart: Tensor | None) -> Tensor:
    """weight x D² + apart x max(0, margin - D)² of positives; a factor that is None is 1, or 0, for all."""
    near = squared if weight is None else squared * weight
    return near if apart is None else near + apart * squared_gaps(squared, margin)


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


def likeness(overlap: Tensor) -> tuple[Tensor, Tensor]:
    """How alike positives are in the generalized contrastive loss, and how little: psi and 1 - psi.

    Psi is the overlap, from 0 to 1; 1 where the overlap is not known, which gives the contrastive loss's term.
    """
    psi = overlap.clamp(0.0, 1.0).nan_to_num(nan=1.0)
    return psi, 1 - psi


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
    exponent = grade_of(options)

    def loss(tuples: DescribedTuples) -> Tensor:
        weight = overlap_weight(tuples.overlap.to(tuples.query), exponent)
        return contrastive(tuples, options.margin, options.eps, weight)

    return loss


def grade_of(options: LossOptions) -> float:
    """The setting ``grade``, `GRADE` where it is left out; a UsageError where it is no number from 0 on."""
    grade = options.values().get("grade", GRADE)
    if isinstance(grade, str | bool) or not 0 <= grade < float("inf"):
        raise UsageError(f"grade must be a number from 0 on, not {grade}")
    return float(grade)


def generalized_loss(options: LossOptions) -> Loss:
    """The generalized contrastive loss [Leyva-Vallina et al., CVPR 2023]: psi ½ D² + (1 - psi) ½ max(0, margin - D)².

    Psi is a positive's overlap, and 0 for a negative. A positive that shows little of what the query shows so settles
    at a distance, where a contrastive loss draws it to 0.
    """
    options.refuse_settings()

    def loss(tuples: DescribedTuples) -> Tensor:
        return contrastive(tuples, options.margin, options.eps, *likeness(tuples.overlap.to(tuples.query)))

    return loss


def _squared_distances(query: Tensor, others: Tensor, there: Tensor, eps: float = 0.0) -> Tensor:
    """||query - other + eps||² : (B, D) and (B, N, D) to (B, N); 0 where there is no other."""
    difference = query[:, None, :] - others + eps
    # Masked before squaring: a NaN that stands for "missing" must not reach the gradient as 0 x NaN.
    return difference.masked_fill(~there[:, :, None], 0.0).square().sum(dim=2)
