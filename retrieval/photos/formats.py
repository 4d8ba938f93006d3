"""Which formats are photos: what Pillow may open, and which files of a folder are taken for photos by their names."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from sfm2tuples.errors import first_three, told_of
from sfm2tuples.files.text import begins_with

SUFFIXES_OF = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""Pillow's names of formats that are read where this Pillow knows them, with their suffixes."""
# Pillow tells a format by its content: with all of its formats a file a.jpg that is EPS would be run by Ghostscript.
OTHER_SUFFIXES = (
    ".jxl",
    ".psd",
    ".tga",
    ".dng",
    ".cr2",
    ".cr3",
    ".nef",
    ".arw",
    ".raf",
    ".rw2",
    ".orf",
    ".pef",
    ".srw",
)
"""Photos that are never read; a folder's are counted."""
SUFFIXES = (*(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes), *OTHER_SUFFIXES)
"""Suffixes of names of photos, read or not, in lower case."""
STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
"""How a JPEG and a PNG begin: a file without a suffix that does so looks like a photo."""


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read here; HEIF is among them where pillow-heif is installed."""
    if find_spec("pillow_heif"):
        import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(format for format in SUFFIXES_OF if format in Image.OPEN)


@functools.cache
def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of files that are taken for photos."""
    return tuple(suffix for format in readable_formats() for suffix in SUFFIXES_OF[format])


def looks_like_photo(path: Path) -> bool:
    """Whether a file that is not taken for a photo may be one: by its suffix, or by its start where it has none."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES if suffix else any(begins_with(path, start) for start in STARTS)


def what_is_unread(names: Sequence[str]) -> tuple[str, str]:
    """Say how many files of which kinds are not read, and what to do about it."""
    kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in names)
    shown = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
    found = told_of(len(names), "files seem to hold a photo and are not read")
    what = f"{found} ({shown}), first: {first_three(names)}"
    if kinds.keys() & set(SUFFIXES_OF["HEIF"]):
        return what, "for HEIC: pip install pillow-heif"
    return what, "convert them to JPEG" if any(map(kinds.get, SUFFIXES)) else "give them the suffix .jpg or .png"
