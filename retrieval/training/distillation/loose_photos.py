"""Photos that are in no tuple file, as one without tuples: a teacher needs no more."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from retrieval.photos.sources import photos_of
from sfm2tuples.files.container import Header, read_header
from sfm2tuples.files.opening import is_hdf5
from sfm2tuples.index.schema import FORMAT as INDEX
from sfm2tuples.index.schema import SPLITS, TRAIN
from sfm2tuples.mining.tuple_file import Candidates, ImageTable, PlaceTable, TupleFile, TupleSet


def holds_no_tuples(source: Path) -> bool:
    """Whether a source of photos is a folder, a list, labels or an index; anything else is to be a tuple file."""
    if source.is_dir() or source.suffix in (".txt", ".csv"):
        return True
    return source.is_file() and is_hdf5(source) and read_header(source).format == INDEX


def loose_photos(source: Path, images: Path | None = None) -> TupleFile:
    """The photos of a source, each content once, as a tuple file that has no tuples.

    Parameters
    ----------
    source, images : Path
        As for `retrieval.photos.sources.photos_of`.

    Raises
    ------
    DataError
        There is no such source, or it holds no photos.
    """
    found = photos_of(source, images)
    rows = np.unique(found.same_as)
    sources, keys = found.sources.take(rows), [found.keys[row] for row in rows.tolist()]
    roots = [str(sources.roots[root]) for root in sources.root.tolist()]
    n = len(rows)
    table = ImageTable(keys, roots, sources.name, np.zeros(n, np.int64), np.ones((n, 2), np.int64), np.full(n, -1))
    named = hashlib.sha256("\0".join([found.parent, *keys]).encode("utf-8", "surrogateescape")).hexdigest()
    return TupleFile(
        path=source,
        header=Header("", 0, named, (), {}, ""),
        images=table,
        places=PlaceTable(["photos"], np.array([TRAIN], np.int8)),
        tuples={split: _no_tuples() for split in SPLITS},
        candidates={split: _no_candidates() for split in SPLITS},
        packed_size=0,
        photo_indptr=np.zeros(0, np.int64),
    )


def _no_tuples() -> TupleSet:
    nobody, nothing = np.zeros(0, np.int64), np.zeros((0, 1), np.int64)
    shared, figure = nothing.astype(np.int32), nothing.astype(np.float32)
    return TupleSet(nobody, nothing, nothing, shared, figure, figure, figure, figure, figure, nobody)


def _no_candidates() -> Candidates:
    nobody, figure = np.zeros(0, np.int64), np.zeros(0, np.float32)
    return Candidates(nobody, np.zeros(1, np.int64), nobody, nobody.astype(np.int32), figure, figure, figure)
