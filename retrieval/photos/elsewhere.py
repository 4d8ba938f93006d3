"""Photos on other machines: their bytes, and how many threads wait for them."""

from __future__ import annotations

from collections.abc import Iterable

from sfm2tuples.errors import PhotoError
from sfm2tuples.files.remote.address import Address, any_elsewhere
from sfm2tuples.files.remote.reading import AT_ONCE, AbsentError, FetchError, read_bytes

HEADER = 1 << 16
"""Bytes in which the size of most photos is found."""


def photo_bytes(address: Address, start_alone: bool = False) -> bytes:
    """The bytes of a photo, or at least its first `HEADER` ones.

    Raises
    ------
    PhotoError
        It does not come: one line with its address and the reason.
    UnreachableError
        Its host has never answered, so that no photo of it will come.
    """
    try:
        return read_bytes(address, 0, HEADER) if start_alone else read_bytes(address)
    except AbsentError as error:
        raise PhotoError(address, "no such photo") from error
    except FetchError as error:
        raise PhotoError(address, f"does not come ({error.what})") from error


def threads_for(sources: Iterable[object], usual: int) -> int:
    """Threads that decode some photos: where some lie elsewhere more than usual, since most wait for the network."""
    # Columns of sources have few roots for many photos.
    return max(usual, AT_ONCE) if any_elsewhere(getattr(sources, "roots", sources)) else usual
