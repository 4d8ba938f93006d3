"""The backbones have torchvision's names, counts and maps."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from retrieval.networks.by_name import BACKBONES, build_backbone
from retrieval.networks.weights import load_backbone_weights
from sfm2tuples.errors import UsageError, WeightsError

FULL = {
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "squeezenet1_1": 1_235_496,
}
"""Parameters of torchvision's whole networks."""


def linear(inputs: int, outputs: int) -> int:
    """Parameters of a linear layer (or a 1x1 convolution) with bias."""
    return inputs * outputs + outputs


CLASSIFIER = {
    "alexnet": linear(256 * 36, 4096) + linear(4096, 4096) + linear(4096, 1000),
    "vgg16": linear(512 * 49, 4096) + linear(4096, 4096) + linear(4096, 1000),
    "resnet18": linear(512, 1000),
    "resnet50": linear(2048, 1000),
    "resnet101": linear(2048, 1000),
    "resnet152": linear(2048, 1000),
    "squeezenet1_1": linear(512, 1000),
}
STRIDE = {"alexnet": 16, "vgg16": 16, "squeezenet1_1": 16} | {f"resnet{n}": 32 for n in (18, 50, 101, 152)}


@pytest.mark.parametrize("name", BACKBONES["torchvision_backbones"])
def test_parameters_are_torchvisions_less_the_classifier(name):
    count = sum(p.numel() for p in build_backbone(name).parameters())
    assert count == FULL[name] - CLASSIFIER[name]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("alexnet", {"features.0.weight": (64, 3, 11, 11), "features.10.bias": (256,)}),
        ("vgg16", {"features.0.weight": (64, 3, 3, 3), "features.28.weight": (512, 512, 3, 3)}),
        ("squeezenet1_1", {"features.12.expand3x3.weight": (256, 64, 3, 3), "features.3.squeeze.bias": (16,)}),
        ("resnet18", {"layer4.1.bn2.running_var": (512,), "layer2.0.downsample.0.weight": (128, 64, 1, 1)}),
        ("resnet50", {"layer1.0.downsample.1.weight": (256,), "layer3.5.conv3.weight": (1024, 256, 1, 1)}),
        ("resnet152", {"layer3.35.conv2.weight": (256, 256, 3, 3), "layer2.7.bn3.running_mean": (512,)}),
        ("resnet101", {"layer3.22.conv2.weight": (256, 256, 3, 3), "conv1.weight": (64, 3, 7, 7)}),
    ],
)
def test_weights_have_torchvisions_names(name, keys):
    state = build_backbone(name).state_dict()
    for key, shape in keys.items():
        assert tuple(state[key].shape) == shape
    assert not any(key.startswith(("classifier", "fc")) for key in state)


@pytest.mark.parametrize("name", BACKBONES["torchvision_backbones"])
def test_map_has_its_channels_stride_and_sign(name):
    backbone = build_backbone(name).eval()
    backbone.initialise(seed=1)
    with torch.inference_mode():
        features = backbone(torch.randn(2, 3, 128, 192, generator=torch.Generator().manual_seed(0)))
    rows, columns = features.shape[2:]
    assert features.shape[:2] == (2, backbone.channels)
    assert abs(rows - 128 / STRIDE[name]) <= 1.5
    assert abs(columns - 192 / STRIDE[name]) <= 1.5
    assert features.min() >= 0
    assert features.max() > 0


@pytest.mark.parametrize("name", BACKBONES["torchvision_backbones"])
def test_smallest_photo_gives_one_cell_and_a_smaller_one_fails(name):
    backbone = build_backbone(name).eval()
    side = backbone.smallest
    with torch.inference_mode():
        assert backbone(torch.zeros(1, 3, side, side)).shape == (1, backbone.channels, 1, 1)
        if side > 1:
            with pytest.raises(RuntimeError):
                backbone(torch.zeros(1, 3, side - 1, side - 1))


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone():
    states = []
    before = torch.random.get_rng_state()
    backbone = build_backbone("squeezenet1_1")
    after_building = torch.random.get_rng_state()
    for seed in (3, 3, 4):
        backbone.initialise(seed)
        states.append(backbone.state_dict()["features.3.squeeze.weight"].clone())
    assert torch.equal(torch.random.get_rng_state(), after_building)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    torch.random.set_rng_state(before)


def test_unknown_backbone_names_the_known_ones():
    with pytest.raises(UsageError, match="squeezenet1_1"):
        build_backbone("resnet34")


def random_state(name: str = "squeezenet1_1") -> dict[str, torch.Tensor]:
    """A state dict such as torchvision would save, classifier included."""
    backbone = build_backbone(name)
    backbone.initialise(seed=7)
    state = dict(backbone.state_dict())
    state[backbone.classifier + "1.weight"] = torch.zeros(1000, 512)
    return state


def loaded_equals(path, state: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    backbone = build_backbone("squeezenet1_1")
    load_backbone_weights(backbone, path)
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, state[name].float(), rtol=0, atol=tolerance)


def test_npz_loads_and_half_precision_is_cast(tmp_path):
    state = {name: value.half() for name, value in random_state().items()}
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in state.items()})
    loaded_equals(tmp_path / "w.npz", state)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_state_dict_loads_in_both_formats_of_pytorch(tmp_path, wrapped, zipped):
    state = random_state()
    content = {"state_dict": state, "epoch": 3} if wrapped else state
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    loaded_equals(tmp_path / "w.pth", state)


def test_format_is_told_by_content_not_by_name(tmp_path):
    state = random_state()
    with (tmp_path / "w.pth").open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in state.items()})
    loaded_equals(tmp_path / "w.pth", state)


def refused(path, match: str, name: str = "squeezenet1_1") -> None:
    with pytest.raises(WeightsError, match=match) as caught:
        load_backbone_weights(build_backbone(name), path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_absent_file_is_refused(tmp_path):
    refused(tmp_path / "none.pth", "no such file")


def test_missing_weight_is_named(tmp_path):
    state = random_state()
    del state["features.9.squeeze.bias"]
    torch.save(state, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", r"1 of 50 are missing \(features.9.squeeze.bias\)")


def test_surplus_weight_is_named(tmp_path):
    torch.save({**random_state(), "pool.p": torch.ones(1)}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", r"1 too many \(pool.p\)")


def test_wrong_shape_is_shown_beside_the_right_one(tmp_path):
    torch.save({**random_state(), "features.0.weight": torch.zeros(96, 3, 7, 7)}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", r"features.0.weight is \(96, 3, 7, 7\), should be \(64, 3, 3, 3\)")


def test_weights_of_another_backbone_are_refused(tmp_path):
    torch.save(random_state(), tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "not the weights of resnet18", "resnet18")


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = random_state()
    state["features.0.bias"][3] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "features.0.bias has values that are not finite")


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}])
def test_a_file_of_other_things_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "state dict")


def test_code_in_a_weights_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"a": Evil()}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "plain containers")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_torn_and_foreign_files_are_refused(tmp_path, suffix):
    state = random_state()
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npz":
        np.savez(whole, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, whole)
    data = whole.read_bytes()
    for number, content in enumerate([b"", b"hello", data[: len(data) // 2], data[:-1000]]):
        path = tmp_path / f"torn{number}{suffix}"
        path.write_bytes(content)
        refused(path, "cannot be read|plain containers")


def test_an_npz_whose_array_has_a_torn_header_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in random_state().items()})
    content = (tmp_path / "w.npz").read_bytes()
    (tmp_path / "w.npz").write_bytes(content.replace(b"'shape': (64, 3, 3, 3), }", b"'shape': ((((((((((((((((", 1))
    refused(tmp_path / "w.npz", "cannot be read as .npz")


def test_an_npz_packed_in_a_way_that_nobody_knows_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in random_state().items()})
    content = bytearray((tmp_path / "w.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 45  # the method, in the list of what is in the archive
    (tmp_path / "w.npz").write_bytes(content)
    refused(tmp_path / "w.npz", "cannot be read as .npz")


def test_an_npz_with_a_file_that_is_no_array_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", **{name: value.numpy() for name, value in random_state().items()})
    with zipfile.ZipFile(tmp_path / "w.npz", "a") as archive:
        archive.writestr("odd.npy", b"x" * 50)
    refused(tmp_path / "w.npz", "cannot be read as .npz")


def test_counters_of_batch_norm_may_be_absent(tmp_path):
    backbone = build_backbone("resnet18")
    old = {name: value for name, value in backbone.state_dict().items() if "num_batches" not in name}
    torch.save(old, tmp_path / "w.pth")
    load_backbone_weights(backbone, tmp_path / "w.pth")


@pytest.mark.parametrize("wrapping", ["model", "model_state_dict", "teacher", "state_dict"])
@pytest.mark.parametrize("prefix", ["module.", "teacher.backbone.", "module.student.", ""])
def test_wrapped_weights_are_unwrapped_and_a_line_says_so(tmp_path, caplog, wrapping, prefix):
    state = random_state()
    wrapped = {prefix + name: value for name, value in state.items()}
    if "backbone" in prefix:
        wrapped["teacher.head.mlp.0.weight"] = torch.zeros(2)
    torch.save({"epoch": 3, wrapping: wrapped}, tmp_path / "w.pth")
    loaded_equals(tmp_path / "w.pth", state)
    assert f"{tmp_path / 'w.pth'}: the weights are those under '{wrapping}'" in caplog.text
    assert all(f"begin with {part}." in caplog.text for part in prefix.split(".")[:-1])
    assert ("1 others are left out (head.mlp.0.weight)" in caplog.text) == ("backbone" in prefix)


@pytest.mark.parametrize("names", ["_orig_mod.{}", "module._orig_mod.{}", "model.backbone._orig_mod.{}"])
def test_weights_of_a_compiled_network_are_read(tmp_path, names):
    state = random_state()
    torch.save({names.format(name): value for name, value in state.items()}, tmp_path / "w.pth")
    loaded_equals(tmp_path / "w.pth", state)


@pytest.mark.parametrize("key", [1, (("a",),)])
def test_names_that_are_no_text_are_refused(tmp_path, key):
    torch.save({key: torch.zeros(1)}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "names of 1 entries are no text")


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_a_file_that_unpacks_to_much_more_is_refused_before_it_is_unpacked(tmp_path, suffix, monkeypatch):
    zeros = np.zeros(1 << 23, np.float32)
    if suffix == ".npz":
        np.savez_compressed(tmp_path / "w.npz", x=zeros)
    else:
        torch.save({"x": torch.from_numpy(zeros)}, tmp_path / "stored.pth")
        with (
            zipfile.ZipFile(tmp_path / "stored.pth") as stored,
            zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for name in stored.namelist():
                packed.writestr(name, stored.read(name))
    monkeypatch.setattr(torch, "load", None)
    monkeypatch.setattr(np, "load", None)
    refused(tmp_path / f"w{suffix}", "bytes would unpack to 33,")


def test_compressed_weights_are_read(tmp_path):
    state = random_state()
    state["features.0.weight"].zero_()
    np.savez_compressed(tmp_path / "w.npz", **{name: value.numpy() for name, value in state.items()})
    loaded_equals(tmp_path / "w.npz", state)
