"""A checkpoint is one plain file: it comes back whole, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.networks.checkpoints import load_checkpoint, save_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.network import build_network
from retrieval.networks.weights import read_weights
from sfm2tuples.errors import WeightsError

NESTED: list = ["x"]
"""2 ** 60 values in a few bytes."""
for _ in range(60):
    NESTED = [NESTED, NESTED]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint with some state of training."""
    network = build_network("squeezenet1_1", "gem", seed=2)
    with torch.no_grad():
        network.pool.p.fill_(2.5)
    save_checkpoint(tmp_path / "best.pt", network, round=3, optimiser={"step": [torch.ones(2)]}, best=None)
    return tmp_path / "best.pt"


def test_network_comes_back_with_its_pooling_and_weights(saved):
    network = load_network(saved)
    assert network.description.pooling == "gem"
    assert network.pool.p.item() == 2.5
    assert not network.training
    assert network.fingerprint() == load_checkpoint(saved)["fingerprint"]


def comes_back(network, path, side):
    """Write a network and read it: it has the same description, and gives the same descriptor."""
    save_checkpoint(path, network)
    again = load_network(path)
    x = torch.rand(1, 3, side, side + 16)
    with torch.inference_mode():
        assert torch.equal(network(x), again(x))
    assert again.description == network.description


@pytest.mark.parametrize(("backbone", "pooling"), [("resnet18", "rmac"), ("alexnet", "mac")])
def test_other_networks_come_back_too(tmp_path, backbone, pooling):
    comes_back(build_network(backbone, pooling, whole_image=pooling == "rmac"), tmp_path / "a.pt", 64)


def test_state_comes_back(saved):
    checkpoint = load_checkpoint(saved)
    assert checkpoint["round"] == 3
    assert checkpoint["best"] is None
    assert torch.equal(checkpoint["optimiser"]["step"][0], torch.ones(2))
    assert checkpoint["software"].startswith("sfm2tuples")


def test_optimiser_state_of_torch_is_plain_enough(tmp_path):
    network = build_network("squeezenet1_1", "gem").train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    network(torch.rand(1, 3, 64, 64)).sum().backward()
    optimiser.step()
    save_checkpoint(tmp_path / "a.pt", network, optimiser=optimiser.state_dict())
    again = load_checkpoint(tmp_path / "a.pt")["optimiser"]
    assert torch.equal(again["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])


@pytest.mark.parametrize("value", [np.float64(1.0), np.zeros(2), Path("a"), {1: {"a": {2, 3}}}, object()])
def test_what_could_not_be_read_again_is_refused_at_writing(tmp_path, value):
    with pytest.raises(TypeError, match="plain"):
        save_checkpoint(tmp_path / "a.pt", build_network("squeezenet1_1", "mac"), thing=value)
    assert list(tmp_path.iterdir()) == []


def test_state_may_not_take_the_header_s_names(tmp_path):
    with pytest.raises(TypeError, match="fingerprint"):
        save_checkpoint(tmp_path / "a.pt", build_network("squeezenet1_1", "mac"), fingerprint="x")


def test_failed_writing_leaves_the_old_checkpoint(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(saved, build_network("squeezenet1_1", "mac"))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["best.pt"]


def refused(path: Path, match: str) -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        load_network(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_absent(tmp_path):
    refused(tmp_path / "none.pt", "no such file")


def test_folder(tmp_path):
    refused(tmp_path, "is a folder; give a file in it")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_torn(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    refused(saved, "cannot be read|plain containers")


def test_weights_of_a_backbone_are_no_checkpoint(tmp_path):
    torch.save(build_network("squeezenet1_1", "mac").backbone.state_dict(), tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "--backbone NAME --weights FILE")


def test_checkpoint_is_no_weights_of_a_backbone(saved):
    with pytest.raises(WeightsError, match="use --network"):
        read_weights(saved)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 99}, "newer"),
        ({"fingerprint": "0" * 64}, "fingerprint"),
        ({"network": {"backbone": "squeezenet1_1", "pooling": "gem", "head": 1}}, "head"),
        ({"network": {"backbone": "squeezenet1_1", "pooling": "mac"}}, "too many"),
        ({"network": {"backbone": "squeezenet9", "pooling": "mac"}}, "squeezenet9"),
        ({"network": 7}, "network cannot be understood"),
        ({"network": {"backbone": "alexnet", "pooling": "mac", "mean": [0.0, 0.0]}}, "builds no network"),
        ({"weights": 7}, "weights cannot be understood"),
        ({"version": "x"}, "version cannot be understood"),
        ({"weights": {"backbone.features.0.weight": torch.zeros(1)}}, "missing"),
        ({"weights": {"a": "x"}}, r"1 entries are no arrays \(a\)"),
        ({"weights": {1: torch.zeros(1)}}, "no text"),
        ({"network": {"backbone": NESTED, "pooling": "mac"}}, "network cannot be understood"),
        ({"network": {"backbone": "alexnet", "pooling": "netvlad", "clusters": 10**12}}, "network cannot be"),
        ({"network": {"backbone": "alexnet", "pooling": "mac", "output_dim": 10**12}}, "network cannot be"),
        ({"history": [[1]]}, "history cannot be understood"),
        ({"history": "x"}, "history cannot be understood"),
        ({"history": [{"round": NESTED}]}, "history cannot be understood"),
        ({"history": [{"loss": 1.0}]}, "history cannot be understood"),
        ({"options": [1]}, "options cannot be understood"),
        ({"options": {"seed": 10**70}}, "'seed' cannot be understood"),
        ({"parents": 3}, "parents cannot be understood"),
        ({"version": 10**70}, "version a value of type int"),
        ({"round": 10**70}, "'round' cannot be understood"),
    ],
)
def test_content_that_does_not_fit_is_refused(saved, change, match):
    content = torch.load(saved, weights_only=True)
    torch.save({**content, **change}, saved)
    refused(saved, match)


def test_entry_left_out_is_named(saved):
    content = torch.load(saved, weights_only=True)
    for name in ("weights", "version"):
        torch.save({key: value for key, value in content.items() if key != name}, saved)
        refused(saved, f"without {name}")


def test_the_same_network_gives_the_same_bytes(tmp_path: Path):
    network = build_network("squeezenet1_1", "gem", seed=1)
    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, network, round=1)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
