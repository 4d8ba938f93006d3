"""R-MAC: the sum of the L2-normalised MAC vectors of a grid of regions ([R16])."""

from __future__ import annotations

import torch
from torch import Tensor

from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.mac import mac
from retrieval.networks.poolings.pooling import Pooling, l2_normalise
from retrieval.networks.poolings.rmac_grid import rmac_regions


# The grid differs with every size, so that --compile would compile its dozens of regions anew for each.
@torch.compiler.disable
def rmac(x: Tensor, levels: int = 3, whole_image: bool = False) -> Tensor:
    """R-MAC: the sum of the L2-normalised MAC vectors of a grid of regions.

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


class RMAC(Pooling):
    """`rmac` as a module."""

    options = ("whole_image",)
    follows_size = True
    in_place_of_regional = "mac with regional is R-MAC with a learned projection"

    def __init__(self, levels: int = 3, whole_image: bool = False) -> None:
        super().__init__()
        self.levels = levels
        self.whole_image = whole_image

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> RMAC:
        """With the whole map as a region where the description says so."""
        return cls(whole_image=description.whole_image)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return rmac(x, self.levels, self.whole_image)
