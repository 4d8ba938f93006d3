"""Gather items of one size into batches, holding few of them at a time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def in_batches(items: Iterable[tuple[Hashable, Item]], batch_size: int, waiting: int) -> Iterator[list[Item]]:
    """Batches of items with equal keys, each item once.

    Parameters
    ----------
    items : iterable of (key, item)
        Consumed lazily.
    batch_size : int
        Items of a batch; with 1 each item goes out at once.
    waiting : int
        Most items held; beyond it the fullest batch goes out as it is. What is left goes out at the end.
    """
    groups: dict[Hashable, list[Item]] = {}
    held = 0
    for key, item in items:
        group = groups.setdefault(key, [])
        group.append(item)
        held += 1
        if len(group) < batch_size:
            if held <= waiting:
                continue
            key = max(groups, key=lambda k: len(groups[k]))
        batch = groups.pop(key)
        held -= len(batch)
        yield batch
    yield from groups.values()


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """Each item once the next one is under way: a GPU works on that one while the processor waits for this one."""
    before: list[Item] = []
    for item in items:
        yield from before
        before = [item]
    yield from before
