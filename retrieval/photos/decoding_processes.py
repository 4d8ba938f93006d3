"""Processes that decode photos: started once (spawn), fed a group at a time, photos handed back in shared memory.

A worker imports neither torch nor numba; what it decodes with comes pickled once, so that an HDF5 file is opened there
when its first photo is asked for. Photos lie in shared memory that has no name: nothing of it outlives the processes.
"""

from __future__ import annotations

import math
import os
import pickle
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import Pipe, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from sfm2tuples.errors import SfmTuplesError

Change = Callable[[np.ndarray, str], np.ndarray]
"""Photo (H, W, 3) uint8 and its key to the photo as it is wanted, of the same or a smaller number of pixels."""
Decode = Callable[[int, Change | None], np.ndarray]
"""Row of a photo, and how it is changed, to its pixels."""
Answer = list[tuple[int, ...]] | Exception
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
"""What a worker's environment says: there are as many workers as cores to use."""
SECONDS_TO_END = 5.0


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    line: Connection


class DecodingProcesses:
    """A fixed number of processes; they end with `close`, with the process that started them, or when it forgets them.

    Parameters
    ----------
    count : int
        Processes.
    decode : callable
        Picklable; raises `SfmTuplesError`, which is raised here in turn.
    photos, pixels : int
        Most photos of a group, most pixels of a photo: how much memory is shared.
    threads : int
        In which a process decodes a group: 1, but for photos that are waited for.
    """

    def __init__(self, count: int, decode: Decode, photos: int, pixels: int, threads: int = 1) -> None:
        self.photos = photos
        self._waiting: deque[int] = deque()
        self._turn = object()
        self._proven = False
        context = get_context("spawn")
        # One group more than there are workers: one lies ready while the next are decoded.
        self._memory = context.RawArray("B", (count + 1) * photos * pixels * 3)
        self._slots = np.frombuffer(self._memory, np.uint8).reshape(count + 1, -1)
        self._workers: list[_Worker] = []
        with _ctrl_c_held_back(), _environment(ONE_THREAD):
            for number in range(count):
                ours, theirs = Pipe()
                arguments = (theirs, self._memory, count + 1)
                # daemon: should nobody close us, they are ended as the interpreter ends.
                process = context.Process(target=_work, args=arguments, name=f"decode-{number}", daemon=True)
                process.start()
                theirs.close()  # so that the line is cut when the worker dies
                self._workers.append(_Worker(process, ours))
        # Once they all load: of a large collection it is some megabytes.
        pickled = pickle.dumps((decode, threads))
        for who in range(count):
            self._send(who, pickled)

    @property
    def is_closed(self) -> bool:
        """Whether the processes have ended, by `close` or by a failure."""
        return not self._workers

    def in_order(
        self, groups: Sequence[Sequence[int]], changes: Sequence[Change] | None = None
    ) -> Iterator[list[np.ndarray]]:
        """Yield the photos of each group of rows; one iteration at a time, a new one ends the one before.

        Groups go to the workers in turn, as many as there are workers and one more.

        Raises
        ------
        SfmTuplesError
            What a worker raised; or a worker has died.
        """
        while self._waiting:
            self._answer()
        turn = self._turn = object()
        ahead = len(self._slots)
        for number in range(len(groups) + ahead):
            if turn is not self._turn:
                raise RuntimeError("these photos are closed, or read by a later iteration")
            photos = self._photos(number - ahead) if 0 <= number - ahead < len(groups) else None
            if number < len(groups):
                self._hand_over(number, groups[number], changes[number] if changes else None)
            if photos is not None:
                yield photos

    def close(self) -> None:
        """End the processes: each does so once its line is cut and the photo at hand is decoded."""
        workers, self._workers = self._workers, []
        self._waiting.clear()
        self._turn = object()
        for worker in workers:
            worker.line.close()
        for worker in workers:
            worker.process.join(SECONDS_TO_END)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def _hand_over(self, number: int, rows: Sequence[int], change: Change | None) -> None:
        who = number % len(self._workers)
        self._send(who, pickle.dumps((number % len(self._slots), rows, change)))
        self._waiting.append(who)

    def _send(self, who: int, pickled: bytes) -> None:
        try:
            self._workers[who].line.send_bytes(pickled)
        except OSError:
            raise self._death_of(who) from None

    def _photos(self, number: int) -> list[np.ndarray]:
        """Photos of the group that was handed over first, copied so that its memory can be used again."""
        answer = self._answer()
        if isinstance(answer, Exception):
            raise answer
        photos, start = [], 0
        for shape in answer:
            end = start + math.prod(shape)
            photos.append(self._slots[number % len(self._slots), start:end].reshape(shape).copy())
            start = end
        return photos

    def _answer(self) -> Answer:
        who = self._waiting.popleft()
        try:
            answer: Answer = self._workers[who].line.recv()
        except (EOFError, OSError):
            raise self._death_of(who) from None
        except BaseException:
            # Ctrl-C: half of an answer may be left on the line, and would be taken for another.
            self.close()
            raise
        self._proven = True
        return answer

    def _death_of(self, who: int) -> SfmTuplesError:
        """What to say of a worker whose line is cut; the others are ended."""
        process = self._workers[who].process
        process.join(SECONDS_TO_END)
        code = process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.close()
        if not self._proven:
            return SfmTuplesError(
                f"a process that decodes photos cannot start ({how}); a script that trains with processes needs "
                "`if __name__ == '__main__':`, or decode in threads"
            )
        return SfmTuplesError(
            f"a process that decodes photos has died ({how}); was memory short? "
            "fewer --workers, or --decoders threads; go on from the last whole round with --resume"
        )


@contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """What is started meanwhile never hears Ctrl-C, not even while it loads; this process hears it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It is started by the first process otherwise, and lets Ctrl-C through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile: libraries read them as they are loaded."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(line: Connection, memory: Any, slots: int) -> None:
    """Life of a worker: a group's photos into its slot, their shapes as the answer, until the line is cut."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what Pillow says of damaged EXIF, without the photo's name
    room = np.frombuffer(memory, np.uint8).reshape(slots, -1)
    try:
        decode, threads = line.recv()
        with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
            while True:
                slot, rows, change = line.recv()
                line.send(_decoded(room[slot], rows, change, decode, map if threads == 1 else pool.map))
    except (EOFError, OSError):
        return


def _decoded(
    room: np.ndarray, rows: Sequence[int], change: Change | None, decode: Decode, each: Callable[..., Any]
) -> Answer:
    """Put the photos of a group into its room; `each` is `map`, or one that works in threads."""
    shapes, start = [], 0
    try:
        for photo in each(lambda row: decode(row, change), rows):
            room[start : start + photo.size] = photo.reshape(-1)
            shapes.append(photo.shape)
            start += photo.size
    except Exception as error:
        return error
    return shapes
