"""A command in processes of its own, watched: seconds, peak memory of each process, and an end at a limit.

Linux tells a process's peak (VmHWM) as long as it lives, so the tree is looked at five times a second. What a process
has mapped from files counts in VmHWM too, and the system may take it back; `own_mb` leaves it out.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

LOOK_EVERY = 0.2
"""Seconds between two looks."""


@dataclass
class Peak:
    """Most memory of one process."""

    peak_mb: float = 0.0
    """VmHWM: all of its memory, mapped files included."""
    own_mb: float = 0.0
    """Most of RssAnon that was seen: what it asked for."""
    cpu_seconds: float = 0.0
    """Processor time, user and system, while the command ran."""
    cpu_before: float = 0.0
    """Processor time before."""


@dataclass
class Watched:
    """How a command ended."""

    seconds: float
    """Wall time."""
    end: str
    """``done``, ``failed`` or ``beyond the limit``."""
    said: str
    """The end of what it printed on stderr."""
    peaks: dict[str, Peak] = field(default_factory=dict)
    """By process: ``main``, the names of processes that were running before, and their children with a number."""
    together_mb: float = 0.0
    """Most of RssAnon of all processes at one time."""

    @property
    def cpu_seconds(self) -> float:
        """Processor time of all processes: what the step takes of a machine that is busy otherwise too."""
        return sum(peak.cpu_seconds for peak in self.peaks.values())


def watch(
    command: Sequence[str],
    limit_gib: float,
    others: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Watched:
    """Run a command and watch it, its children, and processes that work for it.

    Parameters
    ----------
    command : sequence of str
    limit_gib : float
        No process may ask for more (RLIMIT_DATA), and the command is ended where all of them together have more.
    others : mapping, optional
        By name the numbers of processes that were started before, such as a cluster's workers.
    environment : mapping, optional
        What is added to this process's environment.
    """
    limit = int(limit_gib * (1 << 30))
    with subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), False)
        started, tail = time.monotonic(), b""
        watched = Watched(0.0, "done", "")
        roots = {"main": process.pid, **(others or {})}
        watched.peaks.update({name: Peak(cpu_before=_cpu_seconds(pid)) for name, pid in (others or {}).items()})
        while process.poll() is None:
            tail = (tail + (process.stderr.read() or b""))[-4000:]
            watched.together_mb = max(watched.together_mb, _look(roots, watched.peaks))
            if watched.together_mb > limit_gib * 1024:
                watched.end = "beyond the limit"
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            time.sleep(LOOK_EVERY)
        watched.seconds = time.monotonic() - started
        watched.said = (tail + (process.stderr.read() or b""))[-4000:].decode("utf-8", "replace")
        if process.returncode and watched.end == "done":
            beyond = any(text in watched.said for text in ("not enough memory", "MemoryError"))
            watched.end = "beyond the limit" if beyond else "failed"
    return watched


def _look(roots: Mapping[str, int], peaks: dict[str, Peak]) -> float:
    """Raise the peaks of all processes; MB that they have together now."""
    together = 0.0
    for name, root in roots.items():
        waiting = [root]
        for number, pid in enumerate(waiting):
            waiting += _children(pid)
            memory = _memory(pid)
            if not memory:
                continue
            peak = peaks.setdefault(name if pid == root else f"{name}, child {number}", Peak())
            peak.peak_mb = max(peak.peak_mb, memory["VmHWM"] / 1024)
            peak.own_mb = max(peak.own_mb, memory["RssAnon"] / 1024)
            peak.cpu_seconds = max(peak.cpu_seconds, _cpu_seconds(pid) - peak.cpu_before)
            together += memory["RssAnon"] / 1024
    return together


def _memory(pid: int) -> dict[str, int]:
    """Kilobytes by name; empty where the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) for name in ("VmHWM", "RssAnon")} if "RssAnon" in fields else {}


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    """Numbers of a process's children."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found
