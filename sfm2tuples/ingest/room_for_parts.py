"""How much of a disk a build takes at least, from the sizes of the models' files alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfm2tuples.files.room import require_room
from sfm2tuples.parts.work_folder import part_files, work_path
from sfm2tuples.readers.discover import ModelLocation
from sfm2tuples.readers.model_kinds import KIND_OF, FileKind

BINARY, TEXT = 0.65, 0.3
"""Bytes of a part, at least, for each byte of the file with the points."""
INDEX = 0.45
"""Bytes of an index, at least, for each byte of a part."""
# A point without any observation, less than any model has, is 59 bytes in points3D.bin, about 90 in points3D.txt, 40 in
# a part and 18 in an index. An observation is 8 bytes in points3D.bin, 16 in a part and 12 in an index.


def require_room_for_parts(locations: Sequence[ModelLocation], target: Path) -> None:
    """Refuse a build that finds no room for its parts and for the index that is made of them.

    Parameters
    ----------
    locations : sequence of ModelLocation
    target : Path
        The index; parts of an earlier build in its work folder go on to be used, or are removed.

    Raises
    ------
    DataError
        See above.
    """
    parts = sum(_least(path) for path in {_points_file(location) for location in locations})
    done = sum(_size(path) for path in part_files(work_path(target)))
    require_room(target, int(INDEX * parts) + max(0, parts - done))


def _points_file(location: ModelLocation) -> Path:
    """The file that holds a model's points."""
    kind = KIND_OF[location.kind]
    if isinstance(kind, FileKind):
        return kind.file_of(location.path)
    sources = kind.sources(location.path)
    return next((path for path in sources if path.stem.lower() == "points3d"), sources[-1])


def _least(path: Path) -> int:
    return int(_size(path) * (BINARY if path.suffix == ".bin" else TEXT))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
