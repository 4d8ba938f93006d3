"""Hamming embedding: features of one word are told apart by 64 bits, and near bits weigh more [JDS08]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval.local_features.options import BITS, HammingOptions
from retrieval.local_features.vocabulary import BLOCK, unit_length
from sfm2tuples.files.columns import gather_rows, indptr_of

PAIRS = 1 << 22
"""Pairs of features that are compared at once, about."""
_SET_BITS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


@dataclass(frozen=True)
class Embedding:
    """What makes the bits of a descriptor: on which side of its word's median each of its projections lies."""

    projection: np.ndarray
    """(64, 128) float32: orthogonal rows."""
    thresholds: np.ndarray
    """(W, 64) float32: medians of the projections of each word's descriptors."""


@dataclass(frozen=True)
class SignedFeatures:
    """Features of photos by word and bits; those of photo i are the rows ``indptr[i]:indptr[i + 1]``."""

    indptr: np.ndarray
    """(n + 1,) int64."""
    word: np.ndarray
    """(m,) int32: the nearest word."""
    signature: np.ndarray
    """(m,) uint64: the bits."""

    @property
    def photo(self) -> np.ndarray:
        """(m,) int64: the photo of each feature."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def rows(self, photos: np.ndarray) -> np.ndarray:
        """Rows of the features of some photos, one photo after the other."""
        return gather_rows(self.indptr, np.asarray(photos, np.int64))[1]


def learn_embedding(descriptors: np.ndarray, word: np.ndarray, num_words: int, seed: int = 0) -> Embedding:
    """Draw a projection and find the medians of each word.

    Parameters
    ----------
    descriptors : (m, 128) uint8
        Those that words are learned from.
    word : (m,) int32
        Their nearest words.
    num_words : int
        W; a word without descriptors has the medians of all.
    seed : int
        Of the projection.
    """
    draws = np.random.default_rng(seed).normal(size=(descriptors.shape[1], descriptors.shape[1]))
    projection = np.linalg.qr(draws)[0][:BITS].astype(np.float32)
    projected = _project(descriptors, projection)
    thresholds = np.empty((num_words, BITS), np.float32)
    thresholds[:] = np.median(projected, axis=0)
    order = np.argsort(word, kind="stable")
    starts = indptr_of(np.bincount(word, minlength=num_words))
    for number in np.unique(word).tolist():
        thresholds[number] = np.median(projected[order[starts[number] : starts[number + 1]]], axis=0)
    return Embedding(projection, thresholds)


def sign_descriptors(descriptors: np.ndarray, word: np.ndarray, embedding: Embedding) -> np.ndarray:
    """Bits of descriptors, (m,) uint64, in blocks; `word` (m,) are their nearest words."""
    signature = np.empty(len(descriptors), np.uint64)
    for start in range(0, len(descriptors), BLOCK):
        part = slice(start, start + BLOCK)
        bits = _project(descriptors[part], embedding.projection) > embedding.thresholds[word[part]]
        signature[part] = np.packbits(bits, axis=1).view(">u8").ravel()
    return signature


def bits_apart(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Number of bits in which signatures differ: (k,) int64 of two (k,) uint64."""
    parts = np.ascontiguousarray(left ^ right).view(np.uint16).reshape(-1, 4)
    return _SET_BITS[parts].sum(axis=1, dtype=np.int64)


class HammingFile:
    """The features of a database, word by word.

    A query and a photo have the similarity: over all pairs of their features of one word that match, the sum of
    idf(word)² exp(-bits²/spread²), divided by the lengths of both plain tf-idf vectors. If all pairs of a word
    counted 1, that would be the cosine of tf-idf.

    Parameters
    ----------
    database : SignedFeatures
    idf : (W,) float64
    options : HammingOptions
    """

    def __init__(self, database: SignedFeatures, idf: np.ndarray, options: HammingOptions) -> None:
        self._idf, self._options = idf, options
        self._order = np.argsort(database.word, kind="stable")
        self._starts = indptr_of(np.bincount(database.word, minlength=len(idf)))
        self._signature = database.signature[self._order]
        self._photo = database.photo[self._order]
        self._count = len(database.indptr) - 1
        self._length = np.array(
            [self._tf_idf_length(database.word[database.rows(np.array([i]))]) for i in range(self._count)]
        )

    def similarities(self, word: np.ndarray, signature: np.ndarray) -> np.ndarray:
        """Similarities of one query, given by its features, with the database: (n,) float64."""
        total = np.zeros(self._count)
        for which, rows, bits in self._pairs(word, signature):
            weight = np.exp(-((bits / self._options.spread) ** 2)) * self._idf[word[which]] ** 2
            total += np.bincount(self._photo[rows], weight, self._count)
        length = self._tf_idf_length(word) * self._length
        return np.where(length > 0, total / np.where(length > 0, length, 1), 0.0)

    def holders(self, word: np.ndarray, signature: np.ndarray) -> np.ndarray:
        """In how many photos each feature of a query has a match: (m,) int64."""
        seen: list[np.ndarray] = [np.empty(0, np.int64)]
        for which, rows, _ in self._pairs(word, signature):
            seen.append(np.unique(which * self._count + self._photo[rows]))
        return np.bincount(np.concatenate(seen) // max(1, self._count), minlength=len(word))

    def _pairs(self, word: np.ndarray, signature: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Matches in blocks of whole query features: feature of the query, row of the postings, bits apart."""
        ends = np.cumsum(np.diff(self._starts)[word])
        for block in np.split(np.arange(len(word)), np.flatnonzero(np.diff(ends // PAIRS)) + 1):
            indptr, rows = gather_rows(self._starts, word[block].astype(np.int64))
            which = np.repeat(block, np.diff(indptr))
            bits = bits_apart(signature[which], self._signature[rows])
            near = bits <= self._options.max_distance
            yield which[near], rows[near], bits[near]

    def _tf_idf_length(self, word: np.ndarray) -> float:
        words, counts = np.unique(word, return_counts=True)
        return float(np.sqrt(np.sum((counts * self._idf[words]) ** 2)))


def confirmed_features(
    features: SignedFeatures,
    own_word: np.ndarray,
    own_signature: np.ndarray,
    chosen: np.ndarray,
    options: HammingOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """The query of Hamming query expansion: its own features, and those of chosen photos that another one confirms.

    Parameters
    ----------
    features : SignedFeatures
        Of the database.
    own_word, own_signature : (m,) int32, (m,) uint64
        The query's features.
    chosen : (k,) int64
        Photos of the database that it is expanded by.
    options : HammingOptions
        What a match is. A feature of a chosen photo comes in where it matches one of the query or of another
        chosen photo.

    Returns
    -------
    word : (m + c,) int32
    signature : (m + c,) uint64
    """
    if len(chosen) == 0:
        return own_word, own_signature
    rows = features.rows(chosen)
    counts = np.concatenate([[len(own_word)], np.diff(features.indptr)[chosen]])
    pooled = SignedFeatures(
        indptr_of(counts),
        np.concatenate([own_word, features.word[rows]]),
        np.concatenate([own_signature, features.signature[rows]]),
    )
    weightless = np.ones(int(pooled.word.max(initial=0)) + 1)
    held = HammingFile(pooled, weightless, options).holders(pooled.word, pooled.signature)
    # Each matches itself in its own photo.
    kept = (held >= 2) | (np.arange(len(held)) < len(own_word))
    return pooled.word[kept], pooled.signature[kept]


def _project(descriptors: np.ndarray, projection: np.ndarray) -> np.ndarray:
    return unit_length(descriptors) @ projection.T
