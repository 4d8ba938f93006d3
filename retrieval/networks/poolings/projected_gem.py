"""GeM with a linear layer behind it, in one piece: the heads of CosPlace, EigenPlaces and AP-GeM.

CosPlace (Berton et al., CVPR 2022) and EigenPlaces (ICCV 2023) L2-normalise each cell of the map before they pool.
AP-GeM (Revaud et al., ICCV 2019) does not. Neither normalises between pooling and layer, as our whitening layer would.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize

from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.gem import GeM
from retrieval.networks.poolings.pooling import Pooling, fill_randomly, single_precision
from sfm2tuples.errors import UsageError


class ProjectedGeM(Pooling):
    """GeM and a linear layer: AP-GeM's head.

    Parameters
    ----------
    channels : int
        K, channels of the map.
    outputs : int
        Of the linear layer; 0 for as many as channels.
    """

    sizes = {"output": 0}  # noqa: RUF012

    def __init__(self, channels: int, outputs: int = 0) -> None:
        super().__init__()
        if outputs < 0:
            raise UsageError(f"a layer has at least 1 output, not {outputs}")
        self.gem = GeM()
        self.linear = nn.Linear(channels, outputs or channels)

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> ProjectedGeM:
        """With the description's size."""
        return cls(channels, *cls.sizes_of(description).values())

    def dimension(self, channels: int) -> int:
        """Outputs of the linear layer."""
        return self.linear.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, output)."""
        return self.linear(self.gem(x))

    def reset(self, seed: int) -> None:
        """A random layer."""
        fill_randomly(self, seed)


class CosPlace(ProjectedGeM):
    """L2 over the channels of each cell, GeM and a linear layer: the head of CosPlace and EigenPlaces."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, output)."""
        return super().forward(normalize(single_precision(x), dim=1))
