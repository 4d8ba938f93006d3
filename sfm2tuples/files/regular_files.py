"""What a path leads to, before it is opened: a pipe would be waited for without end, and a device has none."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sfm2tuples.errors import DataError

_ODD = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


def require_file(
    path: str | Path, kind: type[DataError] = DataError, absent: str = "no such file", remedy: str = ""
) -> None:
    """Refuse a path that does not lead to a regular file, by way of links or not.

    Parameters
    ----------
    path : str or Path
    kind : type
        The error to raise, a `DataError`.
    absent, remedy : str
        What to say where nothing is there, and what to do about it.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a zero byte in the name
        raise kind(path, absent, remedy) from error
    except OSError as error:
        raise kind(path, f"cannot be read ({error.strerror or error})") from error
    if stat.S_ISDIR(mode):
        raise kind(path, "is a folder", "give a file in it")
    _refuse(path, mode, kind)


def refuse_odd_file(path: str | Path, kind: type[DataError] = DataError, called: str = "") -> None:
    """Refuse a pipe, a socket or a device; what is absent, or a folder, is left to whoever opens the path.

    `called` is what the message calls the path, if not by itself.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    _refuse(called or path, mode, kind)


def _refuse(path: str | Path, mode: int, kind: type[DataError]) -> None:
    for is_odd, what in _ODD:
        if is_odd(mode):
            raise kind(path, f"is {what}, not a regular file", "write what it gives to a file, and name that")
