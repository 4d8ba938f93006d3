"""Photos of a tuple file, decoded ahead by a few threads in the order in which training wants them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from retrieval.images import PhotoSource, load_photo
from retrieval.photo_sources import photos_of_tuples
from sfm2tuples.errors import PhotoError
from sfm2tuples.tuples import TupleFile


class TuplePhotos:
    """Photos of a tuple file at one size.

    Parameters
    ----------
    tuples : TupleFile
        Its packed photos are used where they are large enough, else the files.
    size : int
        Longest side in pixels.
    smallest : int
        Least side in pixels that the network can take.
    workers : int
        Threads that decode; 0 decodes when asked, in the caller's thread.
    """

    def __init__(self, tuples: TupleFile, size: int, smallest: int = 1, workers: int = 2) -> None:
        found = photos_of_tuples(tuples, size)
        self._keys = found.keys
        self._sources: Sequence[PhotoSource] = found.sources
        self._size = size
        self._smallest = smallest
        self._workers = workers

    def names(self, rows: np.ndarray) -> list[str]:
        """Keys of chosen rows of `/images`."""
        return [self._keys[row] for row in rows.tolist()]

    def sources(self, rows: np.ndarray) -> list[PhotoSource]:
        """Where the photos of chosen rows of `/images` come from, for `extraction.extract`."""
        return [self._sources[row] for row in rows.tolist()]

    def load(self, row: int) -> np.ndarray:
        """Decode one photo: (H, W, 3) uint8.

        Raises
        ------
        PhotoError
            Absent, unreadable or too small.
        """
        name = self._keys[row] if callable(self._sources[row]) else None
        photo = load_photo(self._sources[row], self._size, name)
        if min(photo.shape[:2]) < self._smallest:
            height, width = photo.shape[:2]
            raise PhotoError(self._keys[row], f"{width} x {height} pixels are too few for this network")
        return photo

    def in_order(
        self, groups: Sequence[Sequence[int]], change: Callable[[np.ndarray, int, int], np.ndarray] | None = None
    ) -> Iterator[list[np.ndarray]]:
        """Yield the photos of each group of rows, in order; the next groups are decoded meanwhile.

        At most ``workers + 1`` groups are held in memory.

        Parameters
        ----------
        groups : sequence of sequences of int
            Rows of `/images`.
        change : callable, optional
            Photo, number of its group and row to the photo as it is wanted; called where photos are decoded.
        """

        def load(number: int, row: int) -> np.ndarray:
            return self.load(row) if change is None else change(self.load(row), number, row)

        if self._workers < 1:
            for number, group in enumerate(groups):
                yield [load(number, row) for row in group]
            return
        waiting: deque[list[Future[np.ndarray]]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="decode")
        try:
            for number, group in enumerate(groups):
                waiting.append([pool.submit(load, number, row) for row in group])
                if len(waiting) > self._workers:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            # Also when training stops early or is interrupted: what nobody waits for is not decoded.
            pool.shutdown(wait=True, cancel_futures=True)
