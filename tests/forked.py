"""Commands in processes of their own, of a fork server that has the libraries loaded.

A new interpreter computes for two to five seconds before a command begins; a process of the server begins at once. What
is about an interpreter's start, or about Ctrl-C before a command has begun, takes a new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

from benchmarks.watched_worker import PRELOADED
from cli.main import main

SECONDS = 600.0
"""How long a command is waited for: as long as a test may take."""


class Forked:
    """A command that has been started, in a session and process group of its own; called as a `Popen` is.

    Parameters
    ----------
    words : sequence
        The command's.
    printed : Path
        A folder in which it writes what it prints, in files ``stdout`` and ``stderr`` with `name` behind.
    environment : mapping, optional
        Variables beside those of this process.
    first : callable, optional
        A function of a module, called before the command.
    """

    def __init__(
        self,
        words: Sequence[object],
        printed: Path,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._printed = [printed / f"stdout{name}", printed / f"stderr{name}"]
        around = {**os.environ, **(environment or {})}
        self._process = context.Process(target=_run, args=(list(map(str, words)), self._printed, around, first))
        self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        """Its exit code, where it has ended."""
        return self._process.exitcode

    def wait(self, seconds: float = SECONDS) -> int | None:
        """Its exit code once it has ended; None where it has not after so many seconds."""
        self._process.join(seconds)
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    @property
    def stdout(self) -> str:
        """What it has printed."""
        return self._printed[0].read_text()

    @property
    def stderr(self) -> str:
        """What it has complained of."""
        return self._printed[1].read_text()


def _run(words: list[str], printed: list[Path], environment: dict[str, str], first: Callable[[], None] | None) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(printed, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if first is not None:
        first()
    main(words)
