"""The backbone's own vector of the whole photo: a ViT's class token, as DINOv2 is used for retrieval."""

from __future__ import annotations

from torch import Tensor

from retrieval.networks.poolings.pooling import Pooling, single_precision


class ClassToken(Pooling):
    """The token, without the map; of a backbone that has none it is the map's mean."""

    takes_token = True
    keeps_aspect = False

    def forward(self, x: Tensor) -> Tensor:
        """Pool a map with its token (B, 2 K, h, w) to (B, K)."""
        return single_precision(x)[:, x.shape[1] // 2 :, 0, 0]
