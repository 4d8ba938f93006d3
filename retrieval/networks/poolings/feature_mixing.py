"""MixVPR: linear layers that mix all cells of a map, channel by channel (Ali-bey et al., WACV 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.pooling import Pooling, fill_randomly, single_precision
from sfm2tuples.errors import UsageError


class Mixer(nn.Module):
    """Layer norm and two linear layers with a ReLU over the cells of each channel, added to what came in."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cells)
        self.first, self.second = nn.Linear(cells, cells), nn.Linear(cells, cells)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, cells) to the same."""
        return x + self.second(torch.relu(self.first(self.norm(x))))


class MixVPR(Pooling):
    """`depth` mixers, a linear layer over the channels, and one over the cells.

    Its layers are for one number of cells: a map of another size is averaged to `side` x `side` cells first.

    Parameters
    ----------
    channels : int
        K, channels of the map.
    side : int
        Cells on either side of the map.
    outputs, rows : int
        Outputs of the linear layer over the channels, and of the one over the cells.
    depth : int
        Mixers.
    """

    sizes = {"side": 20, "channels": 1024, "rows": 4, "depth": 4}  # noqa: RUF012
    keeps_aspect = False

    def __init__(self, channels: int, side: int, outputs: int, rows: int, depth: int) -> None:
        super().__init__()
        if min(side, outputs, rows, depth) < 1:
            raise UsageError("mixvpr has sizes of at least 1")
        self.side = side
        self.mix = nn.ModuleList(Mixer(side * side) for _ in range(depth))
        self.channel_proj = nn.Linear(channels, outputs)
        self.row_proj = nn.Linear(side * side, rows)

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> MixVPR:
        """With the description's sizes."""
        return cls(channels, *cls.sizes_of(description).values())

    def dimension(self, channels: int) -> int:
        """Outputs over the channels times rows."""
        return self.channel_proj.out_features * self.row_proj.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, channels x rows), all rows of a channel one after the other."""
        x = single_precision(x)
        if x.shape[-2:] != (self.side, self.side):
            x = adaptive_avg_pool2d(x, self.side)
        x = x.flatten(2)
        for mixer in self.mix:
            x = mixer(x)
        return self.row_proj(self.channel_proj(x.transpose(1, 2)).transpose(1, 2)).flatten(1)

    def reset(self, seed: int) -> None:
        """Random layers."""
        fill_randomly(self, seed)
