"""ROOTs of models on other machines: their folders as a mirror on this one, in which models are found as anywhere.

A mirror has the folders and the names of models' files. A placeholder has its file's size, and a time that stands for
its version, so that resuming, progress and the room on the disk are reckoned as for files of this machine. The bytes
are fetched when a model is read, and removed then; those of files that may hold several models at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

from sfm2tuples.errors import DataError
from sfm2tuples.files.remote.address import Address, AnyPath
from sfm2tuples.files.remote.listing import folders_below, list_folder
from sfm2tuples.files.remote.mirrored import Mirrored
from sfm2tuples.files.remote.reading import FetchError, fetch_file, file_facts, in_threads, version_of
from sfm2tuples.readers.discover import ModelLocation, find_models, is_passed_over
from sfm2tuples.readers.model_kinds import FILE_KINDS, FOLDER_KINDS

NAMES = frozenset(Path(name).name for kind in FOLDER_KINDS for name in (*kind.files, *kind.more))
"""Names of files of models that are folders."""
LISTS = "*list*.txt"
"""Names of lists of photos that stand beside some models."""
UNLISTED = "check the address; where its server lists no folders, copy the models here"
"""What to do where a ROOT is not to be listed."""


@dataclass(frozen=True)
class LocalRoots:
    """The ROOTs as folders of this machine."""

    roots: list[Path]
    """In the order of the command."""
    machines: list[Mirrored]
    """What some of them are mirrors of."""

    def find_models(self) -> list[ModelLocation]:
        """As `discover.find_models`; a model elsewhere says so."""
        try:
            found = find_models(self.roots, self.called)
        except DataError as error:
            raise type(error)(self._restated(error.path), error.what, error.remedy) from error
        return [replace(location, elsewhere=self._machine_of(location.path)) for location in found]

    def called(self, path: Path) -> Path:
        """What names of models are made of: a path in the mirror without what is only here of it."""
        machine = self._machine_of(path)
        return path if machine is None else Path("/", path.absolute().relative_to(machine.top))

    def _machine_of(self, path: Path) -> Mirrored | None:
        return next((machine for machine in self.machines if machine.holds(path)), None)

    def _restated(self, text: str) -> str:
        for machine in self.machines:
            text = machine.restated(text)
        return text


@contextmanager
def local_roots(roots: Sequence[AnyPath]) -> Iterator[LocalRoots]:
    """The ROOTs, those elsewhere as mirrors, which are removed with the context.

    Raises
    ------
    DataError
        A ROOT elsewhere is not there, not to be listed, or its machine does not answer.
    """
    with ExitStack() as held:
        machines: list[Mirrored] = []
        local = []
        for root in roots:
            if isinstance(root, Address):
                top = Path(held.enter_context(TemporaryDirectory(prefix="sfm2tuples-"))).resolve()
                machines.append(Mirrored(top, replace(root, path="")))
                local.append(_mirror(root, machines[-1]))
            else:
                local.append(root)
        yield LocalRoots(local, machines)


def _mirror(root: Address, machine: Mirrored) -> Path:
    """Make the mirror of a ROOT, a folder or a file, and say where it is."""
    top = machine.path(root)
    if _may_hold_several(root.name) and _is_file(root):
        top.parent.mkdir(parents=True, exist_ok=True)
        _put(top, root)
        for above in (root.parent, root.parent.parent):
            _look_beside(above, machine)
        return top
    listed = folders_below(root, is_passed_over, UNLISTED)
    wanted: list[Path] = []
    for below, there in listed.items():
        folder = top / below
        folder.mkdir(parents=True, exist_ok=True)
        for name in there.folders:
            (folder / name).mkdir(exist_ok=True)
        wanted += [folder / name for name in there.files if _is_wanted(name)]
    list(in_threads(lambda path: _put(path, machine.address(path)), wanted))
    if root.path:
        _look_beside(root.parent, machine)
    return top


def _is_wanted(name: str) -> bool:
    return name in NAMES or fnmatchcase(name, LISTS) or _may_hold_several(name)


def _may_hold_several(name: str) -> bool:
    """Whether a file is looked into to find its models."""
    return any(fnmatchcase(name, kind.pattern) for kind in FILE_KINDS)


def _put(path: Path, address: Address) -> None:
    """A file of the mirror; one that does not come is found out when its model is read."""
    try:
        size, stamp = version_of(file_facts(address))
        if _may_hold_several(path.name):
            fetch_file(address, path, size if size >= 0 else None)
        else:
            path.touch()
            os.truncate(path, max(size, 0))
    except FetchError:
        path.touch()
        return
    os.utime(path, (stamp, stamp))


def _is_file(address: Address) -> bool:
    """Whether a file is there under a name that models in files have; a folder may have it too."""
    try:
        return file_facts(address).get("type") != "directory"
    except FetchError:
        return False


def _look_beside(folder: Address, machine: Mirrored) -> None:
    """What models of a ROOT may want of a folder above it: `images/` and lists of photos, as its server lists them."""
    try:
        there = list_folder(folder)
    except DataError:
        return
    place = machine.path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if "images" in there.folders:
        (place / "images").mkdir(exist_ok=True)
    lists = [place / name for name in there.files if fnmatchcase(name, LISTS)]
    list(in_threads(lambda path: _put(path, machine.address(path)), lists))
