"""Packing photos: each is made small once and kept in a temporary file, so that any number can be packed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from retrieval.photos.decoding import pack_photo
from sfm2tuples.errors import PhotoError

THREADS = 4
"""Photos decoded at a time."""
BATCH = 256
"""Photos in memory at a time."""


class PackedStore:
    """JPEG bytes by key in a temporary file, which is gone when the store is closed.

    Parameters
    ----------
    folder : Path
        Where the file lies; it grows as large as the packed photos.
    size : int
        Longest side of the packed photos in pixels.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._where: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> PackedStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, keys: Sequence[str], paths: Sequence[Path]) -> dict[str, PhotoError]:
        """Pack the photos that are not packed yet; return what is wrong with those that cannot be read, by key."""
        waiting = [(key, path) for key, path in zip(keys, paths, strict=True) if key not in self._where]
        failures: dict[str, PhotoError] = {}
        bar = tqdm(total=len(waiting), desc="pack", unit="photo", disable=None)
        with bar, ThreadPoolExecutor(THREADS) as threads:
            for start in range(0, len(waiting), BATCH):
                batch = waiting[start : start + BATCH]
                packed = threads.map(self._pack, [path for _, path in batch])
                for (key, _), photo in zip(batch, packed, strict=True):
                    if isinstance(photo, PhotoError):
                        failures[key] = photo
                    else:
                        self._where[key] = (self._file.seek(0, 2), len(photo))
                        self._file.write(photo)
                    bar.update()
        return failures

    def photos(self, keys: Sequence[str]) -> Iterator[bytes]:
        """The packed photos of these keys, one after the other."""
        for key in keys:
            start, length = self._where[key]
            self._file.seek(start)
            yield self._file.read(length)

    def _pack(self, path: Path) -> bytes | PhotoError:
        try:
            return pack_photo(path, self.size)
        except PhotoError as error:
            return error
