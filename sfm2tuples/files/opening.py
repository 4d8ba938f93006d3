"""The one way in which an HDF5 file is opened for reading, whoever wrote it."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import h5py

from sfm2tuples.compute.locks import NO_LOCKS, warn_of_no_locks
from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.files.regular_files import require_file

_LOCK_FAILED = re.compile(r"unable to lock file, errno = (\d+)")
"""HDF5's words; h5py hands on no number of the system's for it."""
_MARKED = "file is already open for"
"""HDF5's words for a file that bears the mark of a writer, which has not closed it."""
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
_UNLOCKED = "set HDF5_USE_FILE_LOCKING=FALSE in the environment"


def is_hdf5(path: str | Path) -> bool:
    """Say whether a path leads to a regular file that begins as HDF5 does."""
    return Path(path).is_file() and bool(h5py.is_hdf5(path))


def open_hdf5(path: str | Path, cache: bool = True) -> h5py.File:
    """Open an HDF5 file read-only, without a lock where its file system has none.

    Parameters
    ----------
    path : str or Path
    cache : bool
        False: the bytes asked for are read alone, not their whole chunk.

    Raises
    ------
    DataError
        There is no such file, it is not a regular one, or another program has it open for writing.
    FileFormatError
        It is torn, or no HDF5.
    """
    path = Path(path)
    require_file(path)
    try:
        return _opened(path, cache, None)
    except OSError as error:
        if _errno_of_lock(error) not in NO_LOCKS:
            raise _refusal(path, error) from error
    try:
        file = _opened(path, cache, False)
    except OSError as error:
        raise _refusal(path, error) from error
    warn_of_no_locks(path)
    return file


def _opened(path: Path, cache: bool, locking: bool | None) -> h5py.File:
    return h5py.File(path, "r", rdcc_nbytes=None if cache else 0, locking=locking)


def _errno_of_lock(error: OSError) -> int:
    """The system's number for a lock that failed; 0 where something else did."""
    found = _LOCK_FAILED.search(str(error))
    return int(found[1]) if found else 0


def _refusal(path: Path, error: OSError) -> DataError:
    number = _errno_of_lock(error)
    if number in _HELD:
        remedy = f"close it there, or {_UNLOCKED} if nothing writes to it"
        return DataError(path, "another program has it open for writing", remedy)
    if number:
        return DataError(path, f"cannot be locked ({short_reason(error)})", _UNLOCKED)
    if _MARKED in str(error):
        what = "another program has it open for writing, or ended without closing it"
        return DataError(path, what, f"close it there, or run: h5clear -s {path}")
    return FileFormatError(path, f"not a whole HDF5 file ({short_reason(error)})", "make it again, or give another")


def short_reason(error: Exception) -> str:
    """The short part of HDF5's long complaints."""
    return str(error).strip("'\"").split("(", 1)[-1].rstrip(")") if "(" in str(error) else str(error).strip("'\"")
