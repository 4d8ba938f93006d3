"""Parts of an extraction: the descriptors of one shard's photos, and what became of those that have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.errors import FileFormatError, PhotoError
from sfm2tuples.parts.part_files import TORN, check_sum, read_part_header, write_part_file

MAGIC = b"sfmshrd1"
_VALUE = np.dtype("<f4")
Stamp = tuple[int, int] | None
"""Bytes of a photo's file, and when it was last changed in nanoseconds; None where there is no file."""


@dataclass(frozen=True)
class ShardPart:
    """A part as its header describes it."""

    path: Path
    """The file."""
    key: str
    """Of the work that it was made for."""
    photos: tuple[str, ...]
    """(k,) what tells each photo from all others."""
    stamps: tuple[Stamp, ...]
    """(k,) of the photos' files when they were read."""
    row: np.ndarray
    """(k,) int64: each photo's row among the descriptors; -1 where it has none."""
    failures: Mapping[int, PhotoError]
    """By photo: why it has none."""
    sideways: tuple[str, ...]
    """Names of photos that lie sideways by their EXIF and are seen so."""
    dimension: int
    """D."""
    first: int
    """Byte at which the descriptors start."""

    @property
    def count(self) -> int:
        """Number of descriptors."""
        return len(self.photos) - len(self.failures)

    def values(self) -> np.ndarray:
        """The descriptors (count, D) float32, mapped read-only."""
        shape = (self.count, self.dimension)
        return np.memmap(self.path, _VALUE, "r", self.first, shape) if self.count else np.empty(shape, _VALUE)


def write_shard_part(
    path: Path,
    key: str,
    photos: Sequence[str],
    stamps: Sequence[Stamp],
    values: np.ndarray,
    readable: np.ndarray,
    failures: Sequence[PhotoError],
    sideways: Sequence[str],
) -> None:
    """Write a part; under the name stands a whole one or none.

    Parameters
    ----------
    path : Path
    key, photos, stamps, sideways
        As of `ShardPart`.
    values : (m, D) float32
    readable : (m,) int64
        Which photos they describe, rising.
    failures : sequence of PhotoError
        Why each of the k - m others has no descriptor, in order.

    Raises
    ------
    DataError
        It cannot be written.
    """
    content = {
        "key": key,
        "photos": list(photos),
        "stamps": list(stamps),
        "readable": readable.tolist(),
        "failures": [(error.path, error.what, error.remedy) for error in failures],
        "sideways": list(sideways),
        "dimension": values.shape[1],
    }
    write_part_file(path, MAGIC, content, [np.ascontiguousarray(values, _VALUE)])


def read_shard_part(path: Path, check: bool = False) -> ShardPart:
    """Read the header of a part; `check`: and its descriptors, to compare their sum.

    Raises
    ------
    FileFormatError
        The part is torn, or absent.
    """
    try:
        header = read_part_header(path, MAGIC)
        content = header.content
        row = np.full(len(content["photos"]), -1, np.int64)
        row[content["readable"]] = np.arange(len(content["readable"]))
        others = np.flatnonzero(row < 0).tolist()
        errors = [PhotoError(*error) for error in content["failures"]]
        part = ShardPart(
            path,
            content["key"],
            tuple(content["photos"]),
            tuple(None if found is None else (found[0], found[1]) for found in content["stamps"]),
            row,
            dict(zip(others, errors, strict=True)),
            tuple(content["sideways"]),
            content["dimension"],
            header.first,
        )
        size = header.first + part.count * part.dimension * _VALUE.itemsize
        if path.stat().st_size != size:
            raise ValueError(f"has {path.stat().st_size:,} bytes of {size:,}")
        if check and check_sum(header.text, [np.array(part.values())]) != header.check:
            raise ValueError("its check sum is another one")
    except (*TORN, IndexError) as error:
        raise FileFormatError(path, f"a torn part ({error})", "it is made again") from error
    return part
