"""The places file: what the user says about places and splits."""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm2tuples.errors import DataError, first_three
from sfm2tuples.files.text import read_text
from sfm2tuples.index.schema import SPLITS


@dataclass(frozen=True)
class ListedPlaces:
    """What a places file says."""

    place: list[str | None]
    """By model: the place it is listed in, or None."""
    split: dict[str, int]
    """Place to `TRAIN` or `VAL`, where the file fixes it."""


def read_places(path: str | Path, folders: Sequence[Path], roots: Sequence[Path]) -> ListedPlaces:
    """Read a places file: CSV with the columns ``model,place`` and, if wanted, ``split`` (train or val).

    Parameters
    ----------
    path : str or Path
        `model` is a path relative to the file's folder or to one of the roots; it covers all models at or below it,
        and the longest such path decides.
    folders : sequence of Path
        Folders of the models that were found.
    roots : sequence of Path
        Paths are relative to the folder of one that is a file.

    Returns
    -------
    ListedPlaces
        By model, in the order of `folders`.

    Raises
    ------
    DataError
        The file is absent, not such a table, names one path with two places or one place with two splits, or has
        rows that match no model.
    """
    path = Path(path)
    rows = _read_rows(path)
    bases = {os.path.abspath(base.parent if base.is_file() else base) for base in (path.parent, *roots)}
    folder_paths = [_upwards(os.path.abspath(folder)) for folder in folders]
    row_paths = _full_paths([model for model, _, _ in rows], bases, {p for paths in folder_paths for p in paths})
    listed: dict[str, str] = {}
    for model, place, _ in rows:
        for full in row_paths[model]:
            if listed.setdefault(full, place) != place:
                raise DataError(path, f"lists {model} in two places, {listed[full]} and {place}", "keep one of them")
    places: list[str | None] = []
    matched: set[str] = set()
    for paths in folder_paths:
        hits = [p for p in paths if p in listed]
        places.append(listed[hits[0]] if hits else None)
        matched.update(hits)
    lost = [model for model, full in row_paths.items() if not matched.intersection(full)]
    if lost:
        names = [min((os.path.relpath(folder, base) for base in bases), key=len) for folder in folders]
        raise DataError(
            path,
            f"{len(lost)} of {len(row_paths)} rows match no model, first {first_three(lost)}",
            "a model is a path relative to this file's folder or to a ROOT; take out the rows that are not built; "
            f"the models found are {first_three(names)}",
        )
    return ListedPlaces(places, _fixed_splits(path, rows))


def _read_rows(path: Path) -> list[tuple[str, str, str]]:
    """Rows of (model, place, split or "") of a places file."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="", strict=True)
    try:
        header = list(reader.fieldnames or [])
        if not {"model", "place"} <= set(header):
            raise DataError(path, f"has the columns {','.join(header) or 'of an empty file'}", "it needs model,place")
        rows = []
        for row in reader:
            values = [(row.get(name) or "").strip() for name in ("model", "place", "split")]
            if not values[0] or not values[1] or values[2] not in ("", *SPLITS) or None in row:
                raise DataError(path, f"line {reader.line_num} is no row of model,place[,split]", "split: train or val")
            rows.append((values[0], values[1], values[2]))
    except csv.Error as error:
        raise DataError(path, f"is not a CSV table ({error})") from error
    return rows


def _fixed_splits(path: Path, rows: Sequence[tuple[str, str, str]]) -> dict[str, int]:
    fixed: dict[str, int] = {}
    for _, place, split in rows:
        if split and fixed.setdefault(place, SPLITS.index(split)) != SPLITS.index(split):
            raise DataError(path, f"puts the place {place} into both splits", "splits are by place: keep one of them")
    return fixed


def _full_paths(models: Sequence[str], bases: set[str], known: set[str]) -> dict[str, list[str]]:
    """Each row's model to the folders that it may mean: those among the known ones, by any of the bases.

    Walked from the known folders, since rows times bases would be too many where each scene is a ROOT.
    """
    full: dict[str, list[str]] = {model: [] for model in models}
    by_path: dict[str, list[str]] = defaultdict(list)
    for model in full:
        by_path[os.path.normpath(model)].append(model)
    outside = [path for path in by_path if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir]
    for path in outside:
        for there in {os.path.normpath(os.path.join(base, path)) for base in bases} & known:
            for model in by_path[path]:
                full[model].append(there)
    for there in known:
        for base in _upwards(there):
            if base in bases:
                below = there[len(base) :].lstrip(os.sep) or os.curdir
                for model in by_path.get(below, ()):
                    full[model].append(there)
    return full


def _upwards(path: str) -> list[str]:
    """An absolute path and all its parents, longest first."""
    paths = [path]
    while (parent := os.path.dirname(paths[-1])) != paths[-1]:
        paths.append(parent)
    return paths
