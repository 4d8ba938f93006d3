"""Widths and heights of photos, each read once; of photos elsewhere many at a time."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import chain

from retrieval.photos.decoding import photo_size
from retrieval.photos.elsewhere import photo_bytes
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import PhotoError
from sfm2tuples.files.remote.address import Address, AnyPath
from sfm2tuples.files.remote.reading import in_threads


class PhotoSizes:
    """Called with a photo's path or address it gives width and height in pixels, from the header; raises PhotoError."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int] | PhotoError] = {}

    def __call__(self, path: AnyPath) -> tuple[int, int]:
        """Width and height of one photo."""
        name = str(path)
        if name not in self._known:
            self._known[name] = _size_or_error(path)
        found = self._known[name]
        if isinstance(found, PhotoError):
            raise found
        return found

    def look_at(self, addresses: Iterable[Address]) -> None:
        """Read the sizes of photos elsewhere that are not known yet, in threads that wait for the network."""
        asked = (address for address in addresses if str(address) not in self._known)
        for first in asked:
            for name, size in ProgressBar(in_threads(_named_size, chain([first], asked)), "sizes", unit="photo"):
                self._known[name] = size


def _named_size(address: Address) -> tuple[str, tuple[int, int] | PhotoError]:
    return str(address), _size_or_error(address)


def _size_or_error(path: AnyPath) -> tuple[int, int] | PhotoError:
    try:
        if isinstance(path, Address):
            start = photo_bytes(path, start_alone=True)
            with suppress(PhotoError):  # the header of a few is longer than what is fetched for it
                return photo_size(start, str(path))
        return photo_size(path)
    except PhotoError as error:
        return error
