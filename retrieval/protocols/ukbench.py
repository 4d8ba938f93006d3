"""UKBench: four photos an object, each of them a query; the score is how many of the four are in the top four."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
from retrieval.protocols.numbered import numbered_photos
from retrieval.protocols.photo_names import PhotoNames, names_of
from sfm2tuples.errors import told_of

PATTERN = r"ukbench([0-9]{5})"
PHOTOS_PER_OBJECT = 4
PHOTOS = 10_200
"""Size of the whole data set."""


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Make the protocol from the photos called ``ukbenchNNNNN.jpg``.

    Photos 4k to 4k + 3 show one object. The query stays in the database and counts, so that the best score is 4.

    Raises
    ------
    DataError
        No photo of UKBench is there.
    """
    there = names()
    photos = numbered_photos(there.all, PATTERN, there.origin)
    database = list(photos.values())
    numbers = np.array(list(photos), np.int64)
    objects, object_of, sizes = np.unique(numbers // PHOTOS_PER_OBJECT, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(sizes[object_of] == PHOTOS_PER_OBJECT)
    members = np.split(np.argsort(object_of, kind="stable"), np.cumsum(sizes)[:-1])
    positives = [members[object_of[query]] for query in queries]
    nothing = [np.empty(0, np.int64)] * len(queries)
    truth = make_ground_truth(queries, positives, nothing, np.zeros(len(queries), np.int64), ["ukbench"])
    notes = []
    if len(photos) < PHOTOS:
        notes.append(f"{PHOTOS - len(photos):,} of {PHOTOS:,} photos of UKBench are absent")
    torn = int(np.sum(sizes != PHOTOS_PER_OBJECT))
    if torn:
        notes.append(f"{torn:,} of {len(objects):,} objects have not all four photos and serve as distractors")
    if len(there.all) > len(photos):
        notes.append(told_of(len(there.all) - len(photos), "photos of another name are left out"))
    return Benchmark(
        database,
        names_of([database[row] for row in queries], there.of_queries(), "queries"),
        {"ukbench": truth},
        ("N-S", "mAP"),
        notes=tuple(notes),
    )
