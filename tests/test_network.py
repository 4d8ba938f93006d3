"""The network normalises colours, freezes statistics, describes itself and ends in norm 1."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval.networks import weights
from retrieval.networks.by_name import BACKBONES, POOLINGS
from retrieval.networks.description import IMAGENET_MEAN, IMAGENET_STD, NetworkDescription
from retrieval.networks.network import Network, build_network, network_to_fill
from sfm2tuples.errors import UsageError, WeightsError


def photos(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> torch.Tensor:
    """Random photos (B, 3, H, W) in 0..1."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("backbone", ["squeezenet1_1", "alexnet", "resnet18"])
@pytest.mark.parametrize("pooling", sorted(set(POOLINGS) - {"fc6", "fc7"}))
def test_descriptors_are_rows_of_norm_one(backbone, pooling):
    network = build_network(backbone, pooling)
    if pooling == "netvlad":
        learn_centres(network)
    with torch.inference_mode():
        descriptors = network(photos())
    assert descriptors.shape == (2, network.dimension)
    assert descriptors.dtype == torch.float32
    torch.testing.assert_close(descriptors.norm(dim=1), torch.ones(2), rtol=0, atol=1e-4)


def learn_centres(network: Network) -> None:
    """Give NetVLAD centres to describe with."""
    centres = torch.rand(network.description.clusters, network.backbone.channels)
    network.pool.initialise(centres, centres.roll(1, dims=0) + 0.1)
    network.set_prepared("by hand")


@pytest.mark.parametrize("backbone", BACKBONES["torchvision_backbones"])
def test_random_network_tells_photos_apart(backbone):
    network = build_network(backbone, "gem")
    with torch.inference_mode():
        first, second = network(torch.stack([photos(1)[0], photos(1)[0] * torch.tensor([1.0, 0.5, 0.1]).view(3, 1, 1)]))
    assert torch.isfinite(first).all()
    assert float(first @ second) < 0.999
    assert float(first.max()) < 0.6


def test_colours_are_normalised_inside():
    network = build_network("squeezenet1_1", "mac")
    x = photos()
    mean, std = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    with torch.inference_mode():
        pooled = network.backbone((x - mean) / std).amax(dim=(2, 3))
        torch.testing.assert_close(network(x), pooled / (pooled.norm(dim=1, keepdim=True) + 1e-6))


def test_one_photo_is_described_alike_alone_and_in_a_batch():
    network = build_network("squeezenet1_1", "gem")
    x = photos(3)
    with torch.inference_mode():
        torch.testing.assert_close(network(x)[1], network(x[1:2])[0], rtol=0, atol=1e-5)


def test_photos_of_one_network_are_described_bit_by_bit_alike():
    x = photos()
    with torch.inference_mode():
        first = build_network("resnet18", "rmac", seed=5)(x)
        assert torch.equal(first, build_network("resnet18", "rmac", seed=5)(x))


def test_batch_norm_statistics_stay_frozen_while_its_scale_trains():
    network = build_network("resnet18", "gem").train()
    assert network.training
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        (network(photos()) * torch.arange(512)).sum().backward()
        optimiser.step()
    after = network.state_dict()
    for name, value in after.items():
        changed = not torch.equal(before[name], value)
        statistic = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert changed != statistic, name


@pytest.mark.parametrize(
    "kind", [torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm], ids=lambda kind: kind.__name__
)
def test_statistics_of_every_batch_norm_stay_frozen(kind):
    network = build_network("squeezenet1_1", "gem")
    network.backbone.features[2] = torch.nn.Sequential(norm := kind(64), network.backbone.features[2])
    network.train()
    assert network.backbone.features[2].training
    assert not norm.training


def test_training_and_evaluation_describe_alike():
    network = build_network("resnet18", "gem")
    with torch.inference_mode():
        assert torch.equal(network.train()(photos()), network.eval()(photos()))


def test_learned_parameters_are_the_backbone_s_and_gem_s_exponent():
    names = {name for name, _ in build_network("squeezenet1_1", "gem").named_parameters()}
    assert "pool.p" in names
    assert all(name.startswith("backbone.features.") for name in names - {"pool.p"})
    assert not [name for name, _ in build_network("squeezenet1_1", "mac").named_parameters() if "pool" in name]


def test_description_survives_as_plain_values():
    network = build_network("alexnet", "rmac", whole_image=True, seed=4)
    values = network.description.to_dict()
    assert values["weights"] == "random, seed 4"
    assert values["mean"] == list(IMAGENET_MEAN)
    assert NetworkDescription.from_dict(values) == network.description
    assert Network(NetworkDescription.from_dict(values)).pool.whole_image


def test_description_names_the_file_but_not_its_folder(tmp_path):
    torch.save(build_network("squeezenet1_1", "mac").backbone.state_dict(), tmp_path / "w.pth")
    network = build_network("squeezenet1_1", "mac", tmp_path / "w.pth")
    assert network.description.to_dict()["weights"] == "w.pth"


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"backbone": "alexnet", "pooling": "mac", "head": 1}, "head"),
        ({"backbone": "alexnet"}, "needs pooling"),
    ],
)
def test_description_of_other_keys_is_refused(values, match):
    with pytest.raises(UsageError, match=match):
        NetworkDescription.from_dict(values)


def test_fingerprint_follows_weights_pooling_and_colours_only():
    plain = build_network("squeezenet1_1", "gem")
    assert plain.fingerprint() == build_network("squeezenet1_1", "gem").fingerprint()
    assert plain.fingerprint() != build_network("squeezenet1_1", "gem", seed=1).fingerprint()
    assert plain.fingerprint() != build_network("squeezenet1_1", "mac").fingerprint()
    assert len(plain.fingerprint()) == 64
    renamed = Network(NetworkDescription("squeezenet1_1", "gem", weights="copied"))
    renamed.load_state_dict(plain.state_dict())
    assert renamed.fingerprint() == plain.fingerprint()
    shifted = Network(NetworkDescription("squeezenet1_1", "gem", mean=(0.0, 0.0, 0.0)))
    shifted.load_state_dict(plain.state_dict())
    assert shifted.fingerprint() != plain.fingerprint()
    before = plain.fingerprint()
    with torch.no_grad():
        plain.pool.p += 0.01
    assert plain.fingerprint() != before


def test_fingerprint_does_not_see_the_layout_in_memory():
    network = build_network("squeezenet1_1", "gem")
    before = network.fingerprint()
    assert network.to(memory_format=torch.contiguous_format).fingerprint() == before


def test_weights_are_kept_channels_last_after_loading(tmp_path):
    state = build_network("squeezenet1_1", "mac").backbone.state_dict()
    np.savez(tmp_path / "w.npz", **{name: value.contiguous().numpy() for name, value in state.items()})
    network = build_network("squeezenet1_1", "mac", tmp_path / "w.npz")
    weight = network.backbone.features[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, state["features.0.weight"])


def test_imagenet_stands_for_torchvision_s_url(tmp_path, monkeypatch):
    torch.save(build_network("resnet18", "mac").backbone.state_dict(), tmp_path / "w.pth")
    asked = []
    monkeypatch.setattr(weights, "fetched", lambda url: asked.append(url) or tmp_path / "w.pth")
    assert build_network("resnet18", "mac", "imagenet").description.to_dict()["weights"] == "imagenet"
    assert asked == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]


def test_absent_weights_are_one_line(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        build_network("alexnet", "mac", tmp_path / "none.pth")


def test_pooling_stays_in_single_precision_under_autocast():
    network = build_network("squeezenet1_1", "gem")
    with torch.inference_mode():
        exact = network(photos())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = network(photos())
    assert rounded.dtype == torch.float32
    assert float((exact * rounded).sum(dim=1).min()) > 0.999


@pytest.mark.parametrize(
    ("backbone", "pooling"), [("squeezenet1_1", "gem"), ("resnet18", "netvlad"), ("vit14:96-1-3-7", "salad")]
)
def test_a_network_that_a_file_fills_draws_no_weights_first(backbone, pooling):
    """It took as long as to read the file: three seconds for MegaLoc's 228 million weights."""
    made = build_network(backbone, pooling, seed=1)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    filled = network_to_fill(made.description)
    assert torch.equal(torch.get_rng_state(), before)
    weights.load_state(filled, made.state_dict(), "w.pt")
    assert filled.fingerprint() == made.fingerprint()
    assert not torch.equal(torch.nn.Linear(2, 2).weight, torch.nn.Linear(2, 2).weight)


def test_weights_whose_sum_overflows_are_finite_and_those_with_an_infinity_or_nan_are_not():
    made = build_network("squeezenet1_1", "gem", seed=1)
    state = {name: value.clone() for name, value in made.state_dict().items()}
    first = state["backbone.features.0.weight"]
    first.fill_(3e38)
    weights.load_state(made, state, "w.pt")
    for value in (torch.inf, -torch.inf, torch.nan):
        first[0, 0, 0, 0] = value
        with pytest.raises(WeightsError, match=r"w\.pt: backbone\.features\.0\.weight has values that are not finite"):
            weights.load_state(made, state, "w.pt")
