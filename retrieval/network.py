"""The network: colours in, L2-normalised descriptor out, with a description that rebuilds it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrieval.backbones import build_backbone, initialise
from retrieval.pooling import L2_EPS, build_pooling, l2_normalise
from retrieval.weights import load_backbone_weights
from sfm2tuples.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean colour that torchvision's weights were trained with; RGB in 0..1."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation that goes with it."""


@dataclass(frozen=True)
class NetworkDescription:
    """What a network is made of: enough to build it anew, without its weights."""

    backbone: str
    """One of `backbones.BACKBONES`."""
    pooling: str
    """One of `pooling.POOLINGS`."""
    whole_image: bool = False
    """For R-MAC: the whole map is one region more ([C], [M])."""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    """Subtracted from RGB in 0..1 before the backbone."""
    std: tuple[float, float, float] = IMAGENET_STD
    """Divides what is left."""
    l2_eps: float = L2_EPS
    """Added to the norm that divides the descriptor."""
    weights: str = ""
    """Where the first weights came from: a file's name, or the seed of random ones; for people to read."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkDescription:
        """Rebuild from `Network.describe`.

        Raises
        ------
        UsageError
            A key is unknown, or one that has no default is missing.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"a network's description has no {', '.join(unknown)}")
        missing = sorted({"backbone", "pooling"} - set(values))
        if missing:
            raise UsageError(f"a network's description needs {', '.join(missing)}")
        # JSON and checkpoints know lists only.
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**plain)


class Network(nn.Module):
    """Backbone, pooling and L2 normalisation; the statistics of batch norm stay frozen in training.

    Weights are kept channels-last, which is fastest on CPUs and GPUs alike.

    Parameters
    ----------
    description : NetworkDescription
        What to build; the weights are PyTorch's default until loaded.

    Attributes
    ----------
    backbone : Backbone
        (B, 3, H, W) normalised colours to (B, K, h, w).
    pool : nn.Module
        (B, K, h, w) to (B, K); GeM's exponent is its parameter `p`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, description: NetworkDescription) -> None:
        super().__init__()
        self.description = description
        self.backbone = build_backbone(description.backbone)
        self.pool = build_pooling(description.pooling, description.whole_image)
        # Constants of the description, not weights: they move with the network and stay out of its state.
        self.register_buffer("mean", torch.tensor(description.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(description.std).view(1, 3, 1, 1), persistent=False)
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def dimension(self) -> int:
        """D, the length of a descriptor."""
        return self.backbone.channels

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    def forward(self, x: Tensor) -> Tensor:
        """Describe photos of one size.

        Parameters
        ----------
        x : Tensor
            (B, 3, H, W) floating point, RGB in 0..1, each side at least `backbone.smallest` pixels.

        Returns
        -------
        Tensor
            (B, D) float32, of norm 1.
        """
        return l2_normalise(self.pool(self.feature_map(x)), self.description.l2_eps)

    def feature_map(self, x: Tensor) -> Tensor:
        """The backbone's map (B, K, h, w) of photos (B, 3, H, W), RGB in 0..1."""
        features: Tensor = self.backbone((x - self.mean) / self.std)
        return features

    def train(self, mode: bool = True) -> Network:
        """Switch to training, except for batch norm, which keeps using its stored statistics (METHOD section 7)."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def describe(self) -> dict[str, Any]:
        """The description as plain values, for checkpoints and file headers."""
        values = asdict(self.description)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over the architecture and all weights: equal where descriptors are."""
        plain = {key: value for key, value in self.describe().items() if key != "weights"}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            if name.endswith("num_batches_tracked"):
                continue
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()


def build_network(
    backbone: str,
    pooling: str,
    weights: str | Path | None = None,
    seed: int = 0,
    whole_image: bool = False,
) -> Network:
    """Build a network, in evaluation mode, on the CPU.

    Parameters
    ----------
    backbone, pooling : str
        One of `backbones.BACKBONES` and of `pooling.POOLINGS`.
    weights : str or Path, optional
        The backbone's weights, as `weights.load_backbone_weights` takes them; random ones without.
    seed : int
        Of the random weights; the same seed gives the same network.
    whole_image : bool
        R-MAC's whole-image region.

    Raises
    ------
    UsageError
        An unknown name.
    WeightsError
        The weights cannot be read or do not fit.
    """
    origin = f"random, seed {seed}" if weights is None else str(weights).rstrip("/").rsplit("/", 1)[-1]
    network = Network(NetworkDescription(backbone, pooling, whole_image, weights=origin))
    if weights is None:
        initialise(network.backbone, seed)
    else:
        load_backbone_weights(network.backbone, weights)
    return network.eval()
