"""Hamming embedding and its query expansion: bits by medians, similarities by their definition."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.local_features import hamming
from retrieval.local_features.bag_of_words import BagOfWords, InvertedFile, learn_bag_of_words
from retrieval.local_features.hamming import (
    HammingFile,
    SignedFeatures,
    bits_apart,
    confirmed_features,
    learn_embedding,
    sign_descriptors,
)
from retrieval.local_features.options import HammingOptions
from retrieval.local_features.vocabulary import WordOptions
from retrieval.search.teacher import HammingRanker
from sfm2tuples.errors import UsageError
from sfm2tuples.files.columns import indptr_of
from tests import oracles
from tests.textures import made_features, root_sift

WORDS = 5


def drawn(rng: np.random.Generator, counts: tuple[int, ...]) -> SignedFeatures:
    """Random words, and bits of which few are set, so that some are near."""
    total = sum(counts)
    bits = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 20, (total, 3)).astype(np.uint64), axis=1)
    return SignedFeatures(indptr_of(np.array(counts)), rng.integers(0, WORDS, total).astype(np.int32), bits)


def listed(features: SignedFeatures, photo: int) -> list[tuple[int, int]]:
    rows = features.rows(np.array([photo]))
    return list(zip(features.word[rows].tolist(), features.signature[rows].tolist(), strict=True))


def test_bits_are_counted() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 2**63, (2, 50)).astype(np.uint64)
    expected = [bin(a ^ b).count("1") for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    assert bits_apart(left, right).tolist() == expected


def test_a_bit_is_set_above_the_median_of_its_word() -> None:
    rng = np.random.default_rng(0)
    descriptors, word = root_sift(rng, 60), rng.integers(0, 3, 60).astype(np.int32)
    embedding = learn_embedding(descriptors, word, 4)
    assert np.allclose(embedding.projection @ embedding.projection.T, np.eye(64), atol=1e-5)
    signature = sign_descriptors(descriptors, word, embedding)
    for row in range(60):
        same = [i for i in range(60) if word[i] == word[row]]
        for bit in range(64):
            axis = embedding.projection[bit].astype(np.float64)
            values = [float(axis @ (descriptors[i] / 512)) for i in same]
            above = float(axis @ (descriptors[row] / 512)) - float(np.median(values))
            if abs(above) > 1e-5:
                assert (int(signature[row]) >> (63 - bit)) & 1 == (above > 0)


@pytest.mark.parametrize("pairs", [1 << 22, 7])
def test_similarities_are_as_defined(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hamming, "PAIRS", pairs)
    rng = np.random.default_rng(0)
    database, query = drawn(rng, (8, 0, 12, 5)), drawn(rng, (9,))
    idf = np.array([0.0, 0.3, 0.7, 1.2, 0.9])
    found = HammingFile(database, idf, HammingOptions(4, 3.0)).similarities(query.word, query.signature)
    expected = [oracles.hamming_similarity(listed(query, 0), listed(database, i), idf, 4, 3.0) for i in range(4)]
    assert np.allclose(found, expected, atol=1e-12)
    assert 0 < found[2] < 1


def test_a_query_without_features_is_similar_to_nothing() -> None:
    database = drawn(np.random.default_rng(0), (3, 2))
    file = HammingFile(database, np.ones(WORDS), HammingOptions())
    assert file.similarities(np.empty(0, np.int32), np.empty(0, np.uint64)).tolist() == [0, 0]


def bag_of(counts: tuple[int, ...]) -> BagOfWords:
    return learn_bag_of_words(made_features(np.random.default_rng(0), counts), WordOptions(12))


def test_where_every_pair_counts_it_is_tf_idf() -> None:
    bag = bag_of((10, 20, 5, 9))
    counts = bag.counts()
    engine = HammingRanker(bag.signed(), bag, HammingOptions(64, 1e9))
    file = InvertedFile(counts)
    assert np.array_equal(engine.rank([np.empty(0, np.int64)] * 4), file.rank(file.vectors(counts)))


def test_features_left_out_have_no_bits() -> None:
    bag = bag_of((4, 3))
    keep = np.array([True, False, True, True, False, False, True])
    signed = bag.signed(keep)
    assert signed.indptr.tolist() == [0, 3, 4]
    assert signed.signature.tolist() == bag.signature[keep].tolist()


def test_expansion_takes_what_another_photo_confirms() -> None:
    rng = np.random.default_rng(1)
    database, query = drawn(rng, (8, 6, 12, 5)), drawn(rng, (9,))
    chosen = np.array([2, 0])
    word, bits = confirmed_features(database, query.word, query.signature, chosen, HammingOptions(2))
    expected = oracles.confirmed(listed(query, 0), [listed(database, 2), listed(database, 0)], 2)
    assert list(zip(word.tolist(), bits.tolist(), strict=True)) == expected
    assert 9 < len(expected) < 29


def test_nothing_chosen_leaves_the_query_as_it_is() -> None:
    query = drawn(np.random.default_rng(1), (9,))
    word, bits = confirmed_features(query, query.word, query.signature, np.empty(0, np.int64), HammingOptions())
    assert np.array_equal(word, query.word)
    assert np.array_equal(bits, query.signature)


def test_options_without_meaning_are_refused() -> None:
    for options in ((65, 16.0), (-1, 16.0), (24, 0.0)):
        with pytest.raises(UsageError):
            HammingOptions(*options)
