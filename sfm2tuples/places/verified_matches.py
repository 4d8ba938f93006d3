"""Which models the verified matches of COLMAP's databases connect."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import numpy as np

from sfm2tuples.errors import DataError, UsageError, first_three
from sfm2tuples.files.columns import gather_rows, indptr_of
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.remote.address import AnyPath, is_address, without_credentials
from sfm2tuples.places.grouping import Join
from sfm2tuples.readers.colmap_database import VerifiedPairs, read_image_ids, read_verified_pairs
from sfm2tuples.readers.discover import ModelLocation, split_root

log = logging.getLogger(__name__)

FILE = "database.db"
"""The name that COLMAP's and hloc's tools give it."""
SUMMED_AT = 1 << 16
"""Rows of evidence from which on those of one pair of models are added up, so that memory stays small."""


@dataclass(frozen=True)
class GivenDatabase:
    """A database that the user names: `--database [ROOT=]FILE`."""

    file: Path
    """FILE: its names are relative to one photo root."""
    root: AnyPath | None = None
    """Only for the models of this ROOT; None: for those whose images it holds."""

    @classmethod
    def parse(cls, text: str, roots: Sequence[AnyPath]) -> GivenDatabase:
        """Read what the user wrote, given the ROOTs of the command.

        Raises
        ------
        DataError
            A FILE that is absent.
        UsageError
            One that lies elsewhere.
        """
        root, file = split_root(text, roots)
        if is_address(file):
            raise UsageError(f"{without_credentials(file)}: a database is read on this machine alone; copy it first")
        require_file(file, remedy="give --database [ROOT=]FILE, ROOT being one of the roots")
        return cls(Path(file), root)


@dataclass(frozen=True)
class MatchOptions:
    """How many verified matches join two models."""

    min_matches: int
    """Inlier matches of a pair of images; pairs with fewer do not count."""
    min_match_pairs: int
    """Such pairs between two models."""


@dataclass(frozen=True)
class ImageIds:
    """The models that hold each image of a database, as CSR."""

    id: np.ndarray
    """(n,) int64, COLMAP's ids in the database, rising."""
    indptr: np.ndarray
    """(n + 1,) int64, where the models of each start."""
    model: np.ndarray
    """(k,) int64, rows of models; COLMAP may register an image in several."""


def match_joins(images: ImageIds, blocks: Iterable[VerifiedPairs], min_match_pairs: int) -> list[Join]:
    """Pairs of models that enough verified pairs of images connect.

    Time and memory are linear in the pairs of images, besides sorting.

    Parameters
    ----------
    images : ImageIds
    blocks : iterable of VerifiedPairs
    min_match_pairs : int
        Pairs of images that two models need.

    Returns
    -------
    list of Join
        The strongest evidence that connects the models: as few pairs as possible, never all.
    """
    num_models = int(images.model.max(initial=0)) + 1
    found = [np.zeros((0, 3), np.int64)]
    for first, second, matches in blocks:
        found.append(_by_models(images, first, second, matches, num_models))
        if sum(map(len, found[1:])) > max(SUMMED_AT, len(found[0])):
            found = [_summed(np.concatenate(found))]
    evidence = _summed(np.concatenate(found))
    enough = [
        Join(pair // num_models, pair % num_models, image_pairs=image_pairs, matches=inliers)
        for pair, image_pairs, inliers in evidence[evidence[:, 1] >= min_match_pairs].tolist()
    ]
    groups = nx.utils.UnionFind()
    joins = []
    for join in sorted(enough, key=lambda j: (-j.image_pairs, -j.matches, j.first, j.second)):
        if groups[join.first] != groups[join.second]:
            groups.union(join.first, join.second)
            joins.append(join)
    return joins


def joins_by_matches(
    locations: Sequence[ModelLocation],
    image_names: Sequence[Sequence[str]],
    photo_roots: Sequence[str],
    given: Sequence[GivenDatabase],
    options: MatchOptions,
    strict: bool = False,
) -> list[Join]:
    """Joins of models by the databases near them and by those that the user gave.

    Parameters
    ----------
    locations : sequence of ModelLocation
    image_names : sequence of sequence of str
        By model.
    photo_roots : sequence of str
        By model: absolute path, or "".
    given : sequence of GivenDatabase
    options : MatchOptions
    strict : bool
        Stop at a found database that cannot be read, instead of leaving it out with a warning.

    Raises
    ------
    DataError
        A given database cannot be read, holds no model's images, or fits models of several photo roots.
    """
    near: dict[Path, list[int]] = defaultdict(list)
    for row, database in enumerate(find_databases(locations)):
        if database is not None:
            near[database].append(row)
    joins: list[Join] = []
    for choice in given:
        ids = read_image_ids(choice.file)
        models = _models_of(choice, ids, locations, image_names, photo_roots)
        near.pop(Path(os.path.realpath(choice.file)), None)
        joins += _joins_of(choice.file, ids, models, image_names, options)
    for database, models in near.items():
        try:
            if len(models) > 1:
                joins += _joins_of(database, read_image_ids(database), models, image_names, options)
        except DataError as error:
            if strict:
                raise
            log.warning("%s; its matches join no models", error)
    return joins


def find_databases(locations: Sequence[ModelLocation]) -> list[Path | None]:
    """For each model the nearest `database.db`: in its folder, a parent up to the ROOT, or its scene folder."""
    there: dict[str, Path | None] = {}

    def look(folder: str) -> Path | None:
        if folder not in there:
            file = os.path.join(folder, FILE)
            there[folder] = Path(os.path.realpath(file)) if os.path.isfile(file) else None
        return there[folder]

    return [next(filter(None, map(look, _folders(location))), None) for location in locations]


def _folders(location: ModelLocation) -> Iterator[str]:
    """The model's folder and its parents up to the ROOT, then the scene folder where it lies above."""
    path, root = os.path.abspath(location.path), os.path.abspath(location.root)
    yield path
    while path != root and os.path.dirname(path) != path:
        path = os.path.dirname(path)
        yield path
    yield str(location.scene)


def _models_of(
    choice: GivenDatabase,
    ids: dict[str, int],
    locations: Sequence[ModelLocation],
    image_names: Sequence[Sequence[str]],
    photo_roots: Sequence[str],
) -> list[int]:
    """Models that a given database is of: most of their images are in it, and they have one photo root.

    Names alone are no proof: every camera makes a 0001.jpg. Where several photo roots fit, the user has to say.
    """
    models = [
        row
        for row, (location, names) in enumerate(zip(locations, image_names, strict=True))
        if (choice.root is None or location.is_of(choice.root)) and 2 * sum(name in ids for name in names) > len(names)
    ]
    if not models:
        raise DataError(choice.file, "holds the images of no model", "its names are relative to the models' photo root")
    fitting = sorted({photo_roots[row] for row in models})
    if len(fitting) > 1:
        what = f"its names fit models of {len(fitting)} photo roots, {first_three([f or 'none' for f in fitting])}"
        raise DataError(choice.file, what, "give --database ROOT=FILE with the ROOT that it is of")
    return models


def _joins_of(
    database: Path,
    ids: dict[str, int],
    models: Sequence[int],
    image_names: Sequence[Sequence[str]],
    options: MatchOptions,
) -> list[Join]:
    held = [(ids[name], row) for row in models for name in image_names[row] if name in ids]
    pairs = np.array(sorted(held), np.int64).reshape(-1, 2)
    number, counts = np.unique(pairs[:, 0], return_counts=True)
    images = ImageIds(number, indptr_of(counts), pairs[:, 1])
    joins = match_joins(images, read_verified_pairs(database, options.min_matches), options.min_match_pairs)
    log.info("%s: joins of %d models by verified matches: %d", database, len(models), len(joins))
    return joins


def _by_models(
    images: ImageIds, first: np.ndarray, second: np.ndarray, matches: np.ndarray, num_models: int
) -> np.ndarray:
    """A row for each pair of images of different models: the models as one number, 1, the matches; (k, 3) int64."""
    known = np.isin(first, images.id) & np.isin(second, images.id)
    rows = np.searchsorted(images.id, first[known]), np.searchsorted(images.id, second[known])
    indptr, left = gather_rows(images.indptr, rows[0])
    pair = np.repeat(np.arange(len(rows[0])), np.diff(indptr))
    indptr, right = gather_rows(images.indptr, rows[1][pair])
    times = np.diff(indptr)
    a, b = np.repeat(images.model[left], times), images.model[right]
    both = np.minimum(a, b) * num_models + np.maximum(a, b)
    return np.stack([both, np.ones_like(both), np.repeat(matches[known][pair], times)], axis=1)[a != b]


def _summed(evidence: np.ndarray) -> np.ndarray:
    """Rows of one pair of models added up: (k, 3) int64, the pairs rising."""
    rows = evidence[np.argsort(evidence[:, 0], kind="stable")]
    starts = np.flatnonzero(np.append(True, rows[1:, 0] != rows[:-1, 0])[: len(rows)])
    if not len(starts):
        return rows
    return np.column_stack([rows[starts, 0], np.add.reduceat(rows[:, 1:], starts)])
