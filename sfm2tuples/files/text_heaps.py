"""The heaps that HDF5 keeps text of any length in: HDF5 walks a damaged one for ever, so they are looked at before.

Layout: HDF5 File Format Specification 3.0, III.E (global heap), IV.A (object headers).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import h5py

from sfm2tuples.errors import FileFormatError

_SIGNATURE = b"GCOL\x01"
_ATTRIBUTE, _CONTINUATION, _ATTRIBUTE_INFO = 0x0C, 0x10, 0x15
_NOWHERE = b"\xff" * 8
_MOST_BLOCKS = 64
"""Blocks of an object header; a file that chains more is left to HDF5 and its check sums."""
_BLOCK = 1 << 24


def check_attribute_heaps(path: str | Path, item: h5py.Group) -> None:
    """Refuse a group whose text attributes lie in a heap that has no end.

    Raises
    ------
    FileFormatError
        See above; also where the file has addresses of another size than 8 bytes, which nobody writes.
    """
    descriptor, base = _descriptor(path, item)
    where = h5py.h5o.get_info(item.id).addr + base
    for kind, message in _messages(descriptor, where, base):
        if kind == _ATTRIBUTE and len(message) >= 16:
            # The value of one text is its length, the address of a heap, and a number in it.
            heap = struct.unpack_from("<Q", message, len(message) - 12)[0] + base
            if _read(descriptor, heap, 5) == _SIGNATURE:
                _check_heap(path, descriptor, heap)
        elif kind == _ATTRIBUTE_INFO and message[2 + 2 * (message[1] & 1) :][:8] != _NOWHERE:
            check_all_heaps(path, item)
            return


def check_all_heaps(path: str | Path, item: h5py.Group) -> None:
    """Refuse a file that has a heap without an end anywhere; reads the whole file.

    Raises
    ------
    FileFormatError
        As `check_attribute_heaps`.
    """
    descriptor, _ = _descriptor(path, item)
    overlap = len(_SIGNATURE) - 1
    for start in range(0, os.fstat(descriptor).st_size, _BLOCK):
        block = _read(descriptor, start, _BLOCK + overlap)
        found = block.find(_SIGNATURE)
        while found >= 0:
            _check_heap(path, descriptor, start + found)
            found = block.find(_SIGNATURE, found + 1)


def _check_heap(path: str | Path, descriptor: int, heap: int) -> None:
    """Walk a heap as HDF5 does: a header of 16 bytes a text, number 0 for the rest, which says its own length."""
    (size,) = struct.unpack("<Q", _read(descriptor, heap + 8, 8).ljust(8, b"\0"))
    content = _read(descriptor, heap, min(size, os.fstat(descriptor).st_size))
    at = 16
    while at + 16 <= len(content):
        number, _, length = struct.unpack_from("<HHxxxxQ", content, at)
        step = 16 + -(-length // 8) * 8 if number else length
        if step < 16 or at + step > size:
            raise FileFormatError(path, "torn: a text in it has no end", "make it again, or give another")
        at += step


def _messages(descriptor: int, where: int, base: int) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each message of an object header, of either version."""
    start = _read(descriptor, where, 32)
    if start[:4] == b"OHDR":
        flags = start[5]
        at = 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        first = where + at + width, int.from_bytes(start[at : at + width], "little")
        message, skipped = struct.Struct("<BHB" + "xx" * bool(flags & 4)), 4
    else:
        first = where + 16, int.from_bytes(start[8:12], "little")
        message, skipped = struct.Struct("<HHBxxx"), 0
    blocks = [first]
    for address, length in blocks:
        content, at = _read(descriptor, address, min(length, _BLOCK)), 0
        while at + message.size <= len(content):
            kind, size, _ = message.unpack_from(content, at)
            at += message.size
            yield kind, content[at : at + size]
            if kind == _CONTINUATION and size >= 16 and len(blocks) < _MOST_BLOCKS:
                further, extent = struct.unpack_from("<QQ", content[at : at + size].ljust(16, b"\0"))
                blocks.append((further + base + skipped, max(0, extent - 2 * skipped)))
            at += size


def _descriptor(path: str | Path, item: h5py.Group) -> tuple[int, int]:
    """The system's open file, and where in it HDF5 starts to count."""
    plan = item.file.id.get_create_plist()
    if plan.get_sizes() != (8, 8):
        raise FileFormatError(path, "has addresses of another size than 8 bytes", "make it again, or give another")
    return item.file.id.get_vfd_handle(), plan.get_userblock()


def _read(descriptor: int, at: int, size: int) -> bytes:
    """Bytes at a place, fewer where the file ends."""
    return os.pread(descriptor, size, at) if 0 <= at < 1 << 63 else b""
