"""GeM: the generalised mean of each channel ([P18])."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.pooling import Pooling, single_precision

GEM_P = 3.0
"""The exponent at first ([P18])."""
GEM_EPS = 1e-6
"""Activations are clamped to this before they are raised to a power ([C])."""


def gem(x: Tensor, p: Tensor | float = GEM_P, eps: float = GEM_EPS) -> Tensor:
    """GeM: the generalised mean ``(mean x^p)^(1/p)`` of each channel ([P18] equation 3).

    Parameters
    ----------
    x : Tensor
        (B, K, h, w), clamped from below at `eps`.
    p : Tensor or float
        Exponent: a number, or a tensor that can be learned, of one element or of one a channel.
    """
    # x^p as exp(p log x): the same to the last digit or two, and half the time of a power with a learned exponent.
    exponent = p[..., None, None] if isinstance(p, Tensor) else p
    mean = (single_precision(x).clamp(min=eps).log() * exponent).exp().mean(dim=(-2, -1))
    # From p = 6.3 on, the power of `eps` is too small for single precision, and the root's slope at 0 is infinite.
    is_silent = mean < torch.finfo(mean.dtype).tiny
    return mean.masked_fill(is_silent, 1.0).pow(1.0 / p).masked_fill(is_silent, eps)


class GeM(Pooling):
    """`gem` with a learned exponent, the parameter `p`.

    Parameters
    ----------
    p : float
        Its first value.
    channels : int
        1 for an exponent that all channels share, K for one a channel ([P18] equation 4).
    """

    options = ("regional",)

    def __init__(self, p: float = GEM_P, channels: int = 1) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((channels,), float(p)))

    @property
    def per_channel(self) -> bool:
        """Whether each channel has an exponent of its own."""
        return self.p.numel() > 1

    @property
    def scale_exponent(self) -> float:
        """The exponent that all channels share, else 1."""
        return 1.0 if self.per_channel else float(self.p.item())

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return gem(x, self.p)


class ChannelGeM(GeM):
    """GeM with an exponent for each channel."""

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> GeM:
        """With `channels` exponents."""
        return cls(channels=channels)
