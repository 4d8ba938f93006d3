"""Revisited Oxford and Paris [R18]: Easy, Medium and Hard; queries are not in the database."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
from retrieval.protocols.ground_truth_files import find_ground_truth, read_ground_truth
from retrieval.protocols.photo_names import PhotoNames, names_of
from sfm2tuples.errors import DataError, told_of

SETUPS = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""Lists that are right, and lists that are neither right nor wrong, in each setup ([R18] section 3)."""
MEASURES = ("mAP", "mP@1", "mP@5", "mP@10")


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Make the protocol of ``roxford5k`` or ``rparis6k`` from a folder (docs/protocols.md) or its ground truth's file.

    Raises
    ------
    DataError
        No ground truth, a torn one, or absent photos.
    """
    listed = read_ground_truth(find_ground_truth(choice.local_data, choice.name, has_texts=False))
    absent = [kind for kind in ("easy", "hard", "junk") if kind not in listed.lists]
    if absent:
        raise DataError(
            listed.path, f"has no lists of {', '.join(absent)} images: not the ground truth of {choice.name}"
        )
    inside = set(listed.imlist) & set(listed.qimlist)
    if inside:
        raise DataError(
            listed.path, f"{told_of(len(inside), 'queries are in imlist too')}; revisited queries are not searched"
        )
    there = names()
    database = names_of(listed.imlist, there, "imlist")
    queries = names_of(listed.qimlist, there.of_queries(), "qimlist")
    setups = {}
    for setup, (right, beside) in SETUPS.items():
        positives = [_union(listed.lists, right, query) for query in range(len(queries))]
        junk = [_union(listed.lists, beside, query) for query in range(len(queries))]
        setups[setup] = make_ground_truth(np.arange(len(queries)), positives, junk, *listed.topic_names())
    return Benchmark(database, queries, setups, MEASURES, listed.boxes, boxless=listed.boxless)


def _union(lists: dict[str, list[np.ndarray]], kinds: tuple[str, ...], query: int) -> np.ndarray:
    return np.unique(np.concatenate([lists[kind][query] for kind in kinds]))
