"""Losses of tuples (METHOD.md section 6), sums over the batch; missing positives and negatives are masked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retrieval.training.metric_learning import PML, parse_settings, pml_loss, pml_tuple_loss
from sfm2tuples.errors import UsageError

CONTRASTIVE, TRIPLET, GRADED = "contrastive", "triplet", "graded-contrastive"
LOSSES = (CONTRASTIVE, TRIPLET, GRADED)
"""Names of the losses, as `--loss` takes them; ``pml:NAME`` besides."""
GRADE = 0.5
"""Exponent of the overlap in a positive's weight; ours: a positive that sees a quarter of the points weighs half."""


def contrastive(
    query: Tensor,
    positives: Tensor,
    negatives: Tensor,
    margin: float,
    positive_mask: Tensor | None = None,
    negative_mask: Tensor | None = None,
    eps: float = 0.0,
    positive_weight: Tensor | None = None,
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
    positive_weight : (B, P) float, optional
        Factor of each positive's term.

    Returns
    -------
    scalar
        No division by anything, so that accumulated batches add up.
    """
    positive = _squared_distances(query, positives, positive_mask, eps)
    if positive_weight is not None:
        positive = positive * positive_weight
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


def overlap_weight(overlap: Tensor, grade: float = GRADE) -> Tensor:
    """Weight of a positive in the graded contrastive loss: ``overlap ** grade``, 1 where the overlap is not known.

    Ours: a positive that shows little of what the query shows need not be as near as one that shows all of it.

    Parameters
    ----------
    overlap : (B, P) float
        Share of the query's points that the positive sees (METHOD.md section 2); NaN where it is not known.
    grade : float
        0 gives the contrastive loss itself, 1 weights in proportion.
    """
    return overlap.clamp(0.0, 1.0).pow(grade).nan_to_num(nan=1.0)


def tuple_loss(
    name: str,
    query: Tensor,
    positives: Tensor,
    negatives: Tensor,
    margin: float,
    positive_mask: Tensor | None = None,
    negative_mask: Tensor | None = None,
    eps: float = 0.0,
    overlap: Tensor | None = None,
    settings: Sequence[str] = (),
) -> Tensor:
    """The loss of that name, one of `LOSSES` or ``pml:NAME``: a sum over tuples.

    Parameters
    ----------
    name : str
    query, positives, negatives, margin, positive_mask, negative_mask
        As for `contrastive`; a loss ``pml:NAME`` has its margin among `settings`.
    eps : float
        Of the contrastive losses.
    overlap : (B, P) float, optional
        For the graded contrastive loss: as in `overlap_weight`; all unknown where left out.
    settings : sequence of str
        ``key=value``: ``grade`` of the graded contrastive loss, arguments of a loss ``pml:NAME``.
    """
    if name == TRIPLET:
        return triplet(query, positives, negatives, margin, positive_mask, negative_mask)
    if name.startswith(PML):
        masks = [
            torch.ones(others.shape[:2], dtype=torch.bool, device=others.device) if mask is None else mask
            for others, mask in ((positives, positive_mask), (negatives, negative_mask))
        ]
        return pml_tuple_loss(pml_loss(name, tuple(settings)), query, positives, negatives, masks[0], masks[1])
    weight = None
    if name == GRADED and overlap is not None:
        weight = overlap_weight(overlap.to(query), grade_of(settings))
    return contrastive(query, positives, negatives, margin, positive_mask, negative_mask, eps, weight)


def grade_of(settings: Sequence[str]) -> float:
    """The `grade` among a loss's settings.

    Raises
    ------
    UsageError
        There is another setting, or the grade is no number from 0 on.
    """
    values = parse_settings(settings)
    grade = values.pop("grade", GRADE)
    if values:
        raise UsageError(f"loss {GRADED} has no option {', '.join(values)}; it has grade")
    if isinstance(grade, str | bool) or not 0 <= grade < float("inf"):
        raise UsageError(f"grade must be a number from 0 on, not {grade}")
    return float(grade)


def check_loss(name: str, settings: Sequence[str] = ()) -> None:
    """Refuse a loss that cannot be made.

    Raises
    ------
    UsageError
        It is unknown, its package is absent, or a setting is not one of its own.
    """
    if name.startswith(PML):
        pml_loss(name, tuple(settings))
    elif name == GRADED:
        grade_of(settings)
    elif name not in LOSSES:
        raise UsageError(f"loss {name!r} is unknown; one of {', '.join(LOSSES)}, {PML}NAME")
    elif settings:
        raise UsageError(f"loss {name} has no options; leave out loss_option {', '.join(settings)}")


def _squared_distances(query: Tensor, others: Tensor, mask: Tensor | None, eps: float = 0.0) -> Tensor:
    """||query - other + eps||² : (B, D) and (B, N, D) to (B, N); 0 where masked."""
    difference = query[:, None, :] - others + eps
    if mask is not None:
        # Masked before squaring: a NaN that stands for "missing" must not reach the gradient as 0 x NaN.
        difference = difference.masked_fill(~mask[:, :, None], 0.0)
    return difference.square().sum(dim=2)


def _kept(terms: Tensor, mask: Tensor | None) -> Tensor:
    return terms if mask is None else terms.masked_fill(~mask, 0.0)
