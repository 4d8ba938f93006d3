"""What every bench has in common: a row of the table, the median of several runs, the peak memory of a process."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the table: one way to do one piece of work."""

    work: str
    """The piece of work, with its size."""
    way: str
    """Who does it: "ours", or the usual way."""
    seconds: float
    """Median of the runs."""
    peak_mb: float | None = None
    """Peak memory in MB, where it was measured; `note` says of what."""
    note: str = ""
    """What else a reader must know: the goal, the recall, what is included."""


def median_seconds(work: Callable[[], Any], repeats: int = 3, warm: bool = True) -> float:
    """Median wall time of `work`, after one run that is not counted (compilation, caches of files)."""
    if warm:
        work()
    return statistics.median(_seconds(work) for _ in range(repeats))


def command_seconds(arguments: list[str], repeats: int = 3, warm: bool = True) -> float:
    """Median wall time of a command of ours, from the start of its process to its end."""
    return median_seconds(lambda: _run_command(arguments), repeats, warm)


def _run_command(arguments: list[str]) -> None:
    """Run a command of ours; its warnings are shown only where it fails."""
    done = subprocess.run([sys.executable, "-m", "cli", *arguments, "--quiet"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")


def peak_of_process(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Run `work`, a function of a module, in a fresh process: its peak memory in MB, and what it returned."""
    pool = get_context("spawn").Pool(1)
    try:
        return pool.apply(_with_peak, (work, arguments))
    finally:
        # Let the process end by itself: a signal at its exit makes COLMAP print a trace.
        pool.close()
        pool.join()


def _with_peak(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[float, Any]:
    result = work(*arguments)
    return own_peak_mb(), result


def own_peak_mb() -> float:
    """Peak of this process since its program was loaded: on Linux, ru_maxrss starts at that of the parent."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
