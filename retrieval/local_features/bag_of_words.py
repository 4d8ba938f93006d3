"""Bags of visual words: photos as sparse tf-idf vectors in an inverted file, searched by their cosine [SZ03]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from retrieval.local_features import feature_files
from retrieval.local_features.feature_files import (
    DIMENSIONS,
    LocalFeatures,
    load_features,
    read_features,
    store_features,
    warn_if_found_otherwise,
)
from retrieval.local_features.hamming import Embedding, SignedFeatures, learn_embedding, sign_descriptors
from retrieval.local_features.options import BITS
from retrieval.local_features.vocabulary import WordOptions, assign_words, learn_words
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.columns import gather_rows
from sfm2tuples.files.container import create_file, header_of, known_parents, open_file
from sfm2tuples.files.rules import Rule, Rules

FORMAT = "sfm2tuples-bow"
VERSION = 1
RULES: Rules = {
    **feature_files.RULES,
    "words": Rule(("words", DIMENSIONS), "float32", finite=True),
    "word": Rule(("features", "words of a feature"), "int32", row_of="words"),
    "weight": Rule(("features", "words of a feature"), "float32", least=0, finite=True),
    "projection": Rule((BITS, DIMENSIONS), "float32", finite=True),
    "thresholds": Rule(("words", BITS), "float32", finite=True),
    "signature": Rule(("features",), "uint64"),
}
"""What is true of every column."""
LEARNING = ("num_words", "samples_per_word", "turns", "seed")
"""Options of `WordOptions` that made the words, not what they were given to."""
QUERIES = 64
"""Queries whose similarities to the whole database are worked out at once."""


@dataclass(frozen=True)
class BagOfWords:
    """Photos, their features and the words of each; memory grows with the features, not with photos times words."""

    words: np.ndarray
    """(W, 128) float32: the vocabulary."""
    features: LocalFeatures
    """Of the photos."""
    word: np.ndarray
    """(m, k) int32: the words of each feature, nearest first."""
    weight: np.ndarray
    """(m, k) float32: how much the feature counts for each, 1 together."""
    embedding: Embedding
    """What made the signatures."""
    signature: np.ndarray
    """(m,) uint64: bits that tell features of one word apart, see `hamming`."""
    options: dict[str, Any] = field(default_factory=dict)
    """How words were learned and assigned."""
    fingerprint: str = ""
    """Fingerprint of the file that it was read from."""

    def only(self, names: Sequence[str]) -> BagOfWords:
        """Keep the photos of these names, in their order; raises DataError where one is absent."""
        _, positions = gather_rows(self.features.indptr, self.features.rows_of(names))
        return replace(
            self,
            features=self.features.only(names),
            word=self.word[positions],
            weight=self.weight[positions],
            signature=self.signature[positions],
        )

    def signed(self, keep: np.ndarray | None = None) -> SignedFeatures:
        """The features by their nearest words and bits; only those that `keep`, (m,) bool, says."""
        word = self.word[:, 0]
        if keep is None:
            return SignedFeatures(self.features.indptr, word, self.signature)
        kept = np.concatenate([[0], np.cumsum(keep)])[self.features.indptr]
        return SignedFeatures(kept.astype(np.int64), word[keep], self.signature[keep])

    def counts(self, keep: np.ndarray | None = None) -> sparse.csr_matrix:
        """How often each word is in each photo, weights of soft assignment added: (n, W) float64.

        Parameters
        ----------
        keep : (m,) bool, optional
            Features that count; all by default.
        """
        photo = np.repeat(np.arange(len(self.features.names)), np.diff(self.features.indptr))
        weight = self.weight.astype(np.float64)
        if keep is not None:
            weight = weight * keep[:, None]
        row = np.repeat(photo, self.word.shape[1])
        shape = (len(self.features.names), len(self.words))
        counts = sparse.csr_matrix((weight.ravel(), (row, self.word.ravel())), shape)
        counts.eliminate_zeros()
        return counts


def make_bag_of_words(
    features: LocalFeatures, words: np.ndarray, embedding: Embedding, options: WordOptions
) -> BagOfWords:
    """Give each feature its words and bits."""
    assigned = assign_words(features.descriptors, words, options.num_nearest, options.softness)
    return _signed(features, words, assigned, embedding, options)


def _signed(
    features: LocalFeatures,
    words: np.ndarray,
    assigned: tuple[np.ndarray, np.ndarray],
    embedding: Embedding,
    options: WordOptions,
) -> BagOfWords:
    """Put features beside their words and weights, and give them their bits."""
    word, weight = assigned
    signature = sign_descriptors(features.descriptors, word[:, 0], embedding)
    return BagOfWords(words, features, word, weight, embedding, signature, asdict(options))


def learn_bag_of_words(
    features: LocalFeatures, options: WordOptions, training: LocalFeatures | None = None
) -> BagOfWords:
    """Learn a vocabulary from the features of some photos, its own by default, and give each feature its words."""
    source = features if training is None else training
    words = learn_words(source.descriptors, options)
    assigned = assign_words(source.descriptors, words, options.num_nearest, options.softness)
    embedding = learn_embedding(source.descriptors, assigned[0][:, 0], len(words), options.seed)
    if source is features:
        return _signed(features, words, assigned, embedding, options)
    return make_bag_of_words(features, words, embedding, options)


def build_bag_of_words(
    path: Path, options: WordOptions, learn_from: Path | None = None, vocabulary: Path | None = None
) -> tuple[BagOfWords, list[str]]:
    """Give the features of a file their words.

    Parameters
    ----------
    path : Path
        A file of features.
    options : WordOptions
    learn_from : Path, optional
        Features that the words are learned from; the same by default.
    vocabulary : Path, optional
        A bag of words whose words are taken, in place of learning.

    Returns
    -------
    BagOfWords
    list of str
        Fingerprints of the files that it was made from.

    Raises
    ------
    UsageError
        Both are given.
    DataError
        A file is absent or torn, or has no feature to learn from.
    """
    if learn_from is not None and vocabulary is not None:
        raise UsageError("--vocabulary has its words already: leave out --learn-from, or --vocabulary")
    features = read_features(path)
    if vocabulary is not None:
        known = read_bag_of_words(vocabulary)
        source = known.features
        bag = make_bag_of_words(features, known.words, known.embedding, options)
        learned = {name: known.options[name] for name in LEARNING if name in known.options}
        bag = replace(bag, options=bag.options | learned)
    else:
        source = features if learn_from is None else read_features(learn_from)
        if not len(source.descriptors):
            what = f"holds no local feature to learn words from, of {len(source.names):,} photos"
            raise DataError(source.path, what, "are the photos blank or very small?")
        bag = learn_bag_of_words(features, options, source)
    warn_if_found_otherwise(features, source)
    return bag, known_parents([features.fingerprint, source.fingerprint])


class InvertedFile:
    """The tf-idf vectors of a database, word by word.

    A word that n_w of the N photos hold has the weight log(N / n_w); one that none holds, or that all hold, counts for
    nothing. A vector's entries are (how often the word is there)^power times that weight; then its length is made 1.

    Parameters
    ----------
    counts : (n, W) sparse matrix
        How often each word is in each photo of the database; no entry is 0.
    power : float
        1 is plain tf-idf; less tames words that come in bursts, such as those of a fence [JDS09].
    """

    def __init__(self, counts: sparse.csr_matrix, power: float = 1.0) -> None:
        self.power = power
        self.idf = idf_of_counts(counts)
        self.database = self.vectors(counts)
        self._by_word = self.database.T.tocsr()

    def vectors(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Vectors of counts, of length 1 or empty: (q, W) float64."""
        return tf_idf(counts, self.power, self.idf)

    def similarities(self, vectors: sparse.csr_matrix) -> np.ndarray:
        """Cosines of vectors with the database, (q, n) float64."""
        return np.asarray((vectors @ self._by_word).todense())

    def rank(self, vectors: sparse.csr_matrix) -> np.ndarray:
        """The database's rows by falling cosine, ties by the lower row: (q, n) int64; in blocks of queries."""
        ranked = np.empty((vectors.shape[0], self.database.shape[0]), np.int64)
        for start in range(0, len(ranked), QUERIES):
            similarity = self.similarities(vectors[start : start + QUERIES])
            ranked[start : start + QUERIES] = np.argsort(-similarity, axis=1, kind="stable")
        return ranked


def idf_of(holders: np.ndarray, count: int) -> np.ndarray:
    """Weights log(count / holders) of words that so many of `count` photos hold; 0 where none does."""
    return np.where(holders > 0, np.log(count / np.maximum(holders, 1)), 0.0)


def idf_of_counts(counts: sparse.csr_matrix) -> np.ndarray:
    """Weights (W,) float64 of the words of counted photos (n, W)."""
    return idf_of(np.asarray((counts > 0).sum(axis=0)).ravel(), counts.shape[0])


def tf_idf(counts: sparse.csr_matrix, power: float, idf: np.ndarray) -> sparse.csr_matrix:
    """Vectors of counts (n, W), each count to a power and times its word's weight, of length 1 or empty."""
    powered = sparse.csr_matrix((counts.data**power, counts.indices, counts.indptr), counts.shape)
    return unit_rows(powered @ sparse.diags(idf))


def hard_counts(features: SignedFeatures, num_words: int) -> sparse.csr_matrix:
    """How often each word is the nearest of a feature in each photo: (n, W) float64."""
    shape = (len(features.indptr) - 1, num_words)
    return sparse.csr_matrix((np.ones(len(features.word)), (features.photo, features.word)), shape)


def unit_rows(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows of a sparse matrix divided by their lengths; empty rows stay empty."""
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.where(length > 0, length, 1)) @ matrix)


def write_bag_of_words(path: str | Path, bag: BagOfWords, parents: Sequence[str] = ()) -> None:
    """Write a bag of words with its vocabulary and features; `parents` are the fingerprints of the feature files."""
    options = bag.options | {"settings": bag.features.settings}
    with create_file(path, FORMAT, VERSION, options, parents) as file:
        file["words"] = np.asarray(bag.words, np.float32)
        file["word"] = np.asarray(bag.word, np.int32)
        file["weight"] = np.asarray(bag.weight, np.float32)
        file["projection"] = np.asarray(bag.embedding.projection, np.float32)
        file["thresholds"] = np.asarray(bag.embedding.thresholds, np.float32)
        file["signature"] = np.asarray(bag.signature, np.uint64)
        store_features(file, bag.features)


def read_bag_of_words(path: str | Path) -> BagOfWords:
    """Read a bag of words; errors as of `open_file`, and FileFormatError for columns that do not fit together."""
    with open_file(path, FORMAT, VERSION) as file:
        header, columns = header_of(path, file), CheckedColumns(path, file, RULES)
        options = dict(header.options)
        settings = options.pop("settings", {})
        if not isinstance(settings, dict):
            raise FileFormatError(path, "its options say no settings of features", "make it again")
        features = load_features(columns, settings, header.fingerprint)
        words, word, weight = columns.read("words"), columns.read("word"), columns.read("weight")
        embedding = Embedding(columns.read("projection"), columns.read("thresholds"))
        signature = columns.read("signature")
    return BagOfWords(words, features, word, weight, embedding, signature, options, header.fingerprint)
