"""DINOv2's vision transformers (Oquab et al., TMLR 2024), with the names of its published weights.

A photo is cut into patches of 14 pixels. Each becomes a token, a class token stands before them, and blocks of
attention and of two linear layers follow, each scaled by a learned factor. The map is the patch tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from retrieval.networks.backbones.backbone import Backbone, Link, at_whole_patches, beside_token, whole_patches
from retrieval.networks.backbones.dinov2_names import by_authors_names
from sfm2tuples.errors import UsageError

PATCH = 14
"""Side of a patch in pixels."""
OFFSET = 0.1
"""Added to the map's sides when the position embeddings' grid is resized, as DINOv2 does."""
EPS = 1e-6
"""Added to the variance by layer norm."""
UNNORMED = "_unnormed"
"""End of the name of a transformer without its last layer norm, as BoQ takes it."""
PREFIX = "vit14:"
"""Before the sizes of any other one: ``vit14:WIDTH-DEPTH-HEADS-GRID``."""

_PUBLISHED = {
    "dinov2_vits14": ((384, 12, 6, 37), "dinov2_vits14/dinov2_vits14_pretrain.pth"),
    "dinov2_vitb14": ((768, 12, 12, 37), "dinov2_vitb14/dinov2_vitb14_pretrain.pth"),
    "dinov2_vitl14": ((1024, 24, 16, 37), "dinov2_vitl14/dinov2_vitl14_pretrain.pth"),
}
"""Name to width, depth, heads and the side of the grid of position embeddings; and where its weights lie."""
_ADDRESS = "https://dl.fbaipublicfiles.com/dinov2/"
_MOST = (1536, 40, 32, 128)
"""Sizes beyond which a name is refused: those of the largest published one, and a grid for 1,792 pixels."""


class SelfAttention(nn.Module):
    """Every token looks at every other one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) to the same."""
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class TwoLayers(nn.Module):
    """A linear layer, GELU, and a linear layer."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inside), nn.Linear(inside, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) to the same."""
        return self.fc2(gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to the same."""
        return x * self.gamma


class TransformerBlock(nn.Module):
    """Attention and two linear layers, each behind a layer norm and added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(width, EPS), SelfAttention(width, heads), LayerScale(width)
        self.norm2, self.mlp, self.ls2 = nn.LayerNorm(width, EPS), TwoLayers(width, 4 * width), LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, width) to the same."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbedding(nn.Module):
    """A linear layer over the pixels of each patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, stride=PATCH)


class VisionTransformer(Backbone):
    """The transformer without a classifier.

    Photos are scaled to the nearest sides of whole patches, bilinearly with antialias.

    Parameters
    ----------
    name : str
    width, depth, heads : int
        Channels, blocks, and heads of the attention.
    grid : int
        Side of the grid that position embeddings were learned on; they are resized to the photo's grid.
    """

    smallest = PATCH
    classifier: tuple[str, ...] = ("mask_token", "head.")
    published_as = "pretrained"
    has_class_token = True

    def __init__(self, name: str, width: int, depth: int, heads: int, grid: int) -> None:
        super().__init__()
        self.name, self.channels, self.grid = name, width, grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, width))
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = None if name.endswith(UNNORMED) else nn.LayerNorm(width, EPS)
        if self.norm is None:
            self.classifier = (*self.classifier, "norm.")
        published = _PUBLISHED.get(name.removesuffix(UNNORMED))
        self.published_url = _ADDRESS + published[1] if published else ""
        if not published:
            self.published_as = ""

    def links(self) -> list[Link]:
        """Tokens of the patches, then the blocks of attention, the last with its layer norm."""
        blocks: list[list[nn.Module]] = [[block] for block in self.blocks]
        if self.norm is not None:
            blocks[-1].append(self.norm)
        return [[self._tokens], *blocks]

    def finished(self, values: Tensor, size: tuple[int, int], token: bool) -> Tensor:
        """The map (B, width, H / 14, W / 14) of the patches' tokens, sides over the patch's rounded."""
        features = values[:, 1:].transpose(1, 2).unflatten(2, whole_patches(size, (PATCH, PATCH)))
        return beside_token(features, values[:, 0]) if token else features

    def _tokens(self, x: Tensor) -> Tensor:
        """The class token and those of the patches, with their positions: (B, 1 + patches, width)."""
        x = self.patch_embed.proj(at_whole_patches(x, (PATCH, PATCH)))
        rows, columns = x.shape[-2:]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        return x + self._positions(rows, columns)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Position embeddings (1, 1 + rows x columns, width): bicubic, without antialias."""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        learned = self.pos_embed[:, 1:].float().transpose(1, 2).unflatten(2, (self.grid, self.grid))
        factors = ((rows + OFFSET) / self.grid, (columns + OFFSET) / self.grid)
        found = interpolate(learned, scale_factor=factors, mode="bicubic", antialias=False)
        return torch.cat([self.pos_embed[:, :1], found.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)], dim=1)

    def block_names(self) -> list[tuple[str, ...]]:
        """The blocks of attention; the last layer norm goes with the last of them."""
        names: list[tuple[str, ...]] = [(f"blocks.{number}",) for number in range(len(self.blocks))]
        return [*names[:-1], (*names[-1], "norm")]

    def named_as_here(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the authors' names; a file may have those of Hugging Face's transformers."""
        return by_authors_names(state)

    def initialise(self, seed: int) -> None:
        """Random weights that keep the scale of activations; torch's global generator is left alone."""
        super().initialise(seed)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for tokens in (self.cls_token, self.pos_embed):
                tokens.normal_(0.0, 0.02, generator=generator)
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    layer.weight.normal_(0.0, 1 / math.sqrt(layer.in_features), generator=generator)
                    layer.bias.zero_()


def build(name: str) -> Backbone:
    """The transformer of that name, one of those that `by_name` lists for this module.

    Raises
    ------
    UsageError
        There is no such transformer, or it is larger than any that is published.
    """
    bare = name.removesuffix(UNNORMED)
    if bare in _PUBLISHED:
        return VisionTransformer(name, *_PUBLISHED[bare][0])
    found = re.fullmatch(rf"{PREFIX}(\d{{1,4}})-(\d{{1,2}})-(\d{{1,2}})-(\d{{1,3}})", bare)
    sizes = [int(text) for text in found.groups()] if found else [0]
    if not all(1 <= size <= most for size, most in zip(sizes, _MOST, strict=False)) or sizes[0] % sizes[2]:
        known = f"width, depth, heads and grid, at most {'-'.join(map(str, _MOST))}, heads a divisor of the width"
        raise UsageError(f"backbone {name}: vit14:WIDTH-DEPTH-HEADS-GRID has {known}")
    return VisionTransformer(name, sizes[0], sizes[1], sizes[2], sizes[3])


def name_of_sizes(width: int, depth: int, heads: int, grid: int) -> str:
    """The name of the transformer of these sizes, a published one's where it has them."""
    sizes = (width, depth, heads, grid)
    return next((name for name, (own, _) in _PUBLISHED.items() if own == sizes), f"{PREFIX}{'-'.join(map(str, sizes))}")
