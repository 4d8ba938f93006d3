"""`photos.json`: where the photos of a site's search lie, and what they show."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.plain_fields import odd_field
from sfm2tuples.files.text import read_json

FORMAT, VERSION = "sfm2tuples-site-photos", 1
NO_PLACE = ""
"""Place of a photo that is in no model."""


@dataclass(frozen=True)
class PhotoList:
    """Photos of a search, as columns."""

    names: list[str]
    """Their names in the descriptor file, unique."""
    files: list[str]
    """Their paths, absolute."""
    places: list[str]
    """What they show; `NO_PLACE` where they are in no model."""
    stamps: list[list[int]]
    """Size and time of the last change of each, when it was described."""

    @property
    def root(self) -> str:
        """The folder that the names of most photos are relative to; empty where no path ends in its name."""
        ends = zip(self.names, self.files, strict=True)
        roots = Counter(file[: -len(name) - 1] for name, file in ends if file.endswith(f"/{name}"))
        return roots.most_common(1)[0][0] if roots else ""

    def take(self, rows: Sequence[int]) -> PhotoList:
        """Chosen photos, in their order."""
        return PhotoList(*([column[row] for row in rows] for column in vars(self).values()))

    def __add__(self, others: PhotoList) -> PhotoList:
        """These and, behind them, those."""
        return PhotoList(
            *(left + right for left, right in zip(vars(self).values(), vars(others).values(), strict=True))
        )


def write_photo_list(path: Path, photos: PhotoList) -> None:
    """Write the file."""
    write_text(path, json.dumps({"format": FORMAT, "version": VERSION, **vars(photos)}) + "\n")


def read_photo_list(path: Path) -> PhotoList:
    """Read what `write_photo_list` wrote.

    Raises
    ------
    FileFormatError
        It is no such file.
    """
    content = read_json(path, "run tune again")
    whole = isinstance(content, dict) and content.get("format") == FORMAT and content.get("version") == VERSION
    columns = {field.name: content.get(field.name) for field in fields(PhotoList)} if whole else {}
    if not whole or odd_field(columns, PhotoList) or len({len(column) for column in columns.values()}) != 1:
        raise FileFormatError(path, "is not the list of a site's photos", "run tune again")
    photos = PhotoList(**columns)
    if len(set(photos.names)) != len(photos.names):
        raise FileFormatError(path, "holds a name twice", "run tune again")
    return photos
