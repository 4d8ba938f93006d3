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
CREATE TABLE IF NOT EXISTS format (name TEXT PRIMARY KEY, version INTEGER);
CREATE TABLE IF NOT EXISTS features (name TEXT, made_with TEXT, bytes INTEGER, mtime INTEGER, width INTEGER,
    height INTEGER, points BLOB, descriptors BLOB, unreadable TEXT, PRIMARY KEY (name, made_with));
CREATE TABLE IF NOT EXISTS answers (made_of TEXT PRIMARY KEY, answer TEXT);
"""
"""Points are (m, 2) float32 in pixels of the file, descriptors (m, 128) uint8; `made_with` are the settings as JSON, so
that calls with other settings, at the same time or later, have features of their own."""
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
        if "disk is full" in str(error):
            remedy = "make room, or name a file on another disk by --localise-cache"
        raise DataError(path, f"cannot be used as cache of --localise ({error})", remedy) from error


def prepare_cache(path: Path) -> None:
    """Make a cache, or take the one that is there.

    Raises
    ------
    DataError
        The file is something else, or cannot be made.
    """
    refuse_odd_file(path)
    with opened_cache(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        known = "format" in tables and (FORMAT, VERSION) in connection.execute("SELECT * FROM format").fetchall()
        if tables and not known:
            what = f"is no cache of --localise, or not of version {VERSION}"
            raise DataError(path, what, "give another name by --localise-cache")
        connection.execute("PRAGMA journal_mode = WAL")
        with writing(connection):
            for table in filter(None, map(str.strip, TABLES.split(";"))):
                connection.execute(table)
            connection.execute("INSERT OR REPLACE INTO format VALUES (?, ?)", (FORMAT, VERSION))


def state_of(source: object) -> tuple[int, int]:
    """Bytes and time of change (ns) of a photo's file; zeros where it is no file or is absent."""
    try:
        status = os.stat(source) if isinstance(source, Path) else None
    except OSError:
        status = None
    return (status.st_size, status.st_mtime_ns) if status else (0, 0)


def cached_states(connection: sqlite3.Connection, made_with: str) -> dict[str, tuple[int, int]]:
    """Photos that features were found in with some settings, by name: their `state_of` at that time."""
    query = "SELECT name, bytes, mtime FROM features WHERE made_with = ? AND unreadable IS NULL"
    return {name: (size, mtime) for name, size, mtime in connection.execute(query, (made_with,))}


def store_features_of(
    connection: sqlite3.Connection, name: str, made_with: str, state: tuple[int, int], found: FoundFeatures | str
) -> None:
    """Keep what was found in a photo; a text says why it cannot be read."""
    values: tuple[Any, ...] = 0, 0, b"", b"", found
    if not isinstance(found, str):
        points = np.ascontiguousarray(found.keypoints[:, :2], "<f4").tobytes()
        values = *found.size, points, np.ascontiguousarray(found.descriptors).tobytes(), None
    row = (name, made_with, *state, *values)
    with writing(connection):
        connection.execute(f"INSERT OR REPLACE INTO features VALUES ({', '.join('?' * len(row))})", row)


def cached_features(connection: sqlite3.Connection, name: str, made_with: str) -> CachedFeatures | None:
    """Features of a photo; None where it cannot be read, or was not looked at."""
    query = "SELECT width, height, points, descriptors, unreadable FROM features WHERE name = ? AND made_with = ?"
    row = connection.execute(query, (name, made_with)).fetchone()
    if row is None or row[-1] is not None:
        return None
    at, described = np.frombuffer(row[2], "<f4").reshape(-1, 2), np.frombuffer(row[3], np.uint8)
    return CachedFeatures((row[0], row[1]), at, described.reshape(-1, 128))


def cached_answers(connection: sqlite3.Connection) -> dict[str, dict[str, Any]]:
    """Answers of earlier calls, by the digest of what they were made of."""
    return {made_of: json.loads(answer) for made_of, answer in connection.execute("SELECT * FROM answers")}


def store_answer(connection: sqlite3.Connection, made_of: str, answer: dict[str, Any]) -> None:
    """Keep the answer of one query."""
    with writing(connection):
        connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (made_of, json.dumps(answer)))
