"""How a network sees a photo: turned by EXIF where that is asked, made smaller by a filter, enlarged by a scale."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from retrieval.descriptors.described_photos import describe_photos
from retrieval.descriptors.extraction import ExtractionOptions, at_scales, extract, extract_settings
from retrieval.descriptors.query_crops import describe_crops
from retrieval.networks.network import Network, build_network
from retrieval.photos.decoding import (
    ORIENTATION,
    load_oriented,
    load_photo,
    pack_photo,
    photo_size,
    turned,
    turned_box,
)
from retrieval.photos.sources import photos_of
from sfm2tuples.errors import UsageError
from sfm2tuples.files.descriptor_settings import differing
from tests.textures import texture

EVERY = range(1, 9)
TURNED = ExtractionOptions(96, upright="exif")


def stored(path: Path, orientation: int, width: int = 120, height: int = 80) -> Path:
    """A photo that its EXIF wants turned."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(texture(3, width, height)).save(path, "PNG", exif=exif)
    return path


def upright(path: Path) -> Path:
    """The same photo, turned by Pillow and stored upright."""
    there = path.with_name(f"upright_{path.name}")
    ImageOps.exif_transpose(Image.open(path)).save(there, "PNG", exif=Image.Exif())
    return there


@pytest.fixture(scope="module")
def network() -> Network:
    return build_network("squeezenet1_1", "gem")


@pytest.mark.parametrize("orientation", EVERY)
def test_a_photo_is_turned_as_pillow_turns_it_and_a_box_with_it(tmp_path: Path, orientation: int) -> None:
    path = stored(tmp_path / "a.png", orientation)
    photo, found = load_oriented(path, 1024)
    assert found == orientation
    assert photo.shape == (80, 120, 3)  # loading never turns
    seen = turned(photo, orientation)
    np.testing.assert_array_equal(seen, load_photo(upright(path), 1024))
    left, top, right, bottom = turned_box(np.array([10, 20, 40, 70]), 120, 80, orientation)
    np.testing.assert_array_equal(seen[top:bottom, left:right], turned(photo[20:70, 10:40], orientation))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_network_sees_photos_and_query_boxes_turned(tmp_path: Path, network: Network, orientation: int) -> None:
    path = stored(tmp_path / "a.png", orientation)
    straight, box = upright(path), np.array([10.0, 5, 110, 75])
    plain = ExtractionOptions(96)
    # Pillow rounds between its two passes, so that turning before or after it differs by a level.
    expected = extract(network, [straight], plain)
    np.testing.assert_allclose(extract(network, [path], TURNED), expected, atol=5e-3)
    assert abs(extract(network, [path], plain) - expected).max() > 0.02
    for crop in ("image", "activations"):
        found = describe_crops(network, [path], ["a"], box[None], crop, TURNED, None)
        expected = describe_crops(
            network, [straight], ["a"], turned_box(box, 120, 80, orientation)[None], crop, plain, None
        )
        np.testing.assert_allclose(found.values, expected.values, atol=5e-3)


def test_sideways_photos_are_counted_in_one_line_unless_they_are_turned(tmp_path: Path, network, caplog) -> None:
    for orientation in EVERY:
        stored(tmp_path / f"{orientation}.png", orientation, orientation + 100)
    describe_photos(network, photos_of(tmp_path), ExtractionOptions(64))
    (record,) = caplog.records
    assert record.getMessage().startswith("6 of 8 photos lie sideways by their EXIF and are seen so, first: ")
    assert record.getMessage().endswith("; --upright exif turns them")
    caplog.clear()
    describe_photos(network, photos_of(tmp_path), TURNED)
    assert not caplog.records


def test_settings_name_what_was_chosen_and_older_files_are_the_default(network: Network) -> None:
    plain, other = (extract_settings(network, options) for options in (ExtractionOptions(), TURNED))
    assert plain["filter"] == "bilinear"
    assert "upright" not in plain
    assert other["upright"] == "exif"
    assert [name for name, _, _ in differing(plain, other)] == ["image_size", "upright"]
    assert extract_settings(network, ExtractionOptions(resize_filter="lanczos"))["filter"] == "lanczos"


def test_a_packed_photo_lies_as_the_stored_one_and_says_so(tmp_path: Path) -> None:
    packed = pack_photo(stored(tmp_path / "a.png", 6), 60)
    assert photo_size(packed) == (60, 40)
    assert load_oriented(packed, 60)[1] == 6
    assert not Image.open(io.BytesIO(pack_photo(stored(tmp_path / "b.png", 1), 60))).getexif()


def test_lanczos_is_pillows(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", 1)
    expected = Image.open(path).resize((60, 40), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(load_photo(path, 60, resize_filter="lanczos"), np.array(expected))
    assert not np.array_equal(load_photo(path, 60), np.array(expected))


def test_a_scale_above_one_enlarges_from_the_image_size() -> None:
    photo = texture(3, 120, 80)
    larger, same, smaller = at_scales(photo, ExtractionOptions(120, (math.sqrt(2), 1.0, math.sqrt(0.5))))
    assert [larger.shape, same.shape, smaller.shape] == [(113, 170, 3), (80, 120, 3), (57, 85, 3)]
    assert same is photo
    assert abs(larger[::2, ::2].astype(int).mean() - photo.mean()) < 2
    with pytest.raises(UsageError, match="at most 2"):
        ExtractionOptions(120, (2.5,))


@pytest.mark.parametrize("wrong", [{"resize_filter": "nearest"}, {"upright": "always"}])
def test_ways_of_seeing_that_are_unknown_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match="known are bilinear, lanczos; stored, exif"):
        ExtractionOptions(**wrong)
