"""A text file of a model: one row read field by field, many rows parsed at a time, and a fault named by its line."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError
from sfm2tuples.files.text import without_mark
from sfm2tuples.readers.raw_files import CUT, load_bytes

BLOCK_BYTES = 1 << 22
LARGEST_EXACT = 2**53
"""Integers up to here survive the way through float64."""


class TextRow:
    """Reads the fields of one row from left to right."""

    def __init__(self, path: Path, number: int, text: bytes) -> None:
        self.path = path
        self.number = number
        self.fields = text.split()
        self.at = 0

    def error(self, what: str) -> ModelError:
        """Make an error that names the line."""
        return ModelError(self.path, f"line {self.number}: {what}")

    def word(self) -> str:
        """Take the next field as it stands."""
        if self.at == len(self.fields):
            raise self.error(f"has only {len(self.fields)} columns")
        self.at += 1
        return self.fields[self.at - 1].decode("utf-8", "backslashreplace")

    def integer(self, largest: int = 2**32 - 1) -> int:
        """Take the next field as an integer from 0 to `largest`."""
        word = self.word()
        try:
            value = int(word)
        except ValueError:
            raise self.error(f"{word[:40]!r} is not an integer") from None
        if not 0 <= value <= largest:
            raise self.error(f"{word[:40]} is out of range")
        return value

    def numbers(self, count: int) -> np.ndarray:
        """Take the next `count` fields as (count,) float64."""
        values = np.empty(count)
        for index in range(count):
            word = self.word()
            try:
                values[index] = float(word)
            except ValueError:
                raise self.error(f"{word[:40]!r} is not a number") from None
        return values

    def left(self) -> int:
        """Count the fields that are not taken yet."""
        return len(self.fields) - self.at

    def finish(self) -> None:
        """Refuse fields that nothing asked for."""
        if self.left():
            raise self.error(f"has {len(self.fields)} columns, {self.at} belong there")


@dataclass(frozen=True)
class TextRows:
    """Some rows of a file; a slice of them is some rows again."""

    path: Path
    """The file, for messages."""
    lines: list[bytes]
    """n rows; a blank one holds no number."""
    numbers: np.ndarray
    """(n,) int64, numbers of their lines from 1."""

    @classmethod
    def of(cls, lines: list[bytes], path: Path) -> TextRows:
        """Rows of a file that are neither blank nor comments."""
        numbers = np.flatnonzero(np.fromiter(map(is_data, lines), bool, len(lines)))
        return cls(path, [lines[number] for number in numbers.tolist()], numbers + 1)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, some: slice) -> TextRows:
        return TextRows(self.path, self.lines[some], self.numbers[some])

    def row(self, at: int) -> TextRow:
        """One row, to take its fields from left to right."""
        return TextRow(self.path, int(self.numbers[at]), self.lines[at])

    def blocks(self) -> Iterator[TextRows]:
        """The rows in order, some megabytes of text at a time."""
        first, size = 0, 0
        for last, line in enumerate(self.lines, 1):
            size += len(line)
            if size >= BLOCK_BYTES or last == len(self.lines):
                yield self[first:last]
                first, size = last, 0

    def refuse(self, faulty: np.ndarray, what: Callable[[int], str]) -> None:
        """Raise for the first faulty row, where there is one, naming its line; `what` says its fault."""
        if faulty.any():
            at = int(np.argmax(faulty))
            raise ModelError(self.path, f"line {self.numbers[at]}: {what(at)}")

    def parse(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of all rows (sum,) float64, one after the other, and how many each row has (n,) int64."""
        values, counts = [np.empty(0)], [np.empty(0, np.int64)]
        for block in self.blocks():
            in_row = _fields_by_row(block.lines)
            parsed = _numbers(b"\n".join(block.lines))
            if parsed is None or len(parsed) != in_row.sum():
                raise block._fault()
            values.append(parsed)
            counts.append(in_row)
        return np.concatenate(values), np.concatenate(counts)

    def table(self, width: int) -> np.ndarray:
        """Numbers as (n, width) float64; rows of another width are refused, and what is not finite."""
        values, fields = self.parse()
        self.refuse(fields != width, lambda at: f"has {fields[at]} columns, {width} belong there")
        table = values.reshape(-1, width)
        self.refuse(~np.isfinite(table).all(axis=1), lambda _: "holds a number that is not finite")
        return table

    def _fault(self) -> ModelError:
        """What is wrong with rows that could not be parsed."""
        what = "holds something that is not a number"
        for at, line in enumerate(self.lines):
            row = self.row(at)
            try:
                row.numbers(row.left())
            except ModelError as error:
                return error
            parsed = _numbers(line)
            if parsed is None or len(parsed) != len(row.fields):
                return row.error(what)
        return ModelError(self.path, what)


def read_lines(path: Path) -> list[bytes]:
    """Lines of a file of a model."""
    return without_mark(load_bytes(path).tobytes(), path, ModelError).split(b"\n")


def is_data(line: bytes) -> bool:
    """Say whether a line is neither blank nor a comment."""
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith(b"#")


def data_rows(path: Path) -> Iterator[TextRow]:
    """Rows of a small file, comments and blank lines left out; their number is held against the header's."""
    lines = read_lines(path)
    rows = TextRows.of(lines, path)
    check_claim(lines, len(rows), path)
    yield from map(rows.row, range(len(rows)))


def check_claim(lines: list[bytes], found: int, path: Path) -> None:
    """Refuse a file with fewer rows than its header says: cut between two rows, it would look whole."""
    for line in lines[:10]:
        claim = re.match(rb"#\s*Number of \w+:\s*(\d{1,18})\b", line)
        if claim and found < int(claim[1]):
            what = f"holds {found:,} rows, its header says {int(claim[1]):,}"
            raise ModelError(path, what, f"{CUT} Where rows were taken out on purpose, correct the header")


def check_last_line(lines: Sequence[bytes], path: Path) -> None:
    """Refuse a file that does not end with a line break: it may end inside a number, and would look whole."""
    if lines and lines[-1].strip():
        remedy = f"{CUT} Where it is whole, add a line break"
        raise ModelError(path, f"line {len(lines)}: the file ends without a line break", remedy)


def whole_numbers(values: np.ndarray, smallest: int, largest: int) -> np.ndarray | None:
    """Values as int64, or None where one is not a whole number from `smallest` to `largest` (at most 2^53)."""
    if not ((values >= smallest) & (values <= largest) & (values == np.floor(values))).all():
        return None
    return values.astype(np.int64)


def _fields_by_row(lines: list[bytes]) -> np.ndarray:
    """Number of fields of each row: a field starts where a letter follows white space."""
    letters = np.frombuffer(b"\n" + b"\n".join(lines), np.uint8)
    starts = np.flatnonzero((letters[1:] > 32) & (letters[:-1] <= 32))
    ends = np.cumsum([len(line) + 1 for line in lines])
    return np.diff(np.searchsorted(starts, ends), prepend=0)


def _numbers(text: bytes) -> np.ndarray | None:
    """The numbers of a text; None, or fewer, where something else is among them."""
    with warnings.catch_warnings():
        # NumPy warns, and returns what it has, where it meets something that is no number.
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return np.fromstring(text, sep=" ") if text.strip() else np.empty(0)
        except (DeprecationWarning, ValueError):
            return None
