"""The whitening layer at a network's end, trained with it ([E16] section 3.3, METHOD section 9)."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from retrieval.networks.network import Network
from retrieval.whitening.projection import Whitening, cut, read_whitening
from sfm2tuples.errors import UsageError

RANDOM = "random"
"""The value of `--whitening-layer` that stands for a random orthogonal layer."""

logger = logging.getLogger(__name__)


def add_whitening_layer(network: Network, source: str | Path, output_dim: int | None = None, seed: int = 0) -> None:
    """Append a linear layer to a network.

    Parameters
    ----------
    network : Network
        Changed in place.
    source : str or Path
        A whitening file, which gives the weight P and the bias -P m; or ``random``.
    output_dim : int, optional
        The first dimensions of the file, or the rows of the random layer; all where left out.
    seed : int
        Of the random layer.

    Raises
    ------
    UsageError
        The network has such a layer, the file's dimension is not the network's, or has fewer than `output_dim`.
    DataError, FileFormatError
        The file cannot be read.
    """
    if str(source) == RANDOM:
        network.add_whitening(orthogonal_layer(network.pooled_dimension, output_dim or network.pooled_dimension, seed))
        return
    whitening = read_whitening(source)
    learned_on = whitening.settings.get("network")
    if learned_on is not None and learned_on != network.fingerprint():
        logger.warning("%s was learned on the descriptors of another network", source)
    network.add_whitening(layer_of(whitening if output_dim is None else cut(whitening, output_dim)))


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
