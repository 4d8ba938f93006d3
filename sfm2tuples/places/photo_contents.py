"""Which photos are there, and which of them have the same bytes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import numpy as np

from sfm2tuples.files.remote.address import Address
from sfm2tuples.files.remote.contents import SizedFile, size_elsewhere

_BLOCK = 1 << 14
"""Bytes from the middle of a photo that are compared before the whole is read."""
_THREADS = 16
_FILES_A_TASK = 512
"""Files of one task: a thread's turn costs more than looking at one file."""
_FILES_ELSEWHERE = 4
"""Files of a task where some lie on other machines: each is waited for."""
_NO_DEVICE = (1 << 64) - 1
"""Device of a file elsewhere."""
PhotoFile = str | Address
"""Path of a photo's file, or where it lies elsewhere."""
_Readable = str | SizedFile
_Result = TypeVar("_Result")
_File = TypeVar("_File")


def number_photos(files: Sequence[PhotoFile], keys: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Number photos by content.

    The same path, or another name of the same file, is the same photo unread. Of files of one size a block is
    compared, and only where that is the same the whole, by SHA-256; of files elsewhere likewise. An empty file is no
    photo: else all of them would be one. Time and memory are linear in the photos, besides sorting.

    Parameters
    ----------
    files : sequence of str or Address
        Path of each row's photo; "" where no folder of photos is known.
    keys : sequence of str
        Key of each row; tells photos that are missing apart.

    Returns
    -------
    photo : (n,) int64
        First row that has the same content.
    has_photo : (n,) bool
        Whether the photo is there and can be opened.

    Raises
    ------
    UnreachableError
        A machine that photos lie on has never answered.
    """
    rows = _first_rows(files)
    paths = [files[row] for row in np.flatnonzero(rows == np.arange(len(files))).tolist()]
    contents = np.zeros(len(files), np.int64)
    contents[rows == np.arange(len(files))] = _contents(paths)
    contents = contents[rows]
    has_photo = contents >= 0
    photo = np.empty(len(files), np.int64)
    _, first, which = np.unique(contents[has_photo], return_index=True, return_inverse=True)
    photo[has_photo] = np.flatnonzero(has_photo)[first[which]]
    missing = np.flatnonzero(~has_photo)
    photo[missing] = missing[_first_rows([keys[row] for row in missing.tolist()])]
    return photo, has_photo


def _first_rows(texts: Sequence[PhotoFile]) -> np.ndarray:
    """First row of the same text: (n,) int64."""
    first: dict[PhotoFile, int] = {}
    return np.fromiter((first.setdefault(text, row) for row, text in enumerate(texts)), np.int64, len(texts))


def _contents(paths: Sequence[PhotoFile]) -> np.ndarray:
    """A number for each path, equal only for equal bytes, -1 where there is no photo: (n,) int64."""
    numbers = np.full(len(paths), -1, np.int64)
    found = np.concatenate([np.zeros((0, 3), np.uint64), *_in_threads(_statuses, paths)])
    there = np.flatnonzero(found[:, 0] > 0)
    # One number for each file on disk: links to one photo are one photo. Then one for each size of these.
    file = _numbered(found[there, 1], found[there, 2])
    rows = there[np.unique(file, return_index=True)[1]]
    content = _numbered(found[rows, 0])
    unreadable = np.zeros(len(rows), bool)
    files = [_readable(paths[row], int(found[row, 0])) for row in rows.tolist()]
    for digest in (_hash_of_block, _hash):
        content = _told_apart(content, unreadable, files, digest)
    numbers[there] = np.where(unreadable, -1, content)[file]
    return numbers


def _numbered(*columns: np.ndarray) -> np.ndarray:
    """A number from 0 for each different row of some columns: (n,) int64."""
    order = np.lexsort(columns)
    new = np.zeros(len(order), bool)
    for column in columns:
        new[1:] |= column[order][1:] != column[order][:-1]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new)
    return numbers


def _told_apart(
    content: np.ndarray,
    unreadable: np.ndarray,
    paths: Sequence[_Readable],
    digest: Callable[[_Readable], bytes | None],
) -> np.ndarray:
    """Tell files of one number apart by a digest; those that cannot be read are marked in `unreadable`."""
    equal = np.flatnonzero((np.bincount(content, minlength=1)[content] > 1) & ~unreadable)
    tasks = _in_threads(lambda task: [digest(path) for path in task], [paths[row] for row in equal.tolist()])
    numbers: dict[tuple[int, bytes | None], int] = {}
    start = int(content.max(initial=-1)) + 1
    result = content.copy()
    for row, value in zip(equal.tolist(), chain.from_iterable(tasks), strict=True):
        unreadable[row] = value is None
        result[row] = numbers.setdefault((int(content[row]), value), start + len(numbers))
    return result


def _readable(path: PhotoFile, size: int) -> _Readable:
    return SizedFile(path, size) if isinstance(path, Address) else path


def _statuses(paths: Sequence[PhotoFile]) -> np.ndarray:
    """Size, device and inode of each regular file that can be opened, else zeros: (n, 3) uint64."""
    found = np.zeros((len(paths), 3), np.uint64)
    for row, path in enumerate(paths):
        if isinstance(path, Address):
            number = int.from_bytes(hashlib.sha256(str(path).encode()).digest()[:8])
            found[row] = size_elsewhere(path), _NO_DEVICE, number
            continue
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
            found[row] = status.st_size, status.st_dev, status.st_ino
    return found


def _hash_of_block(path: _Readable) -> bytes | None:
    """The bytes in the middle of a file, where photos of one camera differ most, hashed; None where unreadable."""
    if isinstance(path, SizedFile):
        return _hash_of(path.part(max(0, (path.size - _BLOCK) // 2), _BLOCK))
    try:
        with open(path, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, (size - _BLOCK) // 2))
            return hashlib.sha256(stream.read(_BLOCK)).digest()
    except OSError:
        return None


def _hash_of(content: bytes | None) -> bytes | None:
    return None if content is None else hashlib.sha256(content).digest()


def _hash(path: _Readable) -> bytes | None:
    """SHA-256 of the file's bytes, or None where it cannot be read."""
    if isinstance(path, SizedFile):
        return _hash_of(path.whole())
    try:
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.digest()
    except OSError:
        return None


def _in_threads(work: Callable[[Sequence[_File]], _Result], paths: Sequence[_File]) -> list[_Result]:
    """The work's value for each task, in order; threads wait together for disks and networks."""
    elsewhere = any(isinstance(path, Address | SizedFile) for path in paths)
    size = _FILES_ELSEWHERE if elsewhere else _FILES_A_TASK
    tasks = [paths[start : start + size] for start in range(0, len(paths), size)]
    if len(tasks) <= 1:
        return [work(task) for task in tasks]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(work, tasks))
