"""Extraction: what it returns is what the network says of each photo, whatever batches and threads do."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.descriptors import described_photos, extraction
from retrieval.descriptors.described_photos import describe_photos, descriptors_of
from retrieval.descriptors.extraction import (
    ExtractionOptions,
    combine_scales,
    extract,
    extract_readable,
    extract_settings,
    feature_map,
    scale_exponent,
    to_input,
)
from retrieval.descriptors.size_batches import in_batches, one_behind
from retrieval.networks.choice import NetworkChoice
from retrieval.networks.devices import autocast
from retrieval.networks.network import Network, build_network
from retrieval.photos.decoding import load_photo, resize_photo
from retrieval.photos.sources import photos_of
from sfm2tuples.errors import NotFiniteError, PhotoError, UsageError

OPTIONS = ExtractionOptions(image_size=96)
SIZES = [(120, 80), (80, 120), (120, 80), (60, 50), (120, 81), (120, 80), (80, 120)]


@pytest.fixture(scope="module")
def network() -> Network:
    """A small random network."""
    return build_network("squeezenet1_1", "gem")


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """Seven photos of four sizes."""
    rng = np.random.default_rng(0)
    files = []
    for width, height in SIZES:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((width, height))
        file = io.BytesIO()
        coarse.save(file, "JPEG")
        files.append(file.getvalue())
    return files


def one_by_one(network: Network, photos: list[bytes], size: int) -> np.ndarray:
    """The peer's way: decode, one photo a forward, contiguous layout."""
    rows = []
    with torch.inference_mode():
        for data in photos:
            x = torch.from_numpy(load_photo(data, size).transpose(2, 0, 1).copy())[None].float() / 255
            rows.append(network(x)[0].numpy())
    return np.stack(rows)


def test_rows_are_the_network_s_words_on_each_photo(network, photos):
    values = extract(network, photos, OPTIONS)
    assert values.dtype == np.float32
    assert values.shape == (7, 512)
    np.testing.assert_allclose(values, one_by_one(network, photos, 96), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)


def test_paths_bytes_and_functions_are_described_alike(network, photos, tmp_path):
    (tmp_path / "a.jpg").write_bytes(photos[0])
    values = extract(network, [tmp_path / "a.jpg", photos[0], lambda: photos[0], str(tmp_path / "a.jpg")], OPTIONS)
    assert (values == values[0]).all()


def test_twice_gives_the_same_bits(network, photos):
    np.testing.assert_array_equal(extract(network, photos, OPTIONS), extract(network, photos, OPTIONS))


def test_batches_by_size_change_no_row(network, photos, monkeypatch):
    alone = extract(network, photos, OPTIONS)
    monkeypatch.setitem(extraction.BATCH_SIZE, "cpu", 3)
    monkeypatch.setitem(extraction.DECODERS, "cpu", 4)
    np.testing.assert_allclose(extract(network, photos, OPTIONS), alone, atol=2e-6)


def test_no_photos_give_no_rows(network):
    assert extract(network, [], OPTIONS).shape == (0, 512)
    values, rows, failures = extract_readable(network, [], OPTIONS)
    assert (values.shape, rows.shape, failures) == ((0, 512), (0,), [])


def test_unreadable_photo_stops_extraction_and_is_named(network, photos):
    with pytest.raises(PhotoError, match=r"b/2.jpg: cannot be read"):
        extract(network, [photos[0], b"torn"], OPTIONS, names=["a/1.jpg", "b/2.jpg"])


def test_unreadable_photos_are_set_aside_and_named_in_order(network, photos, tmp_path):
    sources = [b"torn", photos[0], tmp_path / "none.jpg", photos[1]]
    values, rows, failures = extract_readable(network, sources, OPTIONS, names=["a", "b", "c", "d"])
    np.testing.assert_array_equal(values, extract(network, photos[:2], OPTIONS))
    assert rows.tolist() == [1, 3]
    assert [failure.path for failure in failures] == ["a", "c"]


def test_all_photos_unreadable_is_no_crash(network):
    values, rows, failures = extract_readable(network, [b"", b""], OPTIONS)
    assert (values.shape, rows.tolist(), len(failures)) == ((0, 512), [], 2)


def test_photo_too_small_for_the_backbone_is_named(network):
    file = io.BytesIO()
    Image.new("RGB", (300, 12)).save(file, "JPEG")
    with pytest.raises(PhotoError, match="4 pixels on its short side; the backbone needs 17"):
        extract(network, [file.getvalue()], OPTIONS, names=["thin.jpg"])


def test_error_in_a_source_of_the_caller_comes_through(network):
    def broken() -> bytes:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        extract_readable(network, [broken], OPTIONS)


def test_training_mode_is_restored(photos):
    network = build_network("resnet18", "mac").train()
    extract(network, photos[:1], OPTIONS)
    assert network.training
    assert not network.backbone.bn1.training
    with pytest.raises(PhotoError):
        extract(network, [b""], OPTIONS)
    assert network.training
    assert not extract(network.eval(), [], OPTIONS).size
    assert not network.training


def test_decoding_runs_at_most_a_few_photos_ahead(network, photos):
    decoded: list[int] = []
    done: list[int] = []

    def source(row: int):
        def fetch() -> bytes:
            decoded.append(row)
            assert len(decoded) - len(done) <= 6
            return photos[0]

        return fetch

    original = network.forward
    network.forward = lambda x: (done.append(1), original(x))[1]
    try:
        extract(network, [source(row) for row in range(30)], OPTIONS)
    finally:
        del network.forward
    assert decoded == list(range(30))


def test_input_is_channels_last_and_in_unit_range():
    photo = np.zeros((4, 6, 3), np.uint8)
    photo[1, 2] = (255, 51, 0)
    x = to_input([photo, photo], torch.device("cpu"))
    assert x.shape == (2, 3, 4, 6)
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x[0, :, 1, 2], torch.tensor([1.0, 0.2, 0.0]))


class TestScales:
    SCALES = (1.0, 2**-0.5, 0.5)

    def by_hand(self, network: Network, data: bytes, exponent: float) -> np.ndarray:
        photo = load_photo(data, 96)
        rows = []
        for scale in self.SCALES:
            level = resize_photo(photo, round(scale * max(photo.shape)))
            with torch.inference_mode():
                x = torch.from_numpy(level.transpose(2, 0, 1).copy())[None].float() / 255
                rows.append(network(x)[0].double().numpy())
        mean = (np.stack(rows) ** exponent).mean(axis=0) ** (1 / exponent)
        return mean / np.linalg.norm(mean)

    @pytest.mark.parametrize(("pooling", "expected"), [("gem", 3.0), ("mac", 1.0), ("spoc", 1.0), ("rmac", 1.0)])
    def test_exponent_is_p_for_gem_and_one_otherwise(self, photos, pooling, expected):
        network = build_network("squeezenet1_1", pooling)
        options = ExtractionOptions(image_size=96, scales=self.SCALES)
        assert scale_exponent(network, options) == expected
        values = extract(network, photos, options)
        for row, data in enumerate(photos):
            np.testing.assert_allclose(values[row], self.by_hand(network, data, expected), atol=5e-6)

    def test_exponent_follows_a_learned_p(self):
        network = build_network("squeezenet1_1", "gem")
        with torch.no_grad():
            network.pool.p.fill_(2.25)
        assert scale_exponent(network, OPTIONS) == 2.25
        assert scale_exponent(network, ExtractionOptions(exponent=1.5)) == 1.5

    def test_descriptors_with_negative_values_are_averaged(self):
        rows = torch.tensor([[[0.6, -0.8]], [[0.8, 0.6]]])
        expected = torch.tensor([[1.4, -0.2]]) / math.hypot(1.4, 0.2)
        torch.testing.assert_close(combine_scales(rows, 1.0), expected)

    def test_one_scale_is_left_as_it_is(self):
        rows = torch.tensor([[[0.6, -0.8]]])
        assert torch.equal(combine_scales(rows, 3.0), rows[0])

    @pytest.mark.parametrize("scales", [(), (0.0,), (1.0, 2.1), (-1.0,), (float("nan"),)])
    def test_scales_without_meaning_are_refused(self, scales):
        with pytest.raises(UsageError, match="scales"):
            ExtractionOptions(scales=scales)


@pytest.mark.parametrize(
    "options", [{"image_size": 0}, {"exponent": 0.0}, {"exponent": float("inf")}, {"precision": "fp8"}]
)
def test_options_without_meaning_are_refused(options):
    with pytest.raises(UsageError):
        ExtractionOptions(**options)


def test_settings_say_what_made_the_descriptors(network):
    settings = extract_settings(network, ExtractionOptions(image_size=362, scales=(1, 0.5)))
    assert settings == {
        "image_size": 362,
        "scales": [1.0, 0.5],
        "exponent": 3.0,
        "filter": "bilinear",
        "precision": "fp32",
        "backbone": "squeezenet1_1",
        "pooling": "gem",
        "network": network.fingerprint(),
    }


class TestPrecision:
    LEAST_COSINE = (("bf16", 0.9995), ("fp16", 0.9999))
    """Numbers of eight and eleven bits, through all layers; with real weights see tests/real."""

    @pytest.mark.parametrize(("precision", "least"), LEAST_COSINE)
    @pytest.mark.parametrize("pooling", ["gem", "mac", "rmac", "crow"])
    @pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.5)])
    def test_half_precision_is_near_fp32_in_float32_rows_of_norm_one(self, photos, precision, least, pooling, scales):
        network = build_network("squeezenet1_1", pooling)
        full = extract(network, photos, ExtractionOptions(96, scales))
        half = extract(network, photos, ExtractionOptions(96, scales, precision=precision))
        assert half.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), 1, atol=1e-6)
        cosine = (full * half).sum(axis=1)
        assert cosine.min() > least
        assert np.abs(full - half).max() > 1e-6  # it is not fp32 after all

    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    def test_only_the_maps_are_of_half_precision_and_all_that_follows_is_fp32(self, network, photos, precision):
        options = ExtractionOptions(96, (1.0, 0.5), precision=precision)
        rows = []
        with torch.inference_mode():
            for data in photos:
                photo = load_photo(data, 96)
                levels = [resize_photo(photo, round(scale * max(photo.shape))) for scale in options.scales]
                maps = [feature_map(network, [level], options) for level in levels]
                assert {m.dtype for m in maps} == {
                    {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
                }
                pooled = torch.stack([network.describe_map(m.float()) for m in maps])
                rows.append(combine_scales(pooled, 3.0)[0].numpy())
        np.testing.assert_allclose(extract(network, photos, options), rows, atol=1e-6)

    def test_a_precision_lasts_for_the_extraction_only(self, network, photos):
        before = extract(network, photos, OPTIONS)
        extract(network, photos, ExtractionOptions(96, precision="bf16"))
        assert not torch.is_autocast_enabled("cpu")
        np.testing.assert_array_equal(extract(network, photos, OPTIONS), before)
        with torch.autocast("cpu", torch.bfloat16):
            np.testing.assert_array_equal(extract(network, photos, OPTIONS), before)

    def test_activations_beyond_fp16_are_refused_and_fit_into_bf16(self, photos):
        network = build_network("squeezenet1_1", "gem")
        with torch.no_grad():
            network.backbone.features[0].weight.mul_(1e6)
        with pytest.raises(NotFiniteError, match=r"leave the range of fp16; use --precision bf16 or fp32"):
            extract(network, photos, ExtractionOptions(96, precision="fp16"))
        assert np.isfinite(extract(network, photos, ExtractionOptions(96, precision="bf16"))).all()

    def test_a_device_without_it_is_said_in_one_line(self):
        with pytest.raises(UsageError, match="--precision bf16: cannot be used on meta"):
            autocast(torch.device("meta"), "bf16")


class TestDevices:
    @pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("meta", False), ("cuda:1", True)])
    def test_photos_go_to_a_gpu_from_pinned_memory_and_nowhere_else(self, monkeypatch, device, pinned):
        asked = []

        class Batch:
            def to(self, device: torch.device, non_blocking: bool) -> torch.Tensor:
                asked.append((str(device), non_blocking))
                return torch.zeros((2, 4, 6, 3), dtype=torch.uint8)

        monkeypatch.setattr(extraction, "_stacked", lambda photos, pinned: asked.append(pinned) or Batch())
        to_input([np.zeros((4, 6, 3), np.uint8)] * 2, torch.device(device))
        assert asked == [pinned, (device, True)]

    def test_a_batch_is_fetched_when_the_next_one_is_under_way(self):
        events = []

        def work():
            for number in range(3):
                events.append(f"start {number}")
                yield number

        for number in one_behind(work()):
            events.append(f"fetch {number}")
        assert events == ["start 0", "start 1", "fetch 0", "start 2", "fetch 1", "fetch 2"]
        assert list(one_behind([])) == []

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    @pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("bf16", 0.9995), ("fp16", 0.9999)])
    def test_a_gpu_says_what_the_processor_says(self, photos, precision, least):
        expected = extract(build_network("squeezenet1_1", "gem"), photos, OPTIONS)
        found = extract(
            build_network("squeezenet1_1", "gem").cuda(), photos, ExtractionOptions(96, precision=precision)
        )
        assert (found * expected).sum(axis=1).min() > least


class TestBatches:
    ITEMS = (("a", 0), ("b", 1), ("a", 2), ("c", 3), ("a", 4), ("a", 5), ("b", 6))

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
    @pytest.mark.parametrize("waiting", [1, 3, 100])
    def test_each_item_once_and_sizes_never_mixed(self, batch_size, waiting):
        key_of = {item: key for key, item in self.ITEMS}
        batches = list(in_batches(iter(self.ITEMS), batch_size, waiting))
        assert sorted(item for batch in batches for item in batch) == list(range(7))
        assert all(len({key_of[item] for item in batch}) == 1 for batch in batches)
        assert all(1 <= len(batch) <= batch_size for batch in batches)

    def test_batch_of_one_keeps_the_order(self):
        assert list(in_batches(iter(self.ITEMS), 1, 4)) == [[number] for number in range(7)]

    def test_what_waits_is_bounded(self):
        taken = []

        def items():
            for number in range(50):
                taken.append(number)
                yield number, number  # every key differs: no batch ever fills

        given = 0
        for batch in in_batches(items(), 4, waiting=5):
            given += len(batch)
            assert len(taken) - given <= 5
        assert given == 50


def test_a_photo_that_cannot_be_read_ends_the_work_where_all_are_needed(network, photos, tmp_path, monkeypatch):
    for number, photo in enumerate(photos * 6):
        (tmp_path / f"{number:02d}.jpg").write_bytes(photo)
    (tmp_path / "03.jpg").write_bytes(b"torn")
    described = []
    handle = network.register_forward_hook(lambda *arguments: described.append(1))
    monkeypatch.setattr(described_photos, "load_on", lambda *arguments: network)
    try:
        with pytest.raises(PhotoError, match=r"03\.jpg"):
            descriptors_of(None, NetworkChoice(backbone="squeezenet1_1"), photos_of(tmp_path), OPTIONS)
        assert len(described) <= 3
        found, failures = describe_photos(network, photos_of(tmp_path), OPTIONS)
        assert (len(found.names), len(failures)) == (41, 1)
    finally:
        handle.remove()
