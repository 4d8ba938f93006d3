"""Names of photos: which files are photos, and how lists call them."""

from __future__ import annotations

import functools
import logging
import os
import posixpath
import re
from pathlib import Path

from retrieval.photos.formats import SUFFIXES, looks_like_photo, readable_suffixes, what_is_unread
from sfm2tuples.errors import DataError
from sfm2tuples.files.remote.address import Address, AnyPath
from sfm2tuples.files.remote.listing import files_below

log = logging.getLogger(__name__)


def photos_below(folder: AnyPath) -> list[str]:
    """Paths of all photos below a folder, relative to it, in the order of their bytes.

    What is hidden is skipped, folders and files: a Mac leaves a `._IMG_1.jpg` beside each photo on other disks.

    Files that look like photos and are not read are counted in a warning, once for a folder.

    Raises
    ------
    DataError
        All photos are of kinds that are not read.
    """
    if isinstance(folder, Address):
        found, unread = _found_elsewhere(folder)
    else:
        found, unread = _found_here(folder)
    if unread:
        what, remedy = what_is_unread(sorted(unread))
        if not found:
            raise DataError(folder, what, remedy)
        _warn_once(str(DataError(folder, what, remedy)))
    return sorted(found, key=os.fsencode)


def _found_elsewhere(folder: Address) -> tuple[list[str], list[str]]:
    """Photos as their server lists them, and what looks like some and is not read, by the suffix alone."""
    names = [name for name in files_below(folder) if not name.rsplit("/", 1)[-1].startswith(".")]
    looking = [name for name in names if name.lower().endswith(SUFFIXES)]
    is_read = [name.lower().endswith(readable_suffixes()) for name in looking]
    read, unread = (
        [name for name, one in zip(looking, is_read, strict=True) if one is wanted] for wanted in (True, False)
    )
    return read, unread


def _found_here(folder: Path) -> tuple[list[str], list[str]]:
    """Photos of this machine, and what looks like some and is not read."""
    suffixes = readable_suffixes()
    found, unread = [], []
    walked = [os.path.realpath(folder)]
    for parent, folders, files in os.walk(folder, followlinks=True):
        shown = (name for name in sorted(folders) if not name.startswith("."))
        folders[:] = [name for name in shown if not _is_known_link(os.path.join(parent, name), walked)]
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in (name for name in files if not name.startswith(".")):
            if name.lower().endswith(suffixes):
                found.append(prefix + name)
            elif looks_like_photo(Path(parent, name)):
                unread.append(prefix + name)
    return found, unread


def _is_known_link(folder: str, walked: list[str]) -> bool:
    """Whether a folder is a link to one that is walked already, or that has all of them in it, which would never end.

    `walked` holds the real path of the folder asked for, and then those of the links that are followed.
    """
    if not os.path.islink(folder):
        return False
    real = os.path.realpath(folder)
    is_known = any(_is_below(real, other) for other in walked) or _is_below(walked[0], real)
    if not is_known:
        walked.append(real)
    return is_known


def _is_below(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder


def short_name(name: str) -> str:
    """A photo's name without folders and without a photo's suffix, as ground truth calls it."""
    base = name.rsplit("/", 1)[-1]
    stem, dot, suffix = base.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in SUFFIXES else base


def leaves_root(name: str) -> bool:
    """Whether a name may lead out of the folder that it is relative to, on this machine or on one with Windows."""
    plain = name.replace("\\", "/")
    absolute = plain.startswith("/") or re.match(r"[A-Za-z]:/", plain) is not None
    return absolute or posixpath.normpath(plain).split("/")[0] == ".."


@functools.cache
def _warn_once(line: str) -> None:
    """Some commands list a folder more than once."""
    log.warning("%s", line)
