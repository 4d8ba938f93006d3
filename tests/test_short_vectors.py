"""Short vectors: the joint PCA whitening by its definition, from bags of several vocabularies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from cli.main import main
from retrieval.local_features.bag_of_words import learn_bag_of_words, make_bag_of_words, write_bag_of_words
from retrieval.local_features.short_vectors import (
    JointWhitening,
    ShortOptions,
    learn_joint_whitening,
    short_descriptors,
)
from retrieval.local_features.vocabulary import WordOptions
from retrieval.whitening.learning import learn_pca
from retrieval.whitening.projection import apply
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.descriptors import read_descriptors
from tests.textures import made_features


def drawn_counts(seed: int, photos: int) -> list[sparse.csr_matrix]:
    rng = np.random.default_rng(seed)
    return [sparse.csr_matrix(rng.poisson(0.7, (photos, words)).astype(np.float64)) for words in (9, 14)]


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_it_is_the_pca_whitening_of_joined_tf_idf(power: float) -> None:
    counts, others = drawn_counts(0, 60), drawn_counts(1, 7)
    learned = learn_joint_whitening(counts, ShortOptions(6, power))

    def joined(parts: list[sparse.csr_matrix]) -> np.ndarray:
        vectors = []
        for part, base in zip(parts, counts, strict=True):
            table, held = part.toarray(), (base.toarray() > 0).sum(axis=0)
            tf = np.where(table > 0, np.where(table > 0, table, 1) ** power, 0) * np.log(60 / np.maximum(held, 1))
            vectors.append(tf / np.linalg.norm(tf, axis=1, keepdims=True))
        return np.concatenate(vectors, axis=1)

    expected = apply(learn_pca(joined(counts)), joined(others), 6)
    assert np.allclose(np.abs(learned.shorten(others)), np.abs(expected), atol=1e-5)
    assert np.allclose(learned.shorten(others) @ learned.shorten(others).T, expected @ expected.T, atol=1e-5)


def test_a_photo_without_words_has_a_vector() -> None:
    learned = learn_joint_whitening(drawn_counts(0, 60), ShortOptions(5))
    values = learned.shorten([sparse.csr_matrix((1, 9)), sparse.csr_matrix((1, 14))])
    assert np.allclose(np.linalg.norm(values, axis=1), 1)


def test_more_dimensions_than_photos_span_are_refused() -> None:
    with pytest.raises(UsageError, match="4 photos span 3 dimensions, fewer than the 5 wanted"):
        learn_joint_whitening(drawn_counts(0, 4), ShortOptions(5))


def test_every_so_many_th_photo_of_many_is_taken_for_the_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = drawn_counts(0, 60)
    everything = learn_joint_whitening(counts, ShortOptions(3))
    monkeypatch.setattr("retrieval.local_features.short_vectors.MOST_LEARNED_FROM", 30)
    every_second = learn_joint_whitening(counts, ShortOptions(3))
    unlearned = JointWhitening(everything.idf, 0.5, np.empty(0), np.empty((0, 0)))
    assert all(np.array_equal(a, b) for a, b in zip(every_second.idf, everything.idf, strict=True))
    mean = unlearned.joint([part[::2] for part in counts]).mean(axis=0)
    assert np.allclose(every_second.mean, np.asarray(mean).ravel())


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    """Photos by two vocabularies in a.h5 and b.h5, other photos by the same in ta.h5 and tb.h5."""
    photos = made_features(np.random.default_rng(0), (20,) * 10)
    others = made_features(np.random.default_rng(1), (25,) * 12)
    for name, seed in (("a", 0), ("b", 1)):
        options = WordOptions(15, seed=seed)
        trained = learn_bag_of_words(others, options)
        write_bag_of_words(tmp_path / f"t{name}.h5", trained)
        given = make_bag_of_words(photos, trained.words, trained.embedding, options)
        write_bag_of_words(tmp_path / f"{name}.h5", given)
    return tmp_path


def test_the_command_writes_descriptors(bags: Path) -> None:
    target = bags / "d.h5"
    learn = ["--learn-from", str(bags / "ta.h5"), "--learn-from", str(bags / "tb.h5")]
    main(["shorten-bow", str(bags / "a.h5"), str(bags / "b.h5"), *learn, "--dim", "6", "-o", str(target)])
    read = read_descriptors(target)
    assert read.values.shape == (10, 6)
    assert read.settings["words"] == [15, 15]
    expected, parents = short_descriptors(
        [bags / "a.h5", bags / "b.h5"], [bags / "ta.h5", bags / "tb.h5"], ShortOptions(6)
    )
    assert np.array_equal(read.values, expected.values)
    assert len(set(parents)) == 4


def test_bags_that_do_not_fit_are_refused(bags: Path) -> None:
    with pytest.raises(UsageError, match="give one for each"):
        short_descriptors([bags / "a.h5", bags / "b.h5"], [bags / "ta.h5"], ShortOptions(3))
    with pytest.raises(DataError, match="has other words than"):
        short_descriptors([bags / "a.h5"], [bags / "tb.h5"], ShortOptions(3))
    with pytest.raises(DataError, match="2 photos are not in it"):
        short_descriptors([bags / "ta.h5", bags / "b.h5"], [], ShortOptions(3))


def test_an_empty_bag_is_refused() -> None:
    with pytest.raises(UsageError, match="no photo to learn from: the bag of words is empty"):
        learn_joint_whitening([part[:0] for part in drawn_counts(0, 4)], ShortOptions(1))
