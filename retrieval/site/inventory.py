"""What lies below the folders that `tune` is given: models, photos, and stamps that tell when one has changed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.photos.names import photos_below
from retrieval.site.state import fingerprint_of, size_and_time
from sfm2tuples.errors import DataError, NoModelError
from sfm2tuples.readers.discover import ModelLocation, find_models
from sfm2tuples.readers.model_kinds import KIND_OF

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inventory:
    """Models and photos below some folders."""

    roots: tuple[Path, ...]
    """The folders, or files, with models."""
    loose_roots: tuple[Path, ...]
    """Those without a model: nothing but photos."""
    photos: tuple[tuple[Path, Path], ...]
    """Each photo below any of them or below a folder of photos that was named: its folder, and its path."""
    models: str
    """Fingerprint of the models' files: their names, sizes and times."""

    @property
    def stamps(self) -> str:
        """Fingerprint of the photos: their names, sizes and times."""
        return stamps_of(path for _, path in self.photos)


def take_inventory(roots: Sequence[Path], photo_folders: Sequence[Path], site: Path) -> Inventory:
    """Look for models and photos.

    Parameters
    ----------
    roots : sequence of Path
        As the user gave them.
    photo_folders : sequence of Path
        More folders of photos (`--images`).
    site : Path
        A folder that is not looked into, should it lie below a root.

    Raises
    ------
    DataError
        A root does not exist, or holds neither a model nor a photo.
    """
    with_models: list[Path] = []
    loose: list[Path] = []
    locations: list[ModelLocation] = []
    photos: dict[str, tuple[Path, Path]] = {}
    for root in roots:
        found, error = _models_below(root, site)
        locations += found
        # A root that is a file says nothing of the folder that it lies in.
        below = _photos_below(root, site, bool(found)) if root.is_dir() else {}
        if error is not None and not below:
            if isinstance(error, NoModelError):
                raise NoModelError(root, f"{error.what}, and no photo", error.remedy)
            raise error
        (with_models if found else loose).append(root)
        photos.update(below)
    for folder in photo_folders:
        photos |= _photos_below(folder, site, True) | photos
    return Inventory(tuple(with_models), tuple(loose), tuple(photos.values()), stamps_of_models(locations))


def stamps_of(paths: Iterable[Path], site: Path | None = None) -> str:
    """A fingerprint of some files' paths, sizes and times; of what lies in a site the path below it, so that the site
    may be moved."""
    home = "" if site is None else os.path.join(os.path.abspath(site), "")
    named = [(os.path.abspath(path), path) for path in paths]
    return fingerprint_of([[name.removeprefix(home), *size_and_time(path)] for name, path in named])


def stamps_of_models(locations: Iterable[ModelLocation], site: Path | None = None) -> str:
    """A fingerprint of the files of some models, and of the databases beside them, whose matches join models."""
    return stamps_of(sorted({path for location in locations for path in _files_of(location)}), site)


def _models_below(root: Path, site: Path) -> tuple[list[ModelLocation], DataError | None]:
    """Models of a root, but for those of the site itself; or what is wrong with a root without any."""
    if not root.exists():
        raise DataError(root, "does not exist", "give a folder with models or photos")
    try:
        found = [model for model in find_models([root]) if not is_below(model.path, site)]
    except DataError as error:
        return [], error
    return found, None if found else DataError(root, "holds no model and no photo", "give another folder")


def _photos_below(folder: Path, site: Path, has_models: bool) -> dict[str, tuple[Path, Path]]:
    """Photos by their real path, so that two roots that lead to one photo count it once.

    Photos of kinds that are not read are no error where there are models, which `build-index` says more of.
    """
    own = os.path.realpath(site)
    found: dict[str, tuple[Path, Path]] = {}
    try:
        names = photos_below(folder)
    except DataError as error:
        if not has_models:
            raise
        logger.warning("%s", error)
        return found
    for name in names:
        real = os.path.realpath(folder / name)
        if not real.startswith(own + os.sep):
            found[real] = (folder, folder / name)
    return found


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, is a folder or lies in it."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _files_of(location: ModelLocation) -> list[Path]:
    """What it is read from, and databases up to its root."""
    kind = KIND_OF[location.kind]
    files = [path for path in kind.sources(location.path) if path.is_file()]
    files += kind.looked_at(location.path)
    folder = location.path
    while True:
        files += sorted(folder.glob("*.db")) if folder.is_dir() else []
        if folder in (location.root, folder.parent):
            return files
        folder = folder.parent
