"""Photos of a tuple file, decoded ahead in the order in which training wants them, by threads or by processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from retrieval.photos.choices import EXIF, STORED
from retrieval.photos.decoding import load_oriented, turned
from retrieval.photos.decoding_processes import Change, DecodingProcesses
from retrieval.photos.elsewhere import threads_for
from retrieval.photos.sources import SourceColumns, photos_of_tuples
from sfm2tuples.compute.threads import own_cores
from sfm2tuples.errors import PhotoError, UsageError
from sfm2tuples.mining.tuple_file import TupleFile

THREADS, PROCESSES = "threads", "processes"
DECODERS = (THREADS, PROCESSES)
MOST_THREADS = 4
"""Workers above which processes are faster where a GPU waits: threads take turns in Python between two decodes."""
GPU_WORKERS = 8
"""Workers for a GPU, where there are as many cores."""
GROUP = 7
"""Photos that a group is expected to have at most: a query, a positive, five negatives. More cost a new start."""


def default_workers(device: str) -> int:
    """Workers that suit a device ("cpu", "cuda"): two beside a network on a CPU, up to `GPU_WORKERS` for a GPU."""
    if device == "cpu":
        return 2
    # One core is for the training itself.
    return max(2, min(GPU_WORKERS, own_cores() - 1))


def default_decoders(device: str, workers: int) -> str:
    """Threads, unless many workers feed a GPU."""
    return PROCESSES if device != "cpu" and workers > MOST_THREADS else THREADS


@dataclass(frozen=True)
class PhotoDecoder:
    """Decodes photos by their rows, in whichever process it is."""

    keys: list[str]
    """What to call them."""
    sources: SourceColumns
    """Where their bytes come from."""
    size: int
    """Longest side in pixels."""
    smallest: int
    """Least side in pixels that the network can take."""
    upright: str = STORED
    """Whether photos are turned as their EXIF says, one of `choices.UPRIGHT`."""

    def __call__(self, row: int, change: Change | None = None) -> np.ndarray:
        """Decode one photo, and change it: (H, W, 3) uint8.

        Raises
        ------
        PhotoError
            Absent, unreadable or too small.
        """
        called = self.called(row)
        photo, orientation = load_oriented(self.sources[row], self.size, called)
        if self.upright == EXIF:
            photo = turned(photo, orientation)
        if min(photo.shape[:2]) < self.smallest:
            height, width = photo.shape[:2]
            raise PhotoError(called, f"{width} x {height} pixels are too few for this network")
        return photo if change is None else change(photo, self.keys[row])

    def called(self, row: int) -> str:
        """What errors call a photo: its path, or its key where it is packed."""
        source = self.sources[row]
        return self.keys[row] if callable(source) else str(source)


class TuplePhotos:
    """Photos of a tuple file at one size; close it, or use it as a context, where processes decode.

    Parameters
    ----------
    tuples : TupleFile
        Its packed photos are used where they are large enough, else the files.
    size : int
        Longest side in pixels.
    smallest : int
        Least side in pixels that the network can take.
    workers : int
        Threads or processes that decode; 0 decodes when asked, in the caller's thread.
    decoders : str
        ``threads`` or ``processes``; the photos are the same to the last bit. Processes are started when photos are
        first wanted, and kept.
    upright : str
        One of `choices.UPRIGHT`.

    Raises
    ------
    UsageError
        Decoders of another name.
    """

    def __init__(
        self,
        tuples: TupleFile,
        size: int,
        smallest: int = 1,
        workers: int = 2,
        decoders: str = THREADS,
        upright: str = STORED,
    ) -> None:
        if decoders not in DECODERS:
            raise UsageError(f"decoders {decoders!r} are unknown; one of {', '.join(DECODERS)}")
        found = photos_of_tuples(tuples, size)
        self._decode = PhotoDecoder(found.keys, found.sources, size, smallest, upright)
        self._workers = workers
        # Photos elsewhere are waited for in more threads than decode; a group's by a process at once.
        self._threads = threads_for(found.sources, workers)
        self._of_a_process = threads_for(found.sources, 1)
        self._decoders = decoders
        self._processes: DecodingProcesses | None = None

    def __enter__(self) -> TuplePhotos:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, where there are any; new ones are started should photos be wanted again."""
        processes, self._processes = self._processes, None
        if processes is not None:
            processes.close()

    def names(self, rows: np.ndarray) -> list[str]:
        """Keys of chosen rows of `/images`."""
        return [self._decode.keys[row] for row in rows.tolist()]

    def row_called(self, name: str, rows: Sequence[int]) -> int | None:
        """Which of some rows has the photo that an error of `load` or `in_order` names; None where none has."""
        return next((row for row in rows if self._decode.called(row) == name), None)

    def sources(self, rows: np.ndarray) -> SourceColumns:
        """Where the photos of chosen rows of `/images` come from, for `extraction.extract`."""
        return self._decode.sources.take(rows)

    def load(self, row: int) -> np.ndarray:
        """Decode one photo here and now: (H, W, 3) uint8; errors as for `PhotoDecoder`."""
        return self._decode(row)

    def in_order(
        self, groups: Sequence[Sequence[int]], changes: Sequence[Change] | None = None
    ) -> Iterator[list[np.ndarray]]:
        """Yield the photos of each group of rows, in order; the next groups are decoded meanwhile.

        At most ``workers + 1`` groups are decoded ahead.

        Parameters
        ----------
        groups : sequence of sequences of int
            Rows of `/images`.
        changes : sequence of callable, optional
            For each group, what makes of a photo and its key the photo as it is wanted; called where photos are
            decoded, so that it must be picklable for processes.
        """
        if self._workers < 1:
            return self._at_once(groups, changes)
        if self._decoders == PROCESSES:
            return self._started(max(map(len, groups), default=0)).in_order(groups, changes)
        return self._in_threads(groups, changes)

    def _at_once(self, groups: Sequence[Sequence[int]], changes: Sequence[Change] | None) -> Iterator[list[np.ndarray]]:
        for number, group in enumerate(groups):
            yield [self._decode(row, changes[number] if changes else None) for row in group]

    def _in_threads(
        self, groups: Sequence[Sequence[int]], changes: Sequence[Change] | None
    ) -> Iterator[list[np.ndarray]]:
        waiting: deque[list[Future[np.ndarray]]] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode")
        try:
            for number, group in enumerate(groups):
                change = changes[number] if changes else None
                waiting.append([pool.submit(self._decode, row, change) for row in group])
                if len(waiting) > self._workers:
                    yield [future.result() for future in waiting.popleft()]
            while waiting:
                yield [future.result() for future in waiting.popleft()]
        finally:
            # Also when training stops early or is interrupted: what nobody waits for is not decoded.
            pool.shutdown(wait=True, cancel_futures=True)

    def _started(self, photos: int) -> DecodingProcesses:
        """The processes; new ones where they have died, or share memory for shorter groups."""
        if self._processes is None or self._processes.is_closed or photos > self._processes.photos:
            self.close()
            pixels = self._decode.size**2
            self._processes = DecodingProcesses(
                self._workers, self._decode, max(photos, GROUP), pixels, threads=self._of_a_process
            )
        return self._processes
