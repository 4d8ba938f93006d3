"""Which files elsewhere are there, and parts of their bytes, to tell those of one size apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfm2tuples.files.remote.address import Address
from sfm2tuples.files.remote.reading import AT_ONCE, FetchError, file_facts, in_threads, read_bytes


@dataclass(frozen=True)
class SizedFile:
    """A file elsewhere whose size is known."""

    address: Address
    size: int
    """Bytes."""

    def part(self, start: int, length: int) -> bytes | None:
        """Some of its bytes; None where they do not come. UnreachableError as for `read_bytes`."""
        try:
            found = read_bytes(self.address, start, min(start + length, self.size))
        except FetchError:
            return None
        # A server that knows no ranges sends the whole file.
        return found[start : start + length] if len(found) == self.size else found

    def whole(self) -> bytes | None:
        """All of its bytes; None where they do not come."""
        return self.part(0, self.size)


def any_there(folder: Address, names: Sequence[str]) -> bool:
    """Whether a folder holds a file that is not empty under one of some names: the first is asked for alone.

    Raises
    ------
    UnreachableError
        The host has never answered.
    """
    files = [folder / name for name in names]
    return any(size_elsewhere(file) for file in files[:1]) or any(
        any(in_threads(size_elsewhere, files[start : start + AT_ONCE])) for start in range(1, len(files), AT_ONCE)
    )


def size_elsewhere(address: Address) -> int:
    """Bytes of a file: 0 where it is not there or does not come; it is read where its server does not say.

    Raises
    ------
    UnreachableError
        The host has never answered.
    """
    try:
        size = file_facts(address)["size"]
        return len(read_bytes(address)) if size is None else int(size)
    except FetchError:
        return 0
