"""Write an index of an earlier version, or a whole one, anew: today's version, the smallest types, lean if wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np

from sfm2tuples.compute.threads import default_threads
from sfm2tuples.errors import UsageError
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.columns import ColumnStream
from sfm2tuples.files.container import header_of, open_file, read_header
from sfm2tuples.files.tables import Column
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import (
    FORMAT,
    OPTIONAL_TABLES,
    POINT_TABLES,
    RULES,
    TABLES,
    VERSION,
    write_index,
)
from sfm2tuples.ingest.options import ALL, GRAPH
from sfm2tuples.ingest.part_files import COLUMNS
from sfm2tuples.ingest.rounding import MOST_LOST, centre_of, half_of, rounding_loss
from sfm2tuples.readers.sparse_model import SparseModel

BLOCK_ROWS = 1 << 19
"""Rows of a column that are in memory at a time: a few megabytes."""
Tables = dict[str, dict[str, Column]]


def upgrade_index(source: Path, target: Path, keep: str = ALL) -> None:
    """Write an index as `build-index` would write it today; memory of its graph's rows, and of one model's points.

    Parameters
    ----------
    source : Path
        An index of any version up to this program's.
    target : Path
        The file to write.
    keep : str
        ``graph`` leaves out points and observations, as `IngestOptions.keep`.

    Raises
    ------
    UsageError
        There is nothing to do: the file is of today's version, and nothing is left out of it.
    DataError, FileFormatError
        It is absent, torn, no index, or newer than this program.
    """
    before = read_header(source)
    if before.format == FORMAT and before.version == VERSION and (keep == ALL or not before.details):
        said = "is lean already" if keep == GRAPH else f"has version {VERSION} already, today's"
        raise UsageError(f"{source}: {said}; there is nothing to upgrade")
    with open_file(source, FORMAT, VERSION) as file:
        header, columns = header_of(source, file), CheckedColumns(source, file, RULES)
        tables = _tables(columns)
        with open_index(source) as index:
            observed = index.images.observed[:]
        bounds = int(observed.min(initial=0)), int(observed.max(initial=0))
        tables["images"]["observed"] = ColumnStream(observed.dtype, observed.shape, lambda: iter([observed]), bounds)
        if keep == GRAPH:
            tables = {name: table for name, table in tables.items() if name not in POINT_TABLES}
        elif "points" in tables and not columns.has("points/centre"):
            tables["points"] |= _points(columns)
        kept = GRAPH if "points" not in tables else ALL
        write_index(target, tables, {**header.options, "keep": kept}, header.parents, default_threads())


def _tables(columns: CheckedColumns) -> Tables:
    """Every column of the file as it is: as a stream, where a build merges it as one."""
    tables: Tables = {}
    for group, table in {**TABLES, **OPTIONAL_TABLES}.items():
        names = [field.name for field in fields(table)]
        there = [name for name in names if columns.has(f"{group}/{name}") or columns.has(f"{group}/{name}/offsets")]
        if there:
            tables[group] = {name: _column(columns, f"{group}/{name}") for name in there}
    return tables


def _column(columns: CheckedColumns, name: str) -> Column:
    if name not in COLUMNS or not columns.has(name):
        whole: Column = columns.read(name)
        return whole
    dataset, bounds = columns.dataset(name), None
    if RULES[name].stored and dataset.dtype.kind in "iu":
        ends = [(block.min(), block.max()) for block in _blocks(columns, name) if block.size]
        bounds = int(min((low for low, _ in ends), default=0)), int(max((high for _, high in ends), default=0))
    return ColumnStream(dataset.dtype, dataset.shape, partial(_blocks, columns, name), bounds)


def _blocks(columns: CheckedColumns, name: str) -> Iterator[np.ndarray]:
    rows = columns.num_rows(name)
    for start in range(0, rows, BLOCK_ROWS):
        yield columns.read(name, slice(start, min(start + BLOCK_ROWS, rows)))


def _points(columns: CheckedColumns) -> dict[str, Column]:
    """Positions and errors of an index that has them in double precision, as `merging` makes them of parts."""
    start = columns.read("models/point_start")
    models = range(len(start) - 1)

    def own(model: int) -> np.ndarray:
        points: np.ndarray = columns.read("points/xyz", slice(int(start[model]), int(start[model + 1])))
        return points

    centre = np.array([centre_of(own(model)) for model in models]).reshape(-1, 3)
    is_single = all(rounding_loss(_model(columns, model), centre[model]) <= MOST_LOST for model in models)
    if not is_single:
        centre = np.zeros_like(centre)
    count, dtype = int(start[-1]), np.dtype(np.float32 if is_single else np.float64)
    return {
        "xyz": ColumnStream(dtype, (count, 3), lambda: (own(model) - centre[model] for model in models)),
        "error": ColumnStream(np.dtype(np.float16), (count,), lambda: map(half_of, _blocks(columns, "points/error"))),
        "centre": centre,
    }


def _model(columns: CheckedColumns, model: int) -> SparseModel:
    """A model of an index, but for names and pixel coordinates."""

    def rows_of(kind: str) -> slice:
        first, last = columns.read(f"models/{kind}_start", slice(model, model + 2))
        return slice(int(first), int(last))

    images, cameras, points = map(rows_of, ("image", "camera", "point"))

    def ragged(table: str, rows: slice) -> tuple[np.ndarray, slice]:
        indptr = columns.read(f"{table}/indptr", slice(rows.start, rows.stop + 1))
        return indptr - indptr[0], slice(int(indptr[0]), int(indptr[-1]))

    camera_indptr, params = ragged("cameras", cameras)
    indptr, observed = ragged("observations", images)
    count = images.stop - images.start
    return SparseModel(
        camera_ids=columns.read("cameras/id", cameras),
        camera_models=columns.read("cameras/model", cameras),
        camera_sizes=columns.read("cameras/size", cameras),
        camera_indptr=camera_indptr,
        camera_params=columns.read("cameras/params", params),
        image_ids=columns.read("images/id", images),
        image_names=[""] * count,
        image_cameras=columns.read("images/camera", images) - cameras.start,
        quaternions=columns.read("images/quaternion", images),
        translations=columns.read("images/translation", images),
        observation_indptr=indptr,
        observation_points=columns.read("observations/point", observed) - points.start,
        observation_xy=np.zeros((0, 2)),
        point_ids=columns.read("points/id", points),
        points=columns.read("points/xyz", points),
        point_errors=columns.read("points/error", points),
    )
