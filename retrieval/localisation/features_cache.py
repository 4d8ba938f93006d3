"""What localising has done so far, in a database of SQLite: features by photo, answers by what they were made of."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.local_features.feature_extraction import FoundFeatures
from retrieval.reconstruction.database import writing
from sfm2tuples.errors import DataError
from sfm2tuples.files.regular_files import refuse_odd_file

FORMAT, VERSION = "sfm2tuples-localisation", 1
TABLES = """
CREATE TABLE IF NOT EXISTS made_with (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS features (name TEXT PRIMARY KEY, bytes INTEGER, mtime INTEGER, width INTEGER,
    height INTEGER, zoom REAL, points BLOB, descriptors BLOB, unreadable TEXT);
CREATE TABLE IF NOT EXISTS answers (made_of TEXT PRIMARY KEY, answer TEXT);
"""
"""Points are (m, 2) float32 in pixels of the file, descriptors (m, 128) uint8."""
_BUSY_SECONDS = 60


@dataclass(frozen=True)
class CachedFeatures:
    """Features of a photo."""

    size: tuple[int, int]
    """Width and height of its file in pixels."""
    points: np.ndarray
    """(m, 2) float32: where they are, in pixels of the file."""
    descriptors: np.ndarray
    """(m, 128) uint8: RootSIFT times 512."""


@contextmanager
def opened_cache(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a cache; whatever SQLite complains of is a DataError.

    Each change is whole or not there, however this process ends. Other processes may read meanwhile.
    """
    remedy = "remove the file, or give another name by --localise-cache"
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise DataError(path, f"cannot be used as cache of --localise ({error})", remedy) from error


def prepare_cache(path: Path, settings: dict[str, Any]) -> None:
    """Make a cache, or take the one that is there; what was found with other settings is dropped.

    Raises
    ------
    DataError
        The file is something else, or cannot be made.
    """
    refuse_odd_file(path)
    said = {"format": FORMAT, "version": str(VERSION), "features": json.dumps(settings, sort_keys=True)}
    with opened_cache(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "made_with" not in tables:
            raise DataError(path, "is no cache of --localise", "give another name by --localise-cache")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        with writing(connection):
            for table in filter(None, map(str.strip, TABLES.split(";"))):
                connection.execute(table)
            if dict(connection.execute("SELECT name, value FROM made_with").fetchall()) != said:
                for table in ("features", "answers", "made_with"):
                    connection.execute(f"DELETE FROM {table}")
                connection.executemany("INSERT INTO made_with VALUES (?, ?)", list(said.items()))


def state_of(source: object) -> tuple[int, int]:
    """Bytes and time of change (ns) of a photo's file; zeros where it is no file or is absent."""
    try:
        status = os.stat(source) if isinstance(source, Path) else None
    except OSError:
        status = None
    return (status.st_size, status.st_mtime_ns) if status else (0, 0)


def cached_states(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Photos that were looked at, by name: their `state_of` at that time."""
    found = connection.execute("SELECT name, bytes, mtime FROM features").fetchall()
    return {name: (size, mtime) for name, size, mtime in found}


def store_features_of(
    connection: sqlite3.Connection, name: str, state: tuple[int, int], found: FoundFeatures | str
) -> None:
    """Keep what was found in a photo; a text says why it cannot be read."""
    values: tuple[Any, ...]
    if isinstance(found, str):
        values = 0, 0, 1.0, b"", b"", found
    else:
        points = np.ascontiguousarray(found.keypoints[:, :2], "<f4").tobytes()
        values = *found.size, found.zoom, points, np.ascontiguousarray(found.descriptors).tobytes(), None
    with writing(connection):
        row = (name, *state, *values)
        connection.execute(f"INSERT OR REPLACE INTO features VALUES ({', '.join('?' * len(row))})", row)


def cached_features(connection: sqlite3.Connection, name: str) -> CachedFeatures | None:
    """Features of a photo; None where it cannot be read."""
    query = "SELECT width, height, points, descriptors, unreadable FROM features WHERE name = ?"
    width, height, points, descriptors, unreadable = connection.execute(query, (name,)).fetchone()
    if unreadable is not None:
        return None
    at, described = np.frombuffer(points, "<f4").reshape(-1, 2), np.frombuffer(descriptors, np.uint8)
    return CachedFeatures((width, height), at, described.reshape(-1, 128))


def cached_answers(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """Answers of earlier calls, by the digest of what they were made of."""
    return {made_of: json.loads(answer) for made_of, answer in connection.execute("SELECT * FROM answers")}


def store_answer(connection: sqlite3.Connection, made_of: str, answer: dict[str, Any]) -> None:
    """Keep the answer of one query."""
    with writing(connection):
        connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (made_of, json.dumps(answer)))
