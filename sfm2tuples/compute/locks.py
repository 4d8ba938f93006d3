"""Locks of files, and file systems that have none (NFS without its lock service, Lustre, some of FUSE)."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What the system says where a file system has no locks."""
TOLD = "SFM2TUPLES_TOLD_OF_LOCKS"
"""Of the environment: the run was told already. Processes that it starts inherit it."""


def take_lock(descriptor: int, path: Path) -> None:
    """Lock an open file for this process alone, or go on without where its file system has no locks.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warn_of_no_locks(path)


def warn_of_no_locks(path: Path) -> None:
    """Say once a run, in the first of a team's processes, that files are used without locks."""
    if TOLD in os.environ or os.environ.get("RANK", "0") != "0":
        return
    os.environ[TOLD] = "1"
    log.warning(
        "%s: its file system has no locks, so nothing keeps two programs from writing one file: run one at a time",
        path,
    )
