"""COLMAP's `database.db`: names of its images, and counts of verified matches. The matches are never read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import numpy as np

from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.text import begins_with

MIN_INLIERS = 15
"""COLMAP's own `min_num_inliers`: a pair with fewer is not verified."""
UNVERIFIED = (0, 1, 7)
"""COLMAP's configurations of two views that show no common object: undefined, degenerate, watermark."""
PAIR_BASE = 2147483647
"""COLMAP's pair_id is ``PAIR_BASE * first id + second id``."""
HEADER = b"SQLite format 3\0"
LARGEST_COUNT = 2**31 - 1
"""More matches than COLMAP can count in a pair of images."""
_BLOCK = 1 << 16
_REMEDY = "it should be COLMAP's database.db, which nobody writes at the moment"
VerifiedPairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A block of verified pairs: ids of the first images, of the second ones, inlier matches; (k,) int64 each."""


def read_image_ids(path: Path) -> dict[str, int]:
    """Name of each image of a database to its id.

    Raises
    ------
    DataError
        The file is absent or no database of COLMAP's.
    """
    names: dict[str, int] = {}
    for rows in _select(path, "images", "SELECT name, image_id FROM images", ()):
        for name, number in rows:
            if not isinstance(name, str) or not isinstance(number, int):
                raise DataError(path, f"the image {name} has no name or no id", _REMEDY)
            # As the models' names are read: some tools write folders with backslashes.
            names[name.replace("\\", "/")] = number
    return names


def read_verified_pairs(path: Path, min_matches: int = MIN_INLIERS) -> Iterator[VerifiedPairs]:
    """Pairs of images that COLMAP verified, in blocks.

    Parameters
    ----------
    path : Path
        COLMAP's database, opened read-only.
    min_matches : int
        Inlier matches that a pair needs.

    Raises
    ------
    DataError
        The file is absent, no database of COLMAP's, or damaged.
    """
    # `rows` comes first: SQLite reads `config`, which lies behind the matches, only where it must.
    query = f"SELECT pair_id, rows FROM two_view_geometries WHERE rows >= ? AND config NOT IN {UNVERIFIED}"
    for rows in _select(path, "two_view_geometries", query, (min_matches,)):
        try:
            pair, matches = np.array(rows, np.int64).T
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(path, "counts of matches that are no numbers", _REMEDY) from error
        if matches.max() > LARGEST_COUNT or pair.min() < 0:
            raise DataError(path, f"a pair of images has {int(matches.max()):,} matches, or no number", _REMEDY)
        yield pair // PAIR_BASE, pair % PAIR_BASE, matches


def is_database(path: Path) -> bool:
    """Say whether a file is COLMAP's database of features and matches, or another SQLite file."""
    return path.suffix == ".db" and begins_with(path, HEADER)


def database_refusal(path: Path) -> UsageError:
    """Explain why matches alone are not enough, and what to run."""
    mapper = f"colmap mapper --database_path {path} --image_path PHOTOS --output_path sparse"
    return UsageError(
        f"{path}: holds matches but no model; without 3D points there are neither shared points nor scale change; "
        f"run {mapper}, then give build-index the folder sparse"
    )


def _select(path: Path, table: str, query: str, values: tuple[int, ...]) -> Iterator[list[tuple]]:
    """Blocks of rows of a query on one table; whatever SQLite complains of is one error."""
    require_file(path, remedy="give COLMAP's database.db")
    try:
        with closing(sqlite3.connect(_read_only(path), uri=True)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            _check_table(connection, table, path)
            cursor = connection.execute(query, values)
            while rows := cursor.fetchmany(_BLOCK):
                yield rows
    except UnicodeDecodeError as error:
        # SQLite quotes the damaged text in its message, which Python cannot decode then.
        raise DataError(path, "cannot be read as COLMAP's database (it holds damaged text)", _REMEDY) from error
    except sqlite3.Error as error:
        raise DataError(path, f"cannot be read as COLMAP's database ({error})", _REMEDY) from error


def _check_table(connection: sqlite3.Connection, table: str, path: Path) -> None:
    """Refuse a view or a virtual table in place of a table: what it answers may have no end."""
    # SQLite tells tables' names apart without regard to case: a view `Images` would be read for `images`.
    query = "SELECT type, sql FROM sqlite_master WHERE name = ? COLLATE NOCASE"
    found = connection.execute(query, (table,)).fetchone()
    if found is not None and (found[0] != "table" or str(found[1]).upper().startswith("CREATE VIRTUAL")):
        raise DataError(path, f"{table} is no table of COLMAP's but a view or a virtual table", _REMEDY)


def _read_only(path: Path) -> str:
    """SQLite's address of a file that is never written to.

    `immutable` keeps SQLite from laying its own files beside it, but hides changes that are not in the file yet.
    """
    pending = [Path(f"{path}-wal"), Path(f"{path}-journal")]
    immutable = not any(file.is_file() and file.stat().st_size for file in pending)
    return f"file:{quote(os.fsencode(path.absolute()))}?mode=ro{'&immutable=1' if immutable else ''}"
