"""Commands of ours, each in a process of its own that has the libraries loaded: to be killed, or short of disk."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.watched_worker import PRELOADED

PATIENCE = 300.0
"""Seconds after which a command is given up."""
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "shutil.rmtree")
"""What Python reports of files (PEP 578); `os.replace` is reported as a renaming."""


@dataclass(frozen=True)
class Limits:
    """What befalls a command."""

    cpu_seconds: float = 0.0
    """SIGKILL after so many seconds of computing; 0: not."""
    file_event: int = 0
    """SIGKILL at the n-th time that it is about to open, rename or remove a file; 0: not."""
    most_bytes: int = 0
    """Bytes that a file may have, as on a disk that is full after them; 0: as many as there is room for."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    """Exit code; negative: the number of the signal that ended it."""
    warned: str
    """What it printed."""
    cpu_seconds: float
    """How long it computed, as far as was seen."""
    file_events: int
    """Times that it opened, renamed or removed a file; 0 where it was ended."""


def run_forked(words: Sequence[str], folder: Path, limits: Limits = Limits()) -> Done:
    """Run a command in a folder under limits, in a new process, and wait for its end."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    printed, to_print = context.Pipe(duplex=False)
    counted, to_count = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(list(words), str(folder), limits, to_print, to_count))
    process.start()
    to_print.close()
    to_count.close()
    said, used = _until_it_ends(process, printed, limits.cpu_seconds)
    process.join()
    events = counted.recv() if counted.poll() and process.exitcode == 0 else 0
    return Done(-99 if process.exitcode is None else process.exitcode, said, used, events)


def _until_it_ends(process: Any, printed: Connection, most_seconds: float) -> tuple[str, float]:
    """Read what a process prints; it is killed once it has computed for long enough."""
    said, used, started = b"", 0.0, time.monotonic()
    while True:
        used = max(used, _cpu(process.pid))
        if (0 < most_seconds <= used) or time.monotonic() - started > PATIENCE:
            process.kill()
        if not printed.poll(0.0005 if most_seconds else 0.05):
            continue
        piece = os.read(printed.fileno(), 1 << 16)
        if not piece:
            return said.decode("utf-8", "backslashreplace"), used
        said += piece


def _cpu(process: int) -> float:
    """Seconds that all threads of a process have computed."""
    total = 0
    try:
        for thread in os.scandir(f"/proc/{process}/task"):
            total += int(Path(thread.path, "schedstat").read_text().split()[0])
    except (OSError, IndexError):
        return 0.0
    return total / 1e9


def _run(words: list[str], folder: str, limits: Limits, to_print: Connection, to_count: Connection) -> None:
    from cli.main import main

    os.chdir(folder)
    for number in (1, 2):
        os.dup2(to_print.fileno(), number)
    to_print.close()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    events = [0]

    def count(event: str, details: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and _changes(event, details):
            events[0] += 1
            if events[0] == limits.file_event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    if limits.most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.most_bytes, resource.RLIM_INFINITY))
    code = 0
    try:
        main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    to_count.send(events[0])
    os._exit(code)


def _changes(event: str, details: tuple[Any, ...]) -> bool:
    """Whether something may come of an event: of an opened file only where it may be written to."""
    return event != "open" or bool(isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
