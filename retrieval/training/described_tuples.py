"""What losses are taken of: tuples as descriptors, and as positions in a table of descriptors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class DescribedTuples:
    """The L2-normalised descriptors of some tuples. Where one is missing, any values may stand in its place."""

    query: Tensor
    """(B, D) float."""
    positives: Tensor
    """(B, P, D) float."""
    negatives: Tensor
    """(B, K, D) float."""
    has_positive: Tensor
    """(B, P) bool; False where one is missing."""
    has_negative: Tensor
    """(B, K) bool; False where one is missing."""
    overlap: Tensor
    """(B, P) float: share of the query's points that the positive sees (method.md section 2); NaN: not known."""

    def cosines(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Cosines of the queries with their positives (B, P), and which are there; likewise with negatives (B, K)."""
        positive, negative = ((self.query[:, None] * ends).sum(dim=2) for ends in (self.positives, self.negatives))
        return (positive, self.has_positive), (negative, self.has_negative)


@dataclass(frozen=True)
class TuplePositions:
    """Tuples as positions in a table of descriptors."""

    query: Tensor
    """(B,) int64."""
    positive: Tensor
    """(B, P) int64; -1 where missing."""
    negative: Tensor
    """(B, K) int64; -1 where missing."""
    overlap: Tensor
    """(B, P) float, as in `DescribedTuples`."""

    def take(self, descriptors: Tensor) -> DescribedTuples:
        """The tuples' descriptors out of the table (n, D)."""
        return DescribedTuples(
            descriptors[self.query],
            descriptors[self.positive.clamp(min=0)],
            descriptors[self.negative.clamp(min=0)],
            self.positive >= 0,
            self.negative >= 0,
            self.overlap,
        )

    def within(self, fit: np.ndarray) -> TuplePositions:
        """The tuples all of whose positions are fit: (n,) bool, for each row of the table."""
        missing_is_fit = np.append(fit, True)
        held = torch.cat([self.query[:, None], self.positive, self.negative], dim=1).numpy()
        kept = torch.from_numpy(missing_is_fit[held].all(axis=1))
        return TuplePositions(self.query[kept], self.positive[kept], self.negative[kept], self.overlap[kept])


def positions_in(rows: np.ndarray, wanted: np.ndarray) -> Tensor:
    """Where each of `wanted` (any shape) lies in rising rows: int64 of that shape; -1 stays -1."""
    return torch.from_numpy(np.where(wanted >= 0, np.searchsorted(rows, wanted), -1))


def rows_and_positions(
    query: np.ndarray, positive: np.ndarray, negative: np.ndarray
) -> tuple[np.ndarray, TuplePositions]:
    """The distinct rows that some tuples hold, rising, and the tuples as positions in them; no overlap is known.

    Parameters
    ----------
    query, positive, negative : (B,), (B, P), (B, K) int64
        Rows; -1 where missing.
    """
    rows = np.unique(np.concatenate([query, positive.ravel(), negative.ravel()]))
    rows = rows[rows >= 0]
    at = [positions_in(rows, end) for end in (query, positive, negative)]
    return rows, TuplePositions(at[0], at[1], at[2], torch.full(positive.shape, torch.nan))
