"""Names of photos as other tools write them, made relative: they may be absolute, or come from another machine."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path

from sfm2tuples.errors import ModelError


def relative_names(listed: Sequence[bytes], path: Path) -> list[bytes]:
    """Make the names of a list relative to one folder.

    Backslashes count as slashes, `./` and doubled slashes go. Where a name is absolute or climbs out by `..`, the paths
    are those of another folder or another machine: then all names are relative to the folder that all have in common,
    which is what can be kept of them (`/home/x/castle/images/a.jpg` is `a.jpg`).

    Parameters
    ----------
    listed : sequence of bytes
        Names as written.
    path : Path
        Their file, for messages.

    Returns
    -------
    list of bytes
        A name that still climbs out is left as it is, and refused with all others that do when the model is put
        together.

    Raises
    ------
    ModelError
        A name is empty, or some are absolute and others not.
    """
    names = [posixpath.normpath(name.strip().replace(b"\\", b"/")) if name.strip() else b"" for name in listed]
    for row, name in enumerate(names, 1):
        if name in (b"", b".", b"/", b"//"):
            raise ModelError(path, f"photo {row} has no name")
    if not any(_leaves(name) for name in names):
        return names
    try:
        common = posixpath.commonpath([posixpath.dirname(name) for name in names])
    except ValueError:
        what = "some photos have absolute paths and others do not, so they have no folder in common"
        raise ModelError(path, what, "write all of them relative to one folder") from None
    length = len(common.rstrip(b"/")) + 1 if common else 0
    return [name[length:] for name in names]


def _leaves(name: bytes) -> bool:
    return name.startswith(b"/") or name.split(b"/")[0] == b".." or re.match(rb"[A-Za-z]:/", name) is not None
