"""Networks of cirtorch load by their own formulas, and save so that they would load there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retrieval.networks.choice import NetworkChoice, load_chosen, load_network
from retrieval.networks.cirtorch_checkpoints import read_cirtorch_checkpoint, write_cirtorch_checkpoint
from retrieval.networks.network import Network, build_network
from retrieval.networks.whitening_layer import WhiteningLayer, add_whitening_layer
from retrieval.whitening.projection import Whitening, apply
from sfm2tuples.errors import UsageError, WeightsError
from tests import oracles

EPS = 1e-6


def children_of_torchvision(backbone: nn.Module) -> list[nn.Module]:
    """The layers that cirtorch puts into its `features`, in order."""
    if hasattr(backbone, "features"):
        return list(backbone.features.children())
    layers = [getattr(backbone, f"layer{number}") for number in (1, 2, 3, 4)]
    return [backbone.conv1, backbone.bn1, nn.ReLU(), backbone.maxpool, *layers]


class Theirs(nn.Module):
    """Their network from its formulas: features, local whitening, pooling, L2, whitening, L2; columns come out."""

    def __init__(self, architecture: str, pooling: str, regional=False, whitening=False, local_whitening=False):
        super().__init__()
        backbone = build_network(architecture, "mac", seed=4).backbone
        dim = backbone.channels
        self.features = nn.Sequential(*children_of_torchvision(backbone))
        self.pooling, self.regional = pooling, regional
        self.lwhiten = nn.Linear(dim, dim) if local_whitening else None
        self.pool = nn.Module()
        exponents = {"gem": torch.full((1,), 2.6), "gemmp": torch.linspace(2, 4, dim)}.get(pooling)
        if regional:
            self.pool.rpool = nn.Module()
            self.pool.whiten = nn.Linear(dim, dim)
        if exponents is not None:
            (self.pool.rpool if regional else self.pool).p = nn.Parameter(exponents)
        self.whiten = nn.Linear(dim, dim) if whitening else None
        self.meta = {
            "architecture": architecture, "local_whitening": local_whitening, "pooling": pooling,
            "regional": regional, "whitening": whitening, "mean": [0.48, 0.45, 0.4], "std": [0.22, 0.22, 0.225],
            "outputdim": dim,
        }  # fmt: skip

    def pooled(self, x: Tensor) -> Tensor:
        """One map (1, K, h, w) to K numbers, by the oracles' loops."""
        one = x[0].double().numpy()
        if self.pooling == "rmac":
            return torch.from_numpy(oracles.pool_rmac(one, whole_image=True))
        if self.pooling == "mac":
            return torch.from_numpy(oracles.pool_mac(one))
        if self.pooling == "spoc":
            return torch.from_numpy(oracles.pool_spoc(one))
        p = (self.pool.rpool if self.regional else self.pool).p.double()
        return x[0].double().clamp(min=EPS).pow(p[:, None, None]).mean(dim=(1, 2)).pow(1 / p)

    def forward(self, x: Tensor) -> Tensor:
        """Photos (1, 3, H, W), colours normalised, to a column (K, 1)."""
        o = self.features(x)
        if self.lwhiten is not None:
            o = torch.einsum("oc,bchw->bohw", self.lwhiten.weight, o) + self.lwhiten.bias[None, :, None, None]
        if self.regional:
            height, width = o.shape[2:]
            regions = [o, *(o[:, :, t : t + s, left : left + s] for t, left, s in oracles.rmac_grid(height, width))]
            vectors = [normalised(self.pooled(region)) for region in regions]
            whitened = [normalised(self.pool.whiten.weight.double() @ v + self.pool.whiten.bias) for v in vectors]
            vector = normalised(sum(whitened))
        else:
            vector = normalised(self.pooled(o))
        if self.whiten is not None:
            vector = normalised(self.whiten.weight.double() @ vector + self.whiten.bias)
        return vector[:, None]


def normalised(v: Tensor) -> Tensor:
    return v / (v.norm() + EPS)


def save(path: Path, net: Theirs, **meta) -> Path:
    content = {
        "epoch": 12,
        "meta": {**net.meta, **meta},
        "state_dict": net.state_dict(),
        "min_loss": np.float64(3.5),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-6, "params": [0]}]},
    }
    torch.save(content, path)
    return path


def photo(height: int = 96, width: int = 128) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def agrees(network: Network, net: Theirs) -> None:
    x = photo()
    mean, std = (torch.tensor(net.meta[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        want = net((x - mean) / std)[:, 0].float()
        torch.testing.assert_close(network(x)[0], want, rtol=1e-3, atol=2e-6)


@pytest.mark.parametrize("architecture", ["alexnet", "resnet18", "squeezenet1_1"])
@pytest.mark.parametrize("pooling", ["mac", "spoc", "gem", "gemmp", "rmac"])
def test_their_network_describes_here_as_by_its_formula(tmp_path, architecture, pooling):
    net = Theirs(architecture, pooling).eval()
    agrees(load_network(save(tmp_path / "net.pth", net)), net)


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50", "resnet101", "resnet152"])
def test_deeper_architectures_load_too(tmp_path, architecture):
    net = Theirs(architecture, "gem").eval()
    agrees(load_network(save(tmp_path / "net.pth", net)), net)


@pytest.mark.parametrize(
    "layers",
    [
        {"whitening": True},
        {"local_whitening": True},
        {"regional": True},
        {"regional": True, "whitening": True, "local_whitening": True},
    ],
)
@pytest.mark.parametrize("pooling", ["mac", "gem", "gemmp"])
def test_their_learned_layers_come_along(tmp_path, pooling, layers):
    net = Theirs("squeezenet1_1", pooling, **layers).eval()
    agrees(load_network(save(tmp_path / "net.pth", net)), net)


@pytest.mark.parametrize("pooling", ["mac", "spoc", "gem", "gem-channels", "rmac"])
@pytest.mark.parametrize("backbone", ["resnet18", "squeezenet1_1"])
def test_a_network_of_ours_comes_back_from_their_format(tmp_path, backbone, pooling):
    network = build_network(backbone, pooling, whole_image=pooling == "rmac", seed=2)
    write_cirtorch_checkpoint(tmp_path / "net.pth", network, epoch=7)
    again = read_cirtorch_checkpoint(tmp_path / "net.pth")
    assert again.epoch == 7
    assert again.network.fingerprint() == network.fingerprint()
    theirs = Theirs(backbone, {"gem-channels": "gemmp"}.get(pooling, pooling))
    content = torch.load(tmp_path / "net.pth", weights_only=True)
    theirs.load_state_dict(content["state_dict"])  # strict: their names, all of them
    assert set(content["meta"]) == set(theirs.meta)
    assert content["meta"]["outputdim"] == network.dimension


def test_learned_layers_come_back_from_their_format(tmp_path):
    network = build_network("squeezenet1_1", "gem", regional=True, whole_image=True)
    add_whitening_layer(network, WhiteningLayer(), seed=3)
    write_cirtorch_checkpoint(tmp_path / "net.pth", network)
    Theirs("squeezenet1_1", "gem", regional=True, whitening=True).load_state_dict(
        torch.load(tmp_path / "net.pth", weights_only=True)["state_dict"]
    )
    assert load_network(tmp_path / "net.pth").fingerprint() == network.fingerprint()


def test_whitenings_of_their_meta_become_ours_and_go_back(tmp_path):
    net = Theirs("alexnet", "gem").eval()
    rng = np.random.default_rng(0)
    lw = {
        "retrieval-SfM-120k": {kind: {"m": rng.random((256, 1)), "P": rng.random((256, 256))} for kind in ("ss", "ms")}
    }
    checkpoint = read_cirtorch_checkpoint(save(tmp_path / "net.pth", net, Lw=lw))
    found = checkpoint.whitenings["retrieval-SfM-120k"]
    assert set(found) == {"ss", "ms"}
    x = rng.random((3, 256)).astype(np.float32)
    projected = (lw["retrieval-SfM-120k"]["ms"]["P"] @ (x.T - lw["retrieval-SfM-120k"]["ms"]["m"])).T
    np.testing.assert_allclose(
        apply(found["ms"], x), projected / np.linalg.norm(projected, axis=1, keepdims=True), rtol=1e-5
    )
    assert found["ss"].settings["scales"] == [1.0]
    assert found["ms"].settings["scales"] == [1.0, 2**-0.5, 0.5]
    assert found["ms"].settings["network"] == checkpoint.network.fingerprint()
    write_cirtorch_checkpoint(tmp_path / "back.pth", checkpoint.network, checkpoint.whitenings)
    again = read_cirtorch_checkpoint(tmp_path / "back.pth").whitenings["retrieval-SfM-120k"]["ms"]
    assert np.array_equal(again.projection, found["ms"].projection)
    assert np.array_equal(again.mean, found["ms"].mean)


def test_files_from_before_the_newer_keys_load(tmp_path):
    net = Theirs("alexnet", "gem").eval()
    content = torch.load(save(tmp_path / "net.pth", net), weights_only=False)
    content["meta"] = {key: content["meta"][key] for key in ("architecture", "pooling", "whitening", "mean", "std")}
    torch.save(
        {key: content[key] for key in ("meta", "state_dict")},
        tmp_path / "old.pth",
        _use_new_zipfile_serialization=False,
    )
    agrees(load_network(tmp_path / "old.pth"), net)


def test_every_command_takes_such_a_file_as_its_network(tmp_path):
    path = save(tmp_path / "net.pth", Theirs("alexnet", "mac"))
    assert load_chosen(NetworkChoice(network=path)).description.weights == "cirtorch net.pth"


@pytest.mark.parametrize(
    ("meta", "match"),
    [
        ({"architecture": "densenet201"}, "densenet201"),
        ({"pooling": "rmatch"}, "rmatch"),
        ({"pooling": "rmac", "regional": True}, "of regions"),
        ({"mean": [0.5]}, "builds no network"),
        ({"architecture": "resnet18"}, "missing"),
        ({"Lw": {"x": {"ss": {"m": np.zeros((3, 1)), "P": np.zeros((2, 2))}}}}, "no whitening"),
        ({"Lw": {"x": {"ss": 7}}}, "cannot be understood"),
        ({"Lw": {1: {"ss": 7}}}, "cannot be understood"),
        ({"Lw": 7}, "cannot be understood"),
        ({"architecture": ["alexnet"]}, "architecture a value of type list"),
        ({"pooling": ["gem"]}, "pooling a value of type list"),
        ({"Lw": {"x": {"ss": {"m": np.array([None]), "P": np.zeros((1, 1))}}}}, "finite|plain containers"),
    ],
)
def test_what_cannot_be_understood_is_one_line(tmp_path, meta, match):
    path = save(tmp_path / "net.pth", Theirs("alexnet", "mac"), **meta)
    with pytest.raises(WeightsError, match=match) as caught:
        read_cirtorch_checkpoint(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("epoch", ["x", float("nan"), -1, 10**70, [1]], ids=["text", "nan", "negative", "huge", "list"])
def test_an_epoch_that_is_no_number_and_names_that_are_no_text_are_one_line(tmp_path, epoch):
    path = save(tmp_path / "net.pth", Theirs("alexnet", "mac"))
    content = torch.load(path, weights_only=False)
    torch.save({**content, "epoch": epoch}, path)
    with pytest.raises(WeightsError, match=r"net\.pth: its epoch is"):
        read_cirtorch_checkpoint(path)
    torch.save({**content, "state_dict": {1: torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match="missing"):
        read_cirtorch_checkpoint(path)


def test_a_file_of_something_else_is_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="no checkpoint of cirtorch"):
        read_cirtorch_checkpoint(tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="sfm2tuples or cirtorch"):
        load_network(tmp_path / "w.pth")


def test_code_in_such_a_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    save(tmp_path / "net.pth", Theirs("alexnet", "mac"), note=Evil())
    with pytest.raises(WeightsError, match="plain containers"):
        load_network(tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"pooling": "crow"}, "no network of squeezenet1_1 with crow"),
        ({"pooling": "netvlad"}, "netvlad"),
        ({"pooling": "rmac"}, "whole image"),
        ({"pooling": "mac", "regional": True}, "whole image"),
    ],
)
def test_networks_that_cirtorch_has_not_are_refused(tmp_path, options, match):
    with pytest.raises(UsageError, match=match):
        write_cirtorch_checkpoint(tmp_path / "net.pth", build_network("squeezenet1_1", **options))
    assert list(tmp_path.iterdir()) == []


def test_a_whitening_layer_that_shortens_is_refused(tmp_path):
    network = build_network("squeezenet1_1", "gem")
    add_whitening_layer(network, WhiteningLayer(output_dim=128))
    with pytest.raises(UsageError, match="512 to 128"):
        write_cirtorch_checkpoint(tmp_path / "net.pth", network)


def test_a_whitening_of_another_length_is_no_file_s_end(tmp_path):
    network = build_network("squeezenet1_1", "gem")
    whitening = Whitening(np.zeros(512), np.eye(512)[:64], "lw", 0.0)
    write_cirtorch_checkpoint(tmp_path / "net.pth", network, {"ours": {"ss": whitening}})
    assert read_cirtorch_checkpoint(tmp_path / "net.pth").whitenings["ours"]["ss"].dim == 64
