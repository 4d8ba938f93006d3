"""`index.h5`: cameras, poses, points, observations, the co-visibility graph, places and splits, as columns.

A lean index (`build-index --keep graph`) has no points and no observations. All else is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.columns import ColumnStream, fill_column
from sfm2tuples.files.container import create_file
from sfm2tuples.files.room import require_room
from sfm2tuples.files.rules import Rule, Rules, text_rules
from sfm2tuples.files.tables import Column, write_columns
from sfm2tuples.index.splits import LEFT_OUT as LEFT_OUT
from sfm2tuples.index.splits import SPLITS as SPLITS
from sfm2tuples.index.splits import TRAIN as TRAIN
from sfm2tuples.index.splits import VAL as VAL
from sfm2tuples.index.stored_types import narrowed

FORMAT = "sfm2tuples-index"
VERSION = 2
UNHASHED = ("models/photo_root",)
"""What the fingerprint does not cover: where photos lie on this machine."""


@dataclass(frozen=True)
class Models:
    """`/models`: one row a sparse model."""

    name: list[str]
    """Path of the model relative to the given roots' common parent."""
    photo_root: list[str]
    """Folder that the image names are relative to; empty where no photos were found."""
    place: np.ndarray
    """(m,) int64, row of the model's place."""
    image_start: np.ndarray
    """(m + 1,) int64, rows of the model's images are ``image_start[i]:image_start[i + 1]``."""
    point_start: np.ndarray
    """(m + 1,) int64, likewise for points."""
    camera_start: np.ndarray
    """(m + 1,) int64, likewise for cameras."""


@dataclass(frozen=True)
class Cameras:
    """`/cameras`: COLMAP's camera models and parameters."""

    id: np.ndarray
    """(c,) int64, COLMAP's camera id within its model."""
    model: np.ndarray
    """(c,) int32, COLMAP's camera model id."""
    size: np.ndarray
    """(c, 2) int64, width and height in pixels."""
    indptr: np.ndarray
    """(c + 1,) int64, where each camera's parameters start."""
    params: np.ndarray
    """(sum,) float64, parameters in COLMAP's order."""


@dataclass(frozen=True)
class Images:
    """`/images`: one row a registered photo of one model."""

    key: list[str]
    """Path of the photo relative to the common parent of the photo roots; its name in every descriptor file."""
    name: list[str]
    """COLMAP's name, relative to the model's photo root."""
    id: np.ndarray
    """(n,) int64, COLMAP's image id within its model."""
    model: np.ndarray
    """(n,) int64, row of the model."""
    camera: np.ndarray
    """(n,) int64, row of the camera."""
    quaternion: np.ndarray
    """(n, 4) float64, world-to-camera rotation, wxyz."""
    translation: np.ndarray
    """(n, 3) float64, world-to-camera translation."""
    photo: np.ndarray
    """(n,) int64, the same number for rows whose photos have the same bytes; the row of the first of them."""
    has_photo: np.ndarray
    """(n,) bool, whether the photo was found when the index was built."""
    observed: np.ndarray
    """(n,) int64, different points that the image observes."""


@dataclass(frozen=True)
class Observations:
    """`/observations`: which image sees which point, as CSR over images; absent from a lean index."""

    indptr: np.ndarray
    """(n + 1,) int64, where each image's observations start."""
    point: np.ndarray
    """(k,) int64, row of the point."""
    xy: np.ndarray
    """(k, 2) float32, where the image sees the point, in pixels; NaN where the model does not say."""


@dataclass(frozen=True)
class Points:
    """`/points`: the 3D points of all models; absent from a lean index."""

    id: np.ndarray
    """(p,) int64, COLMAP's point id within its model."""
    xyz: np.ndarray
    """(p, 3) float64, in the model's world, less the model's `centre`."""
    error: np.ndarray
    """(p,) float64, mean reprojection error in pixels."""
    centre: np.ndarray
    """(m, 3) float64, what the positions of each model's points count from."""


@dataclass(frozen=True)
class CovisibilityGraph:
    """`/covisibility`: image to neighbour as CSR, symmetric, neighbours rising, with method.md section 2's figures."""

    indptr: np.ndarray
    """(n + 1,) int64, where each image's neighbours start."""
    neighbour: np.ndarray
    """(e,) int64, row of the other image."""
    shared: np.ndarray
    """(e,) int32, shared points."""
    scale_change: np.ndarray
    """(e,) float32, geometric mean of the ratio of pixel sizes, >= 1; NaN where no shared point has one."""
    angle: np.ndarray
    """(e,) float32, mean viewing angle at the shared points in radians."""
    axis_angle: np.ndarray
    """(e,) float32, angle between the optical axes in radians."""


@dataclass(frozen=True)
class Places:
    """`/places`: models that show the same thing; splits are by place."""

    name: list[str]
    """Name of the place."""
    split: np.ndarray
    """(k,) int8, `TRAIN` or `VAL`."""
    reason: list[str]
    """Why its models were joined; empty for a place of one model."""


@dataclass(frozen=True)
class Inside:
    """`/inside`: what a model proves of two images of one place, by method.md section 12; absent where not asked.

    A pair of one place is positive where the graph has it. It is unknown where one of the two takes no part, where
    their models are two (unless the option `fragments` says that these are apart), and where `other` lists it. It is
    a proven negative otherwise.
    """

    takes_part: np.ndarray
    """(n,) bool, whether the image can have proven negatives: at least 15 points, and a picture that can be placed."""
    spot: np.ndarray
    """(n,) int64, row of the image's spot; -1 where it takes no part."""
    split: np.ndarray
    """(n,) int8, `TRAIN`, `VAL` or `LEFT_OUT`; it stands in the place of the split of the image's place."""
    indptr: np.ndarray
    """(n + 1,) int64, where each image's unknown pairs start."""
    other: np.ndarray
    """(u,) int64, row of the other image, of the same model; symmetric, rising within an image."""
    hops: np.ndarray
    """(u,) uint8, steps apart in the graph of all shared points; 3 stands for more than two."""
    into: np.ndarray
    """(u,) float32, share of the image's points that fall into the other's picture."""
    distance: np.ndarray
    """(u,) float32, distance of the two centres over the median depth of the image's points."""


@dataclass(frozen=True)
class Spots:
    """`/spots`: parts of places that see the same, which take the part that places have; absent as `/inside`."""

    place: np.ndarray
    """(s,) int64, row of the spot's place; rising."""

    def names(self, places: Sequence[str]) -> list[str]:
        """Name of each spot: ``PLACE#k``, k from 1 within its place."""
        first = np.searchsorted(self.place, self.place)
        number = (np.arange(len(self.place)) - first + 1).tolist()
        return [f"{places[place]}#{k}" for place, k in zip(self.place.tolist(), number, strict=True)]


def distinct_points(indptr: np.ndarray, point: np.ndarray) -> np.ndarray:
    """|P(i)|: how many different points each image observes; a point observed twice by one image counts once.

    Parameters
    ----------
    indptr, point : (n + 1,) int64, (k,) int64
        As in `Observations`.

    Returns
    -------
    (n,) int64
    """
    span = np.int64(point.max(initial=0) + 1)
    image = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    seen = np.sort(image * span + point)
    return np.bincount(seen[np.diff(seen, prepend=-1) > 0] // span, minlength=len(indptr) - 1)


def overlaps(path: str | Path, shared: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Overlap of pairs of images: shared points over the points that the one image observes.

    Parameters
    ----------
    path : str or Path
        The index, for messages.
    shared, observed : (e,) int

    Returns
    -------
    (e,) float32, above 0 and at most 1

    Raises
    ------
    FileFormatError
        An image shares more points than it observes: its observations are not in the file.
    """
    odd = np.flatnonzero(shared > observed)
    if len(odd):
        what = f"an image shares more points than it observes ({shared[odd[0]]:,} of {observed[odd[0]]:,})"
        raise FileFormatError(path, what, "build it again")
    return (shared / observed).astype(np.float32)


SYNCED_EARLY = 1 << 25
"""Bytes of a column that are worth a request to the disk of their own."""

TABLES = {
    "models": Models,
    "cameras": Cameras,
    "images": Images,
    "observations": Observations,
    "points": Points,
    "covisibility": CovisibilityGraph,
    "places": Places,
}
"""By group of the file, the dataclass of its columns."""
POINT_TABLES = ("observations", "points")
"""Those of them that a lean index does not have. They have a fingerprint of their own, so that whatever is made of the
rest is the same for a lean and a whole index, and says that it is of the same."""
OPTIONAL_TABLES = {"inside": Inside, "spots": Spots}
"""Likewise of the groups that an index has together or not at all."""

ROW, ID, COUNT = ("int32",), ("uint32",), ("uint16",)
"""How rows of tables, COLMAP's ids and counts are stored, where they fit; they are read as they always were."""

RULES: Rules = {
    **text_rules("models/name", "models"),
    **text_rules("models/photo_root", "models"),
    "models/place": Rule(("models",), "int64", ROW, row_of="places"),
    **text_rules("images/key", "images"),
    **text_rules("images/name", "images"),
    "images/id": Rule(("images",), "int64", ID),
    "images/model": Rule(("images",), "int64", ROW, row_of="models"),
    "images/camera": Rule(("images",), "int64", ROW, row_of="cameras"),
    "images/quaternion": Rule(("images", 4), "float64", finite=True),
    "images/translation": Rule(("images", 3), "float64", finite=True),
    "images/photo": Rule(("images",), "int64", ROW, row_of="images"),
    "images/has_photo": Rule(("images",), "bool"),
    "images/observed": Rule(("images",), "int64", ROW, least=0, only_with="images/observed"),
    "cameras/id": Rule(("cameras",), "int64", ID),
    "cameras/model": Rule(("cameras",), "int32"),
    "cameras/size": Rule(("cameras", 2), "int64", ROW),
    "cameras/indptr": Rule(("cameras + 1",), "int64", starts_of="camera parameters"),
    "cameras/params": Rule(("camera parameters",), "float64"),
    "points/id": Rule(("points",), "int64", ID, only_with="points"),
    "points/xyz": Rule(("points", 3), "float64", ("float32",), finite=True, only_with="points"),
    "points/error": Rule(("points",), "float64", ("float16",), only_with="points"),
    "points/centre": Rule(("models", 3), "float64", finite=True, only_with="points/centre"),
    "models/image_start": Rule(("models + 1",), "int64", starts_of="images"),
    "models/point_start": Rule(("models + 1",), "int64", starts_of="points"),
    "models/camera_start": Rule(("models + 1",), "int64", starts_of="cameras"),
    "observations/indptr": Rule(("images + 1",), "int64", starts_of="observations", only_with="points"),
    "observations/point": Rule(("observations",), "int64", ROW, row_of="points", only_with="points"),
    "observations/xy": Rule(("observations", 2), "float32", only_with="points"),
    "covisibility/indptr": Rule(("images + 1",), "int64", starts_of="pairs"),
    "covisibility/neighbour": Rule(("pairs",), "int64", ROW, row_of="images"),
    "covisibility/shared": Rule(("pairs",), "int32", COUNT, least=1),
    "covisibility/scale_change": Rule(("pairs",), "float32"),
    "covisibility/angle": Rule(("pairs",), "float32"),
    "covisibility/axis_angle": Rule(("pairs",), "float32"),
    **text_rules("places/name", "places"),
    "places/split": Rule(("places",), "int8", least=TRAIN, most=VAL),
    **text_rules("places/reason", "places"),
    "inside/takes_part": Rule(("images",), "bool", only_with="inside"),
    "inside/spot": Rule(("images",), "int64", ROW, row_of="spots", or_none=True, only_with="inside"),
    "inside/split": Rule(("images",), "int8", least=TRAIN, most=LEFT_OUT, only_with="inside"),
    "inside/indptr": Rule(("images + 1",), "int64", starts_of="unknown pairs", only_with="inside"),
    "inside/other": Rule(("unknown pairs",), "int64", ROW, row_of="images", only_with="inside"),
    "inside/hops": Rule(("unknown pairs",), "uint8", least=1, most=3, only_with="inside"),
    "inside/into": Rule(("unknown pairs",), "float32", least=0, most=1, finite=True, only_with="inside"),
    "inside/distance": Rule(("unknown pairs",), "float32", least=0, finite=True, only_with="inside"),
    "spots/place": Rule(("spots",), "int64", ROW, row_of="places", only_with="inside"),
}
"""What is true of every column: whatever reads an index holds it to them."""


def write_index(
    path: str | Path,
    tables: Mapping[str, Mapping[str, Column]],
    options: dict[str, Any],
    parents: Sequence[str] = (),
    threads: int = 1,
) -> None:
    """Write `index.h5` from columns that need not be in memory.

    Parameters
    ----------
    path : str or Path
    tables : mapping
        By group, such as ``images``, its columns by name: all fields of the group's dataclass. The groups of
        `OPTIONAL_TABLES` may be absent, and those of `POINT_TABLES`.
    options, parents
        For the header.
    threads : int
        How many columns are gathered, written and hashed at a time; the file is the same for any number.
    """
    digests: dict[str, str] = {}
    absent = {*OPTIONAL_TABLES, *POINT_TABLES}.difference(tables)
    there = {name: table for name, table in {**TABLES, **OPTIONAL_TABLES}.items() if name not in absent}
    with create_file(path, FORMAT, VERSION, options, parents, UNHASHED, digests, details=POINT_TABLES) as file:
        streams: list[tuple[h5py.Dataset, ColumnStream]] = []
        synced: list[Future[None]] = []
        for name, table in there.items():
            given = {field.name: tables[name][field.name] for field in fields(table)}
            columns = {field: narrowed(RULES.get(f"{name}/{field}"), column) for field, column in given.items()}
            streams += write_columns(file.create_group(name), columns)
        # The columns have their places by now, but not yet their bytes.
        require_room(path, sum(dataset.nbytes for dataset, _ in streams))
        streams.sort(key=lambda stream: -stream[0].nbytes)
        # The disk writes what is done while the rest is gathered, and has little left to do at the end.
        with ThreadPoolExecutor(threads) as pool, ThreadPoolExecutor(1) as syncing:
            for (dataset, _), digest in zip(streams, pool.map(lambda s: fill_column(file, *s), streams), strict=True):
                digests[dataset.name.strip("/")] = digest
                if dataset.nbytes >= SYNCED_EARLY:
                    synced.append(syncing.submit(file.sync))
        # The system tells of a failed write once: it may be here, and not when the whole file is synced.
        for early in synced:
            early.result()
