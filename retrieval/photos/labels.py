"""Labelled photos: a CSV of `image,label,role`, or a folder a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.photos.names import leaves_root, photos_below
from sfm2tuples.errors import DataError, UsageError, first_three, told_of
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.files.remote.address import Address, AnyPath, path_or_address
from sfm2tuples.files.text import read_csv

COLUMNS = ("image", "label", "role")
ROLES = ("query", "database", "distractor")
DISTRACTORS = "distractors"
"""The sub-folder of a folder of labelled photos whose photos are never right."""


@dataclass(frozen=True)
class Labels:
    """A table of labelled photos, one row a photo; all of them are the database."""

    images: list[str]
    """Keys of the photos, as in descriptor files."""
    labels: list[str]
    """What each photo shows."""
    roles: list[str]
    """`query` (in the database too), `database`, or `distractor` (never right, whatever its label)."""
    path: str = ""
    """The file that the table was read from, for messages."""

    @property
    def landmarks(self) -> list[str]:
        """Labels that some query has, in alphabetical order."""
        return sorted({label for label, role in zip(self.labels, self.roles, strict=True) if role == "query"})

    def only(self, landmarks: Sequence[str]) -> Labels:
        """Keep the photos of these landmarks, and all distractors: the database of a fold.

        Raises
        ------
        UsageError
            One of them is no landmark of this table.
        """
        unknown = sorted(set(landmarks) - set(self.landmarks))
        if unknown:
            raise UsageError(f"{self.path or 'labels'}: no queries are labelled {first_three(unknown)}")
        rows = [
            row
            for row, (label, role) in enumerate(zip(self.labels, self.roles, strict=True))
            if role == "distractor" or label in landmarks
        ]
        images, labels, roles = ([column[row] for row in rows] for column in (self.images, self.labels, self.roles))
        return Labels(images, labels, roles, self.path)


def read_labels(path: str | AnyPath) -> Labels:
    """Read a CSV with the columns ``image,label,role``, or take the sub-folders of a folder for labels.

    Below a folder, the photos of each of its sub-folders have that folder's name as their label and are queries, except
    those of ``distractors``.

    Raises
    ------
    DataError
        No such file, no text, columns that are absent, rows that are cut short, an unknown role, an image twice,
        or no query.
    """
    path = path_or_address(path) if isinstance(path, str) else path
    if isinstance(path, Address) or path.is_dir():
        return _labels_of_folders(path)
    require_file(path)
    table = [tuple((row[column] or "").strip() for column in COLUMNS) for row in read_csv(path, COLUMNS)]
    _check_table(path, table)
    images, labels, roles = (list(column) for column in zip(*table, strict=True))
    return Labels(images, labels, roles, str(path))


def _labels_of_folders(folder: AnyPath) -> Labels:
    """A label is the first folder of a photo's path."""
    images = [name for name in photos_below(folder) if "/" in name]
    labels = [name.split("/", 1)[0] for name in images]
    roles = ["distractor" if label == DISTRACTORS else "query" for label in labels]
    if "query" not in roles:
        raise DataError(folder, "has no photos in sub-folders", "make a folder for each thing that photos show")
    return Labels(images, labels, roles, str(folder))


def _check_table(path: Path, table: list[tuple[str, ...]]) -> None:
    empty = [str(number) for number, row in enumerate(table, start=1) if "" in row]
    if empty:
        raise DataError(path, f"{told_of(len(empty), 'rows lack a value')}, first row {first_three(empty)}")
    unknown = sorted({role for _, _, role in table} - set(ROLES))
    if unknown:
        raise DataError(path, f"unknown role {first_three(unknown)}", f"roles are {', '.join(ROLES)}")
    twice = [image for image, count in Counter(image for image, _, _ in table).items() if count > 1]
    if twice:
        raise DataError(path, f"{told_of(len(twice), 'images occur more than once')}, first {first_three(twice)}")
    outside = [image for image, _, _ in table if leaves_root(image)]
    if outside:
        what = told_of(len(outside), "images lie outside of the photos' folder")
        raise DataError(path, f"{what}, first {first_three(outside)}", "write names relative to it (--images)")
    if not any(role == "query" for _, _, role in table):
        raise DataError(path, "has no row with the role query")
