"""`ask --add`: photos that come after `tune` are described by the site's network and searched from then on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from retrieval.photos.names import photos_below
from retrieval.site.database import KnownPhotos, write_database
from retrieval.site.inventory import is_below
from retrieval.site.photo_gathering import with_loose_photos
from retrieval.site.photo_list import PhotoList
from retrieval.site.questions import Site
from retrieval.site.site_files import held_site
from retrieval.site.state import SiteState, size_and_time
from sfm2tuples.errors import DataError, PhotoError
from sfm2tuples.index.opened import open_index


@dataclass(frozen=True)
class Added:
    """What was added."""

    photos: int
    """Photos that are searched from now on, or whose file was changed since they were described."""
    known: int
    """Photos that were there already, by content."""
    failures: list[PhotoError]
    """One for each photo that cannot be read."""


def add_photos(folder: Path, sources: Sequence[Path], device: str | None = None) -> Added:
    """Add photos, or all photos below folders, to a site's search. `tune` keeps them in it.

    Raises
    ------
    DataError
        There is no site, a source is absent, or another process works on the site.
    """
    site = Site.open(folder, device)
    photos = files_of(sources, folder)
    with held_site(folder) as files, open_index(files.index) as index:
        everything, _ = with_loose_photos(site.photos, [(path.parent, path) for path in photos], index)
        fresh = everything.files[len(site.photos.files) :]
        everything, changed = _seen_anew(everything, photos)
        bare = [PhotoError(path, "is no photo: empty, or no file") for path in photos if not size_of(path)]
        state = SiteState.read(files.state)
        # First of all the note: a call that is killed here is made good by the next one, or by tune.
        state.note(added=list(dict.fromkeys([*state.content.get("added", []), *fresh])))
        known = [KnownPhotos(site.photos, site.descriptors.values)]
        is_new = changed + len(fresh)
        failures = write_database(files, site.network, site.extraction, everything, known) if is_new else []
    return Added(is_new - len(failures), len(photos) - is_new - len(bare), bare + failures)


def _seen_anew(photos: PhotoList, named: Sequence[Path]) -> tuple[PhotoList, int]:
    """The photos with the stamps that the named ones have now, and how many of these have changed."""
    real = {os.path.realpath(path) for path in named}
    stamps = [
        list(size_and_time(Path(file))) if os.path.realpath(file) in real else stamp
        for file, stamp in zip(photos.files, photos.stamps, strict=True)
    ]
    changed = sum(now != before for now, before in zip(stamps, photos.stamps, strict=True))
    return replace(photos, stamps=stamps), changed


def size_of(path: Path) -> int:
    """Size of a regular file in bytes; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def files_of(sources: Sequence[Path], site: Path) -> list[Path]:
    """The photos that are named, and all photos below folders that are.

    The site's own folder, whose pages hold small copies of photos, is not looked into where it lies below one of these.

    Raises
    ------
    DataError
        One is absent, or a folder without photos.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            below = [source / name for name in photos_below(source)]
            if is_below(site, source):
                below = [photo for photo in below if not is_below(photo, site)]
            if not below:
                raise DataError(source, "holds no photos", "give photos, or a folder of them")
            found += below
        elif source.is_file():
            found.append(source)
        else:
            raise PhotoError(source, "no such photo")
    return found
