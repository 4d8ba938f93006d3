"""Find the models below some folders, name them, and find the photos that belong to them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfm2tuples.errors import DataError, NoModelError, UsageError
from sfm2tuples.files.regular_files import refuse_odd_file
from sfm2tuples.files.remote.address import Address, AnyPath, is_address, require_packages
from sfm2tuples.files.remote.contents import any_there
from sfm2tuples.files.remote.mirrored import Mirrored
from sfm2tuples.readers.colmap_database import database_refusal, is_database
from sfm2tuples.readers.model_kinds import (
    KIND_OF,
    WHAT_A_MODEL_IS,
    FileKind,
    FolderKind,
    ModelKind,
    folder_kind,
    models_in,
    models_of_file,
)

log = logging.getLogger(__name__)

LAYOUT_FOLDERS = ("sparse", "sparses", "dense")
"""Folders that COLMAP's tools put between a scene and its models; below them, models are numbered."""
DISTORTED = "distorted"
"""Folder in which 3D Gaussian Splatting's convert.py keeps the model that it undistorts; its photos lie in `input`."""
NUMBERED_BY_HLOC = "models"
"""Folder below a model in which hloc leaves the smaller models of the same reconstruction."""


@dataclass(frozen=True)
class ModelLocation:
    """Where a model lies, before it is read."""

    path: Path
    """The folder that holds the model's files, or its file; FILE/k for model number k > 0 of a file."""
    root: Path
    """The ROOT below which it was found; the folder of a ROOT that is a file."""
    name: str
    """Unique among the models found together: its path relative to the ROOT, or to the common parent of several."""
    scene: Path
    """The nearest folder above those that tools put between a scene and its models (`scene_folder`): absolute."""
    kind: str
    """The name of its kind, which is that of its reader, see `model_kinds.KINDS`."""
    tracks: Path | None = None
    """Folder of a binary COLMAP model of the same images, whose points and observations stand for the model's own."""
    elsewhere: Mirrored | None = None
    """Of a model on another machine: the mirror of it that all these paths are in."""

    def called(self, path: Path | None = None) -> str:
        """What messages call it, or a path near it: an address where it lies elsewhere."""
        text = str(path or self.path)
        return text if self.elsewhere is None else self.elsewhere.restated(text)

    def is_of(self, root: AnyPath) -> bool:
        """Whether it was found below this ROOT, or in it where the ROOT is a file."""
        kind = KIND_OF[self.kind]
        given = [self.root, kind.file_of(self.path)] if isinstance(kind, FileKind) else [self.root]
        if isinstance(root, Address):
            return str(root) in map(self.called, given)
        return root.resolve() in [path.resolve() for path in given]


@dataclass(frozen=True)
class PhotoFolder:
    """A folder of photos that the user names: `--images [ROOT=]DIR`."""

    folder: AnyPath
    """DIR: image names are relative to it. It may lie elsewhere."""
    root: AnyPath | None = None
    """Only for the models of this ROOT; None: for all."""

    @classmethod
    def parse(cls, text: str, roots: Sequence[AnyPath]) -> PhotoFolder:
        """Read what the user wrote, given the ROOTs of the command.

        Raises
        ------
        DataError
            A DIR that is no folder; whether one elsewhere is there is seen when its photos are looked for.
        UsageError
            An address that cannot be read.
        """
        root, folder = split_root(text, roots)
        if is_address(folder):
            address = Address.parse(folder)
            require_packages(address)
            return cls(address, root)
        if not os.path.isdir(folder):
            raise DataError(
                folder, "is not a folder of photos", "give --images [ROOT=]DIR, ROOT being one of the roots"
            )
        return cls(Path(folder), root)


def split_root(text: str, roots: Sequence[AnyPath]) -> tuple[AnyPath | None, str]:
    """Take `[ROOT=]PATH` apart; an "=" whose left side is none of the roots belongs to PATH."""
    left, equals, right = text.partition("=")
    if equals and is_address(left):
        given = Address.parse(left)
        return (given, right) if str(given) in map(str, roots) else (None, text)
    if equals and Path(left).resolve() in {root.resolve() for root in roots if isinstance(root, Path)}:
        return Path(left), right
    return None, text


def find_models(roots: Sequence[Path], called: Callable[[Path], Path] = Path) -> list[ModelLocation]:
    """Find every sparse model at or below the roots.

    Parameters
    ----------
    roots : sequence of Path
        Folders: a model, a scene with `sparse/…`, or any tree of them.
    called : callable
        What a path is called where models are named; itself by default.

    Returns
    -------
    list of ModelLocation
        In the order of the roots, and below each in that of the paths (numbers by value). A folder that holds any file
        of a model is listed, so that an incomplete one is reported when it is read. One folder is listed once, even
        where two roots or a link lead to it.

    Raises
    ------
    UsageError
        Where no root is given.
    DataError
        Where a root does not exist or has no model below it.
    """
    if not roots:
        raise UsageError("no folder with models was given")
    found: list[tuple[Path, Path, ModelKind]] = []
    seen: set[Path] = set()
    for root in roots:
        for path, kind in _models_below(root):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                found.append((path, root if os.path.isdir(root) else root.parent, kind))
    folders = [called(root if os.path.isdir(root) else root.parent) for root in roots]
    names = _names([called(path) for path, _, _ in found], folders)
    return [
        ModelLocation(path, root, name, _scene_of(path, kind), kind.reader)
        for (path, root, kind), name in zip(found, names, strict=True)
    ]


def scene_folder(path: Path) -> Path:
    """Climb from a model over `sparse`, `sparses`, `dense` and the numbers right below them: an absolute path.

    Other numbers are names: `0001/sparse/0` is of the scene `0001`. hloc's `sfm/models/1` is of the scene `sfm`, where
    `sfm` itself holds a model; any other folder called `models` is a name too. A ROOT is no bound, so that the scene
    does not depend on how the models were given. `distorted` is of the scene above it, where that is 3D Gaussian
    Splatting's: it holds `input` or `sparse` too.
    """
    path = Path(os.path.normpath(path.absolute()))
    while True:
        numbered = path.name.isdigit() and path.parent.name in LAYOUT_FOLDERS
        if path.name in LAYOUT_FOLDERS or numbered or _is_left_by_splatting(path):
            path = path.parent
        elif _is_left_by_hloc(path):
            path = path.parent.parent
        else:
            return path


def find_photo_root(
    location: ModelLocation, overrides: Sequence[PhotoFolder], first_names: Sequence[str]
) -> AnyPath | None:
    """Find the folder that the names of a model's images are relative to.

    Parameters
    ----------
    location : ModelLocation
        The model.
    overrides : sequence of PhotoFolder
        What the user gave with `--images`; tried in their order, those of the model's own ROOT first.
    first_names : sequence of str
        Some names of the model's images. A folder that holds none of them as files is not taken.

    Returns
    -------
    Path, Address or None
        The first of `photo_folders` that holds a name; else None.

    Raises
    ------
    UnreachableError
        A machine that photos may lie on has never answered.
    """
    mirror = location.elsewhere
    for candidate in photo_folders(location, overrides):
        folder = candidate
        if mirror is not None and isinstance(folder, Path) and mirror.holds(folder):
            if not os.path.isdir(folder):
                continue
            folder = mirror.address(folder)
        if isinstance(folder, Address):
            if any_there(folder, first_names):
                return folder
            continue
        # Most candidates do not exist: one look for the folder spares a look for every image.
        if os.path.isdir(folder) and any(os.path.isfile(os.path.join(folder, name)) for name in first_names):
            return folder
    return None


def photo_folders(location: ModelLocation, overrides: Sequence[PhotoFolder]) -> list[AnyPath]:
    """Folders that may hold a model's photos, in the order in which they are looked into; most do not exist.

    A kapture's `sensors/records_data`; `images/` in the model's folder, beside it, and beside its parents up to the
    ROOT; then `overrides`. Photos of `distorted` are looked for in `input` first. Where the model is a file, the photos
    may also lie in those folders themselves: names are then relative to the file or its list (`images/x.jpg`).
    """
    kind = KIND_OF[location.kind]
    candidates: list[AnyPath] = []
    candidates += [location.path / name for name in kind.photos] if isinstance(kind, FolderKind) else []
    in_a_file = isinstance(kind, FileKind)
    for folder in _parents(location.path, location.root):
        candidates += [folder / "images", folder] if in_a_file else [folder / "images"]
        if _is_left_by_splatting(folder):
            candidates.append(folder.parent / "input")
    own = [choice.folder for choice in overrides if choice.root is not None and location.is_of(choice.root)]
    return candidates + own + [choice.folder for choice in overrides if choice.root is None]


def _models_below(root: Path) -> list[tuple[Path, ModelKind]]:
    """Models at or below a root, or an error that says why there is none."""
    if os.path.isfile(root):
        if is_database(root):
            raise database_refusal(root)
        models = models_of_file(root)
        if not models:
            raise DataError(root, "is not a folder, nor a file with a model", f"give a folder with {WHAT_A_MODEL_IS}")
        return models
    if not os.path.isdir(root):
        refuse_odd_file(root)
        raise DataError(root, "does not exist", "give a folder with models")
    databases: list[Path] = []
    models = []
    for folder in _folders(root):
        models += models_in(folder)
        databases += [] if models else [path for path in sorted(folder.glob("*.db")) if is_database(path)]
    if not models:
        if databases:
            raise database_refusal(databases[0])
        remedy = "give another folder, or make models of photos first: reconstruct does"
        raise NoModelError(root, f"holds no model ({WHAT_A_MODEL_IS})", remedy)
    return models


def _scene_of(path: Path, kind: ModelKind) -> Path:
    """Scene folder of a model: for one in a file, that of the file's folder."""
    if isinstance(kind, FileKind):
        path = kind.file_of(path).absolute().parent
        path = path.parent if path.name in kind.folders else path
    return scene_folder(path)


def _is_left_by_splatting(path: Path) -> bool:
    """`scene/distorted`, beside what convert.py made of it, or the photos that it was made from."""
    return path.name == DISTORTED and any(os.path.isdir(path.parent / name) for name in ("input", "sparse"))


def _is_left_by_hloc(path: Path) -> bool:
    """`sfm/models/1`: hloc moves the files of the largest model up into `sfm` and leaves the others."""
    numbered = path.name.isdigit() and path.parent.name == NUMBERED_BY_HLOC
    return numbered and folder_kind(path.parent.parent) is not None


def _parents(path: Path, root: Path) -> Iterator[Path]:
    """The model's folder, its parents up to the root, and the folder that the root lies in."""
    yield path
    while not _same(path, root) and path != path.parent:
        path = path.parent
        yield path
    yield Path(os.path.normpath(root.absolute())).parent


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one, of which one may be absolute and the other relative to where we are."""
    return one == other or os.path.abspath(one) == os.path.abspath(other)


def _folders(root: Path) -> Iterator[Path]:
    """Walk folders in order, each once whatever links lead to it."""
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = folder.stat()
            entries = list(os.scandir(folder))
        except OSError as error:
            log.warning("%s: cannot be looked into (%s)", folder, error.strerror)
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        yield folder
        inside = [entry for entry in entries if not is_passed_over(entry.name)]
        # Links last, so that a folder goes by its own name; os.path.isdir takes a link to itself for no folder.
        order = sorted((entry.is_symlink(), _numbers_by_value(entry.name)) for entry in inside if os.path.isdir(entry))
        waiting.extend(folder / name for _, (_, _, name) in reversed(order))


def is_passed_over(name: str) -> bool:
    """Hidden folders, photos, and VisualSFM's dense workspaces, whose `bundle.rd.out` is a copy of the NVM file."""
    return name.startswith(".") or name in ("images", "records_data") or name.endswith(".nvm.cmvs")


def _numbers_by_value(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _names(paths: Sequence[Path], roots: Sequence[Path]) -> list[str]:
    """Names relative to the common parent of the roots; a model that lies there itself has the folder's name."""
    base = Path(os.path.commonpath([os.path.normpath(root.absolute()) for root in roots]))
    full = [Path(os.path.normpath(path.absolute())) for path in paths]
    names = [path.relative_to(base).as_posix() if path != base else base.name or "model" for path in full]
    if max(Counter(names).values()) > 1:
        # The root is a model itself and holds a folder of its own name: one step further up tells them apart.
        names = [path.relative_to(base.parent).as_posix() for path in full]
    return names
