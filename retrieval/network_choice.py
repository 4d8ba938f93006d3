"""Which network a command is to use: a checkpoint of ours, or a backbone with weights and a pooling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrieval.checkpoints import load_network
from retrieval.network import Network, build_network
from sfm2tuples.errors import UsageError


@dataclass(frozen=True)
class NetworkChoice:
    """The flags `--network`, or `--backbone`, `--weights`, `--pooling`."""

    network: Path | None = None
    """A checkpoint, which holds its own description."""
    backbone: str | None = None
    """Name of a backbone, to start from weights or from a random network."""
    weights: str | None = None
    """File or URL of pretrained weights with torchvision's names; without them the network is random."""
    pooling: str = "gem"
    """Pooling over the last convolutional map."""

    @property
    def named(self) -> bool:
        """Whether the user has named a network at all."""
        return self.network is not None or self.backbone is not None


def load_chosen(choice: NetworkChoice, seed: int = 0) -> Network:
    """Load the network that was chosen.

    Parameters
    ----------
    choice : NetworkChoice
    seed : int
        Of the random weights, where no file of weights is named.

    Raises
    ------
    UsageError
        Both a checkpoint and a backbone are named, or neither, or weights without a backbone.
    WeightsError
        The file does not fit the network.
    """
    if choice.network is not None:
        if choice.backbone is not None or choice.weights is not None:
            raise UsageError("--network is a whole network; leave out --backbone and --weights, or --network")
        return load_network(choice.network)
    if choice.backbone is None:
        hint = "--weights needs the --backbone it belongs to" if choice.weights else "name a network"
        raise UsageError(f"{hint}: --network CHECKPOINT, or --backbone NAME with --weights FILE")
    return build_network(choice.backbone, choice.pooling, choice.weights, seed=seed)
