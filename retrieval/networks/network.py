"""The network: colours in, L2-normalised descriptor out, with a description that rebuilds it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.overrides import TorchFunctionMode

from retrieval.networks.backbones.backbone import Backbone, Inner
from retrieval.networks.by_name import build_backbone, build_pooling, pooling_class, sizes_of_pooling
from retrieval.networks.description import FOR_PEOPLE, NetworkDescription
from retrieval.networks.downloads import without_hash
from retrieval.networks.poolings.gem import GeM
from retrieval.networks.poolings.pooling import l2_normalise, single_precision
from retrieval.networks.weights import load_backbone_weights
from retrieval.photos.choices import STORED
from sfm2tuples.errors import UsageError, first_three, one_line

logger = logging.getLogger(__name__)


class Network(nn.Module):
    """Backbone, pooling, L2, and an optional whitening layer with its L2; batch norm's statistics stay frozen.

    Weights are kept channels-last, which is fastest on CPUs and GPUs alike.

    Parameters
    ----------
    description : NetworkDescription
        What to build; the weights are arbitrary until loaded.
    backbone : Backbone, optional
        Its backbone; built where left out.

    Attributes
    ----------
    backbone : Backbone
        (B, 3, H, W) normalised colours to (B, K, h, w).
    local_whitening : nn.Linear or None
        K to K, on each cell of the map.
    pool : Pooling
        (B, K, h, w) to (B, `pooled_dimension`); GeM's exponent is its parameter `p`.
    whitening : nn.Linear or None
        The last layer, on the L2-normalised pooled vector.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, description: NetworkDescription, backbone: Backbone | None = None) -> None:
        super().__init__()
        self.description = description
        self.upright = STORED
        """How photos lie that it was trained on, one of `photos.choices.UPRIGHT`; checkpoints keep it."""
        self.backbone = backbone or build_backbone(description.backbone)
        channels = self.backbone.channels
        self.local_whitening = nn.Linear(channels, channels) if description.local_whitening else None
        self.pool = build_pooling(description, channels)
        self.pooled_dimension = self.pool.dimension(channels)
        self.whitening: nn.Linear | None = None
        if description.output_dim:
            self.whitening = nn.Linear(self.pooled_dimension, description.output_dim)
        # Constants of the description, not weights: they move with the network and stay out of its state.
        for name in ("mean", "std"):
            colour = torch.tensor(getattr(description, name)).view(1, 3, 1, 1)
            self.register_buffer(name, colour, persistent=False)
        self.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def dimension(self) -> int:
        """D, the length of a descriptor."""
        return self.description.output_dim or self.pooled_dimension

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def gem_p(self) -> float | None:
        """GeM's exponent, the mean of them where each channel has its own; None for other poolings."""
        pools = [module for module in self.pool.modules() if isinstance(module, GeM)]
        return float(pools[0].p.mean().item()) if pools else None

    @property
    def describes_parts(self) -> bool:
        """Whether a part of a photo is described by its part of the map."""
        return self.pool.keeps_aspect and not self.description.photo_size

    @property
    def whole_photos_only(self) -> str:
        """Why not, where it is not so."""
        size = "x".join(map(str, self.description.photo_size))
        if size:
            return f"this network warps photos to {size} pixels, which has no part of the photo's shape"
        return f"{self.description.pooling} describes whole photos only, as neural codes and class tokens do"

    @property
    def scale_exponent(self) -> float:
        """Exponent that combines scales: p of plain GeM, 1 where values may be negative (method.md section 10, [C])."""
        return self.pool.scale_exponent if self.whitening is None else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Descriptors (B, D) float32, of norm 1, of photos as `feature_map` takes them; see `describe_map`."""
        return self.describe_map(self.feature_map(x))

    def describe_map(self, features: Tensor) -> Tensor:
        """Descriptors (B, D) float32, of norm 1, of maps (B, K, h, w) that `feature_map` gives, or of parts of them.

        Raises
        ------
        UsageError
            The pooling has not learned from photos yet.
        """
        if self.pool.unprepared and not self.description.prepared:
            raise UsageError(self.pool.unprepared)
        # Half precision is for the convolutions: sums over cells and projections would lose digits in it.
        with torch.autocast(features.device.type, enabled=False):
            descriptor = l2_normalise(self.pool(single_precision(features)), self.description.l2_eps)
            if self.whitening is None:
                return descriptor
            return l2_normalise(self.whitening(descriptor), self.description.l2_eps)

    def feature_map(self, x: Tensor) -> Tensor:
        """What is pooled: the map (B, K, h, w) of photos of one size (B, 3, H, W), floating point, RGB in 0..1.

        Each side has at least `backbone.smallest` pixels.
        """
        see = self.backbone.with_token if self.pool.takes_token else self.backbone
        return self._whitened_locally(see((self.seen(x) - self.mean) / self.std))

    def before_block(self, x: Tensor, block: int) -> Inner:
        """What comes to a block of the backbone of photos as `feature_map` takes them, see `Backbone.before_block`."""
        return self.backbone.before_block((self.seen(x) - self.mean) / self.std, block)

    def from_block(self, inner: Inner) -> Tensor:
        """Descriptors (B, D) float32, of norm 1, of what `before_block` gave."""
        features = self.backbone.from_block(inner, self.pool.takes_token)
        return self.describe_map(self._whitened_locally(features))

    def _whitened_locally(self, features: Tensor) -> Tensor:
        if self.local_whitening is None:
            return features
        whitened: Tensor = self.local_whitening(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return whitened

    def seen(self, x: Tensor) -> Tensor:
        """Photos (B, 3, H, W) as the backbone is to see them: warped to the description's size, where it has one."""
        size = self.description.photo_size
        if size and tuple(x.shape[-2:]) != tuple(size):
            x = interpolate(x, size=list(size), mode="bilinear", align_corners=False, antialias=True)
        return self.pool.seen(x)

    def train(self, mode: bool = True) -> Network:
        """Switch to training, except for batch norm, which keeps using its stored statistics (method.md section 7).

        So does every layer of its kind: of maps, of tokens, or another that gathers a running variance.
        """
        super().train(mode)
        for module in self.modules():
            if hasattr(module, "running_var"):
                module.eval()
        return self

    def set_prepared(self, how: str) -> None:
        """Note what the pooling learned from photos; from here on NetVLAD can be used."""
        self.description = replace(self.description, prepared=how)

    def set_photo_size(self, size: tuple[int, ...]) -> None:
        """Warp photos to a height and width from here on; an empty one leaves them their own shape.

        Raises
        ------
        UsageError
            It is no size.
        """
        self.description = replace(self.description, photo_size=tuple(size))

    def add_whitening(self, layer: nn.Linear) -> None:
        """Append the whitening layer.

        Raises
        ------
        UsageError
            There is one already, or it takes vectors of another dimension.
        """
        if self.whitening is not None:
            raise UsageError(f"the network ends in a whitening layer of {self.dimension} dimensions already")
        if layer.in_features != self.pooled_dimension:
            raise UsageError(
                f"the whitening takes {layer.in_features} dimensions, the network gives {self.pooled_dimension}; "
                "it belongs to another network"
            )
        self.whitening = layer.to(self.device)
        self.description = replace(self.description, output_dim=layer.out_features)

    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over the architecture and all weights: equal where descriptors are."""
        plain = {key: value for key, value in self.description.to_dict().items() if key not in FOR_PEOPLE}
        digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            if name.endswith("num_batches_tracked"):
                continue
            digest.update(f"{name} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().data)
        return digest.hexdigest()


class _NothingDrawn(TorchFunctionMode):
    """Layers that are made meanwhile keep whatever is in their memory, where torch would draw random weights."""

    drawing = (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_, Tensor.uniform_, Tensor.normal_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Give the tensor back as it is, or do what was asked for."""
        if func in self.drawing:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def network_to_fill(description: NetworkDescription) -> Network:
    """A network all of whose weights are to be loaded: to draw random ones first takes as long as to read a file.

    Raises
    ------
    UsageError, TypeError, ValueError, RuntimeError
        There is no such network.
    """
    with _NothingDrawn():
        return Network(description)


def build_network(
    backbone: str,
    pooling: str,
    weights: str | Path | None = None,
    seed: int = 0,
    whole_image: bool = False,
    regional: bool = False,
    clusters: int | None = None,
    pooling_sizes: Mapping[str, int] | None = None,
    photo_size: tuple[int, ...] = (),
) -> Network:
    """Build a network, in evaluation mode, on the CPU.

    Parameters
    ----------
    backbone, pooling, whole_image, regional
        As in `NetworkDescription`.
    weights : str or Path, optional
        The backbone's weights, as `load_backbone_weights` takes them; random ones of the seed without.
    clusters : int, optional
        NetVLAD's centres, SALAD's clusters; the pooling's own default where left out.
    pooling_sizes : mapping, optional
        Of those that the pooling's class has under `sizes`, the ones that are not its defaults.
    photo_size : tuple of int
        As in `NetworkDescription`.

    Raises
    ------
    UsageError
        An unknown name, or options that do not belong together.
    WeightsError
        The weights cannot be read or do not fit.
    """
    origin = f"random, seed {seed}" if weights is None else without_hash(weights).rstrip("/").rsplit("/", 1)[-1]
    if clusters is None:
        clusters = pooling_class(pooling).clusters
    built = build_backbone(backbone)
    parts = {"weights": origin, "regional": regional, "clusters": clusters, "photo_size": photo_size}
    parts["pooling_sizes"] = sizes_of_pooling(pooling, pooling_sizes or {})
    description = NetworkDescription(backbone, pooling, whole_image, *built.colours, **parts)  # type: ignore[arg-type]
    network = Network(description, built)
    if weights is None:
        built.initialise(seed)
        network.pool.reset(seed)
    else:
        state = load_backbone_weights(built, weights)
        network.pool.reset(seed)
        network.pool.load_classifier(state, weights)
        _say_what_was_loaded(network, state)
        if network.pool.sizes:
            logger.warning("the layers of %s are random (seed %d) until train has trained them", pooling, seed)
    return network.eval()


def _say_what_was_loaded(network: Network, state: Mapping[str, Tensor]) -> None:
    """A line of the log: backbone, pooling, weights, and which of them are of no use here."""
    made = network.description
    unused = () if network.pool.has_classifier else network.backbone.classifier
    dropped = [name for name in state if unused and name.startswith(unused)]
    left_out = f"; their classifier is left out ({first_three(dropped)})" if dropped else ""
    parts = (made.backbone, made.pooling, network.dimension, one_line(made.weights), left_out)
    logger.info("%s with %s, %d dimensions, weights %s%s", *parts)
