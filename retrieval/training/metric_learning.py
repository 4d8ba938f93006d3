"""Losses of the package pytorch-metric-learning by name, told our tuples through its `indices_tuple`."""

from __future__ import annotations

import difflib

import torch
from torch import Tensor, nn

from retrieval.training.described_tuples import DescribedTuples
from retrieval.training.losses_by_name import Loss, LossOptions
from sfm2tuples.errors import UsageError, first_line

Indices = tuple[Tensor, Tensor, Tensor, Tensor]
"""The package's pairs: queries and their positives, queries and their negatives, all rows of one table."""


def pml_loss(options: LossOptions) -> Loss:
    """The loss ``pml:NAME``: that class of the package, made of the settings; margin and eps of ours do not count.

    It is a sum over tuples, each by itself: how tuples are batched changes nothing.

    Raises
    ------
    UsageError
        The package is not installed, it has no such loss or argument, the loss cannot be taken of two tuples (many
        need labels), or it has weights of its own: these are by class, and tuples have no classes.
    """
    loss = loss_of_pairs(options)
    _try_once(loss, options.name)
    return lambda tuples: _sum_over_tuples(loss, tuples)


def loss_of_pairs(options: LossOptions) -> nn.Module:
    """That class of the package, made of the settings, as yet untried; errors as for `pml_loss`."""
    kind, arguments = _loss_class(options.name.partition(":")[2]), options.values()
    try:
        loss = kind(**arguments)
    except Exception as error:  # whatever the package does with arguments that it does not expect
        raise UsageError(f"loss {options.name} cannot be made of {arguments} ({why_not(error)})") from error
    if any(True for _ in loss.parameters()):
        raise UsageError(
            f"loss {options.name} learns weights by class, and tuples have no classes; choose a loss of pairs"
        )
    return loss


def _try_once(loss: nn.Module, name: str) -> None:
    """Take the loss of two made tuples, and its gradient; refuse one that cannot be."""
    generator = torch.Generator().manual_seed(0)
    query, positives, negatives = (
        nn.functional.normalize(torch.randn(2, count, 8, generator=generator), dim=-1) for count in (1, 1, 5)
    )
    there = (torch.ones(2, 1, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool))
    query = query[:, 0].requires_grad_()
    described = DescribedTuples(query, positives, negatives, *there, overlap=torch.ones(2, 1))
    try:
        value = _sum_over_tuples(loss, described)
        value.backward()
        is_finite = bool(torch.isfinite(value))
    except Exception as error:  # each loss of the package fails in its own way at what it does not know
        needed = f"loss {name} cannot be taken of tuples ({why_not(error)})"
        raise UsageError(f"{needed}; choose a loss of pairs, or mend loss_option") from error
    if not is_finite:
        raise UsageError(f"loss {name} of two tuples is {value.item()}; mend loss_option, or choose another")


def why_not(error: Exception) -> str:
    """The error's first line; its kind where it says next to nothing, as a KeyError does."""
    said = first_line(error)
    return said if " " in said else f"{type(error).__name__} {said}".strip()


def _loss_class(name: str) -> type[nn.Module]:
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        remedy = "pip install 'sfm2tuples[metric-learning]'"
        raise UsageError(f"losses pml:NAME need the package pytorch-metric-learning: {remedy}") from error
    kind = getattr(losses, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        near = difflib.get_close_matches(name, dir(losses), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"pytorch-metric-learning has no loss {name!r}{hint}")
    return kind


def _sum_over_tuples(loss: nn.Module, tuples: DescribedTuples) -> Tensor:
    total = tuples.query.sum() * 0  # a batch of no tuples has a gradient too
    for row in range(len(tuples.query)):
        positives = tuples.positives[row][tuples.has_positive[row]]
        negatives = tuples.negatives[row][tuples.has_negative[row]]
        table = torch.cat([tuples.query[row : row + 1], positives, negatives])
        total = total + loss(table, indices_tuple=indices_tuple(len(positives), len(negatives), table.device))
    return total


def indices_tuple(num_positives: int, num_negatives: int, device: torch.device | None = None) -> Indices:
    """Pairs of one tuple, whose table has the query first, then its positives, then its negatives.

    Examples
    --------
    >>> [rows.tolist() for rows in indices_tuple(1, 2)]
    [[0], [1], [0, 0], [2, 3]]
    """
    positives = torch.arange(1, 1 + num_positives, device=device)
    negatives = torch.arange(1 + num_positives, 1 + num_positives + num_negatives, device=device)
    return torch.zeros_like(positives), positives, torch.zeros_like(negatives), negatives
