"""INRIA Holidays: photos of the query's hundreds are right, and the query is taken out of its own ranking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
from retrieval.protocols.numbered import numbered_photos
from retrieval.protocols.photo_names import PhotoNames, names_of
from sfm2tuples.errors import told_of

PATTERN = r"(1[0-9]{5})"
"""NNNNMM: photo MM of group NNNN, of which 00 is the query."""
PHOTOS, QUERIES = 1491, 500
"""Size of the whole data set."""


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Make the protocol from the photos called ``NNNNMM.jpg``; other photos may lie among them.

    Raises
    ------
    DataError
        No photo of Holidays is there.
    """
    there = names()
    photos = numbered_photos(there.all, PATTERN, there.origin)
    database = list(photos.values())
    groups = defaultdict(list)
    for row, number in enumerate(photos):
        groups[number // 100].append(row)
    queries = [row for row, number in enumerate(photos) if number % 100 == 0]
    group_of = [list(photos)[row] // 100 for row in queries]
    positives = [np.setdiff1d(groups[group], row) for group, row in zip(group_of, queries, strict=True)]
    truth = make_ground_truth(
        np.array(queries, np.int64),
        positives,
        [np.array([row]) for row in queries],
        np.zeros(len(queries), np.int64),
        ["holidays"],
    )
    return Benchmark(
        database,
        names_of([database[row] for row in queries], there.of_queries(), "queries"),
        {"holidays": truth},
        notes=_notes(len(photos), len(there.all), len(groups), len(queries)),
    )


def _notes(photos: int, named: int, groups: int, queries: int) -> tuple[str, ...]:
    """What is absent and what was not looked at."""
    notes = []
    if photos < PHOTOS:
        absent = f"{PHOTOS - photos:,} of {PHOTOS:,} photos of Holidays are absent"
        notes.append(f"{absent}; {queries} of {QUERIES} queries are there")
    if groups > queries:
        notes.append(told_of(groups - queries, "groups have no query and serve as distractors"))
    if named > photos:
        notes.append(told_of(named - photos, "photos of another name are left out"))
    return tuple(notes)
