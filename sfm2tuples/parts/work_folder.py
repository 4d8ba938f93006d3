"""The folder of a command under way beside its target: a lock, and the parts that are done, to go on from them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sfm2tuples.compute.locks import take_lock
from sfm2tuples.errors import DataError, FileFormatError, SfmTuplesError
from sfm2tuples.files.atomic import remove_stale_temporaries

log = logging.getLogger(__name__)

P = TypeVar("P")
PART = ".part"


def work_path(target: Path) -> Path:
    """The work folder of a target: `.NAME.build/` beside it."""
    return target.absolute().with_name(f".{target.name}.build")


@contextmanager
def work_folder(target: Path, resume: bool) -> Iterator[Path]:
    """Hold the folder of a target; removed on success, kept with its parts on failure.

    Parameters
    ----------
    target : Path
        The file that is made.
    resume : bool
        Keep the parts of an interrupted command; without it they are removed, with a line that says so.

    Raises
    ------
    DataError
        Another process makes the same target, or the folder cannot be made.
    """
    folder = work_path(target)
    lock = _lock(folder, target)
    try:
        remove_stale_temporaries(target.absolute())
        _clean(folder, resume)
        yield folder
    except BaseException as error:
        if not part_files(folder):
            shutil.rmtree(folder, ignore_errors=True)
        elif isinstance(error, SfmTuplesError):
            log.warning("what was done is kept; the same command with --resume goes on from it")
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def part_files(folder: Path) -> list[Path]:
    """Parts in a work folder, whole or torn."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / e.name for e in entries if e.name.endswith(PART) and not e.name.startswith("."))
    except FileNotFoundError:
        return []


def read_whole_parts(folder: Path, read: Callable[[Path], P]) -> list[P]:
    """The parts of an interrupted command; torn ones are removed, since they are made again.

    Parameters
    ----------
    folder : Path
        The work folder.
    read : callable
        Reads a part; FileFormatError where it is torn.
    """
    parts = []
    for path in part_files(folder):
        try:
            parts.append(read(path))
        except FileFormatError as error:
            log.warning("%s", error)
            path.unlink(missing_ok=True)
    return parts


def _lock(folder: Path, target: Path) -> int:
    """Take the lock, which the system lets go of however this process ends; go on without where there are no locks."""
    path = folder / "lock"
    while True:
        try:
            folder.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            if not folder.parent.is_dir():
                raise DataError(folder.parent, "no such folder to write to", "make it first") from None
            continue  # Another command ended and removed the folder right now.
        except OSError as error:
            raise DataError(folder, f"cannot be made ({error.strerror})") from error
        try:
            take_lock(descriptor, path)
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise DataError(target, "is being made by another process", "wait for it, or give another name") from None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _clean(folder: Path, resume: bool) -> None:
    """Remove what a killed command left half written, and its parts where they are not wanted."""
    parts = part_files(folder)
    if parts and not resume:
        log.warning("%s: %d parts of an interrupted run are removed; --resume would have gone on", folder, len(parts))
    for entry in list(os.scandir(folder)):
        if entry.name == "lock" or (resume and not entry.name.startswith(".")):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
        except OSError as error:
            raise DataError(entry.path, f"cannot be removed ({error.strerror})", "remove it") from error
