"""A process that runs commands of ours one after the other, and is watched: for how long it works, and its memory.

Commands run in the process itself, since a new interpreter would take a hundred times as long. One that hangs or dies
takes the process with it, and the next command gets a new one from a fork server that has the libraries loaded.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

CPU_SECONDS, WALL_SECONDS = 20.0, 240.0
"""How long a command may compute, and wait; on a busy machine it waits long for its turn."""
MOST_MEMORY = 4 << 30
"""Bytes that a command may have in memory, or ask for."""
PRELOADED = ["benchmarks.preloaded"]
"""What processes find loaded."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    how: str
    """``ended``, ``traceback``, ``hang``, ``crash`` or ``memory``."""
    code: int
    """Its exit code, where it ended."""
    said: str
    """What it printed on stdout."""
    warned: str
    """What it, or a library below it, printed on stderr; the traceback, where there is one."""
    seconds: float = 0.0
    """Wall time."""


class WatchedWorker:
    """Runs commands in a folder, each in a process that runs others before and after it.

    Parameters
    ----------
    folder : Path
        Where commands run.
    cpu_seconds : float
        After which one is held to hang.
    commands : str
        Module whose `main` runs a command; it may lie in `folder`.
    """

    def __init__(self, folder: Path, cpu_seconds: float = CPU_SECONDS, commands: str = "cli.main") -> None:
        self._folder, self._cpu_seconds, self._commands = folder, cpu_seconds, commands
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._start()

    def __enter__(self) -> WatchedWorker:
        """Nothing more to do."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End the process."""
        self._end()

    def run(self, words: Sequence[str]) -> Ended:
        """Run a command and wait for its end, as long as it may take."""
        started, used = time.monotonic(), self._cpu()
        self._line.send(list(words))
        while not self._line.poll(0.5):
            waited = time.monotonic() - started
            if self._process.is_alive() and self._cpu() - used < self._cpu_seconds and waited < WALL_SECONDS:
                continue
            how = "hang" if self._process.is_alive() else "crash"
            return self._lost(how, waited)
        try:
            return self._line.recv()
        except (EOFError, OSError):
            return self._lost("crash", time.monotonic() - started)

    def _lost(self, how: str, seconds: float) -> Ended:
        self._end()
        code = self._process.exitcode
        self._start()
        return Ended(how, -1 if code is None else code, "", f"the process ended with {code}", seconds)

    def _start(self) -> None:
        self._line, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs, str(self._folder), self._commands))
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        self._line.close()
        if self._process.pid is not None and self._process.is_alive():
            self._process.join(5)
            self._process.kill()
        self._process.join()

    def _cpu(self) -> float:
        """Seconds that the process has computed."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _serve(line: Connection, folder: str, commands: str) -> None:
    """Run the commands that come, until the line is closed."""
    os.chdir(folder)
    sys.path.insert(0, folder)
    main = importlib.import_module(commands).main
    sink = os.memfd_create("printed"), os.memfd_create("warned")
    for number, target in enumerate(sink, start=1):
        os.dup2(target, number)
    limit = _memory("VmSize") + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            words = line.recv()
        except (EOFError, OSError):
            return
        for target in sink:
            os.ftruncate(target, 0)
            os.lseek(target, 0, os.SEEK_SET)
        line.send(_command(main, words, sink))


def _command(main: Callable[[list[str]], None], words: list[str], sink: tuple[int, int]) -> Ended:
    Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
    started, how, code, trace = time.monotonic(), "ended", 0, ""
    try:
        main(words)
    except SystemExit as ended:
        code = int(ended.code or 0) if isinstance(ended.code, (int, type(None))) else 1
    except MemoryError:
        how, trace = "memory", traceback.format_exc()
    except BaseException:
        how, trace = "traceback", traceback.format_exc()
    seconds = time.monotonic() - started
    sys.stdout.flush()
    sys.stderr.flush()
    said, warned = (os.pread(target, 1 << 20, 0).decode("utf-8", "backslashreplace") for target in sink)
    if how == "ended" and ("Traceback" in warned or "Exception ignored" in warned):
        how = "traceback"
    if _memory("VmHWM") > MOST_MEMORY or "error: not enough memory" in warned:
        how = "memory"
    return Ended(how, code, said, warned + trace, seconds)


def _memory(what: str) -> int:
    """Bytes of this process: ``VmHWM``, the peak in memory, or ``VmSize``, all that it has asked for."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) << 10
