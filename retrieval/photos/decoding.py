"""Photos: decode, resize, pack. One resizer, so that training and test see the same pixels."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from retrieval.photos.choices import BILINEAR, LANCZOS
from retrieval.photos.elsewhere import photo_bytes
from retrieval.photos.formats import readable_formats
from sfm2tuples.errors import PhotoError, UsageError, first_line
from sfm2tuples.files.regular_files import refuse_odd_file
from sfm2tuples.files.remote.address import Address

PhotoSource = str | Path | Address | bytes | Callable[[], bytes]
"""Where a photo comes from: a file, here or elsewhere, its bytes, or a function that fetches its bytes when needed."""

FILTERS = {BILINEAR: Image.Resampling.BILINEAR, LANCZOS: Image.Resampling.LANCZOS}
"""Filters that make photos smaller (Pillow's, widened to the scale); named in every descriptor file."""
# [C] has Lanczos. With torchvision's weights, which were trained on photos made smaller by this filter, it is worse:
# SqueezeNet GeM on the collection at 256 px 71.6 mAP, bicubic 72.4, bilinear 73.4; the same order at 362 and 450 px.
ORIENTATION = 0x0112
"""EXIF's tag."""
TIFF_WIDTH, TIFF_HEIGHT = 256, 257
"""TIFF's tags of the sides as they are stored."""
SIDEWAYS, SIDES_SWAPPED = (3, 4, 5, 6, 7, 8), (5, 6, 7, 8)
"""Its values of photos whose upper side is not up (one of value 2 stands upright, mirrored), and of those among them
whose width becomes their height."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

MOST_PIXELS = 500_000_000
"""Photos of more pixels are refused: cameras have up to 200 million, and a small file can claim any number."""
# Pillow keeps one limit for the whole process. Its own of 90 million warns of photos of telephones.
Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, MOST_PIXELS)

_TOO_LARGE, _SMALLER = f"has more than {MOST_PIXELS // 10**6} million pixels", "make it smaller"
ROWS = 256
"""Rows of a 16-bit photo that are brought to 8 bits at a time."""

DRAFT_MARGIN = 2
"""A JPEG may be decoded at 1/2, 1/4 or 1/8 only where that leaves this many times the size asked for."""
# Measured against full decoding: 1,920 to 3,840 px to 362 or 512 px in a third to two thirds of the time, pixels off by
# 0.3 to 0.7 levels on average, cosines of descriptors 0.9994 or more; a margin of 1 would be off by 1 to 2.5, 0.993.

PACKED_QUALITY = 92
"""JPEG quality of packed photos, without chroma subsampling."""

# What Pillow's decoders raise on files that are torn, hostile, or no photos.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def load_photo(source: PhotoSource, size: int, name: str | None = None, resize_filter: str = BILINEAR) -> np.ndarray:
    """Decode a photo and make it smaller where its longest side exceeds `size`.

    Never enlarged; not turned by EXIF (see `load_oriented`): COLMAP's coordinates are not (method.md section 10).
    Greyscale, palette, CMYK and 16-bit photos become RGB; transparency is dropped.

    Parameters
    ----------
    source : str, Path, bytes or callable
        The photo.
    size : int
        Longest side in pixels.
    name : str, optional
        What to call it in messages; the path where there is one.
    resize_filter : str
        One of `FILTERS`.

    Returns
    -------
    ndarray
        (H, W, 3) uint8, RGB.

    Raises
    ------
    PhotoError
        Absent, unreadable, torn, or of more than `MOST_PIXELS`.
    UsageError
        `size` is less than 1.
    """
    return load_oriented(source, size, name, resize_filter)[0]


def try_photo(source: PhotoSource, name: str | None = None) -> None:
    """Decode a photo at the least size, which finds what is torn: a JPEG in a fifth to a half of what it takes whole.

    Raises
    ------
    PhotoError
        As `load_photo`.
    """
    load_photo(source, 1, name)


def load_oriented(
    source: PhotoSource, size: int, name: str | None = None, resize_filter: str = BILINEAR
) -> tuple[np.ndarray, int]:
    """A photo as by `load_photo`, and the orientation that its EXIF gives (1 to 8; 1 is upright)."""
    image, orientation = _load(source, size, photo_name(source, name), resize_filter)
    return np.array(image), orientation


def turned(photo: np.ndarray, orientation: int) -> np.ndarray:
    """A stored photo (H, W, 3) uint8 as its EXIF's orientation wants it seen."""
    return np.array(Image.fromarray(photo).transpose(_TURNS[orientation])) if orientation in _TURNS else photo


def turned_box(box: np.ndarray, width: int, height: int, orientation: int) -> np.ndarray:
    """Boxes (..., 4) (left, top, right, bottom) of a stored photo of width x height pixels, in the `turned` photo."""
    left, top, right, bottom = np.moveaxis(box, -1, 0)
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    corners = (top, left, bottom, right) if orientation >= 5 else (left, top, right, bottom)
    return np.stack(corners, axis=-1).astype(box.dtype)


def scaled_photo(photo: np.ndarray, scale: float, resize_filter: str = BILINEAR) -> np.ndarray:
    """A decoded photo at a scale, which may be above 1: (h, w, 3) uint8."""
    height, width = photo.shape[:2]
    longest = max(1, round(scale * max(width, height)))
    if longest <= max(width, height):
        return resize_photo(photo, longest, resize_filter)
    sides = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.array(Image.fromarray(photo).resize(sides, FILTERS[resize_filter]))


def resize_photo(photo: np.ndarray, size: int, resize_filter: str = BILINEAR) -> np.ndarray:
    """Make a decoded photo smaller: longest side `size`, aspect kept, never enlarged.

    Parameters
    ----------
    photo : ndarray
        (H, W, 3) uint8.
    size : int
        Longest side in pixels.
    resize_filter : str
        One of `FILTERS`.

    Returns
    -------
    ndarray
        (h, w, 3) uint8; `photo` itself where it is small enough.
    """
    height, width = photo.shape[:2]
    if max(height, width) <= size:
        return photo
    return np.array(Image.fromarray(photo).resize(fitting_size(width, height, size), FILTERS[resize_filter]))


def fitting_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height in pixels once the longest side is at most `size`; each at least 1, rounded to nearest.

    Raises
    ------
    UsageError
        `size` is less than 1.
    """
    if size < 1:
        raise UsageError(f"size must be at least 1 pixel, not {size}")
    longest = max(width, height)
    if longest <= size:
        return width, height
    return tuple(max(1, (2 * side * size + longest) // (2 * longest)) for side in (width, height))  # type: ignore[return-value]


def photo_size(source: PhotoSource, name: str | None = None) -> tuple[int, int]:
    """Width and height in pixels, from the file's header alone.

    Raises
    ------
    PhotoError
        Absent, or no photo.
    """
    called = photo_name(source, name)
    with _open(source, called) as image:
        return _decoded_size(image)


def pack_photo(source: PhotoSource, size: int, name: str | None = None) -> bytes:
    """A photo as JPEG bytes of longest side at most `size`, for packing into a tuple file.

    A JPEG that is small enough is kept as it is, byte for byte, so that nothing is lost by encoding it twice.

    Parameters
    ----------
    source, size, name
        As `load_photo`.

    Returns
    -------
    bytes
        A JPEG file.

    Raises
    ------
    PhotoError, UsageError
        As `load_photo`.
    """
    called = photo_name(source, name)
    data = _read(source, called)
    image, orientation = _load(data, size, called, BILINEAR)  # decoded in any case: what is packed must be readable
    with _open(data, called) as header:
        if header.format == "JPEG" and max(header.size) <= size:
            return data
    packed = io.BytesIO()
    exif = Image.Exif()
    if orientation in _TURNS:
        exif[ORIENTATION] = orientation  # a packed photo lies as the stored one does, and says so
    image.save(packed, "JPEG", quality=PACKED_QUALITY, subsampling=0, **({"exif": exif} if exif else {}))
    return packed.getvalue()


def photo_name(source: PhotoSource, name: str | None = None) -> str:
    """What to call a photo in messages: its name, else its path."""
    if name is not None:
        return name
    return str(source) if isinstance(source, str | Path | Address) else "a packed photo"


def _load(source: PhotoSource, size: int, called: str, resize_filter: str) -> tuple[Image.Image, int]:
    """Decode and resize to an RGB image, as it is stored; and its orientation by EXIF."""
    with _open(source, called) as image:
        width, height = fitting_size(*_decoded_size(image), size)
        try:
            # JPEG's cheap decoding at a fraction of the size; other formats ignore it.
            image.draft(None, (DRAFT_MARGIN * width, DRAFT_MARGIN * height))
            image.load()  # first: Pillow looks for EXIF behind a PNG's pixels, and would lose a fault of these
            orientation = _orientation(image)
            rgb = _to_rgb(image)
            if rgb.size != (width, height):
                rgb = rgb.resize((width, height), FILTERS[resize_filter])
            return rgb, orientation
        except _DECODING_ERRORS as error:
            raise PhotoError(called, f"cannot be decoded ({_reason(error)})") from error


def _decoded_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened photo once it is decoded: Pillow before 11 turns a TIFF only then."""
    width, height = image.size
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    turns = tags.get(ORIENTATION) in SIDES_SWAPPED and (width, height) == (tags.get(TIFF_WIDTH), tags.get(TIFF_HEIGHT))
    return (height, width) if turns else (width, height)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; Pillow turns TIFF by itself, and pillow-heif HEIF, so that none is left to do."""
    if image.format in ("TIFF", "HEIF"):
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except _DECODING_ERRORS:
        return 1
    return found if isinstance(found, int) and found in _TURNS else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow to RGB of 8 bits; 16-bit greyscale is scaled, not clipped."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 65,535 as (H, W) uint8, some rows at a time: the whole photo in 64 bits would be eight times."""
    small = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), ROWS):
        block = values[start : start + ROWS].astype(np.int64)
        small[start : start + ROWS] = np.clip((block + 128) // 257, 0, 255)
    return small


def _open(source: PhotoSource, called: str) -> Image.Image:
    """Read the header; the pixels follow when they are asked for."""
    if isinstance(source, str | Path):
        refuse_odd_file(source, PhotoError, called)
    try:
        file = source if isinstance(source, str | Path) else io.BytesIO(_read(source, called))
        image = Image.open(file, formats=readable_formats())
    except FileNotFoundError as error:
        raise PhotoError(called, "no such photo") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError(called, _TOO_LARGE, _SMALLER) from error
    except _DECODING_ERRORS as error:
        raise PhotoError(called, f"cannot be read as a photo ({_reason(error)})") from error
    if math.prod(image.size) > MOST_PIXELS:
        image.close()
        raise PhotoError(called, _TOO_LARGE, _SMALLER)
    return image


def _read(source: PhotoSource, called: str) -> bytes:
    if isinstance(source, bytes):
        return source
    if callable(source):
        return source()
    if isinstance(source, Address):
        return photo_bytes(source)
    refuse_odd_file(source, PhotoError, called)
    try:
        return Path(source).read_bytes()
    except FileNotFoundError as error:
        raise PhotoError(called, "no such photo") from error
    except OSError as error:
        raise PhotoError(called, f"cannot be read ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """A short reason without the path and the memory addresses that Pillow puts in."""
    if isinstance(error, UnidentifiedImageError):
        return "not a known format of photos"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)
