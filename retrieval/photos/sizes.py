"""Widths and heights of photos, each read once; of photos elsewhere many at a time."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from retrieval.photos.decoding import photo_size
from retrieval.photos.elsewhere import photo_bytes
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import PhotoError
from sfm2tuples.files.remote.address import Address, AnyPath
from sfm2tuples.files.remote.reading import in_threads


class PhotoSizes:
    """Called with a photo's path or address it gives width and height in pixels, from the header; raises PhotoError."""

    def __init__(self) -> None:
        self._known: dict[AnyPath, tuple[int, int] | PhotoError] = {}

    def __call__(self, path: AnyPath) -> tuple[int, int]:
        """Width and height of one photo."""
        if path not in self._known:
            self._known[path] = _size_or_error(path)
        found = self._known[path]
        if isinstance(found, PhotoError):
            raise found
        return found

    def look_at(self, paths: Iterable[AnyPath]) -> None:
        """Read the sizes of those that lie elsewhere and are not known yet, in threads that wait for the network."""
        asked = [path for path in dict.fromkeys(paths) if isinstance(path, Address) and path not in self._known]
        if asked:
            sizes = ProgressBar(in_threads(_size_or_error, asked), "sizes", len(asked), unit="photo")
            self._known.update(zip(asked, sizes, strict=True))


def _size_or_error(path: AnyPath) -> tuple[int, int] | PhotoError:
    try:
        if isinstance(path, Address):
            start = photo_bytes(path, start_alone=True)
            with suppress(PhotoError):  # the header of a few is longer than what is fetched for it
                return photo_size(start, str(path))
        return photo_size(path)
    except PhotoError as error:
        return error
