"""Flags choose a network, its learned whitening layer included; what does not belong together is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import NetworkChoice, load_chosen, load_network
from retrieval.networks.description import NetworkDescription
from retrieval.networks.network import Network, build_network
from retrieval.networks.poolings.neural_codes import SIDE, NeuralCodes
from retrieval.networks.whitening_layer import WhiteningLayer
from retrieval.training.optimisation import parameter_groups
from retrieval.training.recipes import GEM_CHANNELS_RATE_FACTOR, GEM_RATE_FACTOR
from retrieval.whitening.projection import Whitening, apply, write_whitening
from sfm2tuples.errors import UsageError, WeightsError


def photos(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def describe(network: Network, x: torch.Tensor | None = None) -> np.ndarray:
    with torch.inference_mode():
        return network(photos() if x is None else x).numpy()


@pytest.fixture
def whitening_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    whitening = Whitening(rng.random(512) / 20, rng.normal(0, 1, (512, 512)), "lw", 0.0)
    write_whitening(tmp_path / "w.h5", whitening)
    return tmp_path / "w.h5"


FIRST_FINGERPRINT = "e57c8cf56421a4305055bfaf46974e66c1a80aec66ed53209ce110a8a39062ff"
"""Of SqueezeNet with MAC, all weights 0.5, as the first version computed it."""


def chosen(*, whitening_layer: str | None = None, output_dim: int | None = None, seed: int = 0, **flags) -> Network:
    layer = WhiteningLayer.of_flags(whitening_layer, output_dim)
    return load_chosen(NetworkChoice(**{"backbone": "squeezenet1_1", "whitening_layer": layer, **flags}), seed)


@pytest.mark.parametrize("dim", [None, 512, 32])
def test_a_whitening_layer_does_what_its_file_does(whitening_file, dim):
    from retrieval.whitening.projection import read_whitening

    plain = describe(chosen())
    network = chosen(whitening_layer=str(whitening_file), output_dim=dim)
    assert network.dimension == (dim or 512)
    np.testing.assert_allclose(describe(network), apply(read_whitening(whitening_file), plain, dim), atol=1e-4)


def test_a_random_layer_is_orthogonal_and_follows_the_seed():
    network = chosen(whitening_layer="random", output_dim=64, seed=3)
    weight = network.whitening.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(64), rtol=0, atol=1e-5)
    assert network.whitening.bias.abs().max() == 0
    again = chosen(whitening_layer="random", output_dim=64, seed=3)
    assert torch.equal(again.whitening.weight, network.whitening.weight)
    whole = chosen(whitening_layer="random")
    # A rotation changes no cosine.
    first, second = describe(chosen()), describe(whole)
    np.testing.assert_allclose(second @ second.T, first @ first.T, atol=1e-5)


def test_the_layer_learns_and_its_checkpoint_needs_no_flag(whitening_file, tmp_path):
    network = chosen(whitening_layer=str(whitening_file), output_dim=16)
    assert {"whitening.weight", "whitening.bias"} < {name for name, _ in network.named_parameters()}
    save_checkpoint(tmp_path / "n.pt", network)
    again = load_network(tmp_path / "n.pt")
    assert again.dimension == 16
    np.testing.assert_array_equal(describe(again), describe(network))


def test_a_checkpoint_gets_a_layer_to_be_trained_with(whitening_file, tmp_path):
    save_checkpoint(tmp_path / "n.pt", build_network("squeezenet1_1", "gem", seed=2))
    network = chosen(backbone=None, network=tmp_path / "n.pt", whitening_layer=str(whitening_file), output_dim=8)
    assert network.dimension == 8
    save_checkpoint(tmp_path / "layer.pt", network)
    with pytest.raises(UsageError, match="already"):
        chosen(backbone=None, network=tmp_path / "layer.pt", whitening_layer="random")


def test_a_whitening_that_was_learned_on_another_network_is_said(tmp_path, caplog):
    whitening = Whitening(np.zeros(512), np.eye(512), "lw", 0.0, {"network": "0" * 64})
    write_whitening(tmp_path / "w.h5", whitening)
    chosen(whitening_layer=str(tmp_path / "w.h5"))
    assert "another network" in caplog.text


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ({"output_dim": 8}, "--whitening-layer"),
        ({"whitening_layer": "random", "output_dim": 513}, "between 1 and the 512"),
        ({"pooling": "rmac", "regional": True}, "mac with regional"),
        ({"pooling": "gem", "whole_image": True}, "whole_image"),
        ({"pooling": "mac", "clusters": 3}, "clusters"),
        ({"pooling": "fc6"}, "squeezenet1_1 has none"),
        ({"weights": "pretrained"}, "imagenet"),
        ({"network": Path("n.pt"), "backbone": None, "regional": True}, "leave out --regional"),
        (
            {"network": Path("n.pt"), "backbone": None, "clusters": 2, "whole_image": True},
            "--whole-image and --clusters",
        ),
        ({"network": Path("n.pt"), "backbone": None, "pooling": "mac"}, "leave out --pooling"),
    ],
)
def test_what_does_not_belong_together_is_refused(flags, match):
    with pytest.raises(UsageError, match=match):
        chosen(**flags)


@pytest.mark.parametrize(
    "said",
    [
        {"pooling": "mac"},
        {"regional": True},
        {"whitening_layer": WhiteningLayer()},
        {"network": Path("n.pt")},
        {"weights": "none"},
    ],
)
def test_a_network_is_named_by_any_of_its_flags(said):
    assert NetworkChoice(**said).named
    assert not NetworkChoice().named


def test_gem_is_the_pooling_where_none_is_named():
    assert chosen().description.pooling == "gem"


def test_a_whitening_of_another_dimension_is_refused(whitening_file):
    with pytest.raises(UsageError, match="512 dimensions, the network gives 256"):
        chosen(backbone="alexnet", whitening_layer=str(whitening_file))


def test_descriptions_say_only_what_is_set():
    assert set(build_network("squeezenet1_1", "gem").description.to_dict()) == {
        *("backbone", "pooling", "whole_image", "mean", "std", "l2_eps", "weights")
    }
    network = chosen(pooling="netvlad", clusters=5)
    assert network.description.to_dict()["clusters"] == 5
    assert NetworkDescription.from_dict(network.description.to_dict()) == network.description


def test_fingerprints_of_the_first_checkpoints_stay():
    """Of a file of the first version: fields that came later count only where they are set."""
    network = Network(NetworkDescription("squeezenet1_1", "mac"))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.5)
    assert network.fingerprint() == FIRST_FINGERPRINT


def test_scales_are_combined_by_the_exponent_of_plain_gem_only():
    assert chosen().scale_exponent == pytest.approx(3.0)
    for flags in (
        {"pooling": "mac"},
        {"pooling": "gem-channels"},
        {"regional": True},
        {"whitening_layer": "random"},
    ):
        assert chosen(**flags).scale_exponent == 1.0


@pytest.mark.parametrize(
    ("flags", "factor"),
    [
        ({"pooling": "gem"}, GEM_RATE_FACTOR),
        ({"pooling": "gem-channels"}, GEM_CHANNELS_RATE_FACTOR),
        ({"pooling": "gem-channels", "regional": True}, GEM_CHANNELS_RATE_FACTOR),
    ],
)
def test_exponents_learn_at_their_own_rate_without_decay(flags, factor):
    rest, exponents = parameter_groups(chosen(**flags), 0.5)
    assert (exponents["rate_factor"], exponents["weight_decay"]) == (factor, 0.0)
    assert [p.numel() for p in exponents["params"]] == [1 if flags["pooling"] == "gem" else 512]
    assert rest["rate_factor"] == 1.0
    assert sum(p.numel() for p in rest["params"]) + exponents["params"][0].numel() == sum(
        p.numel() for p in chosen(**flags).parameters()
    )


def test_gem_of_regions_shows_its_exponent():
    assert chosen(regional=True).gem_p == pytest.approx(3.0)
    assert chosen(pooling="mac").gem_p is None


class TestNeuralCodes:
    """AlexNet's, small enough to test; VGG16 differs by its geometry alone."""

    @pytest.mark.parametrize("layer", ["fc6", "fc7"])
    def test_equal_a_plain_chain_of_layers_on_the_warped_photo(self, layer):
        network = build_network("alexnet", layer, seed=1)
        x = photos(1)
        warped = torch.nn.functional.interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        with torch.inference_mode():
            out = torch.nn.functional.max_pool2d(network.backbone((warped - network.mean) / network.std), 3, 2)
            out = out.flatten(1) @ network.pool.fc6.weight.T + network.pool.fc6.bias
            if layer == "fc7":
                out = out.clamp(min=0) @ network.pool.fc7.weight.T + network.pool.fc7.bias
            out = out.clamp(min=0)
            torch.testing.assert_close(network(x), out / (out.norm(dim=1, keepdim=True) + 1e-6), rtol=1e-4, atol=1e-6)
        assert network.dimension == 4096

    def test_photos_of_any_aspect_have_one_input(self):
        network = build_network("alexnet", "fc6")
        assert describe(network, torch.rand(2, 3, 40, 300)).shape == (2, 4096)

    def test_layers_come_from_the_classifier_of_torchvision_s_file(self, tmp_path):
        network = build_network("alexnet", "fc7", seed=5)
        state = dict(network.backbone.state_dict())
        for name, number in (("fc6", 1), ("fc7", 4)):
            layer = getattr(network.pool, name)
            state |= {f"classifier.{number}.weight": layer.weight, f"classifier.{number}.bias": layer.bias}
        torch.save({name: value.detach() for name, value in state.items()}, tmp_path / "w.pth")
        again = build_network("alexnet", "fc7", tmp_path / "w.pth")
        np.testing.assert_array_equal(describe(again), describe(network))

    def test_a_file_without_its_classifier_is_one_line(self, tmp_path):
        torch.save(build_network("alexnet", "mac").backbone.state_dict(), tmp_path / "w.pth")
        with pytest.raises(WeightsError, match="needs the classifier's weights"):
            build_network("alexnet", "fc6", tmp_path / "w.pth")

    def test_vgg_has_its_own_geometry(self):
        pool = NeuralCodes("vgg16", "fc6")
        assert pool(torch.zeros(1, 512, 14, 14)).shape == (1, 4096)
        assert pool.fc6.in_features == 25088
