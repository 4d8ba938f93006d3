"""Losses of the package pytorch-metric-learning by name, told our tuples through its `indices_tuple`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor, nn

from sfm2tuples.errors import UsageError

PML = "pml:"
"""What a loss's name begins with when it comes from pytorch-metric-learning."""

Indices = tuple[Tensor, Tensor, Tensor, Tensor]
"""The package's pairs: queries and their positives, queries and their negatives, all rows of one table."""


@lru_cache(maxsize=8)
def pml_loss(name: str, settings: Sequence[str] = ()) -> nn.Module:
    """The loss ``pml:NAME`` of the package.

    Parameters
    ----------
    name : str
        ``pml:`` and the name of a class, such as ``pml:NTXentLoss``.
    settings : tuple of str
        ``key=value``, arguments of the class.

    Raises
    ------
    UsageError
        The package is not installed, it has no such loss or argument, or the loss has weights of its own: these are
        by class, and tuples have no classes.
    """
    losses, bare = _import_losses(), name.removeprefix(PML)
    kind = getattr(losses, bare, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        near = difflib.get_close_matches(bare, dir(losses), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"pytorch-metric-learning has no loss {bare!r}{hint}")
    arguments: dict[str, Setting] = parse_settings(settings)
    try:
        loss = kind(**arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"loss {name} cannot be made of {arguments} ({str(error).splitlines()[0]})") from error
    if any(True for _ in loss.parameters()):
        raise UsageError(f"loss {name} learns weights by class, and tuples have no classes; choose a loss of pairs")
    return loss


def pml_tuple_loss(
    loss: nn.Module,
    query: Tensor,
    positives: Tensor,
    negatives: Tensor,
    positive_mask: Tensor,
    negative_mask: Tensor,
) -> Tensor:
    """Sum of a loss over tuples, each by itself: how tuples are batched changes nothing.

    Parameters
    ----------
    loss : nn.Module
        Of `pml_loss`.
    query : (B, D) float
    positives : (B, P, D) float
    negatives : (B, K, D) float
    positive_mask, negative_mask : (B, P), (B, K) bool
        False where a descriptor is missing.
    """
    total = query.sum() * 0  # a batch of no tuples has a gradient too
    for row in range(len(query)):
        there = [positives[row][positive_mask[row]], negatives[row][negative_mask[row]]]
        table = torch.cat([query[row : row + 1], *there])
        total = total + loss(table, indices_tuple=indices_tuple(len(there[0]), len(there[1]), table.device))
    return total


def indices_tuple(num_positives: int, num_negatives: int, device: torch.device | None = None) -> Indices:
    """Pairs of one tuple, whose table has the query first, then its positives, then its negatives.

    Examples
    --------
    >>> [part.tolist() for part in indices_tuple(1, 2)]
    [[0], [1], [0, 0], [2, 3]]
    """
    positives = torch.arange(1, 1 + num_positives, device=device)
    negatives = torch.arange(1 + num_positives, 1 + num_positives + num_negatives, device=device)
    return torch.zeros_like(positives), positives, torch.zeros_like(negatives), negatives


def _import_losses() -> ModuleType:
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        remedy = "pip install 'sfm2tuples[metric-learning]'"
        raise UsageError(f"losses pml:NAME need the package pytorch-metric-learning: {remedy}") from error
    module: ModuleType = losses
    return module


def parse_settings(settings: Iterable[str]) -> dict[str, Setting]:
    """Text to values: whole and decimal numbers, true and false; anything else stays text.

    Raises
    ------
    UsageError
        One is not ``key=value``, or a key comes twice.

    Examples
    --------
    >>> parse_settings(["temperature=0.1", "smooth_loss=true", "k=3"])
    {'temperature': 0.1, 'smooth_loss': True, 'k': 3}
    """
    values: dict[str, Setting] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not (sign and key and text):
            raise UsageError(f"loss_option {setting!r} is not key=value")
        if key in values:
            raise UsageError(f"loss_option {key} is given twice")
        values[key] = _value(text)
    return values


def _value(text: str) -> Setting:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


Setting = bool | int | float | str
