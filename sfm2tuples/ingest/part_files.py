"""Parts of a build: files of columns, each with models that were read and their graphs; merged into an index."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.columns import Utf8Strings, indptr_of
from sfm2tuples.parts.part_files import TORN, check_sum, read_part_header, write_part_file
from sfm2tuples.readers.sparse_model import SparseModel

if TYPE_CHECKING:
    # The graph loads numba, which the process that only merges parts does not need.
    from sfm2tuples.covisibility.graph import Covisibility

MAGIC = b"sfmpart2"
KINDS = ("cameras", "params", "images", "name_bytes", "observations", "points", "edges")
"""What a model has a number of."""
LEFT_OUT_OF_LEAN = ("observations", "points")
"""Kinds that a lean part has none of."""
COLUMNS: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "cameras/id": ("cameras", "<i8", ()),
    "cameras/model": ("cameras", "<i4", ()),
    "cameras/size": ("cameras", "<i8", (2,)),
    "cameras/num_params": ("cameras", "<i8", ()),
    "cameras/params": ("params", "<f8", ()),
    "images/id": ("images", "<i8", ()),
    "images/camera": ("images", "<i8", ()),
    "images/quaternion": ("images", "<f8", (4,)),
    "images/translation": ("images", "<f8", (3,)),
    "images/num_observations": ("images", "<i8", ()),
    "images/observed": ("images", "<i8", ()),
    "images/num_neighbours": ("images", "<i8", ()),
    "images/num_name_bytes": ("images", "<i8", ()),
    "images/name": ("name_bytes", "|u1", ()),
    "observations/point": ("observations", "<i8", ()),
    "observations/xy": ("observations", "<f4", (2,)),
    "points/id": ("points", "<i8", ()),
    "points/xyz": ("points", "<f8", (3,)),
    "points/error": ("points", "<f8", ()),
    "covisibility/neighbour": ("edges", "<i8", ()),
    "covisibility/shared": ("edges", "<i4", ()),
    "covisibility/scale_change": ("edges", "<f4", ()),
    "covisibility/angle": ("edges", "<f4", ()),
    "covisibility/axis_angle": ("edges", "<f4", ()),
}
"""Columns of a part, named as in the index: what there is one row for, type, and what a row holds.

Rows of cameras, points and neighbours count from the model's first; lengths stand in the place of row starts. A lean
part has no points and no observations.
"""


BOUNDED = ("cameras/id", "cameras/size", "images/id", "images/observed", "points/id", "covisibility/shared")
"""Columns of whole numbers whose least and greatest value says how an index stores them."""


@dataclass(frozen=True)
class ModelRecord:
    """What a part says of one of its models."""

    name: str
    """Name of the model."""
    key: str
    """What it was made from, as `FoundModel.key` says it."""
    counts: dict[str, int]
    """How many the part has of each of `KINDS`."""
    num_points: int
    """Points of the model, which a lean part does not have."""
    bounds: dict[str, list[int]]
    """Of the columns of `BOUNDED`: the least and the greatest value; 0 and 0 where there is none."""
    centre: list[float]
    """The median of its points, (3,)."""
    rounding: float
    """How far observations move in pixels where points are kept relative to that in single precision."""
    dropped: dict[str, int]
    """What a lenient reading left out: reason to count."""
    behind: int
    """Observations behind their camera."""
    without_focal_length: int
    """Images whose camera has no focal length."""


@dataclass(frozen=True)
class Part:
    """Some models' columns, in a file or in memory."""

    models: tuple[ModelRecord, ...]
    """Its models, in the order of their rows."""
    starts: Mapping[str, np.ndarray]
    """By kind: (m + 1,) int64, where each model's rows start."""
    path: Path | None
    """The file; None for a part that is in memory alone."""
    offsets: Mapping[str, int]
    """Where each column of a file starts; empty for a part in memory."""
    columns: Mapping[str, np.ndarray]
    """The columns of a part in memory; empty for a file."""

    def read(self, column: str, start: int, stop: int) -> np.ndarray:
        """Rows of a column; not to be written to."""
        if self.path is None:
            return self.columns[column][start:stop]
        _, dtype, width = COLUMNS[column]
        size = math.prod(width)
        offset = self.offsets[column] + start * size * np.dtype(dtype).itemsize
        return np.fromfile(self.path, dtype, (stop - start) * size, offset=offset).reshape(-1, *width)

    def read_whole(self, column: str) -> np.ndarray:
        """All rows of a column; not to be written to."""
        return self.read(column, 0, int(self.starts[COLUMNS[column][0]][-1]))


def part_of(models: Sequence[tuple[str, str, SparseModel, Covisibility]], lean: bool = False) -> Part:
    """Put models together.

    Parameters
    ----------
    models : sequence of (name, key, model, graph)
        At least one.
    lean : bool
        Leave out points and observations.
    """
    records, columns = [], []
    for name, key, model, graph in models:
        columns.append(_columns(model, graph, lean))
        records.append(_record(name, key, model, graph, columns[-1]))
    joined = columns[0]
    if len(columns) > 1:
        joined = {name: np.concatenate([model[name] for model in columns]) for name in COLUMNS}
    return Part(tuple(records), _starts(records), None, {}, joined)


def _record(
    name: str, key: str, model: SparseModel, graph: Covisibility, columns: dict[str, np.ndarray]
) -> ModelRecord:
    from sfm2tuples.ingest.rounding import centre_of, rounding_loss

    has_points = len(columns["points/id"]) > 0
    centre = centre_of(model.points) if has_points else np.zeros(3)
    return ModelRecord(
        name=name,
        key=key,
        counts={kind: len(columns[column]) for column, (kind, _, _) in COLUMNS.items()},
        num_points=len(model.points),
        bounds={column: _bounds(columns[column]) for column in BOUNDED},
        centre=centre.tolist(),
        rounding=rounding_loss(model, centre) if has_points else 0.0,
        dropped=model.dropped,
        behind=graph.behind,
        without_focal_length=graph.without_focal_length,
    )


def _bounds(values: np.ndarray) -> list[int]:
    return [int(values.min()), int(values.max())] if values.size else [0, 0]


def write_part(path: Path, part: Part) -> None:
    """Write a part that is in memory, as `write_part_file` does."""
    write_part_file(path, MAGIC, [vars(record) for record in part.models], [part.columns[name] for name in COLUMNS])


def read_part(path: Path, check: bool = False) -> Part:
    """Read the header of a part.

    Parameters
    ----------
    path : Path
    check : bool
        Read the columns too and compare their sum: for a part that was written before a machine may have stopped.

    Raises
    ------
    FileFormatError
        The part is torn.
    """
    try:
        header = read_part_header(path, MAGIC)
        models = tuple(ModelRecord(**record) for record in header.content)
        starts = _starts(models)
        offsets, size = _layout(starts, header.first)
        part = Part(models, starts, path, offsets, {})
        if path.stat().st_size != size:
            raise ValueError(f"has {path.stat().st_size:,} bytes of {size:,}")
        if check and check_sum(header.text, (part.read_whole(column) for column in COLUMNS)) != header.check:
            raise ValueError("its check sum is another one")
    except TORN as error:
        raise FileFormatError(path, f"a torn part ({error})", "it is made again") from error
    return part


def _columns(model: SparseModel, graph: Covisibility, lean: bool) -> dict[str, np.ndarray]:
    names = Utf8Strings.of(model.image_names)
    columns = {
        "cameras/id": model.camera_ids,
        "cameras/model": model.camera_models,
        "cameras/size": model.camera_sizes,
        "cameras/num_params": np.diff(model.camera_indptr),
        "cameras/params": model.camera_params,
        "images/id": model.image_ids,
        "images/camera": model.image_cameras,
        "images/quaternion": model.quaternions,
        "images/translation": model.translations,
        "images/num_observations": np.diff(model.observation_indptr),
        "images/observed": graph.observed,
        "images/num_neighbours": np.diff(graph.indptr),
        "images/num_name_bytes": np.diff(names.offsets),
        "images/name": names.utf8,
        "observations/point": model.observation_points,
        "observations/xy": model.observation_xy,
        "points/id": model.point_ids,
        "points/xyz": model.points,
        "points/error": model.point_errors,
        "covisibility/neighbour": graph.neighbour,
        "covisibility/shared": graph.shared,
        "covisibility/scale_change": graph.scale_change,
        "covisibility/angle": graph.angle,
        "covisibility/axis_angle": graph.axis_angle,
    }
    if lean:
        columns["images/num_observations"] = np.zeros(len(model.image_names), np.int64)
        # Copies, since a view would hold what is left out.
        columns |= {
            name: columns[name][:0].copy() for name, (kind, _, _) in COLUMNS.items() if kind in LEFT_OUT_OF_LEAN
        }
    return {name: np.ascontiguousarray(columns[name], dtype) for name, (_, dtype, _) in COLUMNS.items()}


def _starts(models: Sequence[ModelRecord]) -> dict[str, np.ndarray]:
    return {kind: indptr_of(np.array([record.counts[kind] for record in models], np.int64)) for kind in KINDS}


def _layout(starts: Mapping[str, np.ndarray], first: int) -> tuple[dict[str, int], int]:
    """Where each column starts, the first one at `first`, and where the last one ends."""
    offsets = {}
    for name, (kind, dtype, width) in COLUMNS.items():
        offsets[name] = first
        first += np.dtype(dtype).itemsize * math.prod(width) * int(starts[kind][-1])
    return offsets, first
