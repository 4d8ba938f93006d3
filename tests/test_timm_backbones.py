"""Backbones of timm: tokens become a map, photos become whole patches, weights are asked for explicitly."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from test_checkpoints import comes_back
from timm_package import import_timm
from torch import Tensor, nn

from retrieval.networks.backbones.timm_backbones import TimmBackbone
from retrieval.networks.network import build_network
from retrieval.training.recipes import SMALL, margin_of
from sfm2tuples.errors import UsageError, WeightsError

PATCH, WIDTH, PREFIX = 14, 6, 3
NAMES = ("vit", "nhwc", "cnn", "fixed", "offline", "vector", "list", "multiples", "square")


@dataclass
class Config:
    """timm's PretrainedCfg, what we ask of it."""

    mean: tuple[float, float, float] = (0.5, 0.4, 0.3)
    std: tuple[float, float, float] = (0.2, 0.2, 0.2)
    classifier: str = "head"
    fixed_input_size: bool = False

    def get(self, name: str) -> object:
        return getattr(self, name)


class FakeViT(nn.Module):
    """Tokens whose first value is the patch's mean colour, after some that are no patches."""

    def __init__(self, output: str = "tokens") -> None:
        super().__init__()
        self.num_features, self.num_prefix_tokens, self.output = WIDTH, PREFIX, output
        self.patch_embed = nn.Module()
        self.patch_embed.patch_size = (1, 1) if output in ("multiples", "square") else (PATCH, PATCH)
        self.project = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.pretrained_cfg = Config()
        if output == "NHWC":
            self.output_fmt = "NHWC"

    def forward_features(self, x: Tensor) -> Tensor | list[Tensor]:
        if self.output == "multiples":
            assert x.shape[-2] % 32 == x.shape[-1] % 32 == 0
            return torch.nn.functional.avg_pool2d(x, 32)[:, :1].expand(-1, WIDTH, -1, -1)
        if self.output == "square":
            assert x.shape[-2] == x.shape[-1]
        if self.output == "list":
            return [x]
        assert x.shape[-2] % PATCH == 0
        assert x.shape[-1] % PATCH == 0
        features = self.project(x)
        if self.output == "NHWC":
            return features.permute(0, 2, 3, 1)
        if self.output == "NCHW":
            return features
        if self.output == "vector":
            return features.mean(dim=(2, 3))
        tokens = features.flatten(2).transpose(1, 2)
        return torch.cat([torch.full((len(x), PREFIX, WIDTH), 99.0), tokens], dim=1)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """A package of that name; its calls of `create_model` are listed."""
    calls: list[dict] = []

    def create_model(name: str, pretrained: bool, num_classes: int, **options) -> nn.Module:
        calls.append({"name": name, "pretrained": pretrained, **options})
        if options and name in ("cnn", "fixed"):
            raise TypeError("unexpected keyword argument 'dynamic_img_size'")
        if pretrained and name == "offline":
            raise OSError("no route\nto the hub")
        others = {other: other for other in ("vector", "list", "multiples", "square")}
        kind = {"nhwc": "NHWC", "cnn": "NCHW", **others}.get(name, "tokens")
        model = FakeViT(kind)
        model.pretrained_cfg.fixed_input_size = name == "fixed"
        if pretrained:
            nn.init.constant_(model.project.weight, 0.25)
        return model

    module = ModuleType("timm")
    module.create_model = create_model
    module.is_model = lambda name: name in NAMES
    module.get_pretrained_cfg = lambda name: None if name == "nhwc" else Config()
    monkeypatch.setitem(sys.modules, "timm", module)
    return calls


def tokens_by_loops(model: FakeViT, photo: Tensor) -> Tensor:
    """Each patch of (3, H, W) times the filters: (WIDTH, h, w)."""
    rows, columns = photo.shape[1] // PATCH, photo.shape[2] // PATCH
    found = torch.zeros(WIDTH, rows, columns)
    for i in range(rows):
        for j in range(columns):
            patch = photo[:, i * PATCH : (i + 1) * PATCH, j * PATCH : (j + 1) * PATCH]
            found[:, i, j] = (model.project.weight * patch).sum(dim=(1, 2, 3)) + model.project.bias
    return found


@pytest.mark.parametrize("name", ["vit", "nhwc", "cnn"])
def test_patch_tokens_are_the_map_in_their_places(fake, name):
    backbone = TimmBackbone(f"timm:{name}").eval()
    x = torch.rand(2, 3, 3 * PATCH, 5 * PATCH)
    with torch.inference_mode():
        features = backbone(x)
        assert features.shape == (2, WIDTH, 3, 5)
        torch.testing.assert_close(features[1], tokens_by_loops(backbone.model, x[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(41, 75, 3, 5), (20, 22, 1, 2), (14, 5, 1, 1)])
def test_sides_are_rounded_to_whole_patches(fake, height, width, rows, columns):
    with torch.inference_mode():
        assert TimmBackbone("timm:vit")(torch.rand(1, 3, height, width)).shape[2:] == (rows, columns)


def test_a_vit_is_asked_to_take_any_size_and_no_weights_are_fetched(fake):
    build_network("timm:vit", "gem")
    assert all(call["dynamic_img_size"] and not call["pretrained"] for call in fake)


def test_colours_are_those_of_the_weights(fake):
    assert build_network("timm:vit", "mac").description.mean == (0.5, 0.4, 0.3)
    assert build_network("timm:nhwc", "mac").description.mean == (0.485, 0.456, 0.406)


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone(fake):
    before = torch.random.get_rng_state()
    first, again, other = (build_network("timm:vit", "mac", seed=seed).fingerprint() for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_weights_come_from_a_file_with_timm_s_names(fake, tmp_path):
    state = {**FakeViT().state_dict(), "head.weight": torch.zeros(3, WIDTH), "head.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "w.pth")
    network = build_network("timm:vit", "mac", tmp_path / "w.pth")
    assert torch.equal(network.backbone.model.project.weight, state["project.weight"])
    torch.save({**state, "other": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="too many"):
        build_network("timm:vit", "mac", tmp_path / "w.pth")


def test_timm_s_own_weights_are_fetched_when_asked_for(fake):
    network = build_network("timm:vit", "mac", "pretrained")
    assert (network.backbone.model.project.weight == 0.25).all()
    assert network.description.weights == "pretrained"
    with pytest.raises(UsageError, match="--weights pretrained"):
        build_network("timm:vit", "mac", "imagenet")


def test_without_a_network_the_fetching_is_one_line(fake):
    with pytest.raises(WeightsError, match="cannot be fetched") as caught:
        build_network("timm:offline", "mac", "pretrained")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_needs_no_flag(fake, tmp_path):
    comes_back(build_network("timm:vit", "gem", seed=4), tmp_path / "n.pt", 50)


@pytest.mark.parametrize(
    ("name", "match"),
    [("resnot", "timm has no network 'resnot'"), ("fixed", "one size only")],
)
def test_networks_that_cannot_be_used_are_refused(fake, name, match):
    with pytest.raises(UsageError, match=match):
        build_network(f"timm:{name}", "mac")


def test_a_network_without_a_map_is_refused_before_any_photo(fake):
    for name in ("vector", "list"):
        with pytest.raises(UsageError, match="no map to pool"):
            build_network(f"timm:{name}", "mac")


def test_a_network_that_takes_multiples_of_32_alone_gets_them(fake):
    backbone = build_network("timm:multiples", "mac").backbone
    assert backbone.patch == (32, 32)
    with torch.inference_mode():
        assert backbone(torch.rand(1, 3, 100, 180)).shape[2:] == (3, 6)
    assert build_network("timm:cnn", "mac").backbone.training is False


def test_a_network_that_fails_at_other_sizes_is_refused_before_any_photo(fake):
    with pytest.raises(UsageError, match=r"does not take photos of any size \(") as caught:
        build_network("timm:square", "mac")
    assert "\n" not in str(caught.value)


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"pip install 'sfm2tuples\[timm\]'"):
        build_network("timm:vit", "mac")


def test_recipes_have_a_margin_for_them():
    assert margin_of(SMALL, "contrastive", "timm:vit") == 0.85


@pytest.mark.parametrize(
    ("name", "stride"),
    [("vit_tiny_patch16_224", 16), ("vit_small_patch14_dinov2.lvd142m", 14), ("resnet18", 32), ("convnext_atto", 32)],
)
def test_networks_of_the_real_package_give_maps(name, stride):
    import_timm()
    network = build_network(f"timm:{name}", "gem", seed=1)
    with torch.inference_mode():
        features = network.feature_map(torch.rand(2, 3, 128, 192))
        assert features.shape == (2, network.dimension, round(128 / stride), round(192 / stride))
        assert network(torch.rand(1, 3, 128, 192)).norm().item() == pytest.approx(1.0, abs=1e-3)
    assert build_network(f"timm:{name}", "gem", seed=1).fingerprint() == network.fingerprint()


@pytest.mark.parametrize(
    "name",
    [
        "dla34",
        "hrnet_w18_small",
        "csatv2",
        "pvt_v2_b0",
        "vit_tiny_r_s16_p8_224",
        "vitamin_small_224",
        "vit_tiny_patch16_224",
        "mobilenetv3_small_050",
    ],
)
def test_each_family_gives_the_map_that_timm_gives(name):
    import_timm()
    backbone = TimmBackbone(f"timm:{name}").eval()
    photo = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        theirs = backbone.model.forward_features(photo)
        if theirs.ndim == 3:
            theirs = theirs[:, backbone.model.num_prefix_tokens :].transpose(1, 2)
        found = backbone(photo)
        assert torch.equal(found.flatten(2), theirs.flatten(2))
        rows, columns = backbone(torch.rand(1, 3, 150, 333)).shape[2:]
    assert rows < found.shape[2] < columns


@pytest.mark.parametrize(
    ("name", "match"),
    [("halonet26t", "does not take photos of any size"), ("efficientvim_m1", "no map to pool")],
)
def test_real_networks_that_cannot_be_used_are_refused_before_any_photo(name, match):
    import_timm()
    with pytest.raises(UsageError, match=match):
        build_network(f"timm:{name}", "gem")


def test_a_network_that_timm_makes_with_chance_has_none_in_training(monkeypatch):
    timm = import_timm()
    create, rates = timm.create_model, {"drop_path_rate": 0.5, "proj_drop_rate": 0.5, "attn_drop_rate": 0.5}
    monkeypatch.setattr(timm, "create_model", lambda *asked, **options: create(*asked, **options, **rates))
    network = build_network("timm:test_vit", "gem", seed=1)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = network(x)
        for _ in range(3):
            assert torch.equal(network.train()(x), wanted)


def test_tokens_of_a_real_vit_lie_where_their_patches_are():
    import_timm()
    backbone = TimmBackbone("timm:vit_tiny_patch16_224").eval()
    x = torch.zeros(1, 3, 64, 96)
    changed = x.clone()
    changed[:, :, 16:32, 48:64] = 3.0  # the patch in row 1, column 3
    with torch.inference_mode():
        difference = (backbone(changed) - backbone(x)).norm(dim=1)[0]
    assert difference.argmax().item() == 1 * 6 + 3


def test_weights_come_from_safetensors_too(fake, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    state = FakeViT().state_dict()
    safetensors.save_file(state, tmp_path / "w.safetensors")
    network = build_network("timm:vit", "mac", tmp_path / "w.safetensors")
    assert torch.equal(network.backbone.model.project.weight, state["project.weight"])
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-9])
    with pytest.raises(WeightsError, match=r"cannot be read as \.safetensors"):
        build_network("timm:vit", "mac", tmp_path / "torn.safetensors")


def test_safetensors_without_the_package_are_one_line(fake, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="needs the package safetensors"):
        build_network("timm:vit", "mac", tmp_path / "w.safetensors")


@pytest.mark.parametrize(("name", "trials"), [("vit", 1), ("cnn", 1), ("multiples", 2)])
def test_a_network_is_tried_once_for_each_step(
    fake: list[dict], monkeypatch: pytest.MonkeyPatch, name: str, trials: int
) -> None:
    tried = []
    trial = TimmBackbone._trial
    monkeypatch.setattr(TimmBackbone, "_trial", lambda self: tried.append(self.patch) or trial(self))
    TimmBackbone(f"timm:{name}")
    assert len(tried) == trials
