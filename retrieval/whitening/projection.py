"""Whitening learned from matching pairs (L_w) or by PCA (PCA_w), its file, and how it is applied."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from retrieval.whitening.linear_algebra import (
    BLOCK_ROWS,
    cholesky_with_jitter,
    falling_eigenvectors,
    rank_of,
    second_moment,
    shrink,
    with_fixed_signs,
)
from sfm2tuples.errors import FileFormatError, UsageError
from sfm2tuples.files.container import create_file, header_of, open_file
from sfm2tuples.files.descriptor_settings import differing

FORMAT = "sfm2tuples-whitening"
VERSION = 1
METHODS = ("lw", "pca")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Whitening:
    """A learned projection; ``apply`` maps descriptors f to the normalised ``projection @ (f - mean)``."""

    mean: np.ndarray
    """(K,) float64: subtracted first."""
    projection: np.ndarray
    """(D, K) float64: rows in the order of falling importance, so that the first D' whiten to D' dimensions."""
    method: str
    """``lw`` or ``pca``."""
    shrinkage: float
    """λ in 0..1 that the covariance was shrunk by; 0 as published."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What made the descriptors it was learned on: network, size, scales, ...; empty when not known."""
    num_pairs: int = 0
    """Matching pairs (lw) or images (pca) that it was learned on; 0 when not known."""
    rank: int = 0
    """Rank of the covariance before shrinkage; 0 when not known."""
    jitter: float = 0.0
    """What had to be added to the covariance's diagonal so that it factors."""
    fingerprint: str = ""
    """Fingerprint of the file it was read from."""

    @property
    def dim(self) -> int:
        """Dimension of whitened descriptors."""
        return len(self.projection)


def learn_lw(
    descriptors: np.ndarray, pairs: np.ndarray, shrinkage: float = 0.0, all_rows: np.ndarray | None = None
) -> Whitening:
    """Learn a whitening from matching pairs, after Mikolajczyk and Matas (METHOD.md section 9).

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
    whitening = statistics.whitening(descriptors if all_rows is None else descriptors[all_rows], shrinkage)
    logger.info(
        "L_w from %d pairs: covariance of rank %d of %d, shrinkage %g",
        whitening.num_pairs,
        whitening.rank,
        descriptors.shape[1],
        shrinkage,
    )
    if shrinkage == 0 and whitening.rank < descriptors.shape[1]:
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
    def of(cls, descriptors: np.ndarray, pairs: np.ndarray) -> PairStatistics:
        """Gather them from (n, K) descriptors and (m, 2) pairs of rows, in blocks; O(m K²)."""
        dimension = descriptors.shape[1]
        covariance = np.zeros((dimension, dimension))
        for start in range(0, len(pairs), BLOCK_ROWS):
            block = pairs[start : start + BLOCK_ROWS]
            difference = descriptors[block[:, 0]].astype(np.float64) - descriptors[block[:, 1]]
            covariance += difference.T @ difference
        mean = descriptors[np.unique(pairs[:, 0])].mean(axis=0, dtype=np.float64)
        return cls(mean, covariance / len(pairs), len(pairs))

    def whitening(self, images: np.ndarray, shrinkage: float) -> Whitening:
        """Learn L_w at one shrinkage; `images` (r, K) are the descriptors of all images of the set."""
        lower, jitter = cholesky_with_jitter(shrink(self.covariance, shrinkage))
        inverse = solve_triangular(lower, np.eye(len(lower)), lower=True)
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


def learn_pca(descriptors: np.ndarray, shrinkage: float = 0.0) -> Whitening:
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
    mean = descriptors.mean(axis=0, dtype=np.float64)
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


def apply(whitening: Whitening, descriptors: np.ndarray, dim: int | None = None) -> np.ndarray:
    """Whiten descriptors, cut to the first `dim` dimensions, and normalise.

    Parameters
    ----------
    whitening : Whitening
    descriptors : (n, K) float32, L2-normalised
    dim : int, optional
        All dimensions of the whitening by default.

    Returns
    -------
    (n, dim) float32, L2-normalised
        A descriptor that is the mean itself has no direction and stays zero.

    Raises
    ------
    UsageError
        The descriptors have another dimension, or `dim` is more than the whitening has.
    """
    if descriptors.shape[1] != len(whitening.mean):
        raise UsageError(
            f"the whitening is for descriptors of {len(whitening.mean)} dimensions, these have {descriptors.shape[1]}; "
            "it belongs to another network"
        )
    projection = cut(whitening, dim).projection if dim is not None else whitening.projection
    result = np.empty((len(descriptors), len(projection)), np.float32)
    for start in range(0, len(descriptors), BLOCK_ROWS):
        block = (descriptors[start : start + BLOCK_ROWS] - whitening.mean) @ projection.T
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        result[start : start + BLOCK_ROWS] = block / np.where(norms > 0, norms, 1)
    return result


def cut(whitening: Whitening, dim: int) -> Whitening:
    """Keep only the first `dim` dimensions.

    Raises
    ------
    UsageError
        `dim` is below 1 or more than the whitening has.
    """
    if not 1 <= dim <= whitening.dim:
        raise UsageError(f"dim {dim} is not between 1 and the {whitening.dim} dimensions of the whitening")
    return replace(whitening, projection=whitening.projection[:dim])


def write_whitening(path: str | Path, whitening: Whitening, parents: Sequence[str] = ()) -> None:
    """Write a whitening file; `parents` are the fingerprints of the files it was learned on."""
    options = {
        "method": whitening.method,
        "shrinkage": whitening.shrinkage,
        "dim": whitening.dim,
        "num_pairs": whitening.num_pairs,
        "rank": whitening.rank,
        "jitter": whitening.jitter,
        "settings": whitening.settings,
    }
    with create_file(path, FORMAT, VERSION, options, parents) as file:
        file["mean"] = np.asarray(whitening.mean, np.float64)
        file["projection"] = np.asarray(whitening.projection, np.float64)


def read_whitening(path: str | Path) -> Whitening:
    """Read a whitening file.

    Raises
    ------
    DataError
        There is no such file.
    FileFormatError
        It is torn, of another format, too new, or holds values that cannot be a whitening.
    """
    with open_file(path, FORMAT, VERSION) as file:
        mean, projection, header = file["mean"][()], file["projection"][()], header_of(file)
        options = {
            key: header.options[key] for key in ("method", "shrinkage", "settings", "num_pairs", "rank", "jitter")
        }
    if projection.ndim != 2 or mean.shape != projection.shape[1:] or not 0 < len(projection) <= len(mean):
        raise FileFormatError(path, f"a mean of shape {mean.shape} does not fit a projection of {projection.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(projection).all()):
        raise FileFormatError(path, "holds NaN or infinity", "learn it again")
    return Whitening(mean, projection, fingerprint=header.fingerprint, **options)


def settings_mismatch(learned: dict[str, Any], applied: dict[str, Any]) -> str | None:
    """Say in one line where descriptors were made otherwise than those a whitening was learned on.

    Parameters
    ----------
    learned, applied : dict
        `Whitening.settings` and `Descriptors.settings`. What only one of them knows is not compared: foreign files
        do not say how they were made.

    Returns
    -------
    str or None
        None where nothing differs.
    """
    found = differing(learned, applied)
    if not found:
        return None
    parts = [f"{key} {_short(there)} there, {_short(here)} here" for key, there, here in found]
    return f"the whitening was learned with other settings than these descriptors': {'; '.join(parts)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:20] + "…"
