"""Short vectors of bags of words: several vocabularies side by side, reduced by one PCA whitening (mVoc) [JC12]."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from retrieval.local_features.bag_of_words import idf_of_counts, read_bag_of_words, tf_idf
from retrieval.whitening.linear_algebra import with_fixed_signs
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.columns import rows_of_names
from sfm2tuples.files.container import known_parents
from sfm2tuples.files.descriptors import Descriptors

logger = logging.getLogger(__name__)

MOST_LEARNED_FROM = 8192
"""Photos that the whitening is learned from, at most: their products with each other are held."""
NOISE = 1e-10
"""Axes of less than this share of the largest variance are rounding, and cannot be divided by it."""
BLOCK = 1024
"""Photos that are reduced at once."""


@dataclass(frozen=True)
class ShortOptions:
    """How words are weighted and how short the vectors are."""

    dim: int = 128
    """Dimensions of the vectors."""
    power: float = 0.5
    """Of a word's count, see `bag_of_words.InvertedFile`; [JC12] tames bursts before the whitening."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.dim < 1:
            raise UsageError(f"dim must be at least 1, not {self.dim}")
        if not 0 <= self.power <= 1:
            raise UsageError(f"power must be 0 to 1, not {self.power}")


@dataclass(frozen=True)
class WordCounts:
    """How often photos have the words of one vocabulary."""

    names: list[str]
    """Keys of the photos."""
    counts: sparse.csr_matrix
    """(n, W) float64."""
    words: np.ndarray
    """(W, 128) float32: the vocabulary."""
    settings: dict[str, Any]
    """How features were found."""
    path: str
    """The bag of words, for messages."""
    fingerprint: str
    """Its fingerprint."""

    def rows(self, names: Sequence[str]) -> sparse.csr_matrix:
        """Counts of the photos of these names, in their order; raises DataError where one is absent."""
        return self.counts[rows_of_names(self.names, names, self.path, "photos are not in it")]


@dataclass(frozen=True)
class JointWhitening:
    """What reduces the counts of several vocabularies to one short vector."""

    idf: tuple[np.ndarray, ...]
    """(W,) float64 of each vocabulary: weights of its words."""
    power: float
    """Of the counts."""
    mean: np.ndarray
    """(K,) float64: of the joint vectors, K words in all."""
    projection: np.ndarray
    """(D, K) float64: the axes of most variance, divided by their standard deviations."""

    def joint(self, counts: Sequence[sparse.csr_matrix]) -> sparse.csr_matrix:
        """Vectors of tf-idf, each vocabulary's of length 1, side by side: (n, K) float64."""
        parts = [tf_idf(part, self.power, idf) for part, idf in zip(counts, self.idf, strict=True)]
        return sparse.csr_matrix(sparse.hstack(parts))

    def shorten(self, counts: Sequence[sparse.csr_matrix]) -> np.ndarray:
        """Short vectors, (n, D) float32 of length 1; a photo that is the mean itself stays zero."""
        joint, offset = self.joint(counts), self.projection @ self.mean
        result = np.empty((joint.shape[0], len(self.projection)), np.float32)
        for start in range(0, len(result), BLOCK):
            block = joint[start : start + BLOCK] @ self.projection.T - offset
            length = np.linalg.norm(block, axis=1, keepdims=True)
            result[start : start + BLOCK] = block / np.where(length > 0, length, 1)
        return result


def learn_joint_whitening(counts: Sequence[sparse.csr_matrix], options: ShortOptions) -> JointWhitening:
    """Learn weights of words and the joint PCA whitening from some photos.

    The axes come from the photos' products with each other, so that words by words are never held.

    Parameters
    ----------
    counts : sequence of (n, W) sparse matrices
        Of the same photos by one vocabulary each. Of more than `MOST_LEARNED_FROM` photos every so-many-th is taken for
        the axes.
    options : ShortOptions

    Raises
    ------
    UsageError
        The photos span fewer dimensions than are wanted.
    """
    if not counts[0].shape[0]:
        raise UsageError("no photo to learn from: the bag of words is empty")
    idf = tuple(idf_of_counts(part) for part in counts)
    unlearned = JointWhitening(idf, options.power, np.empty(0), np.empty((0, 0)))
    step = -(-counts[0].shape[0] // MOST_LEARNED_FROM)
    joint = unlearned.joint([part[::step] for part in counts])
    count = joint.shape[0]
    mean = np.asarray(joint.mean(axis=0)).ravel()
    with_mean = joint @ mean
    products = np.asarray((joint @ joint.T).todense()) - with_mean[:, None] - with_mean[None, :] + mean @ mean
    values, vectors = np.linalg.eigh(products)
    rank = int(np.sum(values > values[-1] * NOISE)) if values[-1] > NOISE else 0
    if rank < options.dim:
        raise UsageError(
            f"{count:,} photos span {rank} dimensions, fewer than the {options.dim} wanted; learn from more photos, or "
            "ask for fewer dimensions"
        )
    logger.info("joint PCA_w from %d photos: rank %d of %d words", count, rank, joint.shape[1])
    values, vectors = values[::-1][: options.dim], vectors[:, ::-1][:, : options.dim]
    centred = joint.T @ vectors - np.outer(mean, vectors.sum(axis=0))
    projection = with_fixed_signs(np.ascontiguousarray((centred * (np.sqrt(count) / values)).T))
    return JointWhitening(idf, options.power, mean, projection)


def read_counts(path: Path) -> WordCounts:
    """Read what is needed of a bag of words; its features are let go."""
    bag = read_bag_of_words(path)
    features = bag.features
    return WordCounts(features.names, bag.counts(), bag.words, features.settings, str(path), bag.fingerprint)


def short_descriptors(
    bags: Sequence[Path], learn_from: Sequence[Path], options: ShortOptions
) -> tuple[Descriptors, list[str]]:
    """Reduce the photos of some bags of words to short vectors.

    Parameters
    ----------
    bags : sequence of Path
        Bags of the same photos by one vocabulary each.
    learn_from : sequence of Path
        Bags of other photos by the same vocabularies, in the same order; none: the photos themselves.
    options : ShortOptions

    Returns
    -------
    Descriptors
    list of str
        Fingerprints of all bags.

    Raises
    ------
    UsageError
        The numbers of bags differ, or too few photos to learn from.
    DataError
        A bag is absent or torn, lacks photos of the first, or has other words than the one beside it.
    """
    if learn_from and len(learn_from) != len(bags):
        raise UsageError(f"{len(bags)} bags of words, but {len(learn_from)} to learn from: give one for each, in order")
    described = [read_counts(path) for path in bags]
    names = described[0].names
    counts = [part.rows(names) for part in described]
    training, learned_on = described, counts
    if learn_from:
        training = [read_counts(path) for path in learn_from]
        for part, own in zip(training, described, strict=True):
            if not np.array_equal(part.words, own.words):
                what = f"has other words than {own.path}"
                raise DataError(part.path, what, f"make it by build-bow --vocabulary {own.path}")
        learned_on = [part.rows(training[0].names) for part in training]
    values = learn_joint_whitening(learned_on, options).shorten(counts)
    parents = known_parents(part.fingerprint for part in [*described, *training])
    settings = described[0].settings | {
        "method": "mvoc",
        "words": [len(part.words) for part in described],
        "power": options.power,
        "dim": options.dim,
        "learned_on": [part.fingerprint for part in training],
    }
    return Descriptors(names, values, settings), parents
