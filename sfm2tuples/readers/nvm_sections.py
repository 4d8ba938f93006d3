"""Where the models of a VisualSFM file begin and end, found without parsing them: light enough to look for models."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.raw_files import CUT
from sfm2tuples.readers.text_rows import TextRow, TextRows, is_data

VERSIONS = ("NVM_V3", "NVM_V3_R9T")


@dataclass(frozen=True)
class NvmHeader:
    """What the file says before its first model."""

    matrices: bool
    """NVM_V3_R9T: rotations as matrices and translations, in place of quaternions and camera centres."""
    fixed: tuple[float, float] | None
    """Focal lengths fx, fy that FixedK gives all cameras, or None."""


@dataclass(frozen=True)
class NvmModel:
    """One model of the file, its rows not yet parsed."""

    cameras: TextRows
    """One row an image."""
    points: TextRows
    """One row a point."""


def models_of(file: Path) -> list[Path]:
    """The models of a file: FILE, and FILE/k for model number k > 0, as if the file were a folder."""
    return [file, *(file / str(number) for number in range(1, count_models(file)))]


def file_and_number(model: Path) -> tuple[Path, int]:
    """The file of a model and its number there: the other way round."""
    return (model, 0) if model.name.endswith(".nvm") else (model.parent, int(model.name))


def count_models(path: Path) -> int:
    """Number of models in a file, read once and not kept; 1 where it is faulty, so that reading it says why."""
    kept = 0
    try:
        with path.open("rb") as file:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                file.seek(0)
            rows = filter(is_data, file)
            first = [*islice(rows, 1)]
            following = next(rows, b"0")
            if following.split()[0] == b"FixedK":
                following = next(rows, b"0")
            while first and (num_cameras := int(following)) > 0:
                num_points = int(next(islice(rows, num_cameras, None), b"0"))
                kept += num_points > 0
                following = next(islice(rows, num_points, None), b"0")
    except (OSError, ValueError, OverflowError):
        return max(kept, 1)
    return max(kept, 1)


def split_sections(rows: TextRows) -> tuple[NvmHeader, list[NvmModel], int]:
    """Split a file into its models.

    Parameters
    ----------
    rows : TextRows
        All rows of the file.

    Returns
    -------
    NvmHeader
    list of NvmModel
        The models in the order of the file: those with points, or the first where none has any.
    int
        Number of images of the sections without points: photos that were not registered.

    Raises
    ------
    ModelError
        Another format, a count that is none, or fewer rows than a count says.
    """
    header, at = _header(rows)
    sections = []
    while at < len(rows) and (num_cameras := _count(rows, at, "cameras")) > 0:
        points_at = at + 1 + num_cameras
        if points_at == len(rows):
            raise ModelError(rows.path, f"line {rows.numbers[-1]}: ends before the number of points", CUT)
        num_points = _count(rows, points_at, "points")
        end = points_at + 1 + num_points
        sections.append(NvmModel(rows[at + 1 : points_at], rows[points_at + 1 : end]))
        at = end
    models = [section for section in sections if len(section.points)] or sections[:1]
    rest = sum(len(section.cameras) for section in sections) - sum(len(section.cameras) for section in models)
    return header, models, rest


def _header(rows: TextRows) -> tuple[NvmHeader, int]:
    """The header, whose calibration may be on a line of its own, and how many rows it takes."""
    first = rows.row(0) if len(rows) else TextRow(rows.path, 1, b"")
    version = first.word() if first.left() else ""
    if version not in VERSIONS:
        raise first.error(f"begins with {version[:40]!r}; only {' and '.join(VERSIONS)} are read")
    second_line = len(rows) > 1 and rows.lines[1].split()[0] == b"FixedK"
    calibration = rows.row(1) if second_line else first
    fixed = _fixed(calibration) if calibration.left() else None
    return NvmHeader(version.endswith("R9T"), fixed), 1 + second_line


def _fixed(row: TextRow) -> tuple[float, float]:
    """Focal lengths of `FixedK fx cx fy cy [r]`."""
    if row.word() != "FixedK" or row.left() < 4:
        raise row.error("only 'FixedK fx cx fy cy [r]' may follow the version")
    fx, _, fy, _ = row.numbers(4).tolist()
    if not (0 < fx < float("inf") and 0 < fy < float("inf")):
        raise row.error("FixedK's focal lengths are not positive")
    return fx, fy


def _count(rows: TextRows, at: int, what: str) -> int:
    """A row that holds one number, held against the rows that follow."""
    row, line = rows.row(at), rows.lines[at]
    if not re.fullmatch(rb"\s*\d{1,10}\s*", line):
        shown = line[:40].strip().decode("utf-8", "backslashreplace")
        raise row.error(f"{shown!r} is not the number of {what} that belongs here")
    count, there = int(line), len(rows) - at - 1
    if count > there:
        raise row.error(f"claims {count:,} {what}, but {there:,} rows follow; {CUT}")
    return count
