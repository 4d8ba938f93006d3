"""Place recognition: a photo taken near the query is right; recall@N, positions from file names or from an index."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.photos.sources import photos_of_rows
from retrieval.protocols.benchmark import MAX_DISTANCE, Benchmark, ProtocolChoice
from retrieval.protocols.photo_names import PhotoNames
from sfm2tuples.errors import DataError, UsageError, first_three, refuse_some
from sfm2tuples.files.opening import is_hdf5
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import SPLITS

MEASURES = ("recall@1", "recall@5", "recall@10", "recall@20", "mAP")
QUERY_FOLDERS = ("queries", "query")
DATABASE_FOLDERS = ("database", "db")


def make_benchmark(choice: ProtocolChoice, names: Callable[[], PhotoNames]) -> Benchmark:
    """Make the protocol of a folder of photos with positions in their names, or of the camera centres of an index."""
    data = choice.local_data
    if data.is_dir():
        return named_positions_benchmark(names(), choice.max_distance)
    if not is_hdf5(data):
        raise DataError(choice.data, "is neither an index nor a folder of photos with positions in their names")
    with open_index(data) as index:
        return index_positions_benchmark(index, SPLITS.index(choice.split), choice.max_distance, choice.unit_length)


def positions_in_names(names: Sequence[str], origin: str) -> np.ndarray:
    """Positions (n, 2) float64 in metres from names ``@easting@northing@...@.jpg``.

    Raises
    ------
    DataError
        Some names hold no position.
    """
    positions = np.full((len(names), 2), np.nan)
    for row, name in enumerate(names):
        words = name.rsplit("/", 1)[-1].split("@")
        try:
            positions[row] = float(words[1]), float(words[2])
        except (ValueError, IndexError):
            continue
    bad = [names[row] for row in np.flatnonzero(~np.isfinite(positions).all(axis=1)).tolist()]
    refuse_some(origin, bad, len(names), "names hold no position", "names begin @easting@northing@")
    return positions


def named_positions_benchmark(names: PhotoNames, max_distance: float = MAX_DISTANCE) -> Benchmark:
    """Make the protocol of photos that carry UTM positions in their names.

    Photos below a folder ``queries`` are the queries and those below ``database`` the database; where there are no
    such folders every photo is both, and is left out of its own ranking. Photos of two files that have one name are
    two photos, unless `names.same` has it: AmsterTime and SPED name query and answer alike.

    Parameters
    ----------
    names : PhotoNames
    max_distance : float
        Metres within which a photo is right.

    Raises
    ------
    DataError
        A name without a position, or no query or no database.
    UsageError
        Several sets, such as ``val`` and ``test``, lie below one folder.
    """
    queries, database = _two_sides(names)
    if not queries or not database:
        raise DataError(names.origin, f"{len(queries):,} queries and {len(database):,} photos of a database")
    asked, held = positions_in_names(queries, names.of_queries().origin), positions_in_names(database, names.origin)
    near = _near(asked, held, max_distance)
    row_of = {name: row for row, name in enumerate(database)}
    itself = set(database) if names.queries is None else names.same
    own = [np.array([row_of[name]] if name in row_of and name in itself else [], np.int64) for name in queries]
    positives = [np.setdiff1d(rows, self_) for rows, self_ in zip(near, own, strict=True)]
    truth = make_ground_truth(
        np.arange(len(queries)), positives, own, np.zeros(len(queries), np.int64), ["place-recognition"]
    )
    return Benchmark(database, queries, {"place-recognition": truth}, MEASURES)


def index_positions_benchmark(
    index: OpenedIndex, split: int, max_distance: float = MAX_DISTANCE, unit_length: float = 1.0
) -> Benchmark:
    """Make the protocol of the camera centres of an index: every photo of a split is a query against all of it.

    Positions compare within a model only. Photos of the query's place that are in none of its models are neither
    right nor wrong, as is the query itself.

    Parameters
    ----------
    index : OpenedIndex
    split : int
        Places that take part.
    max_distance : float
        Distance within which a photo is right.
    unit_length : float
        Length of a model's unit, in the unit of `max_distance`; 1 measures in the model's own unit.

    Raises
    ------
    UsageError
        The split has no photos, or a length is not positive.
    """
    if not unit_length > 0:
        raise UsageError(f"the length of a unit must be positive, not {unit_length}")
    images = index.images
    rows = np.flatnonzero((images.split[:] == split) & images.has_photo[:])
    if len(rows) == 0:
        raise UsageError(f"{index.path}: the split has no photos; build the index with more places")
    photos, item = np.unique(images.photo[rows], return_inverse=True)
    models = images.model[rows]
    positives = _right(item, models, images.centre[rows], max_distance / unit_length)
    junk = _not_comparable(item, models, images.place[rows])
    listed = photos_of_rows(index, photos)
    groups = np.zeros(len(photos), np.int64)
    truth = make_ground_truth(np.arange(len(photos)), positives, junk, groups, ["place-recognition"])
    return Benchmark(listed.keys, listed.keys, {"place-recognition": truth}, MEASURES, photos=listed)


def _right(item: np.ndarray, models: np.ndarray, centres: np.ndarray, distance: float) -> list[np.ndarray]:
    """Database rows near each database row in one of its models, itself excepted; `item` is each image's row."""
    found: list[list[np.ndarray]] = [[] for _ in range(int(item.max()) + 1)]
    for model in np.unique(models):
        members = np.flatnonzero(models == model)
        for image, near in zip(members, _near(centres[members], centres[members], distance), strict=True):
            found[item[image]].append(item[members[near]])
    return [np.setdiff1d(np.concatenate(near), row) for row, near in enumerate(found)]


def _not_comparable(item: np.ndarray, models: np.ndarray, places: np.ndarray) -> list[np.ndarray]:
    """Of each database row: itself, and the rows of its places that are in none of its models."""
    of_model = {model: np.unique(item[models == model]) for model in np.unique(models)}
    of_place = {place: np.unique(item[places == place]) for place in np.unique(places)}
    junk = []
    for row, images in enumerate(np.split(np.argsort(item, kind="stable"), np.cumsum(np.bincount(item))[:-1])):
        around = np.concatenate([of_place[place] for place in np.unique(places[images])])
        compared = np.concatenate([of_model[model] for model in np.unique(models[images])])
        junk.append(np.union1d(np.setdiff1d(around, compared), row))
    return junk


def _two_sides(names: PhotoNames) -> tuple[list[str], list[str]]:
    if names.queries is not None:
        return names.queries, names.database
    queries, database = (_below(names.database, folders) for folders in (QUERY_FOLDERS, DATABASE_FOLDERS))
    sets = sorted(set(queries.values()) | set(database.values()))
    if len(sets) > 1 and set(queries.values()) & set(database.values()):
        # Photos of another set would be wrong answers that the published figures do not have.
        what = f"holds {len(sets)} sets of queries and database, {first_three([name or '.' for name in sets])}"
        raise UsageError(f"{names.origin}: {what}; give the folder or the descriptors of one")
    return (list(queries), list(database)) if queries or database else (names.database, names.database)


def _below(names: Sequence[str], folders: tuple[str, ...]) -> dict[str, str]:
    """Names that lie in one of some folders, and the path above that folder: the set that they belong to."""
    found = {}
    for name in names:
        parts = name.split("/")[:-1]
        depth = next((depth for depth, part in enumerate(parts) if part in folders), None)
        if depth is not None:
            found[name] = "/".join(parts[:depth])
    return found


def _near(queries: np.ndarray, database: np.ndarray, max_distance: float) -> list[np.ndarray]:
    """Rows of the database within a distance of each query, rising."""
    from scipy.spatial import cKDTree

    if not (math.isfinite(max_distance) and max_distance > 0):
        raise UsageError(f"the distance must be positive, not {max_distance}")
    found = cKDTree(database).query_ball_point(queries, max_distance)
    return [np.array(sorted(rows), np.int64) for rows in found]
