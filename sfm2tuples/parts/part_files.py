"""Plain files of columns that live only while one output is made, so that their layout is not kept for anybody.

Eight letters, the length of a JSON header, a check sum, the header, then the columns one after the other.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.files.atomic import write_atomically

P = TypeVar("P")
_PRELUDE = struct.Struct("<8sQQ")
TORN = (OSError, ValueError, KeyError, TypeError, struct.error)
"""What reading a torn part raises."""


@dataclass(frozen=True)
class PartHeader:
    """What a part begins with."""

    content: Any
    """The header, as JSON gives it."""
    first: int
    """Byte at which the first column starts."""
    check: int
    """Check sum of the header and the columns, as `check_sum` computes it."""
    text: bytes
    """The header as it lies in the file."""


def write_part_file(path: Path, magic: bytes, content: Any, columns: Sequence[np.ndarray]) -> None:
    """Write a part; under the name stands a whole one or none.

    Parameters
    ----------
    path : Path
    magic : bytes
        Eight letters that tell one kind of part from others.
    content : Any
        The header: what JSON can hold.
    columns : sequence of ndarray
        Contiguous.

    Raises
    ------
    DataError
        The part cannot be written; other parts stay.
    """
    text = json.dumps(content).encode()
    try:
        with write_atomically(path, sync=False) as temporary, open(temporary, "wb") as stream:
            stream.write(_PRELUDE.pack(magic, len(text), check_sum(text, columns)))
            stream.write(text)
            for column in columns:
                stream.write(column.data)
    except DataError as error:
        # Only a full disk has a remedy, which speaks of files that are made in one go.
        remedy = "make room, and run again with --resume" if error.remedy else ""
        raise DataError(path, error.what, remedy) from error
    except OSError as error:
        raise DataError(path, f"cannot be written ({error.strerror or error})") from error


def read_part_header(path: Path, magic: bytes) -> PartHeader:
    """Read what a part begins with; one of `TORN` is raised where it is torn."""
    with open(path, "rb") as stream:
        found, length, check = _PRELUDE.unpack(stream.read(_PRELUDE.size))
        text = stream.read(length) if found == magic else b""
    return PartHeader(json.loads(text), _PRELUDE.size + length, check, text)


def read_made_part(path: Path, read: Callable[[Path], P], cluster: str | None) -> P:
    """Read a part that a worker says it wrote; `cluster` is the address of the worker's scheduler, where it has one.

    Raises
    ------
    FileFormatError
        The part is torn.
    DataError
        The worker of a cluster wrote it where this machine does not see it.
    """
    try:
        return read(path)
    except FileFormatError as error:
        if cluster is None or path.exists():
            raise
        what = f"does not see what its workers write into {path.parent}"
        raise DataError(cluster, what, "input and output must lie under the same paths everywhere") from error


def check_sum(text: bytes, columns: Iterable[np.ndarray]) -> int:
    """Check sum of a header and the columns behind it."""
    return (zlib.crc32(text) + sum(map(_word_sum, columns))) % (1 << 64)


def _word_sum(column: np.ndarray) -> int:
    """Sum of the bytes as 64-bit words, modulo 2^64: at the speed of memory, and a page of zeros changes it."""
    content = column.reshape(-1).view(np.uint8)
    whole = len(content) // 8 * 8
    return int(content[:whole].view(np.uint64).sum(dtype=np.uint64)) + int(content[whole:].sum(dtype=np.uint64))
