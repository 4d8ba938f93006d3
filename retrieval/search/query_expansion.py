"""Query expansion and database-side augmentation: a vector averaged with those that it finds (method.md section 10)."""

from __future__ import annotations

import numpy as np

from retrieval.search.engines import FlatEngine
from retrieval.search.options import Expansion
from sfm2tuples.compute.progress_bars import ProgressBar
from sfm2tuples.similarity.exact_search import Search, most_similar
from sfm2tuples.similarity.rows import block_of

BLOCK = 1 << 14
"""Database rows that are augmented at once."""
AT_ONCE = 1024
"""Vectors that are averaged at once, at most."""
MOST_VALUES = 1 << 27
"""Values of the images that they are averaged with: 512 MB. Fewer vectors are averaged at once where each has many."""


def expand(vectors: np.ndarray, found: np.ndarray, similarity: np.ndarray, expansion: Expansion) -> np.ndarray:
    """Average vectors with those that they found.

    Parameters
    ----------
    vectors : (q, D) float32, L2-normalised
    found : (q, n, D) float32
        Vectors of the images found, most similar first; only the first `expansion.num_images` count.
    similarity : (q, n) float64
        Their similarities; -inf where there is none, whatever `found` holds there.
    expansion : Expansion

    Returns
    -------
    (q, D) float32, L2-normalised
        A vector whose mean is zero stays as it was.
    """
    weights = _weights(similarity[:, : expansion.num_images], expansion.alpha)
    found = np.where(weights[..., None] > 0, found[:, : expansion.num_images], 0)
    total = vectors.astype(np.float64) + np.einsum("qn,qnd->qd", weights, found, dtype=np.float64)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 0, total / np.where(length > 0, length, 1), vectors).astype(np.float32)


def expand_by_rows(
    vectors: np.ndarray, row: np.ndarray, similarity: np.ndarray, database: np.ndarray, expansion: Expansion
) -> np.ndarray:
    """`expand` by rows of a database (q, n), -1 for none."""
    expanded = np.empty(vectors.shape, np.float32)
    count = max(1, min(expansion.num_images, row.shape[1]) * vectors.shape[1])
    size = max(1, min(AT_ONCE, MOST_VALUES // count))
    for start in range(0, len(vectors), size):
        part = slice(start, start + size)
        wanted = row[part, : expansion.num_images]
        rows, which = np.unique(wanted, return_inverse=True)
        found = block_of(database, np.maximum(rows, 0))[which.reshape(wanted.shape)]
        near = np.where(wanted >= 0, similarity[part, : expansion.num_images], -np.inf)
        expanded[part] = expand(vectors[part], found, near, expansion)
    return expanded


def augment(database: np.ndarray, expansion: Expansion, exact: Search = most_similar) -> np.ndarray:
    """Database-side augmentation: every row averaged with its most similar ones, itself not counted among them.

    Parameters
    ----------
    database : (n, D) float32, L2-normalised
    expansion : Expansion
    exact : Search
        What multiplies: the processor by default, or a device's.

    Returns
    -------
    (n, D) float32, L2-normalised
        In memory. The search is exact and costs n x n x D.
    """
    augmented = np.empty(database.shape, np.float32)
    engine = FlatEngine(database, exact)
    for start in ProgressBar(range(0, len(database), BLOCK), desc="augment", disable=len(database) <= BLOCK):
        part = slice(start, start + BLOCK)
        vectors = block_of(database, part)
        row, similarity = engine.search(vectors, expansion.num_images, np.arange(start, start + len(vectors)))
        augmented[part] = expand_by_rows(vectors, row, similarity, database, expansion)
    return augmented


def _weights(similarity: np.ndarray, alpha: float) -> np.ndarray:
    """Weights (..., n) float64 of similarities; 0 where they are -inf, which stands for nothing found."""
    found = similarity > -np.inf
    return np.where(found, np.clip(np.where(found, similarity, 0.0), 0.0, None) ** alpha, 0.0)
