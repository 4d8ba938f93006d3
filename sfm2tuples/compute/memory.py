"""How much memory there is, to be asked before much of it is taken."""

from __future__ import annotations

import os
from pathlib import Path

FREE = Path("/proc/meminfo")
"""Where Linux says what is free."""
USED = (Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"))
"""Where Linux says what a container has taken."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says what a container may take; a word or a number beyond the machine's where it may take all."""


def machine_memory() -> int | None:
    """Bytes of memory of this machine, or of the container that this process lives in; None where nobody says."""
    try:
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):
        known = []
    for path in LIMITS:
        try:
            known.append(int(path.read_text()))
        except (OSError, ValueError):
            continue
    return min((number for number in known if number > 0), default=None)


def free_memory() -> int | None:
    """Bytes that can still be taken without swapping, of the machine and of the container; None where nobody says."""
    try:
        said = dict(line.split(":", 1) for line in FREE.read_text().splitlines() if ":" in line)
        known = [int(said["MemAvailable"].split()[0]) * 1024]
    except (OSError, KeyError, ValueError, IndexError):
        return None
    for limit, used in zip(LIMITS, USED, strict=True):
        try:
            known.append(max(0, int(limit.read_text()) - int(used.read_text())))
        except (OSError, ValueError):
            continue
    return min(known)
