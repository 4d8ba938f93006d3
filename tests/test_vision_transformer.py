"""DINOv2's transformer equals its definition, takes photos of any size, and reads its published files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles_retrievers as oracles
import pytest
import torch

from retrieval.networks.backbones.vision_transformer import VisionTransformer, build, name_of_sizes
from retrieval.networks.by_name import build_backbone
from retrieval.networks.network import build_network
from retrieval.networks.weights import load_state
from sfm2tuples.errors import UsageError, WeightsError

NAME = "vit14:12-2-3-3"


def transformer(name: str = NAME) -> tuple[VisionTransformer, dict[str, np.ndarray]]:
    """A small transformer with random weights, and these in double precision."""
    backbone = build(name)
    assert isinstance(backbone, VisionTransformer)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, value in backbone.named_parameters():
            value.normal_(0.7 if key.endswith(("norm.weight", "gamma")) else 0.0, 0.3, generator=generator)
    return backbone.eval(), {key: value.detach().double().numpy() for key, value in backbone.named_parameters()}


@pytest.mark.parametrize("end", ["", "_unnormed"])
@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (1, 1), (2, 5), (7, 4)])
def test_it_equals_its_definition(rows: int, columns: int, end: str) -> None:
    backbone, weights = transformer(NAME + end)
    x = torch.rand(2, 3, 14 * rows, 14 * columns, generator=torch.Generator().manual_seed(rows))
    with torch.inference_mode():
        found = backbone.with_token(x)
        assert torch.equal(backbone(x), found[:, :12])
    for one, photo in zip(found.double().numpy(), x.double().numpy(), strict=True):
        wanted = oracles.vision_transformer(photo, weights, 2, 3)
        np.testing.assert_allclose(one[12:, 0, 0], wanted[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one[:12].reshape(12, -1).T, wanted[1:], rtol=1e-4, atol=1e-5)


def test_a_resize_of_positions_is_the_kernel_s_sum() -> None:
    learned = np.random.default_rng(0).normal(0, 1, (5, 5, 2))
    backbone = build("vit14:2-1-1-5")
    with torch.no_grad():
        backbone.pos_embed[0, 1:] = torch.from_numpy(learned.reshape(25, 2))
        for rows, columns in ((1, 1), (2, 9), (11, 6)):
            found = backbone._positions(rows, columns)[0, 1:].double().numpy().reshape(rows, columns, 2)
            np.testing.assert_allclose(found, oracles.resized_positions(learned, rows, columns), rtol=0, atol=1e-5)


def test_photos_are_scaled_to_the_nearest_whole_patches() -> None:
    backbone, _ = transformer()
    x = torch.rand(1, 3, 50, 34)  # 3.6 and 2.4 patches
    scaled = torch.nn.functional.interpolate(x, size=(56, 28), mode="bilinear", antialias=True)
    with torch.inference_mode():
        assert backbone(x).shape == (1, 12, 4, 2)
        assert torch.equal(backbone(x), backbone(scaled))
        assert backbone(torch.rand(1, 3, 3, 5)).shape == (1, 12, 1, 1)


def test_published_files_fill_it_and_their_other_parts_are_left_out(tmp_path: Path) -> None:
    backbone, _ = transformer()
    state = {**backbone.state_dict(), "mask_token": torch.zeros(1, 12), "head.weight": torch.zeros(3, 12)}
    torch.save(state, tmp_path / "w.pth")
    network = build_network(NAME, "gem", tmp_path / "w.pth")
    x = torch.rand(1, 3, 42, 42)
    with torch.inference_mode():
        # The network's convolution is channels-last, and adds up in another order on some processors.
        torch.testing.assert_close(network.backbone(x), backbone(x), rtol=1e-5, atol=1e-5)
        unnormed = build_network(f"{NAME}_unnormed", "gem", tmp_path / "w.pth").backbone
        normed = backbone.norm(unnormed(x)[0].flatten(1).T)
        torch.testing.assert_close(normed, backbone(x)[0].flatten(1).T, rtol=1e-5, atol=1e-5)
    torch.save({**state, "blocks.2.norm1.bias": torch.zeros(12)}, tmp_path / "deep.pth")
    with pytest.raises(WeightsError, match=r"1 too many \(blocks\.2\.norm1\.bias\)"):
        build_network(NAME, "gem", tmp_path / "deep.pth")


NO_NAMES = (
    "vit14:",
    "vit14:12-2-5-3",
    "vit14:0-1-1-1",
    "vit14:12-0-3-3",
    "vit14:9999-2-1-3",
    "vit14:12-2-3",
    "dinov2_x",
)


@pytest.mark.parametrize("name", NO_NAMES)
def test_sizes_without_meaning_are_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(name)
    assert "vit14:WIDTH-DEPTH-HEADS-GRID" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_follows_from_sizes() -> None:
    assert name_of_sizes(768, 12, 12, 37) == "dinov2_vitb14"
    assert name_of_sizes(12, 2, 3, 3) == NAME
    assert build_backbone("dinov2_vits14").channels == 384


@pytest.mark.parametrize(
    ("early", "whole", "channels"), [("resnet50_layer3", "resnet50", 1024), ("vgg16_before_relu", "vgg16", 512)]
)
def test_cropped_backbones_are_the_first_part_of_the_whole_ones(early: str, whole: str, channels: int) -> None:
    first, all_of_it = build_backbone(early).eval(), build_backbone(whole).eval()
    all_of_it.initialise(1)
    load_state(first, all_of_it.state_dict(), "whole.pth")
    assert (first.name, first.channels, first.published_url) == (early, channels, all_of_it.published_url)
    x = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        if whole == "vgg16":
            assert torch.equal(first(x).relu(), all_of_it(x))
            assert first(x).min() < 0
        else:
            assert torch.equal(all_of_it.layer4(first(x)), all_of_it(x))
