"""Small pictures of a page; a photo that cannot be shown is counted and gets a placeholder."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval.photos.decoding import PACKED_QUALITY, load_oriented, pack_photo, turned
from sfm2tuples.errors import PhotoError
from sfm2tuples.files.remote.address import AnyPath

FOLDER = "photos"


class Thumbnails:
    """The folder of a page's photos; each is decoded and written once.

    A photo that EXIF turns is written as it is seen, without EXIF: of a page on a disk browsers would turn it whatever
    its style says, and of a page from a server they would not.

    Parameters
    ----------
    page : Path
        Folder of the page; pictures go to its `photos` folder.
    size : int
        Longest side in pixels; a smaller photo is not enlarged.
    """

    def __init__(self, page: Path, size: int) -> None:
        self._page = page
        self._size = size
        self._urls: dict[int, str] = {}
        self._shapes: dict[str, tuple[tuple[int, int], int]] = {}
        self.missing: list[str] = []
        (page / FOLDER).mkdir()

    @property
    def count(self) -> int:
        """Number of photos written."""
        return sum(url != "" for url in self._urls.values())

    def url(self, row: int, key: str, source: Callable[[int], AnyPath | bytes]) -> str:
        """Address of a photo's picture relative to the page; empty where the photo cannot be shown.

        The picture is named by its row, not by its key, which may hold anything.
        """
        if row not in self._urls:
            self._urls[row] = self._write(row, key, source)
        return self._urls[row]

    def shape(self, url: str) -> tuple[tuple[int, int], int]:
        """Width and height of a picture in pixels, and the orientation by EXIF that its photo was turned by."""
        return self._shapes[url]

    def _write(self, row: int, key: str, source: Callable[[int], AnyPath | bytes]) -> str:
        url = f"{FOLDER}/{row:06d}.jpg"
        try:
            jpeg = pack_photo(source(row), self._size)
            stored, orientation = load_oriented(jpeg, self._size)
        except PhotoError:
            self.missing.append(key)
            return ""
        seen = turned(stored, orientation)
        self._shapes[url] = (seen.shape[1], seen.shape[0]), orientation
        (self._page / url).write_bytes(jpeg if orientation == 1 else _encoded(seen))
        return url


def _encoded(photo: np.ndarray) -> bytes:
    jpeg = io.BytesIO()
    Image.fromarray(photo).save(jpeg, "JPEG", quality=PACKED_QUALITY, subsampling=0)
    return jpeg.getvalue()
