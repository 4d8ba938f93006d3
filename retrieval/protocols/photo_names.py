"""The names of the photos that there are, from which a protocol chooses its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from retrieval.photos.names import photos_below, short_name
from retrieval.protocols.benchmark import ProtocolChoice
from sfm2tuples.errors import DataError, first_three, refuse_some
from sfm2tuples.files.remote.address import Address, AnyPath
from sfm2tuples.files.text import read_json


@dataclass(frozen=True)
class PhotoNames:
    """Names that a protocol may choose its photos from: a folder's photos, or those of a descriptor file."""

    database: list[str]
    """Names of photos, each once."""
    origin: str
    """Where they come from, for messages."""
    queries: list[str] | None = None
    """Names of the queries where they come from a file of their own."""
    same: frozenset[str] = frozenset()
    """Of `queries`, names that are the same photo in the database; a name alone does not make two files' photos one."""
    queries_origin: str = ""
    """Where `queries` come from."""
    whole: bool = True
    """Whether a photo that has no name here is missing; rankings name only what was found."""

    @property
    def all(self) -> list[str]:
        """Names of database and queries, each once."""
        return list(dict.fromkeys([*self.database, *(self.queries or [])]))

    def of_queries(self) -> PhotoNames:
        """The names that queries are looked up in."""
        return (
            self
            if self.queries is None
            else PhotoNames(self.queries, self.queries_origin or self.origin, whole=self.whole)
        )

    def find(self, name: str) -> str | None:
        """The name here that is `name` with or without folders and the photo's suffix; None where there is none.

        Raises
        ------
        DataError
            More than one name here fits.
        """
        found = self._by_short_name.get(short_name(name), [])
        if len(found) > 1 and name not in found:
            raise DataError(self.origin, f"{len(found)} photos are called {name}: {first_three(found)}")
        return name if name in found else (found[0] if found else None)

    @cached_property
    def _by_short_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for name in self.database:
            names.setdefault(short_name(name), []).append(name)
        return names


def names_of(wanted: Sequence[str], names: PhotoNames, where: str) -> list[str]:
    """Find each wanted photo; where names come from rankings, one that was never ranked keeps its own name.

    Parameters
    ----------
    wanted : sequence of str
        As the ground truth names them.
    names : PhotoNames
    where : str
        What lists them, for the message: ``imlist``.

    Raises
    ------
    DataError
        Some are absent, or two that are wanted are one here: what has the last part of a name may be another photo.
    """
    found = [names.find(name) for name in wanted]
    absent = [name for name, own in zip(wanted, found, strict=True) if own is None]
    if names.whole:
        remedy = "complete the download, or describe the photos that are absent"
        refuse_some(names.origin, absent, len(wanted), f"photos of {where} are absent", remedy)
    called: dict[str, str] = {}
    for name, own in zip(wanted, found, strict=True):
        if own is not None and called.setdefault(own, name) != name:
            what = f"its {own} would be both {called[own]} and {name} of {where}"
            raise DataError(names.origin, what, "one of them is absent, or the folders in the names differ")
    return [name if own is None else own for name, own in zip(wanted, found, strict=True)]


def photos_in(choice: ProtocolChoice) -> PhotoNames:
    """Names of the photos below a protocol's folder.

    Raises
    ------
    DataError
        There is no such folder, or no photo in it.
    """
    names = photos_below(choice.folder)
    if not names:
        raise DataError(choice.folder, f"holds no photos of {choice.name}", "see docs/protocols.md, or --descriptors")
    return PhotoNames(names, str(choice.folder))


def known_names(choice: ProtocolChoice, ranked: list[str], origin: str) -> PhotoNames:
    """Names that rankings may hold: photos of the folder, names of ``NAME.json`` in it, and what is ranked."""
    listed = choice.folder / f"{choice.name}.json"
    names = photos_below(choice.folder)
    for more in (_imlist(listed), ranked):
        known = PhotoNames(names, origin)
        names = names + [name for name in dict.fromkeys(more) if known.find(name) is None]
    return PhotoNames(names, origin, whole=False)


def _imlist(path: AnyPath) -> list[str]:
    if isinstance(path, Address) or not path.is_file():
        return []
    try:
        names = read_json(path)["imlist"]
    except (KeyError, TypeError) as error:
        raise DataError(path, "is no JSON with an imlist") from error
    return [str(name) for name in names]
