"""MAC: the maximum of each channel ([E16] section 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from retrieval.networks.poolings.pooling import Pooling, single_precision

_is_exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
"""Whether an exporter follows the network; an early torch does not tell it from a compiler."""


def mac(x: Tensor) -> Tensor:
    """MAC: the maximum of each channel."""
    if _is_exporting():
        # To an exporter a window is a number, the size of the map that it follows; the maximum is the same.
        return single_precision(x).amax(dim=(-2, -1))
    # [C]'s max_pool2d: a tie's gradient goes to one cell, and channels-last maps are read in one sweep.
    return max_pool2d(single_precision(x), (x.shape[-2], x.shape[-1])).flatten(1)


class MAC(Pooling):
    """`mac` as a module."""

    options = ("regional",)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return mac(x)
