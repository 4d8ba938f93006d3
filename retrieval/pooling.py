"""Pooling of a convolutional map to a vector (METHOD section 8): formulas as functions, thin modules around them.

Every function takes a map (B, K, h, w) and returns (B, K) in single precision; the L2 normalisation that ends every
descriptor is the network's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from retrieval.regions import rmac_regions
from sfm2tuples.errors import UsageError

GEM_P = 3.0
"""GeM's exponent at first ([P18])."""
GEM_EPS = 1e-6
"""Activations are clamped to this before GeM raises them to a power ([C])."""
L2_EPS = 1e-6
"""Added to the norm in every L2 normalisation ([C])."""


def l2_normalise(x: Tensor, eps: float = L2_EPS) -> Tensor:
    """Divide each row of (..., D) by its norm plus `eps`, as [C] does; a zero row stays zero."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + eps)


def mac(x: Tensor) -> Tensor:
    """MAC: the maximum of each channel ([E16] section 2)."""
    # [C]'s max_pool2d: a tie's gradient goes to one cell, and channels-last maps are read in one sweep.
    return max_pool2d(x.float(), (x.shape[-2], x.shape[-1])).flatten(1)


def spoc(x: Tensor) -> Tensor:
    """SPoC: the mean of each channel ([B15], without its centre prior)."""
    return x.float().mean(dim=(-2, -1))


def gem(x: Tensor, p: Tensor | float = GEM_P, eps: float = GEM_EPS) -> Tensor:
    """GeM: the generalised mean ``(mean x^p)^(1/p)`` of each channel ([P18] equation 3).

    Parameters
    ----------
    x : Tensor
        (B, K, h, w), clamped from below at `eps`.
    p : Tensor or float
        Exponent: a number, or a tensor of one element that can be learned.
    """
    # x^p as exp(p log x): the same to the last digit or two, and half the time of a power with a learned exponent.
    powers = (x.float().clamp(min=eps).log() * p).exp()
    return powers.mean(dim=(-2, -1)).pow(1.0 / p)


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


class GeM(nn.Module):
    """`gem` with one learned exponent, the parameter `p` of shape (1,).

    Parameters
    ----------
    p : float
        Its first value.
    """

    def __init__(self, p: float = GEM_P) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(p)))

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


POOLINGS = ("mac", "spoc", "gem", "rmac")
"""Names of the poolings, as `--pooling` takes them."""


def build_pooling(name: str, whole_image: bool = False) -> nn.Module:
    """The pooling of that name.

    Raises
    ------
    UsageError
        There is no such pooling, or `whole_image` is asked of one that has no regions.
    """
    if name not in POOLINGS:
        raise UsageError(f"no pooling is called {name!r}; there are {', '.join(POOLINGS)}")
    if whole_image and name != "rmac":
        raise UsageError(f"whole_image is an option of rmac; {name} has no regions")
    if name == "rmac":
        return RMAC(whole_image=whole_image)
    return {"mac": MAC, "spoc": SPoC, "gem": GeM}[name]()
