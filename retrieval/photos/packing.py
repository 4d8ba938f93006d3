"""Packing photos: each is made small once and kept in a temporary file, so that any number can be packed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from retrieval.photos.decoding import pack_photo
from retrieval.photos.elsewhere import threads_for
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.errors import DataError, PhotoError
from sfm2tuples.files.remote.address import AnyPath
from sfm2tuples.files.room import require_room

THREADS = 4
"""Photos decoded at a time."""
BATCH = 256
"""Photos in memory at a time."""
SURE = 0.7
"""Photos that are still to come are at least so large, as a share of the first ones' mean."""


class PackedStore:
    """JPEG bytes by key in a temporary file, which is gone when the store is closed.

    Parameters
    ----------
    target : Path
        The file that the photos are for. The temporary one lies beside it and grows as large as they are.
    size : int
        Longest side of the packed photos in pixels.
    """

    def __init__(self, target: Path, size: int) -> None:
        self.size = size
        self._target = target
        self._file = tempfile.TemporaryFile(dir=target.parent)  # noqa: SIM115
        self._where: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> PackedStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, keys: Sequence[str], paths: Sequence[AnyPath]) -> dict[str, PhotoError]:
        """Pack the photos that are not packed yet; return what is wrong with those that cannot be read, by key.

        Raises
        ------
        DataError
            The disk is full, or will be, as the first photos tell.
        """
        waiting = [(key, path) for key, path in zip(keys, paths, strict=True) if key not in self._where]
        failures: dict[str, PhotoError] = {}
        bar = ProgressBar(total=len(waiting), desc="pack", unit="photo")
        with bar, ThreadPoolExecutor(threads_for(paths, THREADS)) as threads:
            for start in range(0, len(waiting), BATCH):
                batch = waiting[start : start + BATCH]
                packed = threads.map(self._pack, [path for _, path in batch])
                for (key, _), photo in zip(batch, packed, strict=True):
                    if isinstance(photo, PhotoError):
                        failures[key] = photo
                    else:
                        self._keep(key, photo)
                    bar.update()
                if start == 0:
                    self._require_room(len(waiting) - len(batch))
        return failures

    def photos(self, keys: Sequence[str]) -> Iterator[bytes]:
        """The packed photos of these keys, one after the other."""
        for key in keys:
            start, length = self._where[key]
            self._file.seek(start)
            yield self._file.read(length)

    def _keep(self, key: str, photo: bytes) -> None:
        """Put the bytes of a photo behind those that are there."""
        try:
            self._where[key] = (self._file.seek(0, 2), len(photo))
            self._file.write(photo)
        except OSError as error:
            what = f"cannot be written: {error.strerror} while photos are packed"
            raise DataError(self._target, what, "make room, or write to another disk") from error

    def _require_room(self, left: int) -> None:
        """Refuse to go on where photos like those packed so far find no room here, and once more in the target."""
        count, size = len(self._where), sum(length for _, length in self._where.values())
        if count:
            require_room(self._target, int(SURE * size / count * (left + count + left)))

    def _pack(self, path: AnyPath) -> bytes | PhotoError:
        try:
            return pack_photo(path, self.size)
        except PhotoError as error:
            return error
