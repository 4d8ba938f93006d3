"""What a run keeps beside its network while only parts of it learn, or learn as sums, or are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrieval.networks.network import Network
from retrieval.training.adaptation.low_rank import LowRank
from retrieval.training.adaptation.moving_average import MovingAverage
from retrieval.training.adaptation.parts import LORA, Learners, attention_projections, freeze
from sfm2tuples.errors import WeightsError

_REMEDY = "start the run again without --resume, with --force"
_FACTORS = ("base", "left", "right")
"""Tensors of a `LowRank` that a run goes on from."""


class Adaptation:
    """The factors of `lora` and the moving average of a run; it does nothing where the run has neither.

    Parameters
    ----------
    factors : mapping, optional
        By the name of the layer.
    average : MovingAverage, optional
    """

    def __init__(self, factors: Mapping[str, LowRank] | None = None, average: MovingAverage | None = None) -> None:
        self.factors = dict(factors or {})
        self.average = average

    def in_place_of(self, parameter: nn.Parameter) -> list[nn.Parameter]:
        """What the optimiser is to have for a parameter of the network: itself, or the factors that it is a sum of."""
        for factor in self.factors.values():
            if factor.layer.weight is parameter:
                return [factor.left, factor.right]
        return [parameter]

    def start(self) -> None:
        """Begin at the network as it is."""
        for factor in self.factors.values():
            factor.base.copy_(factor.layer.weight.detach())
        if self.average is not None:
            self.average.restart()

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """A context for the steps of a round; outside of it the network is the one to use."""
        with nullcontext() if self.average is None else self.average.stepping():
            yield

    def before_step(self) -> None:
        """Hand the gradients on to what the optimiser has."""
        for factor in self.factors.values():
            factor.take_gradient()

    def after_step(self) -> None:
        """Follow the optimiser."""
        for factor in self.factors.values():
            factor.merge()
        if self.average is not None:
            self.average.after_step()

    def state(self) -> dict[str, Any]:
        """What a run goes on from, as tensors in plain dicts; empty where there is nothing."""
        found: dict[str, Any] = {}
        if self.factors:
            found["factors"] = {name: _tensors(factor) for name, factor in self.factors.items()}
        if self.average is not None:
            found["stepped"] = {name: value.detach().cpu() for name, value in self.average.aside.items()}
        return found

    def put(self, content: object, path: Path) -> None:
        """Go on from a `state`; `path` is for messages.

        Raises
        ------
        WeightsError
            It is none of such a run.
        """
        wanted = {name: _tensors(factor) for name, factor in self.factors.items()}
        held = content if isinstance(content, dict) else {}
        factors, stepped = held.get("factors", {}), held.get("stepped", {})
        average = {} if self.average is None else self.average.aside
        groups = [(factors.get(name) if isinstance(factors, dict) else None, own) for name, own in wanted.items()]
        for got, own in [*groups, (stepped, average)]:
            if not _fits(got, own):
                raise WeightsError(path, "its adaptation (lora, ema) does not fit the run", _REMEDY)
        with torch.no_grad():
            for name, factor in self.factors.items():
                for part in _FACTORS:
                    getattr(factor, part).copy_(factors[name][part])
            for name, value in average.items():
                value.copy_(stepped[name])


def adapt(network: Network, learners: Learners, ema: float, seed: int) -> Adaptation:
    """Freeze what does not learn, and make what the run keeps beside the network.

    Parameters
    ----------
    network : Network
        Where its weights stay; its parameters lose their gradients where they are frozen.
    learners : Learners
    ema : float
        Decay of the moving average, a step; 0 for none.
    seed : int
        Of the factors' draw.

    Raises
    ------
    UsageError
        The network has no such parts.
    """
    freeze(network, learners)
    factors: dict[str, LowRank] = {}
    if learners.kind == LORA:
        generator = torch.Generator().manual_seed(seed)
        for name, layer in attention_projections(network, learners).items():
            factors[name] = LowRank(layer, learners.number, generator)
    learning = {name: value for name, value in network.named_parameters() if value.requires_grad}
    return Adaptation(factors, MovingAverage(learning, ema) if ema else None)


@contextmanager
def gradients_as_before(network: nn.Module) -> Iterator[None]:
    """Let parameters that a run has frozen have gradients again after it."""
    before = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        yield
    finally:
        for parameter, had in before:
            parameter.requires_grad_(had)


def _tensors(factor: LowRank) -> dict[str, Tensor]:
    return {name: getattr(factor, name).detach().cpu() for name in _FACTORS}


def _fits(got: object, own: Mapping[str, Tensor]) -> bool:
    return (
        isinstance(got, dict)
        and got.keys() == own.keys()
        and all(
            isinstance(value, Tensor)
            and value.dtype == own[name].dtype
            and value.shape == own[name].shape
            and bool(torch.isfinite(value).all())
            for name, value in got.items()
        )
    )
