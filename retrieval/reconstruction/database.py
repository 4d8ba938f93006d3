"""COLMAP's `database.db`, written row by row: pycolmap makes the tables, in a process of its own, and reads them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.reconstruction.cameras import PhotoCamera
from sfm2tuples.compute.worker_pools import LocalProcesses
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS
from sfm2tuples.readers.colmap_database import PAIR_BASE

CAMERA_SENSOR, SIFT = 0, 0
"""COLMAP's numbers of a kind of sensor and a kind of feature."""
_BUSY_SECONDS = 60


@dataclass(frozen=True)
class VerifiedMatches:
    """What two photos have in common: a row of ``matches`` and one of ``two_view_geometries``."""

    pair: int
    """COLMAP's number of the pair, see `pair_numbers`."""
    matches: np.ndarray
    """(m, 2) uint32: features of the photo with the lower number, and of the other."""
    inliers: np.ndarray
    """(k, 2) uint32: those of them that one geometry explains."""
    config: int
    """COLMAP's kind of geometry; 1 is none."""
    geometry: dict[str, np.ndarray]
    """``F``, ``E``, ``H``, as far as they were found: (3, 3) float64."""


def pair_numbers(pairs: np.ndarray) -> np.ndarray:
    """COLMAP's numbers of pairs of rows (m, 2), the lower first: (m,) int64. A row's number in the database is + 1."""
    return PAIR_BASE * (pairs[:, 0] + 1) + pairs[:, 1] + 1


def rows_of_pairs(numbers: np.ndarray) -> np.ndarray:
    """The rows of COLMAP's numbers of pairs: (m, 2) int64."""
    return np.stack([numbers // PAIR_BASE - 1, numbers % PAIR_BASE - 1], axis=1)


def create_database(path: Path) -> None:
    """Make an empty database, as this version of pycolmap wants it; what was there is removed.

    Raises
    ------
    UsageError
        pycolmap is not installed, or older than version 4.
    DataError
        The disk is full.
    """
    remove_database(path)
    pool = LocalProcesses(1)
    try:
        pool.submit(_create, str(path)).result()
    finally:
        pool.close()


def remove_database(path: Path) -> None:
    """Remove a database and what SQLite keeps beside it."""
    for end in ("", "-wal", "-shm", "-journal"):
        Path(f"{path}{end}").unlink(missing_ok=True)


@contextmanager
def open_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that `create_database` made; whatever SQLite complains of is a DataError."""
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise DataError(
            path, f"cannot be used ({error})", "is its disk full, or does another program use it?"
        ) from error


@contextmanager
def writing(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is written meanwhile, or nothing of it, however this process ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def is_sound(path: Path, whole: bool = True) -> bool:
    """Whether a database is there and SQLite finds no fault in it; all of it is read where `whole` is set."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchall() if whole else [("ok",)]
            connection.execute("SELECT count(*) FROM images").fetchall()
    except sqlite3.Error:
        return False
    return bool(found == [("ok",)])


def settle(path: Path) -> None:
    """Bring what SQLite keeps beside a database into its file, for those who read the file alone."""
    with open_database(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def add_photo(
    connection: sqlite3.Connection,
    row: int,
    name: str,
    camera: PhotoCamera,
    features: tuple[np.ndarray, np.ndarray],
) -> None:
    """Add a photo with its features, and its camera where that is new.

    Parameters
    ----------
    connection : sqlite3.Connection
    row, name
        Of the table of photos.
    camera : PhotoCamera
    features : ((m, 4) float32, (m, 128) uint8)
        See `LocalFeatures`.
    """
    number, sensor = row + 1, camera.number + 1
    keypoints, descriptors = features
    with writing(connection):
        if connection.execute("SELECT 1 FROM cameras WHERE camera_id = ?", (sensor,)).fetchone() is None:
            blob = np.array(camera.parameters, "<f8").tobytes()
            shape = {"model": CAMERA_MODEL_IDS[camera.model], "width": camera.width, "height": camera.height}
            known = int(camera.known)
            _insert(connection, "cameras", camera_id=sensor, **shape, params=blob, prior_focal_length=known)
            _insert(connection, "rigs", rig_id=sensor, ref_sensor_id=sensor, ref_sensor_type=CAMERA_SENSOR)
        _insert(connection, "images", image_id=number, name=name, camera_id=sensor)
        _insert(connection, "frames", frame_id=number, rig_id=sensor)
        _insert(connection, "frame_data", frame_id=number, data_id=number, sensor_id=sensor,
                sensor_type=CAMERA_SENSOR)  # fmt: skip
        shape = {"rows": len(keypoints), "cols": keypoints.shape[1]}
        _insert(connection, "keypoints", image_id=number, **shape, data=keypoints.astype("<f4").tobytes())
        shape = {"rows": len(descriptors), "cols": descriptors.shape[1]}
        _insert(connection, "descriptors", image_id=number, type=SIFT, **shape, data=descriptors.tobytes())


def photos_with_features(connection: sqlite3.Connection) -> np.ndarray:
    """Rows of the photos that a database holds: (m,) int64, rising."""
    return np.array(connection.execute("SELECT image_id FROM images ORDER BY 1").fetchall(), np.int64).ravel() - 1


def photos_and_cameras(path: Path) -> dict[int, tuple[str, int]]:
    """Row of each photo that a database holds, to its name and the number of its camera, from 0."""
    with open_database(path) as connection:
        found = connection.execute("SELECT image_id, name, camera_id FROM images ORDER BY 1").fetchall()
    return {number - 1: (name, camera - 1) for number, name, camera in found}


def read_features_of(connection: sqlite3.Connection, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (m, 2) float64 and descriptors (m, 128) uint8 of a photo."""
    found = []
    for table, kind in (("keypoints", "<f4"), ("descriptors", "u1")):
        query = f"SELECT rows, cols, data FROM {table} WHERE image_id = ?"
        rows, columns, data = connection.execute(query, (row + 1,)).fetchone()
        found.append(np.frombuffer(data or b"", kind).reshape(rows, columns))
    return found[0][:, :2].astype(np.float64), found[1]


def add_pairs(connection: sqlite3.Connection, pairs: Sequence[VerifiedMatches]) -> None:
    """Add pairs that were compared, whatever came out."""
    with writing(connection):
        for pair in pairs:
            _insert(connection, "matches", pair_id=pair.pair, **_rows_of(pair.matches))
            found = {name: matrix.astype("<f8").tobytes() for name, matrix in pair.geometry.items()}
            _insert(connection, "two_view_geometries", pair_id=pair.pair, config=pair.config,
                    **_rows_of(pair.inliers), **found)  # fmt: skip


def compared_pairs(connection: sqlite3.Connection) -> np.ndarray:
    """COLMAP's numbers of the pairs that were compared: (m,) int64, rising."""
    query = "SELECT pair_id FROM two_view_geometries ORDER BY 1"
    return np.array(connection.execute(query).fetchall(), np.int64).ravel()


def remove_pairs(connection: sqlite3.Connection, numbers: np.ndarray) -> None:
    """Forget pairs."""
    with writing(connection):
        for table in ("matches", "two_view_geometries"):
            connection.executemany(f"DELETE FROM {table} WHERE pair_id = ?", [(int(n),) for n in numbers])


def _create(path: str) -> None:
    """What the process with pycolmap does."""
    try:
        from pycolmap import Database, logging
    except ImportError as error:
        raise UsageError("this needs pycolmap 4 or newer; pip install 'pycolmap>=4'") from error
    logging.minloglevel = 3
    try:
        Database.open(path).close()
    except RuntimeError as error:  # It says no more than that no factory of databases succeeded.
        raise DataError(path, "cannot be made", "make room on the disk") from error


def _rows_of(matches: np.ndarray) -> dict[str, Any]:
    data = np.ascontiguousarray(matches, "<u4").tobytes() if len(matches) else None
    return {"rows": len(matches), "cols": 2, "data": data}


def _insert(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))
