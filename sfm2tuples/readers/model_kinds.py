"""The kinds of models that can be read, a line each: how a model is told by its files, and which module reads it.

To add a kind, write a module in this folder with ``read(path: Path) -> SparseModel``, and a line in `KINDS`; a module
``posed/NAME.py`` is the reader "posed.NAME".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from sfm2tuples.readers import bundler_files as bundler
from sfm2tuples.readers import nvm_sections as nvm
from sfm2tuples.readers.posed import transforms_files as transforms


def _nothing(path: Path) -> list[Path]:
    return []


@dataclass(frozen=True)
class FolderKind:
    """A kind whose model is a folder that holds some files."""

    reader: str
    """The module that reads it; it is loaded when the first such model is read. The kind goes by this name."""
    files: tuple[str, ...]
    """Files that every model has."""
    more: tuple[str, ...] = ()
    """Files that some have too."""
    photos: tuple[str, ...] = ()
    """Folders in the model's own that its photos lie in, where these are not `images`."""
    looked_at: Callable[[Path], list[Path]] = _nothing
    """More files that a model's columns depend on, of this machine alone: as many as photos."""
    least: int = 1
    """How many of `files` tell that a folder is such a model, though others are lost and another model lies there: 2
    where anybody's lists are called so too."""

    def is_told(self, folder: Path) -> bool:
        """Whether a folder has `least` of the files."""
        return sum(os.path.isfile(folder / name) for name in self.files) >= self.least

    def sources(self, path: Path) -> list[Path]:
        """Files that a model is read from; some may be absent."""
        return [path / name for name in (*self.files, *self.more)]


@dataclass(frozen=True)
class FileKind:
    """A kind whose model is a file, or one of several in a file: FILE is model number 0 of it, FILE/k number k."""

    reader: str
    """As in `FolderKind`."""
    pattern: str
    """Names of its files, such as ``*.nvm``."""
    models: Callable[[Path], list[Path]] = lambda file: [file]
    """The models in a file of such a name; none where it is another file."""
    choose: Callable[[list[Path]], list[Path]] = lambda files: files
    """Of the files of one folder, those to read; the others are copies."""
    beside: Callable[[Path], list[Path]] = _nothing
    """Other files that a model is read from."""
    folders: tuple[str, ...] = ()
    """Folders that its tools put between a scene and the file."""
    looked_at: Callable[[Path], list[Path]] = _nothing
    """As in `FolderKind`."""

    def file_of(self, path: Path) -> Path:
        """The file that holds a model."""
        return path if fnmatchcase(path.name, self.pattern) else path.parent

    def sources(self, path: Path) -> list[Path]:
        """Files that a model is read from."""
        return [self.file_of(path), *self.beside(path)]


ModelKind = FolderKind | FileKind

BINARY = "colmap_binary"
"""COLMAP's binary models: the kind whose images can be read without its points."""
RECORDS_DATA = "sensors/records_data"
"""Where a kapture's photos lie."""
KEYPOINTS = "reconstruction/keypoints"
"""Where a kapture's keypoints lie."""
KINDS: tuple[ModelKind, ...] = (
    FolderKind(BINARY, ("cameras.bin", "images.bin", "points3D.bin"), ("rigs.bin", "frames.bin")),
    FolderKind("colmap_text", ("cameras.txt", "images.txt", "points3D.txt"), ("rigs.txt", "frames.txt"), least=2),
    FileKind("bundler", "*.out", bundler.models_of, bundler.choose, bundler.find_list, ("bundle", "pmvs")),
    FolderKind(
        "posed.kapture",
        ("sensors/sensors.txt", "sensors/records_camera.txt", "sensors/trajectories.txt"),
        ("sensors/rigs.txt", "reconstruction/points3d.txt", "reconstruction/observations.txt"),
        (RECORDS_DATA,),
        lambda folder: _files_below(folder / KEYPOINTS),
    ),
    FileKind("nvm", "*.nvm", nvm.models_of),
    FileKind(
        "posed.transforms",
        "transforms*.json",
        transforms.models_of,
        transforms.choose_transforms,
        looked_at=transforms.photos_looked_at,
    ),
)
"""Every kind; where a folder holds several kinds of folder models in full, the first is read."""
KIND_OF = {kind.reader: kind for kind in KINDS}
FOLDER_KINDS = [kind for kind in KINDS if isinstance(kind, FolderKind)]
FILE_KINDS = [kind for kind in KINDS if isinstance(kind, FileKind)]
WHAT_A_MODEL_IS = "; ".join([*(", ".join(k.files) for k in FOLDER_KINDS), *(k.pattern for k in FILE_KINDS)])
"""For messages."""


def folder_kind(folder: Path) -> FolderKind | None:
    """The kind of the model that a folder is: the first of which all files are there, else some; None where none is."""
    there = [[os.path.isfile(folder / name) for name in kind.files] for kind in FOLDER_KINDS]
    for enough in (all, any):
        for kind, files in zip(FOLDER_KINDS, there, strict=True):
            if enough(files):
                return kind
    return None


def models_in(folder: Path) -> list[tuple[Path, ModelKind]]:
    """Models that lie in a folder itself.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of (Path, ModelKind)
        Where the folder is a model: the folder, and nothing else, since what lies beside was made from it. Else the
        models of its files.
    """
    kind = folder_kind(folder)
    itself: list[tuple[Path, ModelKind]] = [] if kind is None else [(folder, kind)]
    if kind is not None and kind.is_told(folder):
        return itself
    return [model for of_files in FILE_KINDS for model in _models_of_kind(folder, of_files)] or itself


def models_of_file(file: Path) -> list[tuple[Path, ModelKind]]:
    """Models of a file, whatever kind it is of; none where it is of no kind."""
    return [(path, kind) for kind in FILE_KINDS if fnmatchcase(file.name, kind.pattern) for path in kind.models(file)]


def _models_of_kind(folder: Path, kind: FileKind) -> list[tuple[Path, ModelKind]]:
    """Models of one kind in the files of a folder, in the order of the files' names."""
    files = [folder / name for name in sorted(_listed(folder)) if fnmatchcase(name, kind.pattern)]
    models = {file: kind.models(file) for file in files if os.path.isfile(file)}
    return [(path, kind) for file in kind.choose([file for file in models if models[file]]) for path in models[file]]


def _files_below(folder: Path) -> list[Path]:
    return sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
