"""Where things lie in a site's folder, and the lock that keeps two processes from writing there at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from sfm2tuples.compute.locks import take_lock
from sfm2tuples.errors import DataError, UsageError

STATE = "state.json"
LOCK = ".lock"
OWN = (
    *(STATE, LOCK, "models", "run", "features", "page", "index.h5", "tuples.h5", "descriptors*.h5", "whitening_*.h5"),
    *("network.pt", "network.npz", "comparison.json", "photos.json", "evaluation_*.json"),
)
"""Patterns of the names of its files."""


@dataclass(frozen=True)
class SiteFiles:
    """The files of a site: each step of `tune` writes some, and every one is what a command of its own writes."""

    folder: Path
    """The site."""

    @property
    def state(self) -> Path:
        """What was made of what."""
        return self.folder / STATE

    @property
    def models(self) -> Path:
        """Models that were reconstructed from photos, where there were none."""
        return self.folder / "models"

    @property
    def index(self) -> Path:
        """Of `build-index`."""
        return self.folder / "index.h5"

    @property
    def tuples(self) -> Path:
        """Of `mine-tuples`."""
        return self.folder / "tuples.h5"

    @property
    def run(self) -> Path:
        """Of `train`."""
        return self.folder / "run"

    @property
    def comparison(self) -> Path:
        """The table before and after, and which network was kept."""
        return self.folder / "comparison.json"

    @property
    def network(self) -> Path:
        """The network that was kept, its whitening inside."""
        return self.folder / "network.pt"

    @property
    def layers(self) -> Path:
        """The same network as plain layers, for a question that does without torch."""
        return self.folder / "network.npz"

    @property
    def descriptors(self) -> Path:
        """All photos of the site, described by `network`."""
        return self.folder / "descriptors.h5"

    @property
    def photos(self) -> Path:
        """Where these photos lie and what they show."""
        return self.folder / "photos.json"

    @property
    def features(self) -> Path:
        """Local features of photos that were verified once."""
        return self.folder / "features"

    @property
    def page(self) -> Path:
        """The page to look at."""
        return self.folder / "page"

    def described(self, candidate: str) -> Path:
        """Photos of the index, described by a candidate."""
        return self.folder / f"descriptors_{candidate}.h5"

    def whitening(self, candidate: str) -> Path:
        """L_w of a candidate."""
        return self.folder / f"whitening_{candidate}.h5"

    def evaluation(self, way: str) -> Path:
        """What a candidate, with or without its whitening, answers on held-out places."""
        return self.folder / f"evaluation_{way}.json"

    def owns(self, path: Path) -> bool:
        """Whether a path is that of a file of the site, or of something in a folder of it, be it there or not."""
        folder, resolved = self.folder.resolve(), path.resolve()
        if not resolved.is_relative_to(folder):
            return False
        first = (*resolved.relative_to(folder).parts, "")[0]
        return not first or any(fnmatch(first, pattern) for pattern in OWN)


def refuse_no_site(folder: Path) -> None:
    """Refuse to make a site of a folder that holds something else, or of a file.

    Raises
    ------
    UsageError
        It is one.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; give the name of a folder")
    is_taken = folder.is_dir() and any(entry.name != LOCK for entry in folder.iterdir())
    if is_taken and not SiteFiles(folder).state.is_file():
        raise UsageError(f"{folder}: is not empty, and no site that tune made; give another name")


@contextmanager
def held_site(folder: Path) -> Iterator[SiteFiles]:
    """Make a site's folder where there is none, and hold it against other writers.

    Raises
    ------
    UsageError
        The folder is there, holds something, and is no site.
    DataError
        Another process writes to it, or it cannot be made.
    """
    refuse_no_site(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataError(folder, f"cannot be written to ({error.strerror})") from error
    try:
        take_lock(lock, folder)
        yield SiteFiles(folder)
    except BlockingIOError as error:
        raise DataError(folder, "another process writes to this site", "wait for it") from error
    finally:
        os.close(lock)
