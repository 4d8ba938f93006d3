"""The workers of a Dask scheduler, as a `worker_pools.WorkerPool`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sfm2tuples.compute.worker_pools import DeadWorkerError
from sfm2tuples.errors import DataError, SfmTuplesError, UsageError

log = logging.getLogger(__name__)

J = TypeVar("J")
R = TypeVar("R")
DASK_TIMEOUT = 300.0
"""How long, in seconds, a cluster without workers is waited for."""
CONNECT_SECONDS = 10
"""How long a scheduler may take to answer."""
HOPELESS = 6
"""After so many jobs that killed their workers, and none that was done, it is the workers that are at fault."""


class DaskCluster:
    """The workers of a Dask scheduler; they must see what they read and write under the same paths as this machine.

    Parameters
    ----------
    url : str
        Address of the scheduler, such as ``tcp://10.0.0.1:8786``.
    timeout : float
        Seconds after which a cluster that has no workers, or does not answer, is given up.

    Raises
    ------
    UsageError
        The package that speaks to Dask is not installed.
    DataError
        The scheduler cannot be reached.
    """

    at_once = 1024
    tries_alone = 2
    """Dask itself does a job again on other workers, three times, before it gives up; where machines are taken away all
    the time, a job must not be held to kill its workers for that."""

    def __init__(self, url: str, timeout: float = DASK_TIMEOUT) -> None:
        try:
            from distributed import Client, KilledWorker
            from distributed.comm.addressing import get_address_host_port
        except ImportError as error:
            raise UsageError("--dask needs the package distributed; pip install 'sfm2tuples[cluster]'") from error
        self._url, self._killed, self._timeout = url, KilledWorker, timeout
        try:
            # A client that cannot make sense of the address fails later, and leaves a thread behind.
            get_address_host_port(url)
            self._client: Any = _within(
                CONNECT_SECONDS, lambda: Client(url, timeout=CONNECT_SECONDS, set_as_default=False)
            )
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                url, "no Dask scheduler answers there", "is its address right, and is it running?"
            ) from error
        self._executor: Executor = self._client.get_executor(pure=False)
        self._well_at = time.monotonic()
        self._deaths: int | None = 0
        if not self._client.scheduler_info()["workers"]:
            log.warning("%s: the cluster has no workers yet; they are waited for", url)

    def submit(self, work: Callable[[J], R], job: J) -> Future[R]:
        """Hand a job to the scheduler."""
        return self._executor.submit(work, job)

    def outcome(self, future: Future[R]) -> R:
        """The result; DeadWorkerError where several workers died doing it.

        Raises
        ------
        DataError
            The scheduler was lost, a worker cannot do any job, or the workers died of each of the first jobs.
        """
        # A job that ends, however, shows that the cluster was well: `check_workers` looks only while none does.
        self._well_at = time.monotonic()
        try:
            result = future.result()
            self._deaths = None
            return result
        except self._killed as error:
            self._note_death()
            raise DeadWorkerError from error
        except CancelledError as error:
            raise DataError(self._url, "the scheduler was lost", "run again with --resume") from error
        except (SfmTuplesError, KeyboardInterrupt):
            raise
        except Exception as error:
            what = f"a worker cannot do its job ({type(error).__name__}: {error})"
            raise DataError(self._url, what, "do the workers have sfm2tuples, and see the same folders?") from error

    def check_workers(self) -> None:
        """Say what is waited for where the cluster has no workers or does not answer; give up after the timeout."""
        trouble, now = self._trouble(), time.monotonic()
        if trouble is None:
            self._well_at = now
            return
        waited = now - self._well_at
        if waited >= self._timeout:
            remedy = "start workers, and run again with --resume; --dask-timeout waits longer"
            raise DataError(self._url, f"{trouble} for {waited:.0f} seconds", remedy)
        log.warning("%s: %s; waiting since %.0f of %.0f seconds", self._url, trouble, waited, self._timeout)

    def close(self) -> None:
        """Take back the jobs that are not done and leave the cluster, which may not answer any more."""
        self._executor.shutdown(wait=False)
        self._client.close(timeout=CONNECT_SECONDS)

    def _note_death(self) -> None:
        """Count jobs that killed workers for as long as no job was done; give up where that has no end."""
        if self._deaths is None:
            return
        self._deaths += 1
        if self._deaths >= HOPELESS:
            what = f"its workers died of each of the first {self._deaths} jobs"
            raise DataError(self._url, what, "have they enough memory? their logs say more; run again with --resume")

    def _trouble(self) -> str | None:
        """Why no job can end; None where workers are there."""
        try:
            identity = self._client.sync(self._client.scheduler.identity, callback_timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, asyncio.TimeoutError):
            return "the scheduler has not answered"
        return None if identity["workers"] else "the cluster has had no workers"


def _within(seconds: float, work: Callable[[], R]) -> R:
    """What `work` returns or raises; OSError where it takes longer: a silent port keeps Dask's client for ever."""
    answers: SimpleQueue[tuple[R | None, BaseException | None]] = SimpleQueue()

    def try_it() -> None:
        try:
            answers.put((work(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=try_it, daemon=True).start()
    try:
        result, error = answers.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds} seconds") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
