"""The whitening layer at a network's end, trained with it ([E16] section 3.3, method.md section 9)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from retrieval.networks.network import Network
from retrieval.whitening.projection import Whitening, cut, read_whitening
from sfm2tuples.errors import UsageError

RANDOM = "random"
"""The value of `--whitening-layer` that stands for a random orthogonal layer."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WhiteningLayer:
    """The flags `--whitening-layer` and `--output-dim`: what the layer starts from, and its dimension."""

    file: Path | None = None
    """A whitening, which gives the weight P and the bias -P m; a random orthogonal layer where left out."""
    output_dim: int | None = None
    """The first dimensions of the file, or the rows of the random layer; all where left out."""

    @classmethod
    def of_flags(cls, source: str | None, output_dim: int | None) -> WhiteningLayer | None:
        """What the two flags ask for: a file or ``random``, and a dimension; None where neither is given.

        Raises
        ------
        UsageError
            There is a dimension without a layer.
        """
        if source is not None:
            return cls(None if source == RANDOM else Path(source), output_dim)
        if output_dim is not None:
            raise UsageError(
                "--output-dim is the dimension of a whitening layer: add --whitening-layer FILE, or random"
            )
        return None


def add_whitening_layer(network: Network, layer: WhiteningLayer, seed: int = 0) -> None:
    """Append a linear layer to a network, which is changed in place; the seed is that of a random layer.

    Raises
    ------
    UsageError
        The network has such a layer, the file's dimension is not the network's, or has fewer than `output_dim`.
    DataError, FileFormatError
        The file cannot be read.
    """
    if layer.file is None:
        pooled = network.pooled_dimension
        network.add_whitening(orthogonal_layer(pooled, layer.output_dim or pooled, seed))
        return
    whitening = read_whitening(layer.file)
    learned_on = whitening.settings.get("network")
    if learned_on is not None and learned_on != network.fingerprint():
        logger.warning("%s was learned on the descriptors of another network", layer.file)
    network.add_whitening(layer_of(whitening if layer.output_dim is None else cut(whitening, layer.output_dim)))


def layer_of(whitening: Whitening) -> nn.Linear:
    """A linear layer that does what a whitening does: P f - P m."""
    rows, columns = whitening.projection.shape
    layer = nn.Linear(columns, rows)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(whitening.projection))
        layer.bias.copy_(torch.from_numpy(-whitening.projection @ whitening.mean))
    return layer


def orthogonal_layer(inputs: int, outputs: int, seed: int) -> nn.Linear:
    """A random rotation cut to `outputs` dimensions, without bias at first.

    Raises
    ------
    UsageError
        More dimensions are asked for than come in.
    """
    if not 1 <= outputs <= inputs:
        raise UsageError(f"output_dim {outputs} is not between 1 and the {inputs} dimensions that are pooled")
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(layer.bias)
    return layer
