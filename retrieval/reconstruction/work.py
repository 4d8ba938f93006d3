"""What lies in the folder of a reconstruction, whose it is, and what its steps were made with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfm2tuples.compute.locks import take_lock
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.atomic import remove_stale_temporaries, write_text
from sfm2tuples.files.text import read_json
from sfm2tuples.places.verified_matches import FILE as DATABASE

HIDDEN = ".steps"
SUMMARY, UNREGISTERED, IMAGES = "reconstruction.json", "unregistered.csv", "images"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class WorkFolder:
    """A folder of models in the making."""

    path: Path

    @property
    def hidden(self) -> Path:
        """Where the state of the steps lies; no model is looked for there."""
        return self.path / HIDDEN

    @property
    def database(self) -> Path:
        """COLMAP's database, where build-index looks for it."""
        return self.path / DATABASE

    @property
    def summary(self) -> Path:
        """What came out; written last."""
        return self.path / SUMMARY

    def settings(self) -> dict[str, dict[str, Any]]:
        """What each step was begun with: step to settings; nothing where none was begun."""
        try:
            found = read_json(self.hidden / SETTINGS)
        except FileFormatError:
            return {}
        except DataError:
            return {}
        return found if isinstance(found, dict) and all(isinstance(v, dict) for v in found.values()) else {}

    def begin(self, step: str, settings: dict[str, Any]) -> None:
        """Note what a step is made with, before anything of it is there."""
        text = json.dumps({**self.settings(), step: settings}, indent=1, sort_keys=True)
        write_text(self.hidden / SETTINGS, text)

    def model_folders(self) -> list[Path]:
        """The numbered folders of models, by number."""
        found = [entry for entry in self.path.iterdir() if entry.name.isdecimal() and entry.is_dir()]
        return sorted(found, key=lambda folder: int(folder.name))

    def link_photos(self, root: Path) -> bool:
        """Let `images` lead to the photos, so that whoever reads the models finds them; False where it cannot be."""
        link = self.path / IMAGES
        if link.is_symlink() and os.path.realpath(link) == os.path.realpath(root):
            return True
        if os.path.lexists(link) and not link.is_symlink():
            return False
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(root.resolve(), target_is_directory=True)
        except OSError:
            return False
        return True


def is_ours(path: Path) -> bool:
    """Whether a folder is a reconstruction, finished or not."""
    return (path / HIDDEN).is_dir()


@contextmanager
def held_folder(path: Path, resume: bool) -> Iterator[WorkFolder]:
    """Hold the folder of a reconstruction, and nobody else meanwhile.

    Parameters
    ----------
    path : Path
        Made where it is absent; its parent must be there.
    resume : bool
        Keep what it holds; without it all of a reconstruction is removed first.

    Raises
    ------
    UsageError
        The folder holds something that is no reconstruction.
    DataError
        Another process holds it, or it cannot be made.
    """
    _make(path)
    descriptor = os.open(path / HIDDEN / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            take_lock(descriptor, path)
        except BlockingIOError:
            raise DataError(path, "is being made by another process", "wait for it, or give another name") from None
        work = WorkFolder(path)
        for name in (path / SUMMARY, path / UNREGISTERED, path / HIDDEN / SETTINGS):
            remove_stale_temporaries(name)
        if not resume:
            _clear(work)
        yield work
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    if os.path.lexists(path) and not path.is_dir():
        raise UsageError(f"{path}: is no folder; give another name")
    if path.is_dir() and not is_ours(path) and any(path.iterdir()):
        raise UsageError(f"{path}: holds something that reconstruct did not make; give another name")
    if not path.absolute().parent.is_dir():
        raise DataError(path.parent, "no such folder to write to", "make it first")
    try:
        (path / HIDDEN).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(path, f"cannot be made ({error.strerror})") from error


def _clear(work: WorkFolder) -> None:
    """Remove what a reconstruction made, and nothing else: the photos are behind a link."""
    for folder in work.model_folders():
        shutil.rmtree(folder)
    for entry in work.hidden.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()
    for name in (SUMMARY, UNREGISTERED, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"):
        (work.path / name).unlink(missing_ok=True)
    if (work.path / IMAGES).is_symlink():
        (work.path / IMAGES).unlink()
