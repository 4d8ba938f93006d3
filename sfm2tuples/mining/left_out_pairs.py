"""Pairs of photos that a user says the models are wrong about: they become unknown, no positives and no negatives."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from sfm2tuples.errors import DataError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.text import read_text
from sfm2tuples.index.opened import OpenedIndex
from sfm2tuples.mining.tuple_file import Candidates

COLUMNS = ("first", "second")


def read_left_out_pairs(path: Path, index: OpenedIndex) -> np.ndarray:
    """Read a CSV of pairs, such as `report` writes: `first` and `second` are keys of photos, other columns are ignored.

    Returns
    -------
    (k, 2) int64
        Rows of the index.

    Raises
    ------
    DataError
        The file is absent or no such table, names a photo that the index has not, one photo twice in a pair, or
        photos of two places: what is not of one place is parted by `build-index --places`.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="", strict=True)
    rows, place = [], index.images.place[:]
    try:
        header = list(reader.fieldnames or [])
        if not set(COLUMNS) <= set(header):
            raise DataError(path, f"has the columns {','.join(header) or 'of an empty file'}", "it needs first,second")
        for line in reader:
            keys = [(line.get(name) or "").strip() for name in COLUMNS]
            if not all(keys) or keys[0] == keys[1]:
                raise DataError(path, f"line {reader.line_num} is no pair of photos", "name two in first and second")
            pair = [_row_of(index, key, path, reader.line_num) for key in keys]
            names = [index.places.name[place[row]] for row in pair]
            if names[0] != names[1]:
                what = f"line {reader.line_num} has photos of two places, {names[0]} and {names[1]}"
                raise DataError(path, what, "take it out; build-index --places joins places that show the same")
            rows.append(pair)
    except csv.Error as error:
        raise DataError(path, f"is not a CSV table ({error})") from error
    return np.array(rows, np.int64).reshape(-1, 2)


def _row_of(index: OpenedIndex, key: str, path: Path, line: int) -> int:
    try:
        return index.row_of(key)
    except DataError as error:
        raise DataError(path, f"line {line}: {index.path} {error.what}", error.remedy) from error


def without_pairs(candidates: Candidates, pairs: np.ndarray) -> Candidates:
    """The candidates without some pairs, in both directions; a query that is left with none is out too.

    Parameters
    ----------
    candidates : Candidates
    pairs : (k, 2) int64
        Rows of `/images`.
    """
    both = np.concatenate([pairs, pairs[:, ::-1]])
    position = candidates.positions(both[:, 0], both[:, 1])
    keep = np.ones(len(candidates.image), bool)
    keep[position[position >= 0]] = False
    count = np.add.reduceat(np.append(keep, False).astype(np.int64), candidates.indptr[:-1])
    has_some = count > 0
    return replace(
        candidates,
        query=candidates.query[has_some],
        indptr=indptr_of(count[has_some]),
        image=candidates.image[keep],
        shared=candidates.shared[keep],
        overlap=candidates.overlap[keep],
        scale_change=candidates.scale_change[keep],
        angle=candidates.angle[keep],
        across=None if candidates.across is None else candidates.across[keep],
    )
