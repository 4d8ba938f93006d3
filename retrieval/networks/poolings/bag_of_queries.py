"""BoQ: learned queries that look at the map through attention (Ali-bey et al., CVPR 2024).

Each layer passes the cells through a transformer's encoder. Its learned queries look at each other, then at the cells.
What the queries of all layers found is joined, and a linear layer makes a few rows of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from retrieval.networks.description import NetworkDescription
from retrieval.networks.poolings.pooling import Pooling, fill_randomly, single_precision
from sfm2tuples.errors import UsageError

HEAD = 64
"""Channels of a head of attention."""


class Attention(nn.Module):
    """Queries that look at keys, which are the values too; names of weights as in PyTorch's own module."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(B, q, width) and (B, n, width) to (B, q, width)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, key, value = (
            linear(x, weight, bias).unflatten(2, (self.heads, HEAD)).transpose(1, 2)
            for x, weight, bias in zip((queries, keys, keys), weights, biases, strict=True)
        )
        return self.out_proj(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Attention and two linear layers with a ReLU, each added to what came in, with a layer norm behind."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.linear1, self.linear2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, width) to the same."""
        x = self.norm1(x + self.self_attn(x, x))
        return self.norm2(x + self.linear2(torch.relu(self.linear1(x))))


class QueryLayer(nn.Module):
    """An encoder of the cells, and queries that look at them."""

    def __init__(self, width: int, queries: int) -> None:
        super().__init__()
        self.encoder = EncoderLayer(width)
        self.queries = nn.Parameter(torch.zeros(1, queries, width))
        self.self_attn, self.norm_q = Attention(width), nn.LayerNorm(width)
        self.cross_attn, self.norm_out = Attention(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cells (B, n, width) to the encoded cells, and to what the queries found: (B, queries, width)."""
        x = self.encoder(x)
        queries = self.norm_q(self.queries + self.self_attn(self.queries, self.queries))
        return x, self.norm_out(self.cross_attn(queries.expand(len(x), -1, -1), x))


class BoQ(Pooling):
    """A 3x3 convolution, layer norm, `layers` of queries, and a linear layer over all queries.

    Parameters
    ----------
    channels : int
        K, channels of the map.
    width : int
        Channels after the convolution, a multiple of 64.
    queries, layers : int
        Queries of a layer, and layers.
    rows : int
        Outputs of the last linear layer, for each channel.
    """

    sizes = {"width": 512, "queries": 64, "layers": 2, "rows": 32}  # noqa: RUF012

    def __init__(self, channels: int, width: int, queries: int, layers: int, rows: int) -> None:
        super().__init__()
        if width < HEAD or width % HEAD or min(queries, layers, rows) < 1:
            raise UsageError(f"boq has a width that is a multiple of {HEAD}, and at least one query, layer and row")
        self.proj_c = nn.Conv2d(channels, width, 3, padding=1)
        self.norm_input = nn.LayerNorm(width)
        self.boqs = nn.ModuleList(QueryLayer(width, queries) for _ in range(layers))
        self.fc = nn.Linear(layers * queries, rows)

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> BoQ:
        """With the description's sizes."""
        return cls(channels, *cls.sizes_of(description).values())

    def dimension(self, channels: int) -> int:
        """Width times rows."""
        return self.proj_c.out_channels * self.fc.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, K, h, w) to (B, width x rows), all rows of a channel one after the other."""
        cells = self.norm_input(self.proj_c(single_precision(x)).flatten(2).transpose(1, 2))
        found = []
        for layer in self.boqs:
            cells, of_layer = layer(cells)
            found.append(of_layer)
        return self.fc(torch.cat(found, dim=1).transpose(1, 2)).flatten(1)

    def reset(self, seed: int) -> None:
        """Random layers and queries."""
        fill_randomly(self, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Attention):
                    width = module.in_proj_weight.shape[1]
                    module.in_proj_weight.normal_(0.0, width**-0.5, generator=generator)
                elif isinstance(module, QueryLayer):
                    module.queries.normal_(generator=generator)
