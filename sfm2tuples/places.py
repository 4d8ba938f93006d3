"""Places: which models show the same thing, what the user says about it, and the split of each place."""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np

from sfm2tuples.errors import DataError, first_three
from sfm2tuples.index import SPLITS, TRAIN, VAL

log = logging.getLogger(__name__)

SAME_SCENE = "same scene folder"


@dataclass(frozen=True)
class ListedPlaces:
    """What a places file says."""

    place: list[str | None]
    """By model: the place it is listed in, or None."""
    split: dict[str, int]
    """Place to `TRAIN` or `VAL`, where the file fixes it."""


@dataclass(frozen=True)
class Join:
    """Evidence that two models show the same place."""

    first: int
    """Row of a model."""
    second: int
    """Row of another model, higher than `first`."""
    photos: int
    """Photos of the same content; 0 where the two only lie in the same scene folder."""


@dataclass(frozen=True)
class Grouping:
    """Models grouped into places."""

    place: np.ndarray
    """(m,) int64, row of each model's place; places are numbered by their first model."""
    name: list[str]
    """Name of each place."""
    reason: list[str]
    """Why the models of a place were joined; empty for a place of one model."""
    contradictions: list[str]
    """Evidence that the places file overrules, one line each."""


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
    bases = [_normal(base) for base in (path.parent, *roots)]
    listed: dict[str, str] = {}
    row_paths: dict[str, list[str]] = {}
    for model, place, _ in rows:
        row_paths[model] = [os.path.normpath(os.path.join(base, model)) for base in bases]
        for full in row_paths[model]:
            if listed.setdefault(full, place) != place:
                raise DataError(path, f"lists {model} in two places, {listed[full]} and {place}", "keep one of them")
    matched: set[str] = set()
    places: list[str | None] = []
    for folder in folders:
        hit = next((p for p in _upwards(_normal(folder)) if p in listed), None)
        places.append(None if hit is None else listed[hit])
        matched.update(p for p in _upwards(_normal(folder)) if p in listed)
    lost = [model for model, full in row_paths.items() if not matched.intersection(full)]
    if lost:
        raise DataError(
            path,
            f"{len(lost)} of {len(row_paths)} rows match no model, first {first_three(lost)}",
            "a model is a path relative to this file's folder or to a ROOT; take out the rows that are not built",
        )
    return ListedPlaces(places, _fixed_splits(path, rows))


def photo_joins(photos: Sequence[np.ndarray]) -> list[Join]:
    """Pairs of models that hold photos of the same content.

    Parameters
    ----------
    photos : sequence of (n,) int64
        For each model the numbers of its photos' contents.

    Returns
    -------
    list of Join
        Each model with the first one that holds the photo: as many pairs as connect them, never all pairs.
    """
    first_with: dict[int, int] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for model, contents in enumerate(photos):
        for photo in np.unique(contents).tolist():
            first = first_with.setdefault(photo, model)
            if first != model:
                counts[first, model] += 1
    return [Join(first, second, count) for (first, second), count in sorted(counts.items())]


def scene_joins(scenes: Sequence[Path], photo_roots: Sequence[str]) -> list[Join]:
    """Pairs of models of one scene folder and one photo root: photos of one folder most likely show one site.

    Parameters
    ----------
    scenes : sequence of Path
    photo_roots : sequence of str
        "" where a model has no photos. Models that only share a photo root are not joined: it may be a collection.

    Returns
    -------
    list of Join
        Each model with the first one of its scene.
    """
    first: dict[tuple[Path, str], int] = {}
    pairs = [(first.setdefault(key, model), model) for model, key in enumerate(zip(scenes, photo_roots, strict=True))]
    return [Join(a, b, 0) for a, b in pairs if a != b]


def group_models(
    names: Sequence[str], scenes: Sequence[Path], joins: Sequence[Join], listed: Sequence[str | None]
) -> Grouping:
    """Group models into places: connected components of the evidence, overruled by the places file.

    Evidence is taken from the strongest to the weakest. What would connect two places of the file is set aside and
    reported, so a model that is not listed stays with the models it shares most photos with.

    Parameters
    ----------
    names : sequence of str
        Names of the models, for the reasons.
    scenes : sequence of Path
        Their scene folders, which name the places that the file does not.
    joins : sequence of Join
    listed : sequence of str or None
        By model: its place in the file.
    """
    groups = nx.utils.UnionFind(range(len(names)))
    reasons: list[tuple[int, str]] = []
    contradictions: list[str] = []
    label: dict[int, str] = {}
    first: dict[str, int] = {}
    for model, place in enumerate(listed):
        if place is not None:
            groups.union(first.setdefault(place, model), model)
            label[groups[model]] = place
            if first[place] != model:
                reasons.append((model, "places file"))
    for join in sorted(joins, key=lambda j: (-j.photos, j.first, j.second)):
        a, b = groups[join.first], groups[join.second]
        text = _evidence(join, names)
        if a in label and b in label and label[a] != label[b]:
            contradictions.append(f"places {label[a]} and {label[b]} stay apart as listed, against: {text}")
            continue
        named = label.get(a, label.get(b))
        groups.union(a, b)
        if named is not None:
            label[groups[join.first]] = named
        reasons.append((join.first, text))
    return _numbered(groups, label, reasons, contradictions, scenes)


def split_places(
    names: Sequence[str], has_photos: Sequence[bool], fixed: dict[str, int], val_share: float, seed: int
) -> np.ndarray:
    """Split places into training and validation.

    The order in which places go to validation is that of a hash of seed and name, so a new place does not reshuffle
    the others.

    Parameters
    ----------
    names : sequence of str
    has_photos : sequence of bool
        A place without photos can be neither trained on nor measured: it goes to training, and does not count.
    fixed : dict
        Place to split, where the places file says so.
    val_share : float
        Share of the places that goes to validation, rounded half up; at least one where the share is above 0 and
        there are two places, and never all of them below a share of 1.
    seed : int

    Returns
    -------
    (k,) int8
        `TRAIN` or `VAL`.
    """
    split = np.array([fixed.get(name, TRAIN) for name in names], np.int8)
    eligible = sum(name in fixed or photos for name, photos in zip(names, has_photos, strict=True))
    wanted = math.floor(val_share * eligible + 0.5)
    if val_share > 0 and eligible >= 2:
        wanted = max(1, wanted)
    if val_share < 1:
        wanted = min(wanted, eligible - 1)
    free = [row for row, name in enumerate(names) if has_photos[row] and name not in fixed]
    free.sort(key=lambda row: (hashlib.sha256(f"{seed}:{names[row]}".encode()).digest(), names[row]))
    split[free[: max(0, wanted - int((split == VAL).sum()))]] = VAL
    return split


def _read_rows(path: Path) -> list[tuple[str, str, str]]:
    """Rows of (model, place, split or "") of a places file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(path, "is not UTF-8 text", "save it as CSV in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", strict=True)
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


def _normal(path: Path) -> str:
    return os.path.normpath(path.absolute())


def _upwards(path: str) -> list[str]:
    """The path and all its parents, longest first."""
    return [path, *(str(parent) for parent in Path(path).parents)]


def _evidence(join: Join, names: Sequence[str]) -> str:
    what = (
        f"{join.photos} {'photo' if join.photos == 1 else 'photos'} of the same content" if join.photos else SAME_SCENE
    )
    return f"{what} ({names[join.first]}, {names[join.second]})"


def _numbered(
    groups: nx.utils.UnionFind,
    label: dict[int, str],
    reasons: Sequence[tuple[int, str]],
    contradictions: list[str],
    scenes: Sequence[Path],
) -> Grouping:
    """Number the groups by their first model, name them, and give each its reasons."""
    rows: dict[int, int] = {}
    place = np.array([rows.setdefault(groups[model], len(rows)) for model in range(len(scenes))], np.int64)
    taken = set(label.values())
    names = []
    firsts = np.unique(place, return_index=True)[1].tolist()
    for root, first in zip(rows, firsts, strict=True):
        names.append(label[root] if root in label else _free_name(scenes[first].name or "place", taken))
        taken.add(names[-1])
    texts: dict[int, list[str]] = defaultdict(list)
    for model, text in reasons:
        if text not in texts[place[model]]:
            texts[place[model]].append(text)
    return Grouping(place, names, [_summary(texts[row]) for row in range(len(names))], contradictions)


def _free_name(name: str, taken: set[str]) -> str:
    """The name, or with the first number that makes it unique."""
    number = 1
    unique = name
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    return unique


def _summary(texts: Sequence[str]) -> str:
    """Up to three reasons of a place, and how many more there are."""
    more = [f"{len(texts) - 3} more"] if len(texts) > 3 else []
    return "; ".join([*texts[:3], *more])
