"""Small random worlds for tests: an index without geometry, an image table, descriptors with ties; whole indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import strategies as st

from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.container import open_file
from sfm2tuples.files.tables import read_table
from sfm2tuples.index import schema
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import (
    LEFT_OUT,
    OPTIONAL_TABLES,
    TABLES,
    TRAIN,
    VAL,
    Cameras,
    CovisibilityGraph,
    Images,
    Inside,
    Models,
    Observations,
    Places,
    Points,
    Spots,
)
from sfm2tuples.mining.tuple_file import Candidates, ImageTable, PlaceTable


@dataclass(frozen=True)
class Index:
    """All tables of an index in memory, to be compared, changed and written."""

    models: Models
    cameras: Cameras
    images: Images
    observations: Observations
    points: Points
    covisibility: CovisibilityGraph
    places: Places
    inside: Inside | None = None
    spots: Spots | None = None

    @property
    def image_place(self) -> np.ndarray:
        """(n,) int64, row of each image's place."""
        return self.models.place[self.images.model]

    @property
    def image_split(self) -> np.ndarray:
        """(n,) int8, split of each image."""
        return self.places.split[self.image_place]

    def photo_path(self, row: int) -> Path:
        """Where the photo of an image lies."""
        return Path(self.models.photo_root[int(self.images.model[row])]) / self.images.name[row]

    def opened(self) -> OpenedIndex:
        """The same index, as commands open it; its file is deleted and stays readable while it is open."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "index.h5"
            write_whole(path, self)
            return open_index(path)


def write_whole(path: Path, index: Index, options: dict[str, Any] | None = None, parents: Sequence[str] = ()) -> None:
    """Write an index from memory, as `build-index` writes its columns."""
    tables = {table.name: getattr(index, table.name) for table in fields(Index)}
    there = {name: vars(table) for name, table in tables.items() if table is not None}
    schema.write_index(path, there, options or {}, parents)


def read_whole(path: Path) -> Index:
    """Read every table of an index."""
    with open_file(path, schema.FORMAT, schema.VERSION) as file:
        columns = CheckedColumns(path, file, schema.RULES)
        tables = {**TABLES, **OPTIONAL_TABLES} if columns.has("inside/split") else TABLES
        return Index(**{name: read_table(columns, name, table) for name, table in tables.items()})


def with_inside(rng: np.random.Generator, index: Index, spots_of_place: int = 2) -> Index:
    """The same index with random relations: a tenth takes no part, a fifth of a model's pairs without edge is unknown.

    Each place has up to `spots_of_place` spots of random images; the last spot of each place is for validation.
    """
    n, place, model = len(index.images.key), index.image_place, index.images.model
    takes_part = rng.random(n) >= 0.1
    names, spot = np.unique(place * spots_of_place + rng.integers(spots_of_place, size=n), return_inverse=True)
    used, spot[takes_part] = np.unique(spot[takes_part], return_inverse=True)
    spot_place = names[used] // spots_of_place
    is_last = np.append(spot_place[1:] != spot_place[:-1], True)[: len(used)]
    split = np.full(n, LEFT_OUT, np.int8)
    split[takes_part] = np.where(is_last[spot[takes_part]], VAL, TRAIN)
    related = np.zeros((n, n), bool)
    related[np.repeat(np.arange(n), np.diff(index.covisibility.indptr)), index.covisibility.neighbour] = True
    drawn = np.triu(rng.random((n, n)) < 0.2, 1)
    unknown = (drawn | drawn.T) & (model[:, None] == model) & takes_part[:, None] & takes_part & ~related
    first, other = np.nonzero(unknown)
    hops = rng.integers(2, 4, (n, n))
    inside = Inside(
        takes_part=takes_part,
        spot=np.where(takes_part, spot, -1),
        split=split,
        indptr=indptr_of(np.bincount(first, minlength=n)),
        other=other,
        hops=np.minimum(hops, hops.T)[first, other].astype(np.uint8),
        into=rng.random(len(other)).astype(np.float32),
        distance=rng.random(len(other)).astype(np.float32),
    )
    return replace(index, inside=inside, spots=Spots(spot_place))


def random_index(rng: np.random.Generator, sizes: tuple[int, ...], place: tuple[int, ...], val: int = 0) -> Index:
    """An index of models with the given numbers of images and places; the last `val` places are for validation.

    Images see random points, some of them twice; scale change and angle of a pair are random, some undefined.
    """
    image_start = indptr_of(np.array(sizes, np.int64))
    n, points_of_model = int(image_start[-1]), 25
    model = np.repeat(np.arange(len(sizes)), sizes)
    seen = [model[i] * points_of_model + rng.integers(points_of_model, size=rng.integers(1, 20)) for i in range(n)]
    count = len(sizes) * points_of_model
    number_of_places = max(place) + 1
    split = np.full(number_of_places, TRAIN, np.int8)
    split[number_of_places - val :] = VAL
    return Index(
        models=Models(
            name=[f"model{i}" for i in range(len(sizes))],
            photo_root=["/photos" for _ in sizes],
            place=np.array(place, np.int64),
            image_start=image_start,
            point_start=np.arange(len(sizes) + 1) * points_of_model,
            camera_start=np.minimum(np.arange(len(sizes) + 1), 1),
        ),
        cameras=Cameras(
            id=np.ones(1, np.int64),
            model=np.zeros(1, np.int32),
            size=np.full((1, 2), 100),
            indptr=np.array([0, 3]),
            params=np.array([100.0, 50, 50]),
        ),
        images=Images(
            key=[f"model{model[i]}/{i}.jpg" for i in range(n)],
            name=[f"model{model[i]}/{i}.jpg" for i in range(n)],
            id=np.arange(n),
            model=model,
            camera=np.zeros(n, np.int64),
            quaternion=np.tile([1.0, 0, 0, 0], (n, 1)),
            translation=np.zeros((n, 3)),
            photo=np.arange(n),
            has_photo=np.ones(n, bool),
            observed=np.array([len(set(s.tolist())) for s in seen], np.int64),
        ),
        observations=Observations(
            indptr=indptr_of(np.array([len(s) for s in seen])),
            point=np.concatenate([np.zeros(0, np.int64), *seen]).astype(np.int64),
            xy=np.zeros((sum(map(len, seen)), 2), np.float32),
        ),
        points=Points(
            np.arange(count),
            np.zeros((count, 3), np.float32),
            np.zeros(count, np.float16),
            np.zeros((len(sizes), 3)),
        ),
        covisibility=_graph(rng, [set(s.tolist()) for s in seen]),
        places=Places([f"place{i}" for i in range(number_of_places)], split, [""] * number_of_places),
    )


def _graph(rng: np.random.Generator, seen: list[set[int]]) -> CovisibilityGraph:
    n = len(seen)
    shared = np.array([[len(a & b) if a is not b else 0 for b in seen] for a in seen], np.int32).reshape(n, n)

    def symmetric(values: np.ndarray) -> np.ndarray:
        return np.triu(values, 1) + np.triu(values, 1).T

    scale = symmetric(np.round(rng.uniform(1, 2, (n, n)), 1)).astype(np.float32)
    scale[symmetric(rng.random((n, n))) < 0.1] = np.nan
    angle = symmetric(rng.uniform(0, 1, (n, n))).astype(np.float32)
    axis = symmetric(rng.uniform(0, 2, (n, n))).astype(np.float32)
    row, neighbour = np.nonzero(shared)
    return CovisibilityGraph(
        indptr=indptr_of(np.bincount(row, minlength=n)),
        neighbour=neighbour,
        shared=shared[row, neighbour],
        scale_change=scale[row, neighbour],
        angle=angle[row, neighbour],
        axis_angle=axis[row, neighbour],
    )


def table_of(index: Index) -> tuple[ImageTable, PlaceTable, np.ndarray]:
    """Image and place tables of an index all of whose photos are there, and each index row's row in the table."""
    first = np.unique(index.images.photo)
    table_row = np.searchsorted(first, index.images.photo)
    images = ImageTable(
        key=[index.images.key[i] for i in first],
        root=["/photos"] * len(first),
        name=[index.images.name[i] for i in first],
        place=index.image_place[first],
        size=np.full((len(first), 2), 100),
        index_row=first,
    )
    return images, PlaceTable(index.places.name, index.places.split), table_row


def of_split(candidates: Candidates, chosen: np.ndarray) -> Candidates:
    """The candidates of the queries where `chosen` (c,) is true."""
    keep = np.repeat(chosen, np.diff(candidates.indptr))
    columns = ("image", "shared", "overlap", "scale_change", "angle")
    values = {name: getattr(candidates, name)[keep] for name in columns}
    return Candidates(candidates.query[chosen], indptr_of(np.diff(candidates.indptr)[chosen]), **values)


def drawn_worlds(pool: int, queries: int, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Sizes of a pool and of its queries at most, their places, and how many descriptors differ (0: all)."""
    return st.fixed_dictionaries(
        {
            "seed": st.integers(0, 10**6),
            "pool": st.integers(0, pool),
            "queries": st.integers(1, queries),
            "places": st.integers(1, 9),
            "distinct": st.sampled_from([0, 1, 3]),
            **more,
        }
    )


def unit_rows(rng: np.random.Generator, count: int, dimension: int, distinct: int = 0) -> np.ndarray:
    """Random descriptors (count, dimension) float32; only `distinct` different ones, if given, so that many tie."""
    rows = rng.standard_normal((distinct or count, dimension))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return rows[rng.integers(len(rows), size=count)] if distinct else rows


@dataclass(frozen=True)
class World:
    """A world ready for mining."""

    images: ImageTable
    places: PlaceTable
    candidates: dict[str, Candidates]
    descriptors: np.ndarray
