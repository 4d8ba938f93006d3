"""Text files that people and other programs write: UTF-8, with or without a byte order mark.

Every text file is read here: lists, tables, JSON, and by `without_mark` the texts of models, which are parsed as bytes.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfm2tuples.errors import DataError, FileFormatError, shown
from sfm2tuples.files.regular_files import refuse_odd_file

REMEDY = "save it as UTF-8 (iconv -f {} -t UTF-8)"
OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Marks of encodings that are not read; those of UTF-32 first, since one begins with UTF-16's."""


DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""Signs that other programs put between columns."""


def read_text(path: Path) -> str:
    """Read a text file; line ends stay as they are.

    Raises
    ------
    DataError
        It is absent, no regular file, cannot be read, or is in another encoding than UTF-8, which the message names.
    """
    refuse_odd_file(path)
    try:
        data = without_mark(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise DataError(path, "no such file") from error
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror or error})") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"is no text in UTF-8: line {line} holds the byte 0x{data[error.start]:02x}, as Latin-1 does"
        raise DataError(path, what, REMEDY.format("LATIN1")) from error


def without_mark(data: bytes, path: Path, kind: type[DataError] = DataError) -> bytes:
    """Bytes of a text file without UTF-8's mark; an error of `kind` where they are UTF-16 or UTF-32."""
    for mark, encoding in OTHER_MARKS.items():
        if data.startswith(mark):
            raise kind(path, f"is no text in UTF-8, but in {encoding}", REMEDY.format(encoding))
    if b"\0" in data[:2]:
        raise kind(path, "begins with a zero byte: it is text in UTF-16, or no text", REMEDY.format("UTF-16LE"))
    return data.removeprefix(codecs.BOM_UTF8)


def begins_with(path: Path, start: bytes) -> bool:
    """Say whether a regular file can be read and begins with some bytes, a byte order mark aside."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(codecs.BOM_UTF8) + len(start)).removeprefix(codecs.BOM_UTF8).startswith(start)
    except OSError:
        return False


def filled_lines(path: Path) -> list[str]:
    """Lines of a list without white space around them; blank ones are left out. Errors as for `read_text`."""
    # Not splitlines: it also breaks a name at a form feed or at U+2028.
    return [line.strip() for line in re.split(r"\r\n|\n|\r", read_text(path)) if line.strip()]


def read_csv(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a table whose first line names its columns, by column; None where a row is cut short.

    Raises
    ------
    DataError
        As for `read_text`; or it is no CSV, or lacks a needed column.
    """
    text = read_text(path)
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        absent = [column for column in needed if column not in (reader.fieldnames or [])]
        if absent:
            raise DataError(path, *_why_columns_lack(text, reader.fieldnames or [], absent, needed))
        return list(reader)
    except csv.Error as error:
        raise DataError(path, f"is no CSV ({error})") from error


def _why_columns_lack(text: str, found: Sequence[str], absent: Sequence[str], needed: Sequence[str]) -> tuple[str, str]:
    """What is wrong with a table's first line, and the remedy."""
    first, wanted = next(iter(text.splitlines()), ""), ",".join(needed)
    for sign, name in DELIMITERS.items():
        if set(needed) <= {column.strip(' "') for column in first.split(sign)}:
            return f"its columns are divided by {name}, not by commas", "save it as CSV with commas"
    if len(found) == 1 and set(needed) <= {column.strip(' "') for column in found[0].split(",")}:
        return "its first line is one text in quotes, and no list of columns", f"write {wanted} without them"
    spelled = {column.strip().lower(): column for column in found}
    odd = [spelled[column] for column in absent if column in spelled]
    what = (
        f"has no column {', '.join(absent)}, but {', '.join(map(repr, odd))}"
        if odd
        else (f"has no column {', '.join(absent)}; its first line is {shown(first)}")
    )
    return what, f"the first line of such a table is {wanted}"


def check_letters(value: Any) -> None:
    """Raise a ValueError where JSON holds half a letter (a lone surrogate), which no text that we write can have.

    Bytes of a name that is not UTF-8 are kept as such halves too, but others (`surrogateescape`), and pass.
    """
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise ValueError(f"it holds half a letter, U+{ord(error.object[error.start]):04X}") from error


def read_json(path: Path, remedy: str = "") -> Any:
    """Read a JSON file.

    Raises
    ------
    DataError
        As for `read_text`.
    FileFormatError
        It is no JSON; `remedy` says what belongs there.
    """
    try:
        value = json.loads(read_text(path))
        check_letters(value)
        return value
    except (ValueError, RecursionError) as error:
        raise FileFormatError(path, f"is no JSON ({error})", remedy) from error
