"""Comma-separated tables of kapture, a row at a time: spaces around commas and lines that begin with # do not count."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.text_rows import check_last_line, is_data, read_lines


class CsvRow:
    """Reads the fields of one row from left to right."""

    def __init__(self, path: Path, line_number: int, line: bytes) -> None:
        self.path = path
        self.line_number = line_number
        self.fields = [field.strip() for field in line.split(b",")]
        self.at = 0

    def error(self, what: str) -> ModelError:
        """Make an error that names the line."""
        return ModelError(self.path, f"line {self.line_number}: {what}")

    def word(self) -> bytes:
        """Take the next field."""
        if self.at == len(self.fields):
            raise self.error(f"has only {len(self.fields)} columns")
        self.at += 1
        return self.fields[self.at - 1]

    def left(self) -> int:
        """Count the fields that are not taken yet."""
        return len(self.fields) - self.at

    def finish(self) -> None:
        """Refuse fields that nothing asked for."""
        if self.left():
            raise self.error(f"has {len(self.fields)} columns, {self.at} belong there")

    def number(self, word: bytes) -> float:
        """A field as a number."""
        try:
            return float(word)
        except ValueError:
            raise self.error(f"{word[:40].decode('utf-8', 'backslashreplace')!r} is not a number") from None

    def numbers(self, count: int) -> list[float]:
        """Take the next `count` fields as numbers."""
        return [self.number(self.word()) for _ in range(count)]

    def integer(self, word: bytes, largest: int) -> int:
        """A field as an integer from 0 to `largest`."""
        if not word.isdigit() or len(word) > 18 or int(word) > largest:
            shown = word[:40].decode("utf-8", "backslashreplace")
            raise self.error(f"{shown!r} is not a whole number from 0 to {largest:,}")
        return int(word)


def csv_rows(path: Path, *, optional: bool = False) -> Iterator[CsvRow]:
    """Rows of a table; none where an optional one is absent.

    Raises
    ------
    ModelError
        The file is absent, does not end with a line break, or is of a version of the format that is not known.
    """
    if not os.path.isfile(path):
        if optional:
            return
        raise ModelError(path, "is missing", "a kapture with poses has sensors, records_camera and trajectories")
    lines = read_lines(path)
    check_last_line(lines, path)
    first = lines[0].strip() if lines else b""
    if first.startswith(b"# kapture format:") and not first.split(b":")[1].strip().startswith(b"1."):
        raise ModelError(
            path, f"is of {first[2:40].decode('utf-8', 'backslashreplace')!r}; versions 1.0 and 1.1 are read"
        )
    for number, line in enumerate(lines, 1):
        if is_data(line):
            yield CsvRow(path, number, line)
