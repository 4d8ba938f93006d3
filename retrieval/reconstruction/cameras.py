"""Which photos share a camera, and what its parameters are before it is refined."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from retrieval.reconstruction.options import AUTO, PER_IMAGE, SINGLE
from retrieval.reconstruction.photo_table import PhotoTable
from sfm2tuples.errors import ReconstructionError

WITHOUT_EXIF = 1.2
"""Focal length over the longest side where nobody says: COLMAP's own guess."""


@dataclass(frozen=True)
class PhotoCamera:
    """A camera of the photos of one size."""

    number: int
    """From 0."""
    width: int
    height: int
    parameters: tuple[float, ...]
    """As many as `model` has, in COLMAP's order; of SIMPLE_RADIAL the focal length and centre in pixels, and one
    coefficient of distortion."""
    known: bool
    """Whether the focal length is EXIF's or a model's; else it is a guess."""
    model: str = "SIMPLE_RADIAL"
    """COLMAP's name of its camera model."""


def cameras_of(table: PhotoTable, which: str) -> np.ndarray:
    """The camera of each photo, as the first row of those that share it: (n,) int64.

    Raises
    ------
    ReconstructionError
        Photos that are to share a camera have different sizes.
    """
    rows = np.arange(len(table))
    if which == PER_IMAGE:
        return rows
    camera = rows.copy()
    for folder, members in _groups(table, which):
        looks = {(*table.size[row].tolist(), float(table.focal[row])) for row in members}
        if which != AUTO and len({look[:2] for look in looks}) > 1:
            remedy = f"give --cameras {AUTO} or {PER_IMAGE}"
            raise ReconstructionError(
                table.root / folder, "its photos have different sizes, so they share no camera", remedy
            )
        if which != AUTO or len(looks) == 1:
            camera[members] = members[0]
    return camera


def camera_numbers(camera: np.ndarray, held: Mapping[int, int]) -> tuple[np.ndarray, list[int]]:
    """Numbers of the cameras, for photos that come to others: those that a database holds keep theirs.

    Parameters
    ----------
    camera : (n,) int64
        From `cameras_of`.
    held : mapping
        Row of each photo that the database holds, to the number of its camera there.

    Returns
    -------
    number : (n,) int64
        Of each photo's camera, from 0.
    moved : list of int
        Held rows that share a camera with others than they did; where there are any, the numbers are of no use.
    """
    known: dict[int, int] = {}
    owner: dict[int, int] = {}
    moved = []
    for row, number in held.items():
        first = int(camera[row])
        if known.setdefault(first, number) != number or owner.setdefault(number, first) != first:
            moved.append(row)
    free = itertools.count(max([len(camera) - 1, *owner]) + 1)
    for first in np.unique(camera).tolist():
        if first not in known:
            known[first] = next(free) if first in owner else first
    return np.array([known[first] for first in camera.tolist()], np.int64), moved


def parameters_of_cameras(table: PhotoTable, camera: np.ndarray, number: np.ndarray) -> dict[int, PhotoCamera]:
    """The camera of each distinct photo, by row, before it is refined; `camera` and `number` as above."""
    found = {}
    for row in table.distinct.tolist():
        width, height = table.size[row].tolist()
        known = float(table.focal[camera[row]])
        parameters = (known or WITHOUT_EXIF * max(width, height), width / 2, height / 2, 0.0)
        found[row] = PhotoCamera(int(number[row]), width, height, parameters, known > 0)
    return found


def _groups(table: PhotoTable, which: str) -> Iterator[tuple[str, list[int]]]:
    """Rows of the distinct photos of each folder; of all folders together for ``single``."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row in table.distinct.tolist():
        folder = PurePosixPath(table.names[row]).parent.as_posix() if which != SINGLE else "."
        groups[folder].append(row)
    yield from groups.items()
