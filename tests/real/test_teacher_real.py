"""The BoW teacher on photos of two landmarks among other places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrieval.evaluation.bow_teacher import Teacher
from retrieval.local_features.bag_of_words import learn_bag_of_words
from retrieval.local_features.feature_extraction import FeatureOptions, extract_features
from retrieval.local_features.options import HammingOptions
from retrieval.local_features.sift import SiftOptions
from retrieval.local_features.vocabulary import WordOptions
from retrieval.photos.labels import read_labels
from retrieval.photos.sources import photos_of
from retrieval.protocols.benchmark import Benchmark
from retrieval.protocols.labels import labels_ground_truth
from retrieval.search.options import TeacherOptions

pytestmark = pytest.mark.real
pytest.importorskip("pycolmap")


def test_bits_and_geometry_each_find_more(shared: Path) -> None:
    labels = read_labels(shared / "collection" / "labels.csv").only(["petra", "paris_sacrecoeur"])
    distractors = [image for image, role in zip(labels.images, labels.roles, strict=True) if role == "distractor"]
    left_out = set(distractors[30:])
    rows = [row for row, image in enumerate(labels.images) if image not in left_out]
    few = type(labels)(*([column[row] for row in rows] for column in (labels.images, labels.labels, labels.roles)))
    photos = photos_of(shared / "collection" / "labels.csv", shared / "collection" / "images").only(few.images)
    features, failures = extract_features(photos, FeatureOptions(320, SiftOptions(affine_shape=False)), 1)
    assert failures == []
    bag = learn_bag_of_words(features, WordOptions(512, samples_per_word=20, turns=4))
    truth = labels_ground_truth(few)
    benchmark = Benchmark(few.images, [few.images[row] for row in truth.queries], {"labels": truth})

    def mean(options: TeacherOptions) -> float:
        return Teacher(bag, options).evaluate(benchmark, benchmark.database, "none")["labels"].mean_over_groups

    plain, signed = mean(TeacherOptions()), mean(TeacherOptions(hamming=HammingOptions()))
    verified = mean(TeacherOptions(hamming=HammingOptions(), num_verified=30))
    assert np.isfinite([plain, signed, verified]).all()
    assert plain < signed < verified
