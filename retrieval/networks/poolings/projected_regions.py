"""Pooling of R-MAC's regions, each projected by a learned layer before the sum ([G16]; `Rpool` in [C])."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retrieval.networks.poolings.pooling import Pooling, l2_normalise
from retrieval.networks.poolings.rmac_grid import rmac_regions


class ProjectedRegions(Pooling):
    """Pool each region of R-MAC's grid, L2, project, L2, and sum.

    Parameters
    ----------
    pool : Pooling
        Pooling of one region; with MAC this is R-MAC as [G16] trains it.
    channels : int
        K.
    whole_image : bool
        The whole map is one region more, as in [C].
    levels : int
        Levels of the grid.
    """

    options = ("whole_image",)
    follows_size = True

    def __init__(self, pool: Pooling, channels: int, whole_image: bool = False, levels: int = 3) -> None:
        super().__init__()
        self.pool = pool
        self.projection = nn.Linear(channels, channels)
        self.whole_image = whole_image
        self.levels = levels
        # Without photos to learn from, regions stay as they are: plain R-MAC.
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    # The grid differs with every size, so that --compile would compile its dozens of regions anew for each.
    @torch.compiler.disable
    def region_vectors(self, x: Tensor) -> Tensor:
        """The L2-normalised vectors of the regions of (B, K, h, w), before the projection: (B, R, K)."""
        grid = rmac_regions(int(x.shape[-2]), int(x.shape[-1]), self.levels)
        regions = [self.pool(x[:, :, top : top + side, left : left + side]) for top, left, side in grid]
        if self.whole_image:
            regions.insert(0, self.pool(x))
        return l2_normalise(torch.stack(regions, dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, K)."""
        return l2_normalise(self.projection(self.region_vectors(x))).sum(dim=1)
