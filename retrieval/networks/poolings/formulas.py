"""Pooling of a convolutional map to a vector (METHOD section 8): formulas as functions, thin modules around them.

Every function takes a map (B, K, h, w) and returns (B, K) in single precision; the L2 normalisation that ends every
descriptor is the network's. NetVLAD, neural codes and projected regions have modules of their own;
`pooling_choice.build_pooling` builds each by its name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from retrieval.networks.poolings.rmac_grid import rmac_regions

GEM_P = 3.0
"""GeM's exponent at first ([P18])."""
GEM_EPS = 1e-6
"""Activations are clamped to this before GeM raises them to a power ([C])."""
CROW_EPS = 1e-6
"""Added to the shares of non-zero responses before CroW's logarithm ([K16]: "a small constant")."""
L2_EPS = 1e-6
"""Added to the norm in every L2 normalisation ([C])."""


def l2_normalise(x: Tensor, eps: float = L2_EPS) -> Tensor:
    """Divide each row of (..., D) by its norm plus `eps`, as [C] does; a zero row stays zero."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + eps)


def single_precision(x: Tensor) -> Tensor:
    """Half precision becomes float32; double stays, for the checks of gradients."""
    return x if x.dtype == torch.float64 else x.float()


def mac(x: Tensor) -> Tensor:
    """MAC: the maximum of each channel ([E16] section 2)."""
    # [C]'s max_pool2d: a tie's gradient goes to one cell, and channels-last maps are read in one sweep.
    return max_pool2d(single_precision(x), (x.shape[-2], x.shape[-1])).flatten(1)


def spoc(x: Tensor) -> Tensor:
    """SPoC: the mean of each channel ([B15], without its centre prior)."""
    return single_precision(x).mean(dim=(-2, -1))


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
    powers = (single_precision(x).clamp(min=eps).log() * exponent).exp()
    return powers.mean(dim=(-2, -1)).pow(1.0 / p)


def crow(x: Tensor, eps: float = CROW_EPS) -> Tensor:
    """CroW: the sum over cells, weighted by where the map is strong and by how rarely a channel fires ([K16]).

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


# The grid differs with every size, so that --compile would compile its dozens of regions anew for each.
@torch.compiler.disable
def rmac(x: Tensor, levels: int = 3, whole_image: bool = False) -> Tensor:
    """R-MAC: the sum of the L2-normalised MAC vectors of a grid of regions ([R16]).

    Parameters
    ----------
    x : Tensor
        (B, K, h, w).
    levels : int
        Levels of the grid.
    whole_image : bool
        Add the MAC of the whole map as one region more, as [C] and [M] do.
    """
    grid = rmac_regions(int(x.shape[-2]), int(x.shape[-1]), levels)
    regions = [mac(x[:, :, top : top + side, left : left + side]) for top, left, side in grid]
    if whole_image:
        regions.insert(0, mac(x))
    return l2_normalise(torch.stack(regions)).sum(dim=0)


class MAC(nn.Module):
    """`mac` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return mac(x)


class SPoC(nn.Module):
    """`spoc` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return spoc(x)


class CroW(nn.Module):
    """`crow` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return crow(x)


class GeM(nn.Module):
    """`gem` with a learned exponent, the parameter `p`.

    Parameters
    ----------
    p : float
        Its first value.
    channels : int
        1 for an exponent that all channels share, K for one a channel ([P18] equation 4).
    """

    def __init__(self, p: float = GEM_P, channels: int = 1) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((channels,), float(p)))

    @property
    def per_channel(self) -> bool:
        """Whether each channel has an exponent of its own."""
        return self.p.numel() > 1

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return gem(x, self.p)


class RMAC(nn.Module):
    """`rmac` as a module.

    Parameters
    ----------
    levels : int
        Levels of the grid.
    whole_image : bool
        Add the MAC of the whole map as one region more.
    """

    def __init__(self, levels: int = 3, whole_image: bool = False) -> None:
        super().__init__()
        self.levels = levels
        self.whole_image = whole_image

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return rmac(x, self.levels, self.whole_image)
