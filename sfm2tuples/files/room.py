"""Room on a disk, asked for before long work: a disk that is full at the end has cost hours."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sfm2tuples.errors import DataError

log = logging.getLogger(__name__)

AS_LARGE = ("ext2", "ext3", "ext4", "xfs", "tmpfs", "vfat", "exfat")
"""File systems on which a file takes as much room as it has bytes; others may compress."""
SHRINKS = 3
"""What a file system that may compress is trusted to make of our columns, at most: they shrink to half or more."""
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_MOUNTS = Path("/proc/self/mountinfo")


def require_room(path: str | Path, needed: int) -> None:
    """Refuse work whose output will not fit on its disk; what `--force` replaces goes only when the new is whole.

    Parameters
    ----------
    path : str or Path
        The file to write; its folder exists.
    needed : int
        Bytes that it takes, and what is written beside it on the way: a lower bound, since too large a number would
        refuse what fits.

    Raises
    ------
    DataError
        There is less room. Where the file system may compress, only where there is far less; else a warning is logged.
    """
    folder = Path(path).absolute().parent
    free = _free(folder)
    if free is None or needed <= free:
        return
    what = f"needs about {size_text(needed)}, {size_text(free)} free on {folder}"
    if needed > free * (1 if _file_system(folder) in AS_LARGE else SHRINKS):
        raise DataError(path, what, "make room, or write to another disk")
    log.warning("%s: %s; it may not fit", path, what)


def size_text(size: int) -> str:
    """A number of bytes as people say it: ``"12.3 GB"``."""
    value, unit = float(size), 0
    while value >= 999.95 and unit + 1 < len(_UNITS):
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size} bytes"


def _free(folder: Path) -> int | None:
    """Bytes that this user may write below a folder; None where the file system does not say."""
    try:
        status = os.statvfs(folder)
    except (OSError, AttributeError):
        return None
    if not status.f_blocks:
        return None
    return (status.f_bfree if os.geteuid() == 0 else status.f_bavail) * status.f_frsize


def _file_system(folder: Path) -> str:
    """Kind of the file system that a folder lies on, as Linux calls it; "" where that is not known."""
    try:
        device = os.stat(folder).st_dev
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = [line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[2:3] == [number]]
    return kinds[-1] if kinds else ""
