"""The columns of an index's images by rows, and what follows from them: place, split, pose and centre."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.checked_columns import RowSelection
from sfm2tuples.files.lazy_file import LazyColumn, LazyFile, LazyTable
from sfm2tuples.index.schema import Images, Models, Places, distinct_points

_BLOCK = 4096


class ImageColumns(LazyTable):
    """All fields of `sfm2tuples.index.schema.Images`, and `place`, `split`, `pose` and `centre`.

    Parameters
    ----------
    file : LazyFile
        An index.
    tables : callable
        Gives its models and places.
    """

    def __init__(self, file: LazyFile, tables: Callable[[], tuple[Models, Places]]) -> None:
        super().__init__(file, "images", Images)
        self._tables = tables

    def __len__(self) -> int:
        """Number of images."""
        return self._file.num_rows("images/id")

    @property
    def model(self) -> LazyColumn:
        """Row of each image's model, int64."""
        return LazyColumn(len(self), self._models)

    @property
    def place(self) -> LazyColumn:
        """Row of each image's place, int64."""
        return LazyColumn(len(self), self._places)

    @property
    def split(self) -> LazyColumn:
        """Split of each image, int8: `TRAIN`, `VAL`, or `LEFT_OUT` in an index that splits inside its places."""
        return LazyColumn(len(self), self._splits)

    @property
    def observed(self) -> LazyColumn:
        """|P(i)|: how many different points each image observes, int64."""
        return LazyColumn(len(self), self._observed)

    @property
    def pose(self) -> LazyColumn:
        """World-to-camera poses [R | t], (3, 4) float64 each."""
        return LazyColumn(len(self), self._poses)

    @property
    def centre(self) -> LazyColumn:
        """Camera centres in the model's world, (3,) float64 each."""
        return LazyColumn(len(self), self._centres)

    def _places(self, rows: RowSelection) -> np.ndarray:
        return self._tables()[0].place[self._models(rows)]

    def _models(self, rows: RowSelection) -> np.ndarray:
        model: np.ndarray = self._file.read("images/model", rows)
        row = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        start = self._tables()[0].image_start
        odd = np.flatnonzero((row < start[model]) | (row >= start[model + 1]))
        if len(odd):
            right = int(np.searchsorted(start, row[odd[0]], "right")) - 1
            what = f"images/model of row {row[odd[0]]} is {model[odd[0]]}, but models/image_start says {right}"
            raise FileFormatError(self._file.path, what, "build it again")
        return model

    def _splits(self, rows: RowSelection) -> np.ndarray:
        if self._file.has("inside/split"):
            inside: np.ndarray = self._file.read("inside/split", rows)
            return inside
        return self._tables()[1].split[self._places(rows)]

    def _observed(self, rows: RowSelection) -> np.ndarray:
        if self._file.has("images/observed"):
            stored: np.ndarray = self._file.read("images/observed", rows)
            return stored
        if not self._file.has("observations/point"):
            raise FileFormatError(self._file.path, "torn or incomplete (no images/observed)", "build it again")
        # Before version 2 of the format the observations alone said it.
        if isinstance(rows, np.ndarray):
            return self._observed(slice(0, len(self)))[rows]
        counts = [np.zeros(0, np.int64)]
        for start in range(rows.start, rows.stop, _BLOCK):
            indptr = self._file.read("observations/indptr", slice(start, min(start + _BLOCK, rows.stop) + 1))
            seen = slice(int(indptr[0]), int(indptr[-1]))
            counts.append(distinct_points(indptr, self._file.read("observations/point", seen)))
        return np.concatenate(counts)

    def _poses(self, rows: RowSelection) -> np.ndarray:
        from scipy.spatial.transform import Rotation

        wxyz, translation = (self._file.read(f"images/{name}", rows) for name in ("quaternion", "translation"))
        if not wxyz.any(axis=1).all():
            raise FileFormatError(self._file.path, "images/quaternion has rows of length 0", "build it again")
        pose = np.empty((len(wxyz), 3, 4))
        if len(wxyz):
            pose[:, :, :3] = Rotation.from_quat(wxyz[:, [1, 2, 3, 0]]).as_matrix()
        pose[:, :, 3] = translation
        return pose

    def _centres(self, rows: RowSelection) -> np.ndarray:
        pose = self._poses(rows)
        return -np.einsum("nij,ni->nj", pose[:, :, :3], pose[:, :, 3])
