"""Rows of a text file with the numbers of their lines, in columns: a million rows cost little more than their text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.errors import ModelError
from sfm2tuples.readers.files import CUT
from sfm2tuples.readers.text_rows import BLOCK_BYTES, Row, is_data, parse_numbers


@dataclass(frozen=True)
class Rows:
    """Some rows of a file."""

    path: Path
    """The file, for messages."""
    lines: list[bytes]
    """n rows."""
    numbers: np.ndarray
    """(n,) int64, numbers of their lines from 1."""

    @classmethod
    def of(cls, lines: list[bytes], path: Path) -> Rows:
        """Rows of a file that are neither blank nor comments."""
        numbers = np.flatnonzero(np.fromiter(map(is_data, lines), bool, len(lines)))
        return cls(path, [lines[number] for number in numbers.tolist()], numbers + 1)

    def __len__(self) -> int:
        return len(self.lines)

    def part(self, some: slice) -> Rows:
        """Some of the rows."""
        return Rows(self.path, self.lines[some], self.numbers[some])

    def row(self, at: int) -> Row:
        """One row, to take its fields from left to right."""
        return Row(self.path, int(self.numbers[at]), self.lines[at])

    def refuse(self, faulty: np.ndarray, what: Callable[[int], str]) -> None:
        """Raise for the first faulty row, where there is one, naming its line; `what` says its fault."""
        if faulty.any():
            at = int(np.argmax(faulty))
            raise ModelError(self.path, f"line {self.numbers[at]}: {what(at)}")

    def parse(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of all rows (sum,) float64, one after the other, and how many each row has (n,) int64."""
        return parse_numbers(self.lines, self.numbers.tolist(), self.path)

    def table(self, width: int) -> np.ndarray:
        """Numbers as (n, width) float64; rows of another width are refused, and what is not finite."""
        values, fields = self.parse()
        self.refuse(fields != width, lambda at: f"has {fields[at]} columns, {width} belong there")
        table = values.reshape(-1, width)
        self.refuse(~np.isfinite(table).all(axis=1), lambda _: "holds a number that is not finite")
        return table

    def blocks(self) -> Iterator[Rows]:
        """The rows in order, some megabytes of text at a time."""
        first, size = 0, 0
        for last, line in enumerate(self.lines, 1):
            size += len(line)
            if size >= BLOCK_BYTES or last == len(self.lines):
                yield self.part(slice(first, last))
                first, size = last, 0


def check_last_line(lines: Sequence[bytes], path: Path) -> None:
    """Refuse a file that does not end with a line break: it may end inside a number, and would look whole."""
    if lines and lines[-1].strip():
        remedy = f"{CUT} Where it is whole, add a line break"
        raise ModelError(path, f"line {len(lines)}: the file ends without a line break", remedy)
