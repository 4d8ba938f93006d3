"""How a finished file or folder takes its name: replacing what is there, never replacing it, or changing places."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD, _EXCHANGE = -100, 2
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK)
"""What file systems without hard links say."""


def rename_new(old: Path, new: Path) -> None:
    """Rename a file; `FileExistsError` where the new name was taken meanwhile."""
    try:
        os.link(old, new)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(old), None, str(new)) from error
        os.replace(old, new)
    else:
        os.unlink(old)


def exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where this system cannot."""
    rename = _renameat2()
    return rename is not None and rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """Linux's `renameat2` by way of the C library; None elsewhere."""
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
