"""Write beside, fsync, rename: a final name holds the old file or the new one, never half of one."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from sfm2tuples.errors import DataError, UsageError


def refuse_overwrite(path: str | Path, force: bool) -> None:
    """Fail early, before any work, where the output exists and may not be replaced.

    Raises
    ------
    UsageError
        The path exists and `force` is not set.
    DataError
        The folder that should hold it does not exist or cannot be written.
    """
    path = Path(path)
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already; give another name, or --force to replace it")
    if not path.parent.is_dir():
        raise DataError(path.parent, "no such folder to write to", "make it first")
    if not os.access(path.parent, os.W_OK):
        raise DataError(path.parent, "the folder cannot be written to")


def refuse_folder_overwrite(path: str | Path, force: bool, ours: Collection[str], what: str) -> None:
    """As `refuse_overwrite`, for a folder that is replaced as a whole: one that holds anything else is left alone.

    Parameters
    ----------
    path : str or Path
    force : bool
    ours : collection of str
        Names of what such a folder holds.
    what : str
        What such a folder is, for the message, such as "page that report made".
    """
    path = Path(path)
    refuse_overwrite(path, force)
    if path.exists() and (
        path.is_symlink() or not path.is_dir() or not {entry.name for entry in path.iterdir()} <= set(ours)
    ):
        raise UsageError(f"{path}: is not a {what}, so --force leaves it alone; give another name")


@contextmanager
def write_atomically(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed, on any failure removed.

    Parameters
    ----------
    path : str or Path
    sync : bool
        False for files that can be made again, and that say of themselves whether they are whole.
    """
    path = Path(path)
    temporary = _beside(path, "part")
    try:
        yield temporary
        if sync:
            sync_file(temporary)
        os.replace(temporary, path)
        if sync:
            _sync(path.parent, os.O_RDONLY)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale_temporaries(path: str | Path) -> None:
    """Remove what killed writers of `path` left beside it; only for one who knows that nobody is writing it now."""
    path = Path(path)
    start = f".{path.name}."
    for entry in list(os.scandir(path.parent)):
        middle = entry.name[len(start) : -len(".part")]
        if entry.name == f"{start}{middle}.part" and "." not in middle and entry.is_file(follow_symlinks=False):
            os.unlink(entry.path)


def write_text(path: str | Path, text: str) -> None:
    """Write a small UTF-8 text file atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def write_folder_atomically(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success it takes that name, on any failure it is removed.

    It replaces a folder of that name as a whole. The caller asks first whether it may.
    """
    path = Path(path).absolute()
    temporary, replaced = _beside(path, "part"), _beside(path, "old")
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file, os.O_RDONLY)
        if path.exists():
            os.replace(path, replaced)
        os.replace(temporary, path)
        _sync(path.parent, os.O_RDONLY)
    finally:
        if replaced.exists() and not path.exists():
            os.replace(replaced, path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _beside(path: Path, ending: str) -> Path:
    """A free name in the same folder; the token keeps processes of several machines that share it apart."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.{ending}")


def sync_file(path: str | Path) -> None:
    """Wait until the disk has what was written to a file so far."""
    _sync(Path(path), os.O_RDWR)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
