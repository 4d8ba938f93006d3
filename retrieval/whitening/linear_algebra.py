"""Small linear algebra of whitening: moments, shrinkage, factors and eigenvectors, in double precision."""

from __future__ import annotations

import numpy as np

from sfm2tuples.compute.memory import machine_memory
from sfm2tuples.errors import UsageError
from sfm2tuples.similarity.rows import Matrix, block_of

FIRST_JITTER = 1e-10
"""What [C] adds to the diagonal of a matrix that does not factor; times 10 until it does."""
BLOCK_ROWS = 1 << 14
"""Rows that are cast to double precision at a time."""
MATRICES = 10
"""Matrices (K, K) of double precision that learning a whitening holds at its peak; 9.5 were measured for L_w."""


def refuse_beyond_memory(dimension: int) -> None:
    """Refuse to learn a whitening whose matrices this machine cannot hold, before any is made.

    Raises
    ------
    UsageError
    """
    needed, there = MATRICES * 8 * dimension**2, machine_memory()
    if there is not None and needed > there:
        raise UsageError(
            f"a whitening of {dimension:,} dimensions takes {needed / 1e9:,.0f} GB of memory to learn, and here are "
            f"{there / 1e9:,.0f}; shorten the descriptors first: by a layer of the network (--whitening-layer random "
            "--output-dim 512), or by fewer --clusters of netvlad"
        )


def shrink(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """Shrink (K, K) towards a multiple of the identity of equal trace: (1 - λ) C + λ tr(C)/K I.

    Raises
    ------
    UsageError
        λ outside 0..1.
    """
    if not 0 <= shrinkage <= 1:
        raise UsageError(f"shrinkage {shrinkage} is not between 0 and 1")
    dimension = len(covariance)
    return (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / dimension * np.eye(dimension)


def cholesky_with_jitter(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Factor L Lᵀ, adding 1e-10, x 10 until it succeeds, to the diagonal, as [C] does.

    Returns
    -------
    lower : (K, K) float64
    jitter : float
        What had to be added; 0 for a positive definite matrix.

    Raises
    ------
    UsageError
        The matrix is not finite.
    """
    if not np.isfinite(matrix).all():
        raise UsageError("the covariance is not finite; are the descriptors?")
    jitter = 0.0
    while True:
        try:
            return np.linalg.cholesky(matrix + jitter * np.eye(len(matrix))), jitter
        except np.linalg.LinAlgError:
            jitter = jitter * 10 or FIRST_JITTER


def mean_of(descriptors: Matrix, rows: np.ndarray | None = None) -> np.ndarray:
    """Mean of all or chosen rows, (K,) float64, in blocks."""
    count = len(descriptors) if rows is None else len(rows)
    if count <= BLOCK_ROWS:
        return block_of(descriptors, slice(None) if rows is None else rows).mean(axis=0, dtype=np.float64)
    total = np.zeros(descriptors.shape[1])
    for start in range(0, count, BLOCK_ROWS):
        part = slice(start, start + BLOCK_ROWS)
        total += block_of(descriptors, part if rows is None else rows[part]).sum(axis=0, dtype=np.float64)
    return total / count


def second_moment(descriptors: Matrix, mean: np.ndarray) -> np.ndarray:
    """Mean of (f - mean) (f - mean)ᵀ over the rows, (K, K) float64, in blocks."""
    moment = np.zeros((descriptors.shape[1], descriptors.shape[1]))
    for start in range(0, len(descriptors), BLOCK_ROWS):
        centred = block_of(descriptors, slice(start, start + BLOCK_ROWS)) - mean
        moment += centred.T @ centred
    return moment / len(descriptors)


def falling_eigenvectors(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, falling, and their eigenvectors as columns, of a symmetric matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return values[::-1], vectors[:, ::-1]


def with_fixed_signs(projection: np.ndarray) -> np.ndarray:
    """Turn rows so that their largest entry is positive: libraries give an eigenvector either sign."""
    largest = np.take_along_axis(projection, np.abs(projection).argmax(axis=1)[:, None], axis=1)
    return projection * np.where(largest < 0, -1.0, 1.0)


def rank_of(covariance: np.ndarray) -> int:
    """Numerical rank of a symmetric matrix."""
    return int(np.linalg.matrix_rank(covariance, hermitian=True))
