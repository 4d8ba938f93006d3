"""The protocol of labelled photos: photos with the query's label are right, but distractors never are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth, make_ground_truth
from retrieval.photos.labels import Labels, read_labels
from retrieval.photos.sources import photos_of_labels
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
from retrieval.protocols.photo_names import PhotoNames


def labels_ground_truth(labels: Labels) -> GroundTruth:
    """Ground truth over the rows of the table.

    Positives of a query have its label and the role `query` or `database`; the query itself is its only junk, so
    that it stays in the database of all others.
    """
    label, role = np.array(labels.labels), np.array(labels.roles)
    queries = np.flatnonzero(role == "query")
    names, groups = np.unique(label[queries], return_inverse=True)
    members = [np.flatnonzero((label == name) & (role != "distractor")) for name in names]
    positives = [np.setdiff1d(members[group], query) for query, group in zip(queries, groups, strict=True)]
    return make_ground_truth(queries, positives, list(queries[:, None]), groups, [str(name) for name in names])


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Make the protocol of a table, whose photos are the database, or of a folder whose sub-folders are labels."""
    labels = read_labels(choice.data)
    truth = labels_ground_truth(labels)
    return Benchmark(
        labels.images,
        [labels.images[query] for query in truth.queries],
        {"labels": truth},
        photos=photos_of_labels(labels, choice.data, choice.images),
    )
