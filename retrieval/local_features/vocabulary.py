"""Visual words: learned by k-means over local descriptors, and the nearest ones of a descriptor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval.local_features.sift import LENGTH
from sfm2tuples.errors import UsageError

EXACT_WORDS = 1 << 15
"""Up to so many words each descriptor is compared with all of them; beyond, faiss's graph finds the nearest."""
GRAPH_LINKS, GRAPH_EF = 32, 64
"""Links of a word in that graph, and words kept in sight when it is searched."""
BLOCK = 1 << 15
"""Descriptors that are assigned at once."""


@dataclass(frozen=True)
class WordOptions:
    """How many words are learned, and how descriptors get theirs."""

    num_words: int = 16384
    """Words of the vocabulary; as many as the descriptors that it learns from, where there are fewer."""
    samples_per_word: int = 40
    """Descriptors, drawn at random, that a word is learned from on average."""
    turns: int = 10
    """Turns of k-means."""
    num_nearest: int = 1
    """Words that a feature counts for: 1 is hard assignment, more is soft [P08]."""
    softness: float = 0.15
    """Distance (descriptors have length 1) at which a further word's weight is exp(-1/2) of a word at 0."""
    seed: int = 0
    """Of the draw and of k-means."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if min(self.num_words, self.samples_per_word, self.turns, self.num_nearest) < 1:
            raise UsageError("words, samples per word, turns and nearest words must be at least 1")
        if not self.softness > 0:
            raise UsageError(f"softness must be above 0, not {self.softness}")


def learn_words(descriptors: np.ndarray, options: WordOptions) -> np.ndarray:
    """Learn a vocabulary.

    Parameters
    ----------
    descriptors : (m, 128) uint8
        RootSIFT times 512.
    options : WordOptions

    Returns
    -------
    (W, 128) float32
        Centres, for descriptors of length 1. The same for the same descriptors, options and number of threads.

    Raises
    ------
    UsageError
        There is no descriptor.
    """
    import faiss

    if len(descriptors) == 0:
        raise UsageError("no local feature to learn words from; are the photos blank or very small?")
    wanted = options.num_words * options.samples_per_word
    rng = np.random.default_rng(options.seed)
    if len(descriptors) > wanted:
        descriptors = descriptors[np.sort(rng.choice(len(descriptors), wanted, replace=False))]
    sample = unit_length(descriptors)
    count = min(options.num_words, len(sample))
    clustering = faiss.Clustering(sample.shape[1], count)
    clustering.niter, clustering.seed = options.turns, options.seed
    clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, len(sample)
    clustering.train(sample, _searcher(sample.shape[1], count))
    return np.array(faiss.vector_to_array(clustering.centroids), np.float32).reshape(count, -1)


def assign_words(
    descriptors: np.ndarray, words: np.ndarray, num_nearest: int = 1, softness: float = 0.15
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest words of descriptors, in blocks.

    Parameters
    ----------
    descriptors : (m, 128) uint8
        RootSIFT times 512.
    words : (W, 128) float32
    num_nearest : int
        Words of each descriptor.
    softness : float
        See `WordOptions`.

    Returns
    -------
    word : (m, k) int32
        Nearest first; k is `num_nearest`, or W where there are fewer.
    weight : (m, k) float32
        exp(-d²/2σ²), made to sum to 1 over the words of a descriptor.
    """
    searcher = _searcher(words.shape[1], len(words))
    searcher.add(words)
    nearest = min(num_nearest, len(words))
    word = np.empty((len(descriptors), nearest), np.int32)
    weight = np.empty((len(descriptors), nearest), np.float32)
    for start in range(0, len(descriptors), BLOCK):
        part = slice(start, start + BLOCK)
        squared, word[part] = searcher.search(unit_length(descriptors[part]), nearest)
        # Differences to the nearest, so that a descriptor far from every word has weights too.
        near = np.exp(-(squared - squared[:, :1]) / (2 * softness**2))
        weight[part] = near / near.sum(axis=1, keepdims=True)
    return word, weight


def unit_length(descriptors: np.ndarray) -> np.ndarray:
    """Descriptors of bytes as float32 of length 1, but for rounding."""
    return descriptors.astype(np.float32) / np.float32(LENGTH)


def _searcher(dimension: int, count: int) -> Any:
    """faiss's index for the nearest of `count` words."""
    import faiss

    if count <= EXACT_WORDS:
        return faiss.IndexFlatL2(dimension)
    graph = faiss.IndexHNSWFlat(dimension, GRAPH_LINKS)
    graph.hnsw.efSearch = GRAPH_EF
    return graph
