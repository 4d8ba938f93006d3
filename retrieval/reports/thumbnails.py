"""Small pictures of a page; a photo that cannot be shown is counted and gets a placeholder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retrieval.photos.decoding import load_oriented, pack_photo
from sfm2tuples.errors import PhotoError
from sfm2tuples.files.remote.address import AnyPath

FOLDER = "photos"


class Thumbnails:
    """The folder of a page's photos; each is decoded and written once.

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
        """Width and height of a picture as it is stored, and the orientation that its EXIF gives."""
        photo, orientation = load_oriented(self._page / url, self._size)
        return (photo.shape[1], photo.shape[0]), orientation

    def _write(self, row: int, key: str, source: Callable[[int], AnyPath | bytes]) -> str:
        url = f"{FOLDER}/{row:06d}.jpg"
        try:
            jpeg = pack_photo(source(row), self._size)
        except PhotoError:
            self.missing.append(key)
            return ""
        (self._page / url).write_bytes(jpeg)
        return url
