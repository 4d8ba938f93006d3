"""The columns of an index's points by rows; positions, which are kept relative to their model's centre, as they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.checked_columns import RowSelection
from sfm2tuples.files.lazy_file import LazyColumn, LazyFile, LazyTable
from sfm2tuples.index.schema import Points


class PointColumns(LazyTable):
    """All fields of `sfm2tuples.index.schema.Points`; `xyz` is in the model's world.

    Parameters
    ----------
    file : LazyFile
        An index that has points.
    models : callable
        Gives `Models.point_start`, and `centre_of_models` of the file.
    """

    def __init__(self, file: LazyFile, models: Callable[[], tuple[np.ndarray, np.ndarray | None]]) -> None:
        super().__init__(file, "points", Points)
        self._models = models

    @property
    def centre(self) -> np.ndarray:
        """What the stored positions of each model's points count from: (m, 3) float64."""
        start, centre = self._models()
        return np.zeros((len(start) - 1, 3)) if centre is None else centre

    @property
    def xyz(self) -> LazyColumn:
        """Positions in the models' worlds, (3,) float64 each."""
        return LazyColumn(self._file.num_rows("points/id"), self._xyz)

    def _xyz(self, rows: RowSelection) -> np.ndarray:
        stored: np.ndarray = self._file.read("points/xyz", rows)
        start, centre = self._models()
        if centre is None:
            return stored
        if isinstance(rows, slice):
            in_model = np.diff(np.clip(start, rows.start, rows.stop))
            of_point = np.repeat(centre, in_model, axis=0)
        else:
            # Models without points start where the next one does: the last to start there holds the point.
            of_point = centre[np.searchsorted(start, rows, "right") - 1]
        with np.errstate(over="ignore"):
            moved: np.ndarray = np.add(stored, of_point, out=of_point)
        if not np.isfinite(moved).all():
            raise FileFormatError(self._file.path, "points/xyz and points/centre add up to infinity", "build it again")
        return moved


def centre_of_models(file: LazyFile) -> np.ndarray | None:
    """What the positions of each model's points count from, (m, 3) float64; None where they count from the origin."""
    return file.column("points/centre")[:] if file.has("points/centre") else None
