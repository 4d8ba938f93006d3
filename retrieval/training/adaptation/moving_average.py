"""The exponential moving average of weights (Polyak and Juditsky, 1992): a network that changes more smoothly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class MovingAverage:
    """Keeps the mean of some weights over the steps: mean = decay x mean + (1 - decay) x weights.

    Between rounds the network holds the mean, and `aside` the weights that steps go on from; within a round it is the
    other way round.

    Parameters
    ----------
    weights : mapping
        Parameters of the network by name; they are changed in place.
    decay : float
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.weights = weights
        self.decay = decay
        self.aside = {name: value.detach().clone() for name, value in weights.items()}

    @torch.no_grad()
    def restart(self) -> None:
        """Begin at the network as it is."""
        for name, value in self.weights.items():
            self.aside[name].copy_(value)

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """A context in which the network holds the weights of the steps."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def after_step(self) -> None:
        """Take one step of the weights into the mean."""
        for name, value in self.weights.items():
            self.aside[name].lerp_(value, 1 - self.decay)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.weights.items():
            before = value.detach().clone()
            value.copy_(self.aside[name])
            self.aside[name].copy_(before)
