"""The two losses of METHOD.md section 6, sums over the batch; missing positives and negatives are masked."""

from __future__ import annotations

import torch
from torch import Tensor

CONTRASTIVE, TRIPLET = "contrastive", "triplet"
LOSSES = (CONTRASTIVE, TRIPLET)


def contrastive(
    query: Tensor,
    positives: Tensor,
    negatives: Tensor,
    margin: float,
    positive_mask: Tensor | None = None,
    negative_mask: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """Sum of ½ D² over positives and ½ max(0, margin - D)² over negatives, D = ||query - other|| ([E16], [P18]).

    Parameters
    ----------
    query : (B, D) float
    positives : (B, P, D) float
    negatives : (B, K, D) float
        L2-normalised descriptors.
    margin : float
        Distance from which on a negative is far enough (tau).
    positive_mask : (B, P) bool, optional
    negative_mask : (B, K) bool, optional
        False where a descriptor is missing: whatever stands there counts for nothing, neither in the sum nor in the
        gradient.
    eps : float
        Added to every component of the difference before the norm, 1e-6 in [C].

    Returns
    -------
    scalar
        No division by anything, so that accumulated batches add up.
    """
    positive = _squared_distances(query, positives, positive_mask, eps)
    negative = _squared_distances(query, negatives, negative_mask, eps)
    # The root's slope at 0 is infinite; below the floor the clamp has none, so equal descriptors give gradient 0.
    distance = negative.clamp(min=torch.finfo(negative.dtype).tiny).sqrt()
    gap = (margin - distance).clamp(min=0)
    return 0.5 * (_kept(positive, positive_mask).sum() + _kept(gap.square(), negative_mask).sum())


def triplet(
    query: Tensor,
    positives: Tensor,
    negatives: Tensor,
    margin: float,
    positive_mask: Tensor | None = None,
    negative_mask: Tensor | None = None,
) -> Tensor:
    """Sum over all pairs of positive and negative of max(0, ||q - p||² - ||q - n||² + margin) ([E16]).

    Parameters and return value as for `contrastive`; `margin` is a difference of squared distances.
    """
    positive = _squared_distances(query, positives, positive_mask)[:, :, None]
    negative = _squared_distances(query, negatives, negative_mask)[:, None, :]
    terms = (positive - negative + margin).clamp(min=0)
    if positive_mask is not None:
        terms = _kept(terms, positive_mask[:, :, None])
    if negative_mask is not None:
        terms = _kept(terms, negative_mask[:, None, :])
    return terms.sum()


def tuple_loss(
    name: str,
    query: Tensor,
    positives: Tensor,
    negatives: Tensor,
    margin: float,
    positive_mask: Tensor | None = None,
    negative_mask: Tensor | None = None,
    eps: float = 0.0,
) -> Tensor:
    """The loss of that name, one of `LOSSES`; parameters as for `contrastive` (`eps` is its alone)."""
    if name == TRIPLET:
        return triplet(query, positives, negatives, margin, positive_mask, negative_mask)
    return contrastive(query, positives, negatives, margin, positive_mask, negative_mask, eps)


def _squared_distances(query: Tensor, others: Tensor, mask: Tensor | None, eps: float = 0.0) -> Tensor:
    """||query - other + eps||² : (B, D) and (B, N, D) to (B, N); 0 where masked."""
    difference = query[:, None, :] - others + eps
    if mask is not None:
        # Masked before squaring: a NaN that stands for "missing" must not reach the gradient as 0 x NaN.
        difference = difference.masked_fill(~mask[:, :, None], 0.0)
    return difference.square().sum(dim=2)


def _kept(terms: Tensor, mask: Tensor | None) -> Tensor:
    return terms if mask is None else terms.masked_fill(~mask, 0.0)
