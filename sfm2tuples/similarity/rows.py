"""Some rows of a matrix, gathered in blocks, so that a pool larger than memory is never copied whole."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MatrixRows:
    """Rows of a matrix of descriptors that lies in memory or is mapped from a file."""

    values: np.ndarray
    """(n, D) float32."""
    row: np.ndarray
    """(m,) int64, which of them, in the order wanted."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and their length."""
        return len(self.row), int(self.values.shape[1])

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.row)

    def __getitem__(self, which: slice | np.ndarray) -> np.ndarray:
        """A copy of some of the rows: (k, D)."""
        return self.values[self.row[which]]


Matrix = np.ndarray | MatrixRows
"""Descriptors, (n, D): an array, an array mapped from a file, or chosen rows of one."""


def block_of(matrix: Matrix, which: slice | np.ndarray) -> np.ndarray:
    """Rows of a matrix in memory: (k, D) float32, contiguous; a copy, or a view where the matrix is in memory."""
    values = matrix.values if isinstance(matrix, MatrixRows) else matrix
    if not isinstance(values, np.memmap):
        return np.ascontiguousarray(matrix[which], np.float32)
    block = np.array(matrix[which], np.float32)
    _let_go(values)
    return block


def _let_go(mapped: np.memmap) -> None:
    """Pages of a mapped file count as this process's memory once they were read; the system's cache keeps them."""
    if mapped.mode == "r" and isinstance(mapped.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.base.madvise(mmap.MADV_DONTNEED)


def select(matrix: Matrix, row: np.ndarray) -> MatrixRows:
    """Rows of a matrix without copying them."""
    return MatrixRows(matrix.values, matrix.row[row]) if isinstance(matrix, MatrixRows) else MatrixRows(matrix, row)
