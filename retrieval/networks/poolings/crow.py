"""CroW: the sum of each channel, weighted by cells and by channels ([K16])."""

from __future__ import annotations

import torch
from torch import Tensor

from retrieval.networks.poolings.pooling import Pooling, single_precision

CROW_EPS = 1e-6
"""Added to the shares of non-zero responses before the logarithm ([K16]: "a small constant")."""


def crow(x: Tensor, eps: float = CROW_EPS) -> Tensor:
    """CroW: the sum over cells, weighted by where the map is strong and by how rarely a channel fires.

    A cell's weight is ``(S / (Σ S²)^½)^½`` of its sum S over channels; a channel's is
    ``log((K eps + Σ Q) / (eps + Q_k))`` of its share Q_k of non-zero responses.

    Parameters
    ----------
    x : Tensor
        (B, K, h, w), not negative (what is below 0 counts as 0).
    eps : float
        Keeps the logarithm of a channel that never fires finite.
    """
    x = single_precision(x).clamp(min=0)
    total = x.sum(dim=1, keepdim=True)
    tiny = torch.finfo(total.dtype).tiny
    norm = total.square().sum(dim=(-2, -1), keepdim=True).clamp(min=tiny).sqrt()
    # The root's slope at 0 is infinite; below the floor the clamp has none, so an empty cell gives gradient 0.
    spatial = (total / norm).clamp(min=tiny).sqrt()
    share = (x > 0).to(x.dtype).mean(dim=(-2, -1))
    # log(a / b) as log1p((a - b) / b): exact also where one channel has nearly all responses, and the weight is tiny.
    others = (share.sum(dim=1, keepdim=True) - share) + (x.shape[1] - 1) * eps
    channel = (others / (eps + share)).log1p()
    return channel * (x * spatial).sum(dim=(-2, -1))


class CroW(Pooling):
    """`crow` as a module."""

    options = ("regional",)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return crow(x)
