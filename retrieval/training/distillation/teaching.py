"""What a run has of its teacher: one descriptor a photo, and the loss that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval.training.distillation.relational import relational


@dataclass(frozen=True)
class Teaching:
    """The teacher's descriptors, and how much its opinion counts."""

    descriptors: np.ndarray
    """(m, E) float32, L2-normalised."""
    rows: np.ndarray
    """(m,) int64, rising rows of `/images` that they are of."""
    weight: float
    """Factor of its loss."""
    fingerprint: str
    """Of the descriptor file."""

    def of(self, rows: np.ndarray) -> np.ndarray:
        """(r, E) float32, descriptors of some rows of `/images`, all of which it has."""
        at = np.searchsorted(self.rows, rows)
        if not np.array_equal(np.append(self.rows, -1)[at], rows):
            raise ValueError("the teacher has no descriptor of some photos")
        return np.asarray(self.descriptors[at])

    def loss_of(self, descriptors: Tensor, groups: Sequence[Sequence[int] | np.ndarray]) -> Tensor:
        """What the teacher adds to a loss: `relational` of each group by itself, times the weight.

        It says nothing of a photo without a descriptor of its own: the group is judged without that photo.

        Parameters
        ----------
        descriptors : (n, D) float
            Of the photos of all groups, one after the other.
        groups : sequence of (k,) int
            Their rows of `/images`.
        """
        total, first = descriptors.sum() * 0, 0
        for group in groups:
            rows, own = np.asarray(group, np.int64), descriptors[first : first + len(group)]
            first += len(group)
            known = np.isin(rows, self.rows)
            if not known.all():
                own = own[torch.from_numpy(known).to(own.device)]
            total = total + relational(own, torch.from_numpy(self.of(rows[known])).to(own))
        return self.weight * total
