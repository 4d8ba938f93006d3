"""SPoC: the mean of each channel ([B15], without its centre prior)."""

from __future__ import annotations

from torch import Tensor

from retrieval.networks.poolings.pooling import Pooling, single_precision


def spoc(x: Tensor) -> Tensor:
    """SPoC: the mean of each channel."""
    return single_precision(x).mean(dim=(-2, -1))


class SPoC(Pooling):
    """`spoc` as a module."""

    options = ("regional",)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return spoc(x)
