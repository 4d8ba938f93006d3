"""The tuples of a file as a `torch.utils.data.Dataset`, for loops of one's own; `train` reads them another way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from retrieval.photos.tuple_photos import TuplePhotos
from sfm2tuples.errors import UsageError
from sfm2tuples.index.schema import SPLITS
from sfm2tuples.mining.tuple_file import read_tuples


@dataclass(frozen=True)
class TupleItem:
    """One tuple: photos (3, H, W) float32, RGB in 0..1, each of a size of its own, as a `Network` takes them."""

    query: Tensor
    """The query's photo."""
    positives: list[Tensor]
    """Photos of the same place; missing ones are left out."""
    negatives: list[Tensor]
    """Photos of other places; missing ones are left out."""
    keys: list[str]
    """Names of all of them, in this order."""


class TupleDataset(Dataset[TupleItem]):
    """Tuples as they were mined; photos are decoded when they are asked for, in whichever process asks.

    Give it to a `DataLoader` with ``batch_size=None`` or a ``collate_fn`` of your own: photos differ in size.

    Parameters
    ----------
    path : str or Path
        What `mine-tuples` wrote; its packed photos are used where they are large enough.
    split : str
        ``train`` or ``val``.
    image_size : int
        Longest side of a photo in pixels; never enlarged.

    Raises
    ------
    UsageError
        There is no such split.
    DataError
        The file is absent or torn.
    """

    def __init__(self, path: str | Path, split: str = "train", image_size: int = 362) -> None:
        if split not in SPLITS:
            raise UsageError(f"there is no split {split}; give one of {', '.join(SPLITS)}")
        tuples = read_tuples(path)
        self.tuples = tuples.tuples[split]
        self._photos = TuplePhotos(tuples, image_size, workers=0)

    def __len__(self) -> int:
        """Number of tuples."""
        return len(self.tuples.query)

    def __getitem__(self, number: int) -> TupleItem:
        """One tuple; PhotoError where a photo cannot be read."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"tuple {number} of {len(self)}")
        query = int(self.tuples.query[number])
        positives, negatives = (
            [row for row in rows[number].tolist() if row >= 0] for rows in (self.tuples.positive, self.tuples.negative)
        )
        rows = [query, *positives, *negatives]
        photos = [_as_input(self._photos.load(row)) for row in rows]
        first = 1 + len(positives)
        keys = self._photos.names(np.array(rows))
        return TupleItem(photos[0], photos[1:first], photos[first:], keys)


def _as_input(photo: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 to (3, H, W) float32 in 0..1."""
    return torch.from_numpy(photo).permute(2, 0, 1).float().div_(255)
