"""The protocol of labelled photos: what has the query's label is right, except distractors, which never are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retrieval.metrics.ground_truth import GroundTruth, make_ground_truth
from retrieval.metrics.results import Evaluation, evaluate_descriptors
from retrieval.photos.labels import Labels
from retrieval.protocols.benchmark import Benchmark
from sfm2tuples.files.descriptors import Descriptors, align


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


def labels_benchmark(labels: Labels) -> Benchmark:
    """Make the protocol: the table's photos are the database."""
    truth = labels_ground_truth(labels)
    return Benchmark(labels.images, [labels.images[query] for query in truth.queries], {"labels": truth})


def evaluate_labels(labels: Labels, descriptors: Descriptors) -> Evaluation:
    """Evaluate descriptors on labelled photos; the database is the table, other descriptors are not looked at.

    Raises
    ------
    DataError
        Photos of the table have no descriptor.
    """
    values = descriptors.values[align(descriptors, labels.images, labels.path or "labels")]
    truth = labels_ground_truth(labels)
    return replace(evaluate_descriptors(values[truth.queries], values, truth), names=tuple(labels.images))
