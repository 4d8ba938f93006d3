"""Where the models of a VisualSFM file begin and end, found without parsing them: light enough to look for models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.files import CUT
from sfm2tuples.readers.text_rows import Row, is_data

Numbered = tuple[int, bytes]
"""A row with the number of its line, from 1."""


@dataclass(frozen=True)
class Header:
    """First line of the file."""

    matrices: bool
    """NVM_V3_R9T: rotations as matrices and translations, in place of quaternions and camera centres."""
    fixed: tuple[float, float] | None
    """Focal lengths fx, fy that FixedK gives all cameras, or None."""


@dataclass(frozen=True)
class Section:
    """One model of the file, its rows not yet parsed."""

    cameras: list[Numbered]
    """One row an image."""
    points: list[Numbered]
    """One row a point."""


def count_models(path: Path) -> int:
    """Number of models in a file; 1 where it cannot be read, so that reading it says why."""
    try:
        with path.open("rb") as file:
            rows = _data(file)
            read_header(rows, path)
            kept = sum(num_points > 0 for _, num_points in _skip_sections(rows, path))
    except (OSError, ModelError):
        return 1
    return max(kept, 1)


def read_header(rows: Iterator[Numbered], path: Path) -> Header:
    """Take the first line, and the calibration that may follow on it or on the next."""
    number, line = next(rows, (1, b""))
    row = Row(path, number, line)
    word = row.word() if line.strip() else ""
    if word not in ("NVM_V3", "NVM_V3_R9T"):
        raise row.error(f"begins with {word[:40]!r}; only NVM_V3 and NVM_V3_R9T are read")
    fixed = None
    if row.left():
        word = row.word()
        if word != "FixedK" or row.left() < 4:
            raise row.error("only 'FixedK fx cx fy cy [r]' may follow the version")
        numbers = row.numbers(4)
        fixed = (float(numbers[0]), float(numbers[2]))
        if not all(0 < value < float("inf") for value in fixed):
            raise row.error("FixedK's focal lengths are not positive")
    return Header(line.split()[0].endswith(b"R9T"), fixed)


def split_sections(lines: Iterable[bytes], path: Path) -> tuple[Header, list[Section], int]:
    """Split a file into its models.

    Parameters
    ----------
    lines : iterable of bytes
    path : Path
        For messages.

    Returns
    -------
    Header
    list of Section
        The models in the order of the file: those with points, or the first where none has any.
    int
        Number of images of the sections without points: photos that were not registered.

    Raises
    ------
    ModelError
        Another format, a count that is none, or fewer rows than a count says.
    """
    rows = _data(lines)
    header = read_header(rows, path)
    sections = []
    while (wanted := _count(rows, path)) is not None and wanted[1] > 0:
        cameras = _take(rows, wanted, "cameras", path)
        num_points = _count(rows, path)
        if num_points is None:
            raise ModelError(path, f"line {cameras[-1][0]}: ends before the number of points", CUT)
        sections.append(Section(cameras, _take(rows, num_points, "points", path)))
    models = [section for section in sections if section.points] or sections[:1]
    rest = sum(len(section.cameras) for section in sections) - sum(len(section.cameras) for section in models)
    return header, models, rest


def _data(lines: Iterable[bytes]) -> Iterator[Numbered]:
    """Rows that are neither blank nor comments; a calibration on a line of its own is joined to the header."""
    rows = ((number, line) for number, line in enumerate(lines, 1) if is_data(line))
    first = next(rows, None)
    second = next(rows, None)
    if first and second and second[1].split()[0] == b"FixedK":
        yield first[0], first[1].rstrip() + b" " + second[1]
    else:
        yield from (row for row in (first, second) if row is not None)
    yield from rows


def _skip_sections(rows: Iterator[Numbered], path: Path) -> Iterator[tuple[int, int]]:
    """Numbers of cameras and points of each section, its rows passed over."""
    while (cameras := _count(rows, path)) is not None and cameras[1] > 0:
        _pass(rows, cameras[1])
        _, num_points = _count(rows, path) or (0, 0)
        _pass(rows, num_points)
        yield cameras[1], num_points


def _pass(rows: Iterator[Numbered], count: int) -> None:
    for _ in islice(rows, count):
        pass


def _count(rows: Iterator[Numbered], path: Path) -> tuple[int, int] | None:
    """Take a row that holds one number, as (line, number); None at the end of the file."""
    number, line = next(rows, (0, b""))
    if not number:
        return None
    row = Row(path, number, line)
    if not re.fullmatch(rb"\s*\d{1,10}\s*", line):
        raise row.error(f"{line[:40]!r} is not the number of cameras or points that belongs here")
    return number, row.integer()


def _take(rows: Iterator[Numbered], wanted: tuple[int, int], what: str, path: Path) -> list[Numbered]:
    """Take as many rows as the count (line, number) says; memory grows with the rows that are there."""
    line, count = wanted
    taken = list(islice(rows, count))
    if len(taken) < count:
        raise ModelError(path, f"line {line}: claims {count:,} {what}, has rows for {len(taken):,}", CUT)
    return taken
