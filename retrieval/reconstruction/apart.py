"""One piece of work in a process of its own, which can be stopped at any moment, and whose end ends nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from sfm2tuples.compute.worker_pools import end_with_parent
from sfm2tuples.errors import DataError, SfmTuplesError, first_line

J = TypeVar("J")
R = TypeVar("R")
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Apart:
    """How messages call the work."""

    who: str
    """Such as "pycolmap's mapper"."""
    path: str
    """The file that it works on."""
    remedy: str
    """What to do where it ends before it is done."""
    kind: type[DataError] = DataError
    """What is raised then."""


def run_apart(work: Callable[[J, Connection], R], job: J, called: Apart, add: Callable[[int], Any]) -> R:
    """Do a job in a process of its own.

    Parameters
    ----------
    work : callable
        Function of a module: the job and a line, on which it may send how much is done so far, as an int, to its
        result. Job and result must be picklable.
    job
    called : Apart
    add : callable
        Called with what more is done, and with 0 while nothing is told.

    Raises
    ------
    DataError
        The process ended before it was done, or the library failed.
    SfmTuplesError
        What the work raised.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    # What a process gets is read by it once it runs: it must not wait for a line that nobody closes.
    process = context.Process(target=_serve, args=(work, job, called, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        done = 0
        while True:
            if not ours.poll(LOOK_SECONDS):
                add(0)  # The global mapper tells nothing for minutes.
                continue
            message: Any = ours.recv()
            if isinstance(message, Exception):
                raise message
            if not isinstance(message, int):
                result: R = message
                return result
            add(message - done)
            done = message
    except EOFError:
        process.join()
        what = f"{called.who} ended before it was done (code {process.exitcode})"
        raise called.kind(called.path, what, called.remedy) from None
    finally:
        process.kill()
        process.join()
        ours.close()


def _serve(work: Callable[[J, Connection], R], job: J, called: Apart, line: Connection) -> None:
    """What the process does."""
    end_with_parent(line)
    try:
        result: object = work(job, line)
    except SfmTuplesError as error:
        result = error
    except OSError as error:
        path = called.path if error.filename is None else error.filename
        result = DataError(path, f"cannot be written ({error.strerror or first_line(error)})")
    except (RuntimeError, ValueError, MemoryError) as error:
        result = DataError(called.path, f"{called.who} failed ({first_line(error)})")
    line.send(result)
