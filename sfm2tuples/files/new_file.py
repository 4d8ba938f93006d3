"""An HDF5 file that is being made: a full disk is noted by us, since HDF5 itself does not survive a failed write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


class NewFile(h5py.File):
    """A new HDF5 file.

    HDF5 keeps what it could not write, tries again whenever something is closed, and ends the process with a
    segmentation fault. So it never learns of a failure: after the first one nothing more is written.

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        self._disk = _Disk(path)
        super().__init__(self._disk, "w", libver="v110")

    def write_at(self, content: memoryview, at: int) -> None:
        """Write bytes to a place in the file, for those who fill a dataset themselves; several threads may."""
        with self._disk.named():
            write_all(self._disk.descriptor, content, at)

    def sync(self) -> None:
        """Wait until the disk has what was written so far; an error of it is raised here alone."""
        with self._disk.named():
            os.fsync(self._disk.descriptor)

    def check(self) -> None:
        """Raise what the first failed write raised, if one failed: for long work between two writes."""
        if self._disk.error is not None:
            raise self._disk.error

    def finish(self) -> None:
        """Close the file, let go of the disk, and `check` that all was written."""
        try:
            self.close()
        finally:
            self._disk.close()
            self.check()


class _Disk:
    """What h5py needs of a Python file; writing to it always seems to succeed."""

    def __init__(self, path: str | Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        self.error: OSError | None = None
        self._path = path
        self._at = 0

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let errors of the system, which knows the open file by its number, name the path."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._path)
            raise

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}
        self._at = offset + (os.fstat(self.descriptor).st_size if whence == os.SEEK_END else start[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise OSError("is read by readinto alone")

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        found = os.preadv(self.descriptor, [view], self._at)
        view[found:] = bytes(len(view) - found)  # What was not written yet is 0, as in HDF5's own driver.
        self._at += len(view)
        return len(view)

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        if self.error is None:
            try:
                with self.named():
                    write_all(self.descriptor, view, self._at)
            except OSError as error:
                self.error = error
        self._at += len(view)
        return len(view)

    def truncate(self, size: int) -> int:
        if self.error is None:
            try:
                with self.named():
                    os.ftruncate(self.descriptor, size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Nothing is held back."""


def write_all(descriptor: int, content: memoryview, at: int) -> None:
    """Write bytes to a place in a file, however many the system takes at a time."""
    while content:
        written = os.pwrite(descriptor, content, at)
        content, at = content[written:], at + written
