"""Learn a whitening from matching pairs (L_w) or by PCA (PCA_w)."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from retrieval.whitening.linear_algebra import (
    BLOCK_ROWS,
    cholesky_with_jitter,
    falling_eigenvectors,
    mean_of,
    rank_of,
    second_moment,
    shrink,
    with_fixed_signs,
)
from retrieval.whitening.projection import Whitening, apply
from sfm2tuples.errors import UsageError
from sfm2tuples.similarity.rows import Matrix, block_of, select

logger = logging.getLogger(__name__)


def learn_lw(
    descriptors: Matrix, pairs: np.ndarray, shrinkage: float = 0.0, all_rows: np.ndarray | None = None
) -> Whitening:
    """Learn a whitening from matching pairs, after Mikolajczyk and Matas (method.md section 9).

    Parameters
    ----------
    descriptors : (n, K) float32, L2-normalised
    pairs : (m, 2) int
        Rows of matching images, the query first.
    shrinkage : float
        λ: the pairs' covariance C becomes (1 - λ) C + λ tr(C)/K I. With 0, as published: a covariance that does not
        factor gets 1e-10, x 10 until it does, on its diagonal [C]; this is logged.
    all_rows : (r,) int, optional
        Images of the set, over which the rotation is learned; all rows by default.

    Raises
    ------
    UsageError
        No pairs, or λ outside 0..1.
    """
    if len(pairs) == 0:
        raise UsageError("no matching pairs to learn a whitening from; lower the demands on pairs, or use PCA")
    statistics = PairStatistics.of(descriptors, pairs)
    whitening = statistics.whitening(descriptors if all_rows is None else select(descriptors, all_rows), shrinkage)
    logger.info(
        "L_w from %d pairs: covariance of rank %d of %d, shrinkage %g",
        whitening.num_pairs,
        whitening.rank,
        descriptors.shape[1],
        shrinkage,
    )
    if whitening.rank == 0:
        logger.warning("matching images have the same descriptors: nothing is whitened, the axes are turned alone")
    elif shrinkage == 0 and whitening.rank < descriptors.shape[1]:
        logger.warning(
            "the covariance of %d pairs has rank %d of %d; %g was added to its diagonal so that it factors; "
            "shrinkage (--shrinkage auto) is safer",
            whitening.num_pairs,
            whitening.rank,
            descriptors.shape[1],
            whitening.jitter,
        )
    return whitening


@dataclass(frozen=True)
class PairStatistics:
    """What L_w takes from the matching pairs, before any shrinkage."""

    mean: np.ndarray
    """(K,) float64: mean of the pairs' queries, each once, so that an image with many partners does not draw it."""
    covariance: np.ndarray
    """(K, K) float64: mean over pairs of (f(i) - f(j)) (f(i) - f(j))ᵀ."""
    num_pairs: int
    """Number of pairs."""

    @classmethod
    def of(cls, descriptors: Matrix, pairs: np.ndarray) -> PairStatistics:
        """Gather them from (n, K) descriptors and (m, 2) pairs of rows, in blocks; O(m K²)."""
        dimension = descriptors.shape[1]
        covariance = np.zeros((dimension, dimension))
        for start in range(0, len(pairs), BLOCK_ROWS):
            block = pairs[start : start + BLOCK_ROWS]
            difference = block_of(descriptors, block[:, 0]).astype(np.float64) - block_of(descriptors, block[:, 1])
            covariance += difference.T @ difference
        mean = mean_of(descriptors, np.unique(pairs[:, 0]))
        return cls(mean, covariance / len(pairs), len(pairs))

    def whitening(self, images: Matrix, shrinkage: float) -> Whitening:
        """Learn L_w at one shrinkage; `images` (r, K) are the descriptors of all images of the set."""
        inverse, jitter = self._inverse_factor(shrinkage)
        # The second moment of P (f - m) is P times that of f - m times Pᵀ: cheaper than projecting every image.
        moment = inverse @ second_moment(images, self.mean) @ inverse.T
        _, vectors = falling_eigenvectors(moment)
        return Whitening(
            mean=self.mean,
            projection=with_fixed_signs(vectors.T @ inverse),
            method="lw",
            shrinkage=float(shrinkage),
            num_pairs=self.num_pairs,
            rank=rank_of(self.covariance),
            jitter=jitter,
        )

    def whitened(self, descriptors: np.ndarray, shrinkage: float) -> np.ndarray:
        """Descriptors (n, K) as `whitening` makes them, but for its last rotation, which changes no similarity.

        That is worth leaving out: a factor costs K³/3, the eigenvectors of the rotation many times as much.
        """
        inverse, jitter = self._inverse_factor(shrinkage)
        return apply(Whitening(self.mean, inverse, "lw", float(shrinkage), jitter=jitter), descriptors)

    def in_own_axes(self, descriptors: np.ndarray) -> InOwnAxes:
        """Descriptors (n, K) along the axes of the covariance, where any shrinkage is a scale of each axis; O(K³)."""
        values, axes = falling_eigenvectors(self.covariance)
        along = np.empty(descriptors.shape, np.float32)
        for start in range(0, len(descriptors), BLOCK_ROWS):
            along[start : start + BLOCK_ROWS] = (descriptors[start : start + BLOCK_ROWS] - self.mean) @ axes
        return InOwnAxes(np.maximum(values, 0), along)

    def _inverse_factor(self, shrinkage: float) -> tuple[np.ndarray, float]:
        """The inverse (K, K) of the shrunk covariance's Cholesky factor, and what was added so that there is one."""
        lower, jitter = cholesky_with_jitter(shrink(self.covariance, shrinkage))
        return solve_triangular(lower, np.eye(len(lower)), lower=True), jitter


@dataclass(frozen=True)
class InOwnAxes:
    """Descriptors along the axes of a covariance: shrinkage moves its eigenvalues alone and keeps the axes."""

    variances: np.ndarray
    """(K,) float64: eigenvalues of the covariance, falling, none below 0."""
    along: np.ndarray
    """(n, K) float32: centred descriptors; scaled later, which keeps the relative precision of each value."""

    def whitened(self, shrinkage: float) -> np.ndarray:
        """What `PairStatistics.whitened` makes, but for a rotation, which changes no similarity; O(n K).

        Raises
        ------
        UsageError
            The shrunk covariance has an axis without variance, such as one of few pairs at λ = 0.
        """
        variances = (1 - shrinkage) * self.variances + shrinkage * self.variances.mean()
        if not variances.min() > 0:
            raise UsageError("the covariance does not factor at this shrinkage; give a larger one")
        scaled = np.empty(self.along.shape, np.float32)
        for start in range(0, len(scaled), BLOCK_ROWS):
            block = self.along[start : start + BLOCK_ROWS] / np.sqrt(variances)
            norms = np.linalg.norm(block, axis=1, keepdims=True)
            scaled[start : start + BLOCK_ROWS] = block / np.where(norms > 0, norms, 1)
        return scaled


def learn_pca(descriptors: Matrix, shrinkage: float = 0.0) -> Whitening:
    """Learn a PCA whitening: rotation to the covariance's axes, and division by their root eigenvalues.

    Parameters
    ----------
    descriptors : (n, K) float32, L2-normalised
        Images of an independent set.
    shrinkage : float
        λ, as in `learn_lw`. With 0, directions in which the images do not differ (fewer images than dimensions,
        channels that never fire) cannot be divided and are left out; this is logged.

    Raises
    ------
    UsageError
        Fewer than two images, images that are all the same, or λ outside 0..1.
    """
    if len(descriptors) < 2:
        raise UsageError(f"PCA whitening needs at least two images, here are {len(descriptors)}")
    mean = mean_of(descriptors)
    covariance = second_moment(descriptors, mean)
    rank = rank_of(covariance)
    if rank == 0:
        raise UsageError("PCA whitening needs images that differ; all descriptors here are the same")
    values, vectors = falling_eigenvectors(shrink(covariance, shrinkage))
    keep = len(values) if shrinkage > 0 else rank
    logger.info("PCA_w from %d images: covariance of rank %d of %d", len(descriptors), rank, len(values))
    if keep < len(values):
        logger.warning("%d of %d dimensions do not vary and are left out", len(values) - keep, len(values))
    projection = vectors[:, :keep].T / np.sqrt(values[:keep, None])
    return Whitening(mean, with_fixed_signs(projection), "pca", float(shrinkage), {}, len(descriptors), rank)
