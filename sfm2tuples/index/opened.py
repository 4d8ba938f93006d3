"""Read an index of any size by parts: images, places, neighbours with their evidence, poses, points."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.container import Header
from sfm2tuples.files.lazy_file import LazyFile, LazyTable
from sfm2tuples.files.remote.address import AnyPath, photo_at
from sfm2tuples.index.answers import ImageCamera, Neighbours, ObservedPoints, Track
from sfm2tuples.index.image_columns import ImageColumns
from sfm2tuples.index.key_lookup import KeyLookup
from sfm2tuples.index.point_columns import PointColumns, centre_of_models
from sfm2tuples.index.schema import (
    FORMAT,
    RULES,
    VERSION,
    CovisibilityGraph,
    Inside,
    Models,
    Observations,
    Places,
    Spots,
    overlaps,
)
from sfm2tuples.readers.camera_models import CAMERA_MODELS

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

EVIDENCE = ("shared", "overlap", "scale_change", "angle", "axis_angle")
"""What an edge of the co-visibility graph says of its two images."""
_BLOCK = 4096


class OpenedIndex:
    """An index file that is read by parts; made by `open_index`.

    An image is given by its row or its key, a model and a place by its row or its name. Negative rows are refused.

    It may be pickled (as path and fingerprints), sent to other processes and used after a fork: each process opens the
    file for itself. Threads may share one: HDF5 lets one of them read at a time.
    """

    def __init__(self, path: str | Path, content: str = "") -> None:
        self._file = LazyFile(Path(path), FORMAT, VERSION, RULES, content)
        self.header: Header = self._file.header()
        self.num_images: int = self._file.num_rows("images/id")
        self.has_points: bool = self._file.has("points/id")
        """Whether it holds points and observations, which a lean index does not."""

    def __reduce__(self) -> tuple[type[OpenedIndex], tuple[Path, str]]:
        """Travel to another process as a path, and as the fingerprints that the file there must have."""
        return type(self), (self.path, self.header.content)

    def __repr__(self) -> str:
        """The file, and how many images it has."""
        return f"<OpenedIndex {self.path}: {self.num_images:,} images>"

    def __enter__(self) -> OpenedIndex:
        """Be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; what was read stays, more cannot be read."""
        self._file.close()

    @property
    def path(self) -> Path:
        """The file, an absolute path."""
        return self._file.path

    @cached_property
    def models(self) -> Models:
        """The models, in memory."""
        return Models(**{name: self._file.column(f"models/{name}")[:] for name in Models.__dataclass_fields__})

    @cached_property
    def places(self) -> Places:
        """The places, in memory."""
        return Places(**{name: self._file.column(f"places/{name}")[:] for name in Places.__dataclass_fields__})

    @property
    def images(self) -> ImageColumns:
        """Columns of the images, read by rows: all fields of `Images`, place, split, pose, centre."""
        return ImageColumns(self._file, self._tables)

    @cached_property
    def num_points(self) -> int:
        """Points of the models, whether the index holds them or not."""
        return int(self.models.point_start[-1])

    def require_points(self) -> None:
        """Refuse a lean index, which holds no points and no observations: a DataError says what to do."""
        if not self.has_points:
            what = "is a lean index, without points and observations, which this needs"
            raise DataError(self.path, what, "build it again without --keep graph")

    @property
    def points(self) -> PointColumns:
        """Columns of the points, read by rows: all fields of `Points`, `xyz` whole; a lean index is refused."""
        self.require_points()
        return PointColumns(self._file, self._points_from)

    @cached_property
    def _centre(self) -> np.ndarray | None:
        return centre_of_models(self._file)

    def _points_from(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self.models.point_start, self._centre

    @property
    def observations(self) -> LazyTable:
        """Columns of the observations, CSR over images: all fields of `Observations`; a lean index is refused."""
        self.require_points()
        return LazyTable(self._file, "observations", Observations)

    @property
    def graph(self) -> LazyTable:
        """Columns of the co-visibility graph, CSR over images: all fields of `CovisibilityGraph`."""
        return LazyTable(self._file, "covisibility", CovisibilityGraph)

    @property
    def inside(self) -> LazyTable | None:
        """Columns of what the models prove, read by rows: all fields of `Inside`; None where the index has none."""
        return LazyTable(self._file, "inside", Inside) if self._file.has("inside/split") else None

    @cached_property
    def spots(self) -> Spots | None:
        """The spots, in memory; None where the index has none."""
        return Spots(self._file.column("spots/place")[:]) if self._file.has("spots/place") else None

    def row_of(self, key: str) -> int:
        """Row of the image with a key. The first call looks at all keys.

        Raises
        ------
        DataError, UsageError
            No image has this key, and a near one is named; it is no text.
        """
        if not isinstance(key, str):
            raise UsageError(f"{key!r} is no key of an image; give its text, as in images.key")
        row = self._keys.row(key)
        if row is None:
            near = self._keys.near(key)
            raise DataError(self.path, f"has no image {key}", f"did you mean {near}" if near else "see images.key")
        return row

    def rows_of_model(self, model: int | str) -> np.ndarray:
        """Rows of a model's images: (k,) int64, rising."""
        row = self._named(model, self.models.name, "model")
        return np.arange(self.models.image_start[row], self.models.image_start[row + 1])

    def rows_of_place(self, place: int | str) -> np.ndarray:
        """Rows of a place's images: (k,) int64, rising."""
        row = self._named(place, self.places.name, "place")
        models = np.flatnonzero(self.models.place == row).tolist()
        return np.concatenate([np.zeros(0, np.int64), *(self.rows_of_model(model) for model in models)])

    def photo_path(self, image: int | str) -> AnyPath:
        """Where the photo of an image lay for the machine that built the index: there, or elsewhere."""
        row = self._row(image)
        return photo_at(self.models.photo_root[int(self.images.model[row])], self.images.name[row])

    def camera(self, image: int | str) -> ImageCamera:
        """The camera of an image."""
        row = int(self.images.camera[self._row(image)])
        number, size = (self._file.column(f"cameras/{name}")[row] for name in ("model", "size"))
        if int(number) not in CAMERA_MODELS:
            what = f"cameras/model holds {number}, which is no camera model of COLMAP's"
            raise FileFormatError(self.path, what, "build it again")
        params = self._file.read("cameras/params", self._part("cameras", row))
        return ImageCamera(CAMERA_MODELS[int(number)].name, (int(size[0]), int(size[1])), params)

    def poses(self, rows: Any = slice(None)) -> np.ndarray:
        """World-to-camera poses [R | t] of some or all images: (n, 3, 4) float64."""
        return self.images.pose[rows]

    def centres(self, rows: Any = slice(None)) -> np.ndarray:
        """Camera centres of some or all images in their models' worlds: (n, 3) float64."""
        return self.images.centre[rows]

    def covisible(self, image: int | str, min_shared: int = 1) -> Neighbours:
        """Images that share points with one image.

        Parameters
        ----------
        image : int or str
            Row or key.
        min_shared : int
            Leave out images that share fewer points.

        Returns
        -------
        Neighbours
            Sorted by shared points, falling; ties by the lower row.
        """
        row = self._row(image)
        part = self._part("covisibility", row)
        names = ("neighbour", "shared", "scale_change", "angle", "axis_angle")
        neighbour, shared, *others = (self._file.read(f"covisibility/{name}", part) for name in names)
        order = np.lexsort((neighbour, -shared))
        order = order[shared[order] >= min_shared]
        observed = np.repeat(self.images.observed[row], len(order))
        overlap = overlaps(self.path, shared[order], observed)
        evidence = (values[order] for values in others)
        return Neighbours(neighbour[order], self.images.key[neighbour[order]], shared[order], overlap, *evidence)

    def covisibility(
        self, value: str = "shared", *, model: int | str | None = None, place: int | str | None = None
    ) -> csr_matrix:
        """The co-visibility graph of a model, of a place, or of the whole index.

        Parameters
        ----------
        value : str
            One of `EVIDENCE`. Overlap is seen from the image of the row; the others are symmetric.
        model, place : int or str, optional
            Rows and columns are then those of `rows_of_model` or `rows_of_place`.

        Returns
        -------
        (n, n) csr_matrix
            An entry for each pair of images that share points, even where the value is 0 or NaN.

        Raises
        ------
        UsageError
            The value is unknown, or both a model and a place are given.
        """
        if value not in EVIDENCE:
            raise UsageError(f"{value} is none of {', '.join(EVIDENCE)}")
        if model is not None and place is not None:
            raise UsageError("give a model or a place, not both")
        if model is not None:
            return self._graph(self.rows_of_model(model), value)
        return self._graph(np.arange(self.num_images) if place is None else self.rows_of_place(place), value)

    def num_observed(self) -> np.ndarray:
        """|P(i)|: how many different points each image observes, (n,) int64."""
        return self.images.observed[:]

    def points_of(self, image: int | str) -> ObservedPoints:
        """The points that an image observes; a lean index is refused."""
        self.require_points()
        part = self._part("observations", self._row(image))
        point = self._file.read("observations/point", part)
        points = self.points
        return ObservedPoints(point, points.xyz[point], points.error[point], self._file.read("observations/xy", part))

    def track(self, point: int) -> Track:
        """All observations of a point. Reads those of its whole model: for many points, read them once."""
        self.require_points()
        if not 0 <= point < self.num_points:
            raise UsageError(f"point {point} of {self.num_points:,}")
        model = int(np.searchsorted(self.models.point_start, point, "right")) - 1
        first, last = self.models.image_start[model], self.models.image_start[model + 1]
        indptr = self._file.read("observations/indptr", slice(first, last + 1))
        seen = self._file.read("observations/point", slice(indptr[0], indptr[-1]))
        where = np.flatnonzero(seen == point) + indptr[0]
        image = np.searchsorted(indptr, where, "right") - 1 + first
        return Track(image, self._file.column("observations/xy")[where])

    @cached_property
    def _keys(self) -> KeyLookup:
        return KeyLookup(self._file, "images/key")

    def _row(self, image: int | str) -> int:
        if isinstance(image, str):
            return self.row_of(image)
        if not 0 <= image < self.num_images:
            raise UsageError(f"image {image} of {self.num_images:,}; give a row from 0, or a key")
        return int(image)

    def _named(self, which: int | str, names: list[str], what: str) -> int:
        if isinstance(which, str):
            if which not in names:
                raise DataError(self.path, f"has no {what} {which}", f"see {what}s.name")
            return names.index(which)
        if not 0 <= which < len(names):
            raise UsageError(f"{what} {which} of {len(names):,}; give a row from 0, or a name")
        return int(which)

    def _part(self, table: str, row: int) -> slice:
        """Where the values of one CSR row lie."""
        start, stop = self._file.read(f"{table}/indptr", slice(row, row + 2))
        return slice(int(start), int(stop))

    def _tables(self) -> tuple[Models, Places]:
        return self.models, self.places

    def _graph(self, rows: np.ndarray, value: str) -> csr_matrix:
        """The graph of rising rows that hold whole models: no edge leaves them."""
        from scipy.sparse import csr_matrix

        counts, neighbour, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [self._edges(0, 0, value)[2]]
        for block in _blocks(rows):
            parts = self._edges(int(block[0]), int(block[-1]) + 1, value)
            for column, part in zip((counts, neighbour, values), parts, strict=True):
                column.append(part)
        columns = np.searchsorted(rows, np.concatenate(neighbour))
        shape = len(rows), len(rows)
        return csr_matrix((np.concatenate(values), columns, indptr_of(np.concatenate(counts))), shape)

    def _edges(self, start: int, stop: int, value: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of consecutive images: the number of neighbours of each, and the neighbours with one value each."""
        indptr = self._file.read("covisibility/indptr", slice(start, stop + 1))
        counts, part = np.diff(indptr), slice(int(indptr[0]), int(indptr[-1]))
        values = self._file.read(f"covisibility/{'shared' if value == 'overlap' else value}", part)
        if value == "overlap":
            values = overlaps(self.path, values, np.repeat(self.images.observed[start:stop], counts))
        return counts, self._file.read("covisibility/neighbour", part), values


def open_index(path: str | Path) -> OpenedIndex:
    """Open an index of any size to read it by parts.

    Parameters
    ----------
    path : str or Path
        What `build-index` wrote.

    Returns
    -------
    OpenedIndex
        Close it, or use it in a ``with`` block. Nothing but the header was read.

    Raises
    ------
    DataError, FileFormatError
        The file is absent, torn, of another format or newer than this program.
    """
    return OpenedIndex(path)


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    """Rising rows in parts of consecutive ones, none longer than `_BLOCK`."""
    parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
    return [part[start : start + _BLOCK] for part in parts for start in range(0, len(part), _BLOCK)]
