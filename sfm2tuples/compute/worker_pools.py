"""Workers behind `concurrent.futures.Executor`: this process or local ones (Dask: `dask_cluster`); and jobs for them.

A worker that dies loses only its job. The jobs that were under way at that moment are done again, each alone, which
shows the job that kills its worker.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from sfm2tuples.errors import UsageError

log = logging.getLogger(__name__)

J = TypeVar("J")
R = TypeVar("R")
LIBRARY_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which NumPy's libraries of linear algebra are told how many threads they have."""
LOOK_SECONDS = 10
"""How often a pool is asked whether its workers are still there while no job ends."""


class DeadWorkerError(Exception):
    """The process that did a job ended before the job was done."""


class WorkerPool(Protocol):
    """Where jobs are done."""

    at_once: int
    """Jobs that are handed over at a time: enough to keep all workers busy."""
    tries_alone: int
    """How often a job is done alone before it is held to kill its workers."""

    def submit(self, work: Callable[[J], R], job: J) -> Future[R]:
        """Hand a job over; the future raises DeadWorkerError's kind of error as `outcome` knows it."""

    def outcome(self, future: Future[R]) -> R:
        """The result of a job; raises DeadWorkerError, or what the job raised."""

    def check_workers(self) -> None:
        """Called while no job ends: says what is waited for, and raises where it has been waited for long enough."""

    def close(self) -> None:
        """End the workers, whatever they are doing."""


def run_jobs(
    jobs: Sequence[J], work: Callable[[J], R], pool: WorkerPool, split: Callable[[J], Sequence[J]]
) -> Iterator[tuple[J, R | None]]:
    """Do jobs and give results as they come.

    Parameters
    ----------
    jobs : sequence
        In the order in which they are begun.
    work : callable
        Function of a module; jobs and results must be picklable, and small.
    pool : WorkerPool
    split : callable
        Cuts a job into jobs that can be done apart; nothing where it is one piece.

    Yields
    ------
    (job, result)
        The result is None where the worker died whenever it did this job.
    """
    suspects: list[J] = []
    for job, result in _all_at_once(jobs, work, pool):
        if isinstance(result, DeadWorkerError):
            log.info("a worker died; its job is done again")
            suspects.append(job)
        else:
            yield job, result
    alone = deque((piece, 1) for job in suspects for piece in split(job) or [job])
    while alone:
        job, attempt = alone.popleft()
        ((_, result),) = _all_at_once([job], work, pool)
        if not isinstance(result, DeadWorkerError):
            yield job, result
        elif attempt < pool.tries_alone:
            alone.appendleft((job, attempt + 1))
        else:
            yield job, None


def _all_at_once(
    jobs: Sequence[J], work: Callable[[J], R], pool: WorkerPool
) -> Iterator[tuple[J, R | DeadWorkerError]]:
    """Keep the pool busy; a job whose worker died comes back with that as its result."""
    waiting = deque(jobs)
    running: dict[Future[R], J] = {}
    done: SimpleQueue[Future[R]] = SimpleQueue()
    while waiting or running:
        while waiting and len(running) < pool.at_once:
            future = pool.submit(work, waiting[0])
            running[future] = waiting.popleft()
            future.add_done_callback(done.put)
        future = _next_done(done, pool)
        try:
            result: R | DeadWorkerError = pool.outcome(future)
        except DeadWorkerError as death:
            result = death
        yield running.pop(future), result


def _next_done(done: SimpleQueue[Future[R]], pool: WorkerPool) -> Future[R]:
    """The next job that ends, however long that takes with workers that are there."""
    while True:
        try:
            return done.get(timeout=LOOK_SECONDS)
        except Empty:
            pool.check_workers()


class ThisProcess:
    """No worker: the job is done when it is submitted."""

    at_once = 1
    tries_alone = 1

    def submit(self, work: Callable[[J], R], job: J) -> Future[R]:
        """Do the job."""
        future: Future[R] = Future()
        try:
            future.set_result(work(job))
        except Exception as error:
            future.set_exception(error)
        return future

    def outcome(self, future: Future[R]) -> R:
        """The result, or what the job raised."""
        return future.result()

    def check_workers(self) -> None:
        """This process is there."""

    def close(self) -> None:
        """Nothing was started."""


class LocalProcesses:
    """Processes of this machine, started afresh (spawn); where one dies, all are replaced.

    Parameters
    ----------
    count : int
    """

    tries_alone = 2

    def __init__(self, count: int) -> None:
        self.count = count
        # One job more than there are workers lies ready for the first that is done.
        self.at_once = count + 1
        self._proven = False
        self._start()

    def submit(self, work: Callable[[J], R], job: J) -> Future[R]:
        """Hand a job to the processes; to new ones where the old are broken."""
        try:
            return self._executor.submit(work, job)
        except BrokenProcessPool:
            self.close()
            self._start()
            return self._executor.submit(work, job)

    def outcome(self, future: Future[R]) -> R:
        """The result; DeadWorkerError where a process died meanwhile, whoever's job it had."""
        try:
            result = future.result()
        except BrokenProcessPool as error:
            if not self._proven:
                self._prove()
            raise DeadWorkerError from error
        self._proven = True
        return result

    def check_workers(self) -> None:
        """A process that ends breaks its future, so that nothing is waited for in vain."""

    def close(self) -> None:
        """End all processes at once: they do so when the line to this one is closed."""
        self._line.close()
        self._executor.shutdown(cancel_futures=True)

    def _start(self) -> None:
        theirs, self._line = Pipe(duplex=False)
        context = get_context("spawn")
        self._executor = ProcessPoolExecutor(self.count, context, end_with_parent, (theirs,))

    def _prove(self) -> None:
        """Find out whether processes can start at all, or a job killed one."""
        self.close()
        self._start()
        try:
            self._executor.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise UsageError(
                "worker processes cannot start; a script that builds with jobs needs `if __name__ == '__main__':`"
            ) from error
        self._proven = True


def end_with_parent(line: Connection) -> None:
    """First thing in a worker process: leave Ctrl-C to the parent, and end when the line to it is closed.

    A killed parent closes it too; without this, its workers would wait for jobs forever. NumPy's library, which is
    imported later, is told that the other cores have workers of their own.
    """
    for variable in LIBRARY_THREADS:
        os.environ.setdefault(variable, "1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            line.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
