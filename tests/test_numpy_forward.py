"""A network's plain layers, run by NumPy, give what torch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from retrieval.descriptors.extraction import describing, to_input
from retrieval.networks.network import Network, build_network
from retrieval.networks.numpy_forward import read_layers
from retrieval.networks.plain_layers import write_layers
from sfm2tuples.errors import FileFormatError, PhotoError

BACKBONES = ("squeezenet1_1", "alexnet", "resnet18", "efficientnet_lite0")


def lived(backbone: str, pooling: str = "gem", output_dim: int = 0) -> Network:
    """A network whose batch norm has seen something, with a whitening layer where one is asked for."""
    network = build_network(backbone, pooling, seed=1)
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight.data, module.running_var):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            for value in (module.bias.data, module.running_mean):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    if output_dim:
        layer = nn.Linear(network.pooled_dimension, output_dim)
        nn.init.orthogonal_(layer.weight, generator=generator)
        nn.init.normal_(layer.bias, std=0.1, generator=generator)
        network.add_whitening(layer)
    return network.eval()


def by_torch(network: Network, photo: np.ndarray) -> np.ndarray:
    with describing(network):
        return network(to_input([photo], torch.device("cpu")))[0].numpy()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [(64, 64), (63, 97), (130, 81), (75, 32)])
def test_numpy_describes_as_torch_does(backbone: str, size: tuple[int, int], tmp_path: Path) -> None:
    network = lived(backbone, output_dim=24)
    assert write_layers(tmp_path / "layers.npz", network)
    plain = read_layers(tmp_path / "layers.npz")
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert np.abs(plain.describe(photo) - by_torch(network, photo)).max() < 2e-6
    assert plain.network == network.fingerprint()


@pytest.mark.parametrize("pooling", ["gem", "gem-channels", "mac", "spoc"])
def test_every_plain_pooling_is_the_same(pooling: str, tmp_path: Path) -> None:
    network = lived("alexnet", pooling)
    if pooling == "gem-channels":
        with torch.no_grad():
            network.pool.p.copy_(torch.linspace(1.5, 4.5, 256))
    write_layers(tmp_path / "layers.npz", network)
    photo = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    assert np.abs(read_layers(tmp_path / "layers.npz").describe(photo) - by_torch(network, photo)).max() < 2e-6


def test_what_is_not_known_is_left_to_torch(tmp_path: Path) -> None:
    network = build_network("alexnet", "rmac", seed=0)
    assert not write_layers(tmp_path / "layers.npz", network)
    assert not read_layers(tmp_path / "layers.npz").runs


def test_a_torn_file_and_a_small_photo_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "torn.npz").write_bytes(b"PK\3\4 torn")
    (tmp_path / "text.npz").write_text("{}")
    for name in ("torn.npz", "text.npz", "absent.npz"):
        with pytest.raises(FileFormatError, match="not a list of layers"):
            read_layers(tmp_path / name)
    write_layers(tmp_path / "layers.npz", lived("alexnet"))
    with pytest.raises(PhotoError, match="too few"):
        read_layers(tmp_path / "layers.npz").describe(np.zeros((20, 80, 3), np.uint8), "small.jpg")
