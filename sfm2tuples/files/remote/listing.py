"""What lies below a folder of another machine, as far as its server lists it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sfm2tuples.errors import DataError
from sfm2tuples.files.remote.address import QUOTED, Address
from sfm2tuples.files.remote.links import names_below
from sfm2tuples.files.remote.reading import FetchError, entries_of, folder_page, in_threads

NO_LIST = "give a .txt list of names, and --images with this address"
"""What to do where a server does not list its folders."""

_Entry = tuple[str, bool, int | None]
"""Name, whether it is a folder, and bytes of a file; None where the server does not say them."""


@dataclass
class ListedFolder:
    """What a server lists right below a folder."""

    folders: list[str] = field(default_factory=list)
    """Names of folders, in their order."""
    files: dict[str, int | None] = field(default_factory=dict)
    """Name of each file to its bytes; None where the server does not say them."""


def list_folder(folder: Address) -> ListedFolder:
    """List what lies right below a folder.

    Raises
    ------
    FetchError
        It is not there, or not to be listed.
    UnreachableError
        The host has never answered.
    """
    if folder.query:
        raise FetchError(folder, "what follows its question mark is of no folder")
    listed = ListedFolder()
    by_links = folder.scheme in QUOTED
    for name, is_folder, size in _by_links(folder) if by_links else _by_entries(folder):
        if is_folder:
            listed.folders.append(name)
        else:
            listed.files[name] = size
    listed.folders = sorted(set(listed.folders))
    return listed


def folders_below(
    root: Address, is_passed_over: Callable[[str], bool], unlisted: str = NO_LIST
) -> dict[str, ListedFolder]:
    """List a folder and all folders below it.

    Parameters
    ----------
    root : Address
    is_passed_over : callable
        Whether a folder of this name is not looked into.
    unlisted : str
        What to do where the root is not to be listed, for the message.

    Returns
    -------
    dict
        Path below the root ("" for itself) to what lies there, in the order of the paths. A folder below that is not to
        be listed is left out.

    Raises
    ------
    DataError
        The root is not there or not to be listed, or the host does not answer.
    """
    try:
        found = {"": list_folder(root)}
    except FetchError as error:
        raise DataError(root, f"cannot be listed ({error.what})", unlisted) from error
    level = [""]
    while level:
        below = [
            f"{parent}/{name}".lstrip("/")
            for parent in level
            for name in found[parent].folders
            if not is_passed_over(name)
        ]
        answers = in_threads(lambda path: _listed_or_none(root / path), below)
        found |= {path: listed for path, listed in zip(below, answers, strict=True) if listed is not None}
        level = [path for path in below if path in found]
    return dict(sorted(found.items()))


def files_below(root: Address) -> list[str]:
    """Paths of all files below a folder, relative to it; hidden folders are passed over. Errors as `folders_below`."""
    folders = folders_below(root, lambda name: name.startswith("."))
    return [f"{folder}/{name}".lstrip("/") for folder, listed in folders.items() for name in listed.files]


def _listed_or_none(folder: Address) -> ListedFolder | None:
    try:
        return list_folder(folder)
    except FetchError:
        return None


def _by_links(folder: Address) -> Iterator[_Entry]:
    return ((name, is_folder, None) for name, is_folder in names_below(folder_page(folder), folder.url))


def _by_entries(folder: Address) -> Iterator[_Entry]:
    start = f"{folder.host}{folder.path}/"
    for entry in entries_of(folder):
        path = str(entry["name"]).lstrip("/")
        name = path.removeprefix(start).rstrip("/")
        if path.startswith(start) and name not in ("", ".", "..") and "/" not in name:
            yield name, entry["type"] == "directory" or path.endswith("/"), entry.get("size")
