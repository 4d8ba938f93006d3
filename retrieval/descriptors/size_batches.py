"""Gather items of one size into batches, holding few of them at a time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class SizeGroups(Generic[Item]):
    """Collects items by key and gives back full batches; what waits is bounded.

    Parameters
    ----------
    batch_size : int
        Items of one batch; 1 gives every item back at once.
    waiting : int
        Most items held; beyond it the fullest group goes out as it is.
    """

    def __init__(self, batch_size: int, waiting: int) -> None:
        self.batch_size = batch_size
        self.waiting = waiting
        self._groups: dict[Hashable, list[Item]] = {}
        self._held = 0

    def add(self, key: Hashable, item: Item) -> list[Item]:
        """Take an item; return a batch that is due, or an empty list."""
        group = self._groups.setdefault(key, [])
        group.append(item)
        self._held += 1
        if len(group) >= self.batch_size:
            return self._take(key)
        if self._held > self.waiting:
            return self._take(max(self._groups, key=lambda k: len(self._groups[k])))
        return []

    def rest(self) -> Iterator[list[Item]]:
        """The batches that never filled up."""
        for key in list(self._groups):
            yield self._take(key)

    def _take(self, key: Hashable) -> list[Item]:
        group = self._groups.pop(key)
        self._held -= len(group)
        return group


def in_batches(items: Iterable[tuple[Hashable, Item]], batch_size: int, waiting: int) -> Iterator[list[Item]]:
    """Batches of items with equal keys, each item once.

    Parameters
    ----------
    items : iterable of (key, item)
        Consumed lazily.
    batch_size, waiting : int
        As `SizeGroups`.
    """
    groups: SizeGroups[Item] = SizeGroups(batch_size, waiting)
    for key, item in items:
        batch = groups.add(key, item)
        if batch:
            yield batch
    yield from groups.rest()
