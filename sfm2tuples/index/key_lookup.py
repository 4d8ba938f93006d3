"""Find an image's row by its key among millions: hashes of all keys, made in blocks when a key is first asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import numpy as np

from sfm2tuples.files.lazy_file import LazyColumn, LazyFile

_ROWS = 1 << 14
_BASE = np.uint64(0x9E3779B97F4A7C15)
_FEW = 2000
"""Keys among which a near one is looked for letter by letter."""


class KeyLookup:
    """Rows of keys.

    It holds 16 bytes a key. Making it costs one pass over the keys.

    Parameters
    ----------
    file : LazyFile
    name : str
        The column of keys.
    """

    def __init__(self, file: LazyFile, name: str) -> None:
        self._keys: LazyColumn = file.column(name)
        hashes = np.concatenate([np.zeros(0, np.uint64), *_hashes(file, name)])
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]

    def row(self, key: str) -> int | None:
        """Row of a key, the first where it is there twice; None where it is unknown."""
        text = np.frombuffer(key.encode("utf-8", "surrogateescape"), np.uint8)
        wanted = _hash_rows(text, np.array([0, len(text)], np.int64))[0]
        start, stop = (int(np.searchsorted(self._hashes, wanted, side)) for side in ("left", "right"))
        return next((row for row in self._rows[start:stop].tolist() if self._keys[row] == key), None)

    def near(self, key: str) -> str | None:
        """The key that is most like an unknown one, or None.

        Of many keys only those of its file name or of its folder are compared letter by letter.
        """
        if len(self._keys) <= _FEW:
            candidates = list(self._keys)
        else:
            folder, slash, name = key.rpartition("/")
            alike = (k for k in self._keys if k.endswith(name) or (slash and k.startswith(folder + slash)))
            candidates = [k for k, _ in zip(alike, range(_FEW), strict=False)]
        found = difflib.get_close_matches(key, candidates, 1, 0.5)
        return found[0] if found else None


def _hashes(file: LazyFile, name: str) -> Iterator[np.ndarray]:
    """Hashes of a column of strings, block by block."""
    count = file.num_rows(name)
    for start in range(0, count, _ROWS):
        offsets = file.read(f"{name}/offsets", slice(start, min(start + _ROWS, count) + 1))
        yield _hash_rows(file.read(f"{name}/utf8", slice(int(offsets[0]), int(offsets[-1]))), offsets - offsets[0])


def _hash_rows(text: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """A polynomial of each string's bytes, modulo 2^64: (n,) uint64. Equal strings have equal hashes."""
    lengths = np.diff(offsets)
    powers = np.cumprod(np.full(int(lengths.max(initial=0)), _BASE))
    place = np.arange(len(text)) - np.repeat(offsets[:-1], lengths)
    terms = (text.astype(np.uint64) + np.uint64(1)) * powers[place]
    total = np.append(np.uint64(0), np.cumsum(terms, dtype=np.uint64))
    return total[offsets[1:]] - total[offsets[:-1]]
