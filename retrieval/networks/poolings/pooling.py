"""What every pooling is: a map of features to one vector (method.md section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from retrieval.networks.description import L2_EPS, NetworkDescription
from sfm2tuples.errors import UsageError


class Pooling(nn.Module):
    """A map (B, K, h, w) to vectors (B, `dimension(K)`) in single precision; the network normalises them.

    A pooling is a subclass in a module of its own, and a line in `networks.by_name.POOLINGS`.
    """

    options: ClassVar[tuple[str, ...]] = ()
    """Which of ``regional`` (it can pool one region), ``whole_image`` and ``clusters`` of a description it takes."""
    clusters: ClassVar[int] = 0
    """The default of that option."""
    in_place_of_regional: ClassVar[str] = ""
    """What to use instead, where it refuses that option."""
    sizes: ClassVar[Mapping[str, int]] = {}
    """Names of the sizes that its layers have, as `--pooling-size` takes them, to the defaults."""
    takes_token: ClassVar[bool] = False
    """Whether its map has the backbone's token beside it, see `Backbone.with_token`."""
    keeps_aspect: ClassVar[bool] = True
    """Whether a part of a photo is described by its part of the map: photos are seen in their own shape, and nothing
    but the map is pooled."""
    follows_size: ClassVar[bool] = False
    """Whether its regions, or its constants, are made anew for each size of a photo: no program serves all sizes."""
    has_classifier: ClassVar[bool] = False
    """Whether it takes layers from the classifier that a file of weights holds."""
    unprepared: ClassVar[str] = ""
    """What to say where the network is used before its pooling has learned from photos; empty where it need not."""

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> Pooling:
        """The pooling of a network whose backbone has `channels` channels."""
        return cls()

    @classmethod
    def sizes_of(cls, description: NetworkDescription) -> dict[str, int]:
        """The description's sizes by their names; the defaults where it has none.

        Raises
        ------
        UsageError
            It has more or fewer than the pooling.
        """
        given = description.pooling_sizes or tuple(cls.sizes.values())
        if len(given) != len(cls.sizes) or any(size < 0 for size in given):
            names = ", ".join(cls.sizes) or "none"
            raise UsageError(f"pooling {description.pooling} has other sizes than {list(given)}; it has {names}")
        return dict(zip(cls.sizes, given, strict=True))

    @property
    def scale_exponent(self) -> float:
        """Exponent that combines the descriptors of several scales (method.md section 10, [C])."""
        return 1.0

    def dimension(self, channels: int) -> int:
        """Length of the vector of a map of `channels` channels."""
        return channels

    def seen(self, photos: Tensor) -> Tensor:
        """What the backbone is to see of photos (B, 3, H, W)."""
        return photos

    def reset(self, seed: int) -> None:
        """Random weights of a seed, where it has layers that nothing else fills."""

    def load_classifier(self, state: Mapping[str, Tensor], source: str | Path) -> None:
        """Copy such layers from the weights of a whole network, under the names of their file `source`."""


def fill_randomly(module: nn.Module, seed: int) -> None:
    """Random linear layers and convolutions that keep the scale of their inputs, biases zero; other weights stay."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                layer.weight.normal_(0.0, layer.weight[0].numel() ** -0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()


def l2_normalise(x: Tensor, eps: float = L2_EPS) -> Tensor:
    """Divide each row of (..., D) by its norm plus `eps`, as [C] does; a zero row stays zero."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + eps)


def single_precision(x: Tensor) -> Tensor:
    """Half precision becomes float32; double stays, for the checks of gradients."""
    return x if x.dtype == torch.float64 else x.float()
