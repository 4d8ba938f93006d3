"""Threads over blocks of rows: how many there are, and how work is split; the results never depend on either.

Compiled loops release the interpreter's lock, so a plain pool of threads is enough and nothing is left running.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from multiprocessing import parent_process
from typing import TypeVar

import numpy as np

from sfm2tuples.errors import UsageError

S = TypeVar("S")
T = TypeVar("T")

VARIABLE = "SFM2TUPLES_THREADS"
"""Environment variable that says how many threads one process uses."""
STARTED_HERE = "LOCAL_WORLD_SIZE"
"""Environment variable in which `torchrun` says how many processes it started on this machine."""
ENTRIES_A_THREAD = 1 << 16
"""Work below this many entries is not worth a thread."""
ITEMS_A_TASK = 64
"""Items of `map_in_order` that a thread takes at once: its turn costs more than a short piece of work."""
BLOCKS_A_THREAD = 8
"""More blocks than threads, so that a thread with heavy blocks does not keep the others waiting."""


def default_threads() -> int:
    """Number of threads of this process.

    Returns
    -------
    int
        The environment's SFM2TUPLES_THREADS where it is set; 1 in a worker process, whose siblings keep the other
        cores busy; else `own_cores()`.

    Raises
    ------
    UsageError
        SFM2TUPLES_THREADS is not a whole number of at least 1.
    """
    text = os.environ.get(VARIABLE)
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"{VARIABLE} is {text!r}; give a whole number of threads, 1 or more")
        return int(text)
    if parent_process() is not None:
        return 1
    return own_cores()


def own_cores() -> int:
    """Cores that this process may run on, divided among the processes that `torchrun` started here; 1 at least."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes_here())


def processes_here() -> int:
    """How many processes `torchrun` started on this machine; 1 where it did not start this one."""
    started = os.environ.get(STARTED_HERE, "1")
    return max(1, int(started)) if started.isdecimal() else 1


def over_blocks(work: Callable[[int, int], T], indptr: np.ndarray, threads: int | None) -> list[T]:
    """Call `work(first row, last row + 1)` on consecutive blocks of rows.

    Parameters
    ----------
    work : callable
        Releases the interpreter's lock, and writes only what belongs to its rows.
    indptr : np.ndarray
        (n + 1,) rising, where each row's entries start: blocks have about as many entries as each other.
    threads : int or None
        None stands for `default_threads()`.

    Returns
    -------
    list
        One result a block, in the order of the rows; at least one block, which may be empty.
    """
    rows, entries = len(indptr) - 1, int(indptr[-1])
    threads = max(1, min(default_threads() if threads is None else threads, entries // ENTRIES_A_THREAD))
    if threads == 1:
        return [work(0, rows)]
    wanted = np.linspace(0, entries, BLOCKS_A_THREAD * threads + 1)[1:-1]
    bounds = np.unique(np.concatenate([[0], np.searchsorted(indptr, wanted), [rows]])).tolist()
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, bounds[:-1], bounds[1:]))


def map_in_order(
    pool: Executor, work: Callable[[S], T], items: Iterable[S], ahead: int = 16, a_task: int = ITEMS_A_TASK
) -> Iterator[T]:
    """Yield `work(item)` of each item, in order; the pool is at work meanwhile, at most so many tasks ahead.

    `Executor.map` takes all items before it gives the first result, and holds two kilobytes for each.

    Parameters
    ----------
    pool : Executor
    work : callable
    items : iterable
        Taken as they are needed.
    ahead : int
        Tasks.
    a_task : int
        Items of a task.
    """
    rest, waiting = iter(items), deque[Future[list[T]]]()
    try:
        while task := list(islice(rest, a_task)):
            waiting.append(pool.submit(_each, work, task))
            if len(waiting) > ahead:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _each(work: Callable[[S], T], items: list[S]) -> list[T]:
    return [work(item) for item in items]
