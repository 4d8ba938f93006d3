"""Write beside, fsync, rename: a final name holds the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.renames import exchange, rename_new

_CLAIMED: set[str] = set()
"""Outputs that were free when a command began without `--force`: they must be free when they are done, too."""
_LONGEST = 200
"""Bytes of a name that its temporary name repeats: a file system takes 255 in all."""
MARKED_BYTES = 4096
"""Of a file, among which the mark of its folder must be."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def refuse_overwrite(path: str | Path, force: bool) -> None:
    """Fail early, before any work, where the output is no file, exists and may not be replaced, or cannot be made.

    Without `force` the name is claimed: writing refuses to replace what another process has put there meanwhile.

    Raises
    ------
    UsageError
        The path exists and `force` is not set, is no regular file, or is too long.
    DataError
        The folder that should hold it does not exist or cannot be written.
    """
    _refuse_taken(path, force)
    if Path(path).is_dir():
        raise UsageError(f"{path}: is a folder; give the name of a file")
    if Path(path).exists() and not Path(path).is_file():
        raise UsageError(f"{path}: is a pipe or a device, which --force does not replace; give the name of a file")


@dataclass(frozen=True)
class OurFolder:
    """What tells a folder of ours, which is replaced as a whole, from one of anybody's with files of these names."""

    what: str
    """What it is, for the message, such as "page that report made"."""
    names: Collection[str]
    """All that it may hold."""
    marked: str
    """The one of them that says who made it: the mark is among its first `MARKED_BYTES`."""
    mark: bytes
    """What is written there."""

    def may_replace(self, path: Path) -> bool:
        """Whether a path leads to such a folder, or to an empty one."""
        if path.is_symlink() or not path.is_dir():
            return False
        there = {entry.name for entry in path.iterdir()}
        if not there:
            return True
        marked = path / self.marked
        if not there <= set(self.names) or not marked.is_file():
            return False
        with marked.open("rb") as file:
            return self.mark in file.read(MARKED_BYTES)


def refuse_folder_overwrite(path: str | Path, force: bool, ours: OurFolder) -> None:
    """As `refuse_overwrite`, for a folder that is replaced as a whole: one that holds anything else is left alone."""
    path = Path(path)
    _refuse_taken(path, force)
    if path.is_dir() and Path.cwd().is_relative_to(path.resolve()):
        raise UsageError(f"{path}: is the folder that this command runs in; go out of it, or give another name")
    if os.path.lexists(path) and not ours.may_replace(path):
        raise UsageError(f"{path}: is not a {ours.what}, so --force leaves it alone; give another name")


def _refuse_taken(path: str | Path, force: bool) -> None:
    path = Path(path)
    try:
        os.lstat(path)
        taken = True
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{path.name[:60]}…: the name is too long; give a shorter one") from error
        taken = False
    if taken and not force:
        what = "exists already" if path.exists() else "is a link that leads nowhere"
        raise UsageError(f"{path}: {what}; give another name, or --force to replace it")
    if not path.parent.is_dir():
        raise DataError(path.parent, "no such folder to write to", "make it first")
    if not os.access(path.parent, os.W_OK):
        raise DataError(path.parent, "the folder cannot be written to")
    (_CLAIMED.discard if force else _CLAIMED.add)(_claim(path))


def _claim(path: Path) -> str:
    """One name for a place, however it is written: with `..`, by a link to its folder, from here or from the root."""
    return os.path.join(os.path.realpath(path.parent), path.name)


@contextmanager
def write_atomically(path: str | Path, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed, on any failure removed.

    What killed writers of the same path left on this machine is removed first.

    Parameters
    ----------
    path : str or Path
    sync : bool
        False for files that can be made again, and that say of themselves whether they are whole.

    Raises
    ------
    DataError
        The disk is full, the folder is gone, or another process has made the file since `refuse_overwrite`.
    """
    path = Path(path)
    temporary = _beside(path, "part")
    with _failures_named(path, temporary):
        remove_stale_temporaries(path, dead_only=True)
        try:
            yield temporary
            if sync:
                sync_file(temporary)
            (rename_new if _claim(path) in _CLAIMED else os.replace)(temporary, path)
            _CLAIMED.discard(_claim(path))
            if sync:
                _sync(path.parent, os.O_RDONLY)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _failures_named(path: Path, temporary: Path) -> Iterator[None]:
    """Turn what the system says of a temporary name, or of a full disk, into an error that names the output."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileExistsError) and error.filename2 == str(path):
            raise DataError(path, "was made by another process meanwhile", "give another name, or --force") from error
        if error.errno in _NO_ROOM:
            remedy = "nothing was kept; make room, or write to another disk"
            raise DataError(path, os.strerror(error.errno), remedy) from error
        if str(temporary) in str(error.filename):
            what = "the folder was removed" if not path.parent.is_dir() else str(error.strerror)
            raise DataError(path, f"cannot be written: {what}") from error
        raise


def remove_stale_temporaries(path: str | Path, dead_only: bool = False) -> None:
    """Remove what killed writers of `path` left beside it.

    Parameters
    ----------
    path : str or Path
    dead_only : bool
        Only of processes of this machine that are no more; else all, for one who knows that nobody is writing now.
    """
    path = Path(path)
    start = f".{_shortened(path.name)}."
    for entry in _entries(path.parent):
        middle, dot, ending = entry.name[len(start) :].rpartition(".")
        if not entry.name.startswith(start) or not dot or "." in middle or ending not in ("part", "old"):
            continue
        if dead_only and not _is_dead(middle):
            continue
        if ending == "old" and not os.path.lexists(path):
            os.replace(entry.path, path)  # It was killed between the two renames of a folder.
        elif entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def write_text(path: str | Path, text: str) -> None:
    """Write a small UTF-8 text file atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


@contextmanager
def write_folder_atomically(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; on success it takes that name, on any failure it is removed.

    It replaces a folder of that name as a whole. The caller asks first whether it may.

    Raises
    ------
    DataError
        As in `write_atomically`.
    """
    path = Path(path).absolute()
    temporary = _beside(path, "part")
    with _failures_named(path, temporary):
        remove_stale_temporaries(path, dead_only=True)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                _sync(file, os.O_RDONLY)
            _take_name(temporary, path)
            _sync(path.parent, os.O_RDONLY)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _take_name(temporary: Path, path: Path) -> None:
    """Rename a folder. One that has the name leaves it in the same step, or where that cannot be, a step earlier."""
    if not os.path.lexists(path):
        os.replace(temporary, path)
    elif _claim(path) in _CLAIMED:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(temporary), None, str(path))
    elif not exchange(temporary, path):
        replaced = _beside(path, "old")
        os.replace(path, replaced)
        try:
            os.replace(temporary, path)
        except OSError:
            os.replace(replaced, path)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    _CLAIMED.discard(_claim(path))


def _beside(path: Path, ending: str) -> Path:
    """A free name in the same folder; the machine and the token keep processes that share the folder apart."""
    token = f"{os.getpid()}-{_machine()}{secrets.token_hex(4)}"
    return path.with_name(f".{_shortened(path.name)}.{token}.{ending}")


def _shortened(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:_LONGEST])


def _machine() -> str:
    """Eight hex digits for this machine and the numbering of its processes, which containers have of their own."""
    try:
        numbering = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        numbering = 0
    return hashlib.sha256(f"{socket.gethostname()} {numbering}".encode()).hexdigest()[:8]


def _is_dead(token: str) -> bool:
    """Whether the writer of a temporary name was a process of this machine, and is no more."""
    process, _, rest = token.partition("-")
    if not process.isdigit() or not rest.startswith(_machine()):
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def sync_file(path: str | Path) -> None:
    """Wait until the disk has what was written to a file so far."""
    _sync(Path(path), os.O_RDWR)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
