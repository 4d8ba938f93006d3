"""What losses of batches are taken of: descriptors, and what is known of each pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval.training.described_tuples import DescribedTuples
from sfm2tuples.mining.graph_batches import NEGATIVE, POSITIVE


@dataclass(frozen=True)
class DescribedBatch:
    """Descriptors, and which pairs count. A pair that is neither positive nor negative is unknown.

    Each row of the masks is one anchor with its positives and negatives; one without either counts for nothing.
    """

    descriptors: Tensor
    """(n, D) float, L2-normalised."""
    positive: Tensor
    """(n, n) bool; never a descriptor with itself."""
    negative: Tensor
    """(n, n) bool; never one with itself, nor a positive pair."""
    overlap: Tensor | None = None
    """(n, n) float: of a positive pair, the share of the row's points that the column's photo sees (method.md section
    2); NaN where it is not known. None: of no pair."""

    def similarities(self) -> Tensor:
        """Cosines of all pairs (n, n); 0 without gradient where a pair is unknown."""
        known = self.positive | self.negative
        return (self.descriptors @ self.descriptors.T).masked_fill(~known, 0.0)

    def overlap_of(self, pairs: tuple[Tensor, ...]) -> Tensor:
        """The overlap of pairs of rows (m,), (m,): (m,), of the descriptors' kind; NaN where it is not known."""
        if self.overlap is None:
            return self.descriptors.new_full((len(pairs[0]),), torch.nan)
        return self.overlap[pairs].to(self.descriptors)

    @property
    def anchors(self) -> Tensor:
        """Scalar int64: rows with a positive or a negative."""
        return (self.positive | self.negative).any(dim=1).sum()


BatchLoss = Callable[[DescribedBatch], Tensor]
"""A loss of batches: a sum over anchors."""


def described_batch(descriptors: Tensor, relation: np.ndarray, overlap: np.ndarray | None = None) -> DescribedBatch:
    """A batch of descriptors (n, D), with a `GraphBatch`'s relation and overlap (n, n)."""
    known = torch.from_numpy(relation).to(descriptors.device)
    shares = None if overlap is None else torch.from_numpy(overlap).to(descriptors.device)
    return DescribedBatch(descriptors, known == POSITIVE, known == NEGATIVE, shares)


def of_tuples(loss: BatchLoss) -> Callable[[DescribedTuples], Tensor]:
    """The loss of tuples that a loss of batches is: each tuple a batch of its own, whose one anchor is the query."""

    def total(tuples: DescribedTuples) -> Tensor:
        value = tuples.query.sum() * 0
        for row in range(len(tuples.query)):
            ends = (tuples.positives[row][tuples.has_positive[row]], tuples.negatives[row][tuples.has_negative[row]])
            table = torch.cat([tuples.query[row : row + 1], *ends])
            positive, negative = torch.zeros((2, len(table), len(table)), dtype=torch.bool, device=table.device)
            positive[0, 1 : 1 + len(ends[0])] = True
            negative[0, 1 + len(ends[0]) :] = True
            overlap = table.new_full(positive.shape, torch.nan)
            overlap[0, 1 : 1 + len(ends[0])] = tuples.overlap[row][tuples.has_positive[row]].to(table)
            value = value + loss(DescribedBatch(table, positive, negative, overlap))
        return value

    return total
