"""Bags of words: words by k-means, tf-idf by its definition, an index that survives its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from retrieval.local_features.bag_of_words import (
    BagOfWords,
    InvertedFile,
    learn_bag_of_words,
    make_bag_of_words,
    read_bag_of_words,
    write_bag_of_words,
)
from retrieval.local_features.vocabulary import WordOptions, assign_words, learn_words
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from tests import oracles
from tests.textures import made_features, root_sift


def test_k_means_finds_the_clusters_that_there_are() -> None:
    rng = np.random.default_rng(0)
    centres = root_sift(rng, 8)
    noisy = np.clip(np.repeat(centres, 30, axis=0).astype(int) + rng.integers(-3, 4, (240, 128)), 0, 255)
    words = learn_words(noisy.astype(np.uint8), WordOptions(num_words=8, turns=20, seed=1))
    away = np.linalg.norm(words[:, None] - centres[None] / 512, axis=2)
    assert len(set(away.argmin(axis=1).tolist())) >= 7


def test_the_same_seed_learns_the_same_words() -> None:
    sample = root_sift(np.random.default_rng(0), 400)
    options = WordOptions(num_words=10, samples_per_word=20, seed=3)
    assert np.array_equal(learn_words(sample, options), learn_words(sample, options))
    assert not np.array_equal(learn_words(sample, options), learn_words(sample, WordOptions(10, 20, seed=4)))


def test_soft_assignment_is_as_defined() -> None:
    rng = np.random.default_rng(0)
    descriptors, words = root_sift(rng, 20), (root_sift(rng, 9) / 512).astype(np.float32)
    word, weight = assign_words(descriptors, words, 3, 0.3)
    for row, descriptor in enumerate(descriptors):
        order, expected = oracles.nearest_words(descriptor, words, 3, 0.3)
        assert word[row].tolist() == order
        assert np.allclose(weight[row], expected, atol=1e-4)


def test_hard_assignment_is_the_nearest_word_with_weight_1() -> None:
    rng = np.random.default_rng(0)
    word, weight = assign_words(root_sift(rng, 20), (root_sift(rng, 9) / 512).astype(np.float32))
    assert word.shape == (20, 1)
    assert np.all(weight == 1)


def test_no_descriptor_to_learn_from_is_one_line() -> None:
    with pytest.raises(UsageError, match="no local feature"):
        learn_words(np.empty((0, 128), np.uint8), WordOptions())


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_tf_idf_is_as_defined(power: float) -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(0.5, (12, 20)).astype(np.float64)
    counts[:, 3] = 2  # in all photos
    counts[:, 4] = 0  # in none of them, but in a query
    counts[5] = 0  # a photo without features
    queries = rng.poisson(0.5, (4, 20)).astype(np.float64)
    queries[:, 4] = 1
    file = InvertedFile(sparse.csr_matrix(counts), power)
    found = file.similarities(file.vectors(sparse.csr_matrix(queries)))
    bags = [[dict(enumerate(row)) for row in table] for table in (queries, counts)]
    assert np.allclose(found, oracles.tf_idf_cosines(*bags, power), atol=1e-12)


def test_ranking_is_by_similarity_and_ties_are_by_row() -> None:
    counts = sparse.csr_matrix([[1.0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]])
    file = InvertedFile(counts)
    assert file.rank(file.vectors(sparse.csr_matrix([[0.0, 1, 0]]))).tolist() == [[1, 2, 0, 3]]


def test_a_photo_finds_itself_first() -> None:
    features = made_features(np.random.default_rng(0), (30, 40, 50, 30))
    bag = learn_bag_of_words(features, WordOptions(num_words=25))
    counts = bag.counts()
    file = InvertedFile(counts)
    assert file.rank(file.vectors(counts))[:, 0].tolist() == [0, 1, 2, 3]


def test_features_left_out_do_not_count() -> None:
    features = made_features(np.random.default_rng(0), (5, 5))
    bag = learn_bag_of_words(features, WordOptions(4, num_nearest=2))
    keep = np.arange(10) >= 3
    assert np.allclose(bag.counts().sum(axis=1).ravel(), [5, 5], atol=1e-5)
    assert np.allclose(bag.counts(keep).sum(axis=1).ravel(), [2, 5], atol=1e-5)


def made_bag() -> BagOfWords:
    return learn_bag_of_words(made_features(np.random.default_rng(0), (6, 0, 9)), WordOptions(5, num_nearest=2))


def test_a_bag_of_words_survives_its_file(tmp_path: Path) -> None:
    bag = made_bag()
    write_bag_of_words(tmp_path / "bow.h5", bag)
    read = read_bag_of_words(tmp_path / "bow.h5")
    for column in ("words", "word", "weight", "signature"):
        assert np.array_equal(getattr(read, column), getattr(bag, column))
    assert read.options == bag.options
    assert read.features.settings == bag.features.settings
    assert (read.counts() != bag.counts()).nnz == 0


def test_photos_are_chosen_with_their_words() -> None:
    bag = made_bag()
    chosen = bag.only(["2", "0"])
    assert np.array_equal(chosen.word, np.concatenate([bag.word[6:], bag.word[:6]]))
    with pytest.raises(DataError, match="have no features"):
        bag.only(["3"])


def test_words_beyond_the_vocabulary_are_refused(tmp_path: Path) -> None:
    import h5py

    write_bag_of_words(tmp_path / "bow.h5", made_bag())
    with h5py.File(tmp_path / "bow.h5", "a") as file:
        file["word"][0, 0] = 99
    with pytest.raises(FileFormatError, match="word names the row 99 of 5 words"):
        read_bag_of_words(tmp_path / "bow.h5")


def test_weights_below_zero_are_refused(tmp_path: Path) -> None:
    import h5py

    write_bag_of_words(tmp_path / "bow.h5", made_bag())
    with h5py.File(tmp_path / "bow.h5", "a") as file:
        file["weight"][3, 1] = -1
    with pytest.raises(FileFormatError, match=r"weight holds -1\.0, less than 0"):
        read_bag_of_words(tmp_path / "bow.h5")


@pytest.mark.parametrize("num_nearest", [1, 2])
def test_features_that_words_are_learned_from_get_them_once(monkeypatch, num_nearest: int) -> None:
    features, options = (
        made_features(np.random.default_rng(0), (9, 7, 8)),
        WordOptions(num_words=8, num_nearest=num_nearest),
    )
    asked: list[int] = []

    def counted(descriptors: np.ndarray, *rest: object) -> tuple[np.ndarray, np.ndarray]:
        asked.append(len(descriptors))
        return assign_words(descriptors, *rest)

    monkeypatch.setattr("retrieval.local_features.bag_of_words.assign_words", counted)
    bag = learn_bag_of_words(features, options)
    assert asked == [len(features.descriptors)]
    again = make_bag_of_words(features, bag.words, bag.embedding, options)
    for name in ("word", "weight", "signature"):
        np.testing.assert_array_equal(getattr(bag, name), getattr(again, name))
