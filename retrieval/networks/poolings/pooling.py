"""What every pooling is: a map of features to one vector (method.md section 8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from retrieval.networks.description import L2_EPS, NetworkDescription


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
    keeps_aspect: ClassVar[bool] = True
    """Whether the network sees photos in their own shape, so that a part of a photo is a part of the map."""
    has_classifier: ClassVar[bool] = False
    """Whether it takes layers from the classifier that a file of weights holds."""
    unprepared: ClassVar[str] = ""
    """What to say where the network is used before its pooling has learned from photos; empty where it need not."""

    @classmethod
    def of(cls, description: NetworkDescription, channels: int) -> Pooling:
        """The pooling of a network whose backbone has `channels` channels."""
        return cls()

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
        """Random weights, where it has layers that a backbone's file of weights would fill."""

    def load_classifier(self, state: Mapping[str, Tensor], source: str | Path) -> None:
        """Copy such layers from the weights of a whole network, under the names of their file `source`."""


def l2_normalise(x: Tensor, eps: float = L2_EPS) -> Tensor:
    """Divide each row of (..., D) by its norm plus `eps`, as [C] does; a zero row stays zero."""
    return x / (torch.linalg.vector_norm(x, dim=-1, keepdim=True) + eps)


def single_precision(x: Tensor) -> Tensor:
    """Half precision becomes float32; double stays, for the checks of gradients."""
    return x if x.dtype == torch.float64 else x.float()
