"""SqueezeNet with its real weights: they load to the last one, and its descriptors know places apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import oracles_retrievers
import pytest
import torch
from torch import nn

from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.network import build_network
from retrieval.photos.decoding import load_photo
from retrieval.training.pooling_preparation import prepare_network
from sfm2tuples.index.schema import TRAIN

pytestmark = pytest.mark.real

SCENES = ("castle_p19", "herz_jesu_p25", "bridge", "desk", "toy_car", "south_building")


@pytest.fixture(scope="module")
def weights(shared: Path) -> Path:
    """The given weights of SqueezeNet 1.1."""
    return shared / "weights" / "squeezenet1_1.npz"


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Path]:
    """Three photos of each of six scenes, neighbours in the order of their names."""
    chosen = []
    for scene in SCENES:
        chosen += sorted((shared / "reconstructions" / scene / "images").iterdir())[:3]
    return chosen


def test_every_weight_is_the_file_s(weights):
    state = build_network("squeezenet1_1", "gem", weights).backbone.state_dict()
    with np.load(weights) as arrays:
        names = {name for name in arrays.files if not name.startswith("classifier")}
        assert names == set(state)
        for name in names:
            np.testing.assert_array_equal(state[name].numpy(), arrays[name])


@pytest.fixture(scope="module")
def described(weights: Path, photos: list[Path]) -> Callable[..., np.ndarray]:
    """Descriptors by pooling, scales and precision; what the backbone sees in a photo is kept for all poolings."""
    maps: dict[tuple[str, torch.Size, bytes], torch.Tensor] = {}

    @cache
    def values(pooling: str, scales: tuple[float, ...] = (1.0,), precision: str = "fp32") -> np.ndarray:
        network = build_network("squeezenet1_1", pooling, weights)
        see = network.backbone.forward

        def seen(x: torch.Tensor) -> torch.Tensor:
            key = precision, x.shape, sha256(x.float().contiguous().numpy().data).digest()
            if key not in maps:
                maps[key] = see(x)
            return maps[key]

        network.backbone.forward = seen
        return extract(network, photos, ExtractionOptions(362, scales, precision=precision))

    return values


@pytest.mark.parametrize("pooling", ["mac", "spoc", "gem", "rmac"])
def test_nearest_photo_shows_the_same_place(photos, described, pooling):
    values = described(pooling)
    similarity = values @ values.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = similarity.argmax(axis=1) // 3
    # MAC takes one photo of the toy on a table for one of the desk; a network out of order misses most.
    assert (nearest == np.arange(len(photos)) // 3).sum() >= len(photos) - 1


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.9998), ("fp16", 0.99999)])
@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.7071, 0.5)])
@pytest.mark.parametrize("pooling", ["mac", "spoc", "gem", "rmac", "crow"])
def test_half_precision_is_near_fp32(described, pooling, scales, precision, least):
    full, half = described(pooling, scales), described(pooling, scales, precision)
    assert (full * half).sum(axis=1).min() > least
    # Across photos too: what is compared are similarities, whose order decides.
    np.testing.assert_allclose(half @ half.T, full @ full.T, atol=4e-3)


def test_classifier_on_top_names_what_the_photos_show(shared, weights):
    """The weights and the normalisation belong together: ImageNet's classes come out right."""
    network = build_network("squeezenet1_1", "gem", weights)
    with np.load(weights) as arrays:
        classify = nn.functional.conv2d
        kernel = torch.from_numpy(arrays["classifier.1.weight"].astype(np.float32))
        bias = torch.from_numpy(arrays["classifier.1.bias"])
    classes = (shared / "weights" / "synset_words.txt").read_text().splitlines()
    seen = {}
    for scene in ("computer_mouse", "desk"):
        folder = shared / "reconstructions" / scene / "images"
        scores = torch.zeros(1000)
        for path in sorted(folder.iterdir())[::6]:
            x = torch.from_numpy(load_photo(path, 320)).permute(2, 0, 1)[None].float() / 255
            with torch.inference_mode():
                map_ = classify(network.feature_map(x), kernel, bias).relu()
                scores += map_.mean(dim=(2, 3))[0].softmax(dim=0)
        seen[scene] = [classes[i].split(" ", 1)[1] for i in scores.topk(5).indices]
    assert any("mouse" in words for words in seen["computer_mouse"]), seen
    assert any("desk" in words or "monitor" in words or "keyboard" in words for words in seen["desk"]), seen


def test_descriptors_are_the_same_bits_in_every_run_and_after_a_checkpoint(weights, photos, tmp_path):
    network = build_network("squeezenet1_1", "gem", weights)
    options = ExtractionOptions(image_size=256, scales=(1.0, 0.7071))
    first = extract(network, photos[:6], options)
    np.testing.assert_array_equal(first, extract(network, photos[:6], options))
    save_checkpoint(tmp_path / "a.pt", network)
    np.testing.assert_array_equal(first, extract(load_network(tmp_path / "a.pt"), photos[:6], options))


@pytest.mark.parametrize(
    "parts",
    [
        {"pooling": "crow"},
        {"pooling": "gem-channels"},
        {"pooling": "mac", "regional": True},
        {"pooling": "netvlad", "clusters": 16},
    ],
    ids=lambda parts: "-".join(map(str, parts.values())),
)
def test_nearest_photo_shows_the_same_place_by_learned_poolings_too(weights, photos, parts):
    class Photos:
        """All photos, as those of training places."""

        image_split = np.full(len(photos), TRAIN)

        def names(self, rows: np.ndarray) -> list[str]:
            return [str(photos[row]) for row in rows]

        def in_order(self, groups):
            return ([load_photo(photos[row], 362) for row in group] for group in groups)

    network = build_network("squeezenet1_1", weights=weights, **parts)
    prepare_network(network, Photos(), Photos(), seed=0)
    values = extract(network, photos, ExtractionOptions(image_size=362))
    similarity = values @ values.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = similarity.argmax(axis=1) // 3
    assert (nearest == np.arange(len(photos)) // 3).sum() >= len(photos) - 1


@pytest.mark.parametrize("name", ["salad", "boq", "mixvpr", "cosplace", "ap-gem"])
def test_retrievers_heads_equal_their_definitions_on_maps_of_real_photos(weights, photos, name):
    sizes = {
        "salad": {"cluster-dim": 4, "token-dim": 3, "hidden": 5, "output": 6},
        "boq": {"width": 64, "queries": 3, "rows": 2},
        "mixvpr": {"side": 4, "channels": 5, "rows": 2, "depth": 2},
        "cosplace": {"output": 7},
        "ap-gem": {"output": 7},
    }[name]
    clusters = 3 if name == "salad" else None
    network = build_network("squeezenet1_1", name, weights, clusters=clusters, pooling_sizes=sizes)
    own = {key: value.detach().double().numpy() for key, value in network.pool.named_parameters()}
    for photo in photos[::5]:
        pixels = torch.from_numpy(load_photo(photo, 96)).permute(2, 0, 1)[None] / 255
        size = (80, 80) if name == "mixvpr" else pixels.shape[-2:]  # 4 x 4 cells
        with torch.inference_mode():
            features = network.feature_map(torch.nn.functional.interpolate(pixels, size=size))
            found = network.pool(features)[0].numpy()
        x = features[0].double().numpy()
        if name == "salad":
            wanted = oracles_retrievers.salad(x[:512].reshape(512, -1).T, x[512:, 0, 0], own)
        elif name == "boq":
            wanted = oracles_retrievers.bag_of_queries(x, own, 2)
        elif name == "mixvpr":
            wanted = oracles_retrievers.feature_mixing(x, own, 2)
        else:
            wanted = oracles_retrievers.projected_gem(x, own, name == "cosplace")
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
