"""Crop_I and Crop_X: what of a query's photo is described, against the definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from PIL import Image

from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.descriptors.query_crops import describe_crops
from retrieval.descriptors.receptive_fields import cell_centres, cells_in
from retrieval.networks.by_name import build_backbone
from retrieval.networks.network import Network, build_network
from retrieval.photos.cropping import cut_picture
from sfm2tuples.errors import PhotoError, UsageError


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network("squeezenet1_1", "gem")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=95)
    return tmp_path / "a.jpg"


@pytest.mark.parametrize(
    ("name", "width"), [("squeezenet1_1", 400), ("alexnet", 420), ("vgg16", 560), ("resnet18", 1100)]
)
def test_centres_are_the_middle_of_what_a_cell_sees(name: str, width: int) -> None:
    backbone = build_backbone(name)
    _, _, cells = oracles.receptive_field(backbone, width, 0)
    centres = cell_centres(backbone, width, cells)
    for column in (cells // 2, cells // 2 + 1):
        first, last, _ = oracles.receptive_field(backbone, width, column)
        assert (first > 0, last < width - 1) == (True, True)
        assert centres[column] == (first + last + 1) / 2


def test_cells_of_a_foreign_backbone_divide_the_side_equally() -> None:
    assert cell_centres(torch.nn.Identity(), 100, 4).tolist() == [12.5, 37.5, 62.5, 87.5]


def test_cells_are_those_whose_centres_lie_in_the_box_or_the_nearest() -> None:
    centres = np.array([10.0, 20, 30, 40])
    assert cells_in(centres, 20, 35) == slice(1, 3)
    assert cells_in(centres, 21, 24) == slice(1, 2)
    assert cells_in(centres, 0, 100) == slice(0, 4)


def test_a_cut_picture_keeps_the_scale_of_the_whole() -> None:
    photo = np.zeros((300, 400, 3), np.uint8)
    # The whole would become 200 wide: half. So does the part.
    assert cut_picture(photo, np.array([100, 50, 300, 150]), 200).shape == (50, 100, 3)
    assert cut_picture(photo, np.array([100, 50, 300, 150]), 800).shape == (100, 200, 3)
    assert cut_picture(photo, np.array([350, 250, 900, 900]), 400).shape == (50, 50, 3)
    with pytest.raises(UsageError, match="outside"):
        cut_picture(photo, np.array([400, 0, 500, 100]), 400)


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.5)])
def test_crop_i_describes_the_part_as_a_photo_of_its_own(network: Network, photo: Path, scales: tuple) -> None:
    options = ExtractionOptions(100, scales)
    found = describe_crops(network, [photo], ["a"], np.array([[20, 10, 180, 130]]), "image", options)
    pixels = np.array(Image.open(photo).convert("RGB"))[10:130, 20:180]
    Image.fromarray(pixels).save(photo.with_name("part.png"))
    # 160 of 200 pixels: the part is brought to 80, where the whole would be 100.
    expected = extract(network, [photo.with_name("part.png")], ExtractionOptions(80, scales))
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.settings["crop"] == "image"
    assert found.settings["image_size"] == 100


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.7071)])
@pytest.mark.parametrize("pooling", ["gem", "rmac"])
def test_crop_x_of_the_whole_photo_is_the_plain_descriptor(
    photo: Path, pooling: str, scales: tuple, precision: str
) -> None:
    network, options = build_network("squeezenet1_1", pooling), ExtractionOptions(120, scales, precision=precision)
    found = describe_crops(network, [photo], ["a"], np.array([[0, 0, 200, 150]]), "activations", options)
    np.testing.assert_allclose(found.values, extract(network, [photo], options), atol=1e-6)


def test_crop_x_pools_the_cells_of_the_box_alone(network: Network, photo: Path) -> None:
    box = np.array([60.0, 0, 140, 75])
    found = describe_crops(network, [photo], ["a"], box[None], "activations", ExtractionOptions(200))
    pixels = torch.tensor(np.array(Image.open(photo).convert("RGB"))).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        features = network.feature_map(pixels)[0].numpy()
    centres = [
        cell_centres(network.backbone, side, cells) for side, cells in zip((150, 200), features.shape[1:], strict=True)
    ]
    rows = [i for i, c in enumerate(centres[0]) if 0 <= c <= 75]
    columns = [i for i, c in enumerate(centres[1]) if 60 <= c <= 140]
    assert 0 < len(columns) < features.shape[2]
    pooled = oracles.pool_gem(features[:, rows][:, :, columns], 3.0)
    np.testing.assert_allclose(found.values[0], pooled / np.linalg.norm(pooled), atol=1e-5)


def test_what_cannot_be_cropped_is_said(network: Network, photo: Path) -> None:
    outside, options = np.array([[300, 0, 400, 100]]), ExtractionOptions(100)
    for crop in ("image", "activations"):
        with pytest.raises(PhotoError, match=r"a\.jpg: the box .* lies outside of the photo of 200 x 150 pixels"):
            describe_crops(network, [photo], ["a.jpg"], outside, crop, options)
    with pytest.raises(PhotoError, match="the backbone needs 17"):
        describe_crops(network, [photo], ["a.jpg"], np.array([[0, 0, 20, 20]]), "image", options)
    with pytest.raises(UsageError, match="no crop is called half"):
        describe_crops(network, [photo], ["a.jpg"], outside, "half", options)


def test_the_weights_are_cast_once_for_all_boxes(
    network: Network, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared = []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: cleared.append(1))
    box = np.array([[10.0, 10.0, 120.0, 100.0]] * 3)
    describe_crops(network, [photo] * 3, ["a", "b", "c"], box, "image", ExtractionOptions(96, precision="bf16"), None)
    assert len(cleared) == 1
