"""The original Oxford5k and Paris6k [P07]: good and ok are right, junk is neither, the query's own image is right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.photos.names import short_name
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice
from retrieval.protocols.ground_truth_files import find_ground_truth, read_ground_truth
from retrieval.protocols.photo_names import PhotoNames, names_of
from sfm2tuples.errors import DataError, told_of

CORRUPT = frozenset(
    f"paris_{landmark}_{number:06d}"
    for landmark, numbers in {
        "louvre": (136, 146),
        "moulinrouge": (422,),
        "museedorsay": (1059,),
        "notredame": (188,),
        "pantheon": (284, 960, 974),
        "pompidou": (195, 196, 201, 467, 640),
        "sacrecoeur": (299, 330, 353),
        "triomphe": (662, 833, 863, 867),
    }.items()
    for number in numbers
)
"""Photos of Paris that cannot be decoded, by the authors' list; no part of the database."""


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Make the protocol of ``oxford5k`` or ``paris6k`` from a folder (docs/protocols.md) or its ground truth's file.

    Ground truth in texts does not list the database: then all photos that there are belong to it.

    Raises
    ------
    DataError
        No ground truth, a torn one, or absent photos.
    """
    name, there = choice.name, names()
    listed = read_ground_truth(find_ground_truth(choice.local_data, name, has_texts=True))
    if "ok" not in listed.lists:
        raise DataError(listed.path, f"has no lists of ok images: not the ground truth of {name}")
    known = [image for image in listed.imlist if name != "paris6k" or image not in CORRUPT]
    own = names_of(known, there, "imlist" if listed.is_whole else "the ground truth")
    database, notes = own, []
    if not listed.is_whole:
        database, left_out = _with_the_rest(name, own, there)
        if left_out:
            notes.append(told_of(left_out, "corrupt photos of Paris are left out"))
    row_in = {image: row for row, image in enumerate(database)}
    row_of = {short_name(image): row_in[image] for image in own}
    # Lists are in rows of imlist; without the corrupt ones they become rows of the database.
    rows = np.array([row_of.get(short_name(image), -1) for image in listed.imlist], np.int64)
    absent = [query for query in listed.qimlist if short_name(query) not in row_of]
    if absent:
        raise DataError(listed.path, f"{told_of(len(absent), 'queries are not in imlist')}, first {absent[0]}")
    queries = np.array([row_of[short_name(query)] for query in listed.qimlist], np.int64)
    positives, junk = [], []
    for number, query in enumerate(queries):
        right = np.union1d(_known(rows, listed.lists["ok"][number]), query)
        positives.append(right)
        junk.append(np.setdiff1d(_known(rows, listed.lists["junk"][number]), right))
    truth = make_ground_truth(queries, positives, junk, *listed.topic_names())
    return Benchmark(
        database,
        names_of(listed.qimlist, there.of_queries(), "qimlist"),
        {name: truth},
        boxes=listed.boxes,
        boxless=listed.boxless,
        aliases=tuple(listed.topics),
        notes=tuple(notes),
    )


def _known(rows: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Rows of the database of rows of imlist."""
    return rows[listed][rows[listed] >= 0]


def _with_the_rest(name: str, listed: list[str], names: PhotoNames) -> tuple[list[str], int]:
    """The photos of the lists and all others in the order of the names, and how many of the others are corrupt."""
    if not names.whole:
        return listed, 0
    own = set(listed)
    kept = [other for other in names.database if other in own or name != "paris6k" or short_name(other) not in CORRUPT]
    return kept, len(names.database) - len(kept)
