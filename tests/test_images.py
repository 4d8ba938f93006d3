"""Photos of every kind become RGB at one size, or one line that says why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.photos.decoding import fitting_size, load_photo, pack_photo, photo_size, resize_photo
from retrieval.photos.formats import SUFFIXES_OF, readable_formats
from retrieval.photos.names import photos_below
from sfm2tuples.errors import DataError, PhotoError, UsageError


def picture(width: int = 64, height: int = 40, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture with some grain, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 200 / width, y * 200 / height, 100 + 80 * np.sin(x / 9) * np.cos(y / 7)], axis=-1)
    return np.clip(base + rng.normal(0, 3, base.shape), 0, 255).astype(np.uint8)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def lossless(pixels: np.ndarray) -> bytes:
    """An uncompressed file of these pixels (or of this mode)."""
    return encoded(Image.fromarray(pixels), "TIFF")


def test_small_photo_comes_back_pixel_by_pixel():
    pixels = picture()
    loaded = load_photo(lossless(pixels), 64)
    np.testing.assert_array_equal(loaded, pixels)
    assert loaded.dtype == np.uint8
    assert loaded.flags.writeable


def test_photo_is_never_enlarged():
    assert load_photo(lossless(picture(30, 20)), 1024).shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("width", "height", "size", "expected"),
    [
        (640, 480, 362, (362, 272)),  # 271.5 rounds up
        (480, 640, 362, (272, 362)),
        (1000, 3, 100, (100, 1)),  # never 0
        (3, 2, 1, (1, 1)),
        (100, 100, 100, (100, 100)),
        (101, 50, 100, (100, 50)),
    ],
)
def test_longest_side_is_the_size_and_aspect_is_kept(width, height, size, expected):
    assert fitting_size(width, height, size) == expected
    assert load_photo(lossless(picture(width, height)), size).shape == (expected[1], expected[0], 3)


def test_size_of_zero_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        load_photo(lossless(picture()), 0)


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = load_photo(lossless(stripes), 16)[:, 2:-2]
    assert abs(inner.astype(int) - 128).max() <= 8


def test_photo_and_resized_photo_agree():
    pixels = picture(200, 120)
    np.testing.assert_array_equal(load_photo(lossless(pixels), 90), resize_photo(pixels, 90))
    assert resize_photo(pixels, 200) is pixels


def test_orientation_of_exif_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(picture(64, 40)), "JPEG", exif=exif)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert load_photo(data, 1024).shape == (40, 64, 3)
    assert photo_size(data) == (64, 40)


def test_path_bytes_and_function_give_the_same_photo(tmp_path):
    data = encoded(Image.fromarray(picture()), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    expected = load_photo(data, 50)
    for source in (tmp_path / "a.jpg", str(tmp_path / "a.jpg"), lambda: data):
        np.testing.assert_array_equal(load_photo(source, 50), expected)


class TestModes:
    def test_greyscale(self):
        grey = picture()[..., 0]
        np.testing.assert_array_equal(load_photo(lossless(grey), 64), np.repeat(grey[..., None], 3, axis=2))

    def test_black_and_white(self):
        data = encoded(Image.fromarray(picture()[..., 0] > 100), "TIFF")
        assert set(np.unique(load_photo(data, 64))) == {0, 255}

    @pytest.mark.parametrize("format", ["TIFF", "PNG"])
    def test_sixteen_bits_are_scaled_not_clipped(self, tmp_path, format):
        grey = picture()[..., 0]
        deep = Image.fromarray(grey.astype(np.uint16) * 257)
        data = encoded(deep, format)
        np.testing.assert_array_equal(load_photo(data, 64)[..., 1], grey)

    def test_palette(self):
        image = Image.fromarray(picture()).quantize(64)
        expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(load_photo(encoded(image, "GIF"), 64), expected)

    def test_transparency_is_dropped_in_silence(self):
        pixels = picture()
        clear = Image.fromarray(np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)]))
        palette = Image.fromarray(pixels).quantize(8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(load_photo(encoded(clear, "TIFF"), 64), pixels)
            data = encoded(palette, "PNG", transparency=bytes([0, 128] + [255] * 6))
            np.testing.assert_array_equal(load_photo(data, 64), np.asarray(palette.convert("RGB")))

    @pytest.mark.parametrize("format", ["JPEG", "TIFF"])
    def test_cmyk(self, format):
        image = Image.fromarray(picture()).convert("CMYK")
        loaded = load_photo(encoded(image, format), 64)
        assert abs(loaded.astype(int) - picture()).mean() < 6

    def test_floating_point_is_refused(self):
        data = encoded(Image.fromarray(picture()[..., 0].astype(np.float32)), "TIFF")
        with pytest.raises(PhotoError, match="floating-point"):
            load_photo(data, 64)


def test_cheap_decoding_stays_close_to_the_full_one(monkeypatch):
    data = encoded(Image.fromarray(picture(1600, 1200)), "JPEG", quality=92)
    cheap = load_photo(data, 200)
    full = resize_photo(np.asarray(Image.open(io.BytesIO(data))), 200)
    assert cheap.shape == full.shape == (150, 200, 3)
    assert 0 < abs(cheap.astype(int) - full).mean() < 1.0


def test_cheap_decoding_is_used_only_where_twice_the_size_is_left(monkeypatch):
    seen = []
    original = Image.Image.convert
    monkeypatch.setattr(
        Image.Image, "convert", lambda self, *a, **k: (seen.append(self.size), original(self, *a, **k))[1]
    )
    data = encoded(Image.fromarray(picture(1600, 1200)), "JPEG")
    seen.clear()
    for size in (800, 401, 400, 200, 50):
        load_photo(data, size)
    assert seen == [(1600, 1200), (1600, 1200), (800, 600), (400, 300), (200, 150)]


class TestRefusals:
    def refused(self, source, match: str, name: str | None = None) -> str:
        for attempt in (lambda: load_photo(source, 64, name), lambda: pack_photo(source, 64, name)):
            with pytest.raises(PhotoError, match=match) as caught:
                attempt()
            assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_absent(self, tmp_path):
        assert self.refused(tmp_path / "none.jpg", "no such photo").startswith(str(tmp_path / "none.jpg"))

    def test_folder(self, tmp_path):
        self.refused(tmp_path, "directory")

    @pytest.mark.parametrize("data", [b"", b"no photo at all", b"\xff\xd8\xff"])
    def test_no_photo(self, data):
        assert self.refused(data, "a.jpg: cannot be read as a photo", "a.jpg").startswith("a.jpg")

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "GIF", "WEBP"])
    def test_torn(self, format):
        image = Image.fromarray(picture(300, 200))
        data = encoded(image, format)
        self.refused(data[: len(data) // 2], "cannot be")

    def test_damaged_png(self):
        data = bytearray(encoded(Image.fromarray(picture(300, 200)), "PNG"))
        data[len(data) // 2] ^= 0xFF
        self.refused(bytes(data), "cannot be")

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    def test_decompression_bomb(self, tmp_path):
        path = tmp_path / "bomb.png"
        Image.new("1", (20_000, 25_001)).save(path)
        self.refused(path, "has more than 500 million pixels; make it smaller")

    def test_two_hundred_million_pixels_are_read_without_a_warning(self, tmp_path):
        path = tmp_path / "telephone.png"
        Image.new("1", (16_320, 12_240)).save(path)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert photo_size(path) == (16_320, 12_240)

    def test_postscript_is_no_photo(self, monkeypatch):
        monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was run"))
        text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
        self.refused(text, "not a known format of photos", "a.jpg")

    def test_unreadable_header_in_photo_size(self, tmp_path):
        with pytest.raises(PhotoError, match="no such photo"):
            photo_size(tmp_path / "none.jpg")
        with pytest.raises(PhotoError, match="not a known format of photos"):
            photo_size(b"hello")

    def test_name_with_a_line_break_stays_on_one_line(self):
        assert "a\\nb" in self.refused(b"", "cannot be read", "a\nb")


def test_size_is_read_without_decoding(tmp_path):
    data = encoded(Image.fromarray(picture(300, 200)), "JPEG")
    assert photo_size(data[: len(data) // 2]) == (300, 200)
    (tmp_path / "a.jpg").write_bytes(data)
    assert photo_size(tmp_path / "a.jpg") == (300, 200)


class TestPacking:
    def test_small_jpeg_is_kept_byte_for_byte(self, tmp_path: Path):
        data = encoded(Image.fromarray(picture()), "JPEG", quality=80)
        assert pack_photo(data, 64) is data
        (tmp_path / "a.jpg").write_bytes(data)
        assert pack_photo(tmp_path / "a.jpg", 100) == data

    @pytest.mark.parametrize("format", ["JPEG", "PNG"])
    def test_large_photo_is_made_smaller_and_stays_close(self, format):
        data = encoded(Image.fromarray(picture(300, 200)), format)
        packed = pack_photo(data, 150)
        assert Image.open(io.BytesIO(packed)).format == "JPEG"
        assert photo_size(packed) == (150, 100)
        difference = load_photo(packed, 150).astype(int) - load_photo(data, 150)
        assert abs(difference).mean() < 1.5

    def test_colours_are_not_subsampled(self):
        packed = pack_photo(lossless(picture(300, 200)), 150)
        image = Image.open(io.BytesIO(packed))
        assert {layer[1:3] for layer in image.layer} == {(1, 1)}

    def test_other_formats_become_jpeg_at_their_size(self):
        assert photo_size(pack_photo(lossless(picture(40, 30)), 64)) == (40, 30)


class TestNames:
    def test_every_kind_that_pillow_reads_is_taken_from_a_folder(self, tmp_path, caplog):
        for format, suffixes in SUFFIXES_OF.items():
            if format in readable_formats() and format != "HEIF":
                Image.fromarray(picture()).save(tmp_path / f"{format}{suffixes[0].upper()}", format)
        names = photos_below(tmp_path)
        assert len(names) == len(list(tmp_path.iterdir())) >= 8
        assert all(load_photo(tmp_path / name, 64).shape == picture().shape for name in names)
        assert not caplog.records

    def test_every_suffix_of_these_kinds_that_pillow_knows_is_one_of_ours(self):
        readable = readable_formats()
        known = {suffix for suffix, format in Image.registered_extensions().items() if format in readable}
        sequences, floats = {".apng", ".avifs", ".heics", ".heifs"}, {".pfm"}
        assert known - sequences - floats <= {suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes}

    def test_links_to_folders_are_followed_once(self, tmp_path):
        here, there = tmp_path / "site", tmp_path / "disk"
        for folder in (here / "day", there / "night/late"):
            folder.mkdir(parents=True)
            Image.fromarray(picture()).save(folder / "a.jpg")
        (here / "night").symlink_to(there / "night")  # a walk on another disk
        (here / "late").symlink_to(there / "night/late")  # part of what another link leads to
        (here / "again").symlink_to(here / "day")
        (here / "day/up").symlink_to(tmp_path)  # without end
        (there / "night/back").symlink_to(there / "night")
        (here / "gone").symlink_to(tmp_path / "gone")
        assert photos_below(here) == ["day/a.jpg", "late/a.jpg", "night/late/a.jpg"]
        (tmp_path / "link").symlink_to(here)
        assert photos_below(tmp_path / "link") == photos_below(here)

    def test_the_page_of_inputs_names_every_suffix(self):
        page = (Path(__file__).parents[1] / "docs/inputs.md").read_text(encoding="utf-8")
        assert [s for suffixes in SUFFIXES_OF.values() for s in suffixes if f"`{s}`" not in page] == []

    def test_what_looks_like_a_photo_and_is_not_read_is_counted_once(self, tmp_path, caplog):
        Image.fromarray(picture()).save(tmp_path / "a.jpg")
        (tmp_path / "telephone").write_bytes((tmp_path / "a.jpg").read_bytes())
        for name in ("b.cr2", "c.JXL", "notes.txt", "README", "._a.jxl", "._a.jpg", ".thumbnail.png"):
            (tmp_path / name).write_bytes(b"something else")
        assert photos_below(tmp_path) == photos_below(tmp_path) == ["a.jpg"]
        assert [record.getMessage() for record in caplog.records] == [
            f"{tmp_path}: 3 files seem to hold a photo and are not read (1 .cr2, 1 .jxl, 1 no suffix), first: "
            "b.cr2, c.JXL, telephone; convert them to JPEG"
        ]

    @pytest.mark.skipif("HEIF" in readable_formats(), reason="pillow-heif reads them")
    def test_a_folder_of_kinds_that_are_not_read_says_what_helps(self, tmp_path):
        (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        with pytest.raises(
            DataError, match=r"1 file seems to hold a photo and is not read \(1 \.heic\).* pip install pillow-heif"
        ):
            photos_below(tmp_path)
