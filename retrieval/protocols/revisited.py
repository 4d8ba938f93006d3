"""Revisited Oxford and Paris [R18]: Easy, Medium and Hard; queries are not in the database."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.protocols.benchmark import Benchmark, PhotoNames, names_of
from retrieval.protocols.ground_truth_files import find_ground_truth, read_ground_truth
from sfm2tuples.errors import DataError

NAMES = ("roxford5k", "rparis6k")

SETUPS = {
    "easy": (("easy",), ("hard", "junk")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("easy", "junk")),
}
"""Lists that are right, and lists that are neither right nor wrong, in each setup ([R18] section 3)."""
MEASURES = ("mAP", "mP@1", "mP@5", "mP@10")


def revisited_benchmark(name: str, data: Path, names: PhotoNames) -> Benchmark:
    """Make the protocol of ROxford5k or RParis6k.

    Parameters
    ----------
    name : str
        ``roxford5k`` or ``rparis6k``.
    data : Path
        The folder (see docs/protocols.md), or the file of ground truth.
    names : PhotoNames

    Raises
    ------
    DataError
        No ground truth, a torn one, or absent photos.
    """
    listed = read_ground_truth(find_ground_truth(data, name, has_texts=False))
    absent = [kind for kind in ("easy", "hard", "junk") if kind not in listed.lists]
    if absent:
        raise DataError(listed.path, f"has no lists of {', '.join(absent)} images: not the ground truth of {name}")
    inside = set(listed.imlist) & set(listed.qimlist)
    if inside:
        raise DataError(listed.path, f"{len(inside):,} queries are in imlist too; revisited queries are not searched")
    database = names_of(listed.imlist, names, "imlist")
    queries = names_of(listed.qimlist, names.of_queries(), "qimlist")
    setups = {}
    for setup, (right, beside) in SETUPS.items():
        positives = [_union(listed.lists, right, query) for query in range(len(queries))]
        junk = [_union(listed.lists, beside, query) for query in range(len(queries))]
        setups[setup] = make_ground_truth(np.arange(len(queries)), positives, junk, *listed.topic_names())
    return Benchmark(database, queries, setups, MEASURES, listed.boxes)


def _union(lists: dict[str, list[np.ndarray]], kinds: tuple[str, ...], query: int) -> np.ndarray:
    return np.unique(np.concatenate([lists[kind][query] for kind in kinds]))
