"""Random numbers by seed, round and item, so that the order of items, blocks and workers changes no draw."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def item_numbers(names: Sequence[str]) -> np.ndarray:
    """A fixed number for each name: (n,) uint64, from its bytes alone."""
    encoded = (name.encode("utf-8", "surrogateescape") for name in names)
    digests = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in encoded)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def draw(seed: int, round: int, purpose: str, *items: np.ndarray) -> np.ndarray:
    """One uniform 64-bit number an item; an item's number depends on nothing but the arguments that name it.

    Parameters
    ----------
    seed, round : int
        The user's seed, and which round of mining this is.
    purpose : str
        What is being drawn, so that two choices about one item are independent.
    *items : uint64 arrays that broadcast
        Numbers of the items from `item_numbers`; several name a pair, in this order.

    Returns
    -------
    uint64 array
        Taking the n smallest is a uniform draw of n items, and one more item displaces at most one of them.
    """
    stream = hashlib.blake2b(f"{seed}/{round}/{purpose}".encode(), digest_size=8).digest()
    value = np.frombuffer(stream, "<u8").astype(np.uint64)
    for item in items:
        value = _mix(value ^ item)
    return value


def smallest(luck: np.ndarray, count: int) -> np.ndarray:
    """Positions of the `count` smallest of some draws (n,), or of all where there are fewer: int64, rising."""
    return np.sort(np.argsort(luck, kind="stable")[:count])


def _mix(value: np.ndarray) -> np.ndarray:
    """SplitMix64's step on arrays; overflow wraps, as it should."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
