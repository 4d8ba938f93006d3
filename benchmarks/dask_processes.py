"""A Dask cluster of processes on this machine, whose scheduler and workers can be killed and started again."""

from __future__ import annotations

import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

from distributed import Client

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0
"""Seconds that a scheduler or a worker may take to start on a busy machine."""


class DaskProcesses:
    """A scheduler and workers of one thread each; `close` ends all of them.

    Parameters
    ----------
    workers : int
    variables : mapping
        Added to the environment of all of them.
    """

    def __init__(self, workers: int, variables: Mapping[str, str] = MappingProxyType({})) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.killed = 0
        self._variables = variables
        self._wanted = workers
        self._folder = tempfile.TemporaryDirectory(prefix="dask-")
        self._lock = threading.Lock()
        self._workers: list[subprocess.Popen[bytes]] = []
        self.start_scheduler()
        self.fill_up()

    def start_scheduler(self) -> None:
        """Start the scheduler at its address, and wait until it answers."""
        self._scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-show")
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self._scheduler.poll() is not None:
                    raise
                time.sleep(0.05)

    @property
    def processes(self) -> dict[str, int]:
        """The numbers of those that were started, by their names."""
        workers = {f"worker {number}": worker.pid for number, worker in enumerate(self._workers)}
        return {"scheduler": self._scheduler.pid, **workers}

    def kill_scheduler(self) -> None:
        """SIGKILL; what it knew is lost."""
        self._scheduler.kill()
        self._scheduler.wait()

    def fill_up(self, most_bytes: int = 0) -> None:
        """Start workers in the place of those that are no more.

        Parameters
        ----------
        most_bytes : int
            The new ones cannot make a file grow beyond it, as on a disk that is full; 0: as there is room.
        """
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most_bytes, most_bytes)) if most_bytes else None
        with self._lock:
            self._workers = [worker for worker in self._workers if worker.poll() is None]
            while len(self._workers) < self._wanted:
                self._workers.append(self._start_worker(limit))

    def add_worker(self, most_bytes: int = 0) -> None:
        """Have one worker more, as `fill_up` starts them."""
        self._wanted += 1
        self.fill_up(most_bytes)

    def kill_worker(self, drawn: random.Random) -> None:
        """SIGKILL to one of the workers."""
        with self._lock:
            alive = [worker for worker in self._workers if worker.poll() is None]
            if alive:
                victim = drawn.choice(alive)
                victim.kill()
                victim.wait()
                self.killed += 1

    def wait_for_workers(self) -> None:
        """Wait until all workers are there."""
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(self._wanted, timeout=PATIENCE)

    def close(self) -> None:
        """End all processes."""
        for process in [*self._workers, self._scheduler]:
            process.kill()
            process.wait()
        self._folder.cleanup()

    def _start_worker(self, limit: Callable[[], None] | None) -> subprocess.Popen[bytes]:
        words = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory", self._folder.name)
        return self._start("dask_worker", self.address, *words, "--death-timeout", str(PATIENCE), limit=limit)

    def _start(self, program: str, *words: str, limit: Callable[[], None] | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *words, "--no-dashboard"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **self._variables}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=limit
        )


@contextmanager
def dask_processes(workers: int, variables: Mapping[str, str] = MappingProxyType({})) -> Iterator[DaskProcesses]:
    """A cluster that is ended whatever happens."""
    cluster = DaskProcesses(workers, variables)
    try:
        yield cluster
    finally:
        cluster.close()


@contextmanager
def one_killed(cluster: DaskProcesses, every: float, seed: int) -> Iterator[None]:
    """Kill a drawn worker every so many seconds, and start another one in its place at once."""
    over, drawn = threading.Event(), random.Random(seed)

    def kill() -> None:
        while not over.wait(every):
            cluster.kill_worker(drawn)
            cluster.fill_up()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
