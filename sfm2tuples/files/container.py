"""What every HDF5 file of ours has in common: header attributes, a fingerprint of its content, one way in and out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from sfm2tuples.errors import FileFormatError
from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.files.new_file import NewFile
from sfm2tuples.files.opening import open_hdf5, short_reason
from sfm2tuples.files.plain_items import reading, walk
from sfm2tuples.files.text import check_letters
from sfm2tuples.files.text_heaps import check_attribute_heaps
from sfm2tuples.version import __version__

Json = TypeVar("Json", dict[str, Any], list[Any])
Value = TypeVar("Value")
SOFTWARE = f"sfm2tuples {__version__}"


@dataclass(frozen=True)
class Header:
    """The attributes of a file: what it is, what it was made from and by which options."""

    format: str
    """Name of the format, such as ``sfm2tuples-index``."""
    version: int
    """Version of the format; a reader refuses a newer one."""
    fingerprint: str
    """Hash of the content (64 hex digits), independent of where photos lie."""
    parents: tuple[str, ...]
    """Fingerprints of the files this one was made from."""
    options: dict[str, Any]
    """The options that changed the content."""
    software: str
    """Name and version of the writer."""
    origins: tuple[str, ...] = ()
    """What tells whose photos it is about (`retrieval.photos.origins`); empty where nothing does."""
    details: str = ""
    """Hash of that part of the content which `fingerprint` leaves out, since a file may lack it; empty where it does,
    and where `fingerprint` is of everything."""

    @property
    def content(self) -> str:
        """What changes with anything in the file: both hashes."""
        return f"{self.fingerprint} {self.details}".rstrip()


def known_parents(fingerprints: Iterable[str | None]) -> list[str]:
    """Fingerprints of what something was made from, each once; files of others have none."""
    return list(dict.fromkeys(filter(None, fingerprints)))


@contextmanager
def create_file(
    path: str | Path,
    format: str,
    version: int,
    options: dict[str, Any],
    parents: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
    origins: Sequence[str] = (),
    details: Sequence[str] = (),
) -> Iterator[NewFile]:
    """Open a new file beside `path`; on a clean exit fingerprint it, write its header, sync and rename.

    Parameters
    ----------
    format, version, options, parents, origins
        Become the header's fields.
    leave_out : sequence of str
        Datasets that the fingerprint does not cover (where photos lie on this machine).
    digests : mapping of str to str, optional
        SHA-256 of the datasets whose bytes were hashed as they were written; looked at on exit, others are read back.
    details : sequence of str
        Groups that the fingerprint does not cover either; together they have one of their own, `Header.details`.
    """
    with write_atomically(path) as temporary, _new_file(temporary) as file:
        yield file
        file.attrs["format"] = format
        file.attrs["version"] = version
        file.attrs["software"] = SOFTWARE
        file.attrs["options"] = json.dumps(options, sort_keys=True)
        file.attrs["parents"] = json.dumps(known_parents(parents))
        if origins:
            file.attrs["origins"] = json.dumps(list(origins))
        file.attrs["fingerprint"] = content_fingerprint(file, [*leave_out, *details], digests)
        if any(name in file for name in details):
            file.attrs["details"] = content_fingerprint(file, leave_out, digests, details)


@contextmanager
def _new_file(path: Path) -> Iterator[NewFile]:
    """A new file that is closed on any exit, and whole on a clean one."""
    file = NewFile(path)
    try:
        yield file
    finally:
        # Whatever else went wrong after a write that failed, came of it.
        file.finish()


@contextmanager
def open_file(path: str | Path, format: str, version: int, cache: bool = True) -> Iterator[h5py.File]:
    """Open one of our files read-only; without a cache the bytes asked for are read alone, not their whole chunk.

    Raises
    ------
    DataError
        There is no such file, or another program writes it.
    FileFormatError
        It is torn, of another format, or newer than `version`; also where a dataset that the format has is absent.
    """
    path = Path(path)
    with open_hdf5(path, cache) as file:
        _check_format(path, file, format, version)
        try:
            yield file
        except (KeyError, OSError) as error:
            raise FileFormatError(path, f"torn or incomplete ({short_reason(error)})", "make it again") from error


def read_header(path: str | Path) -> Header:
    """Read the header of any file of ours.

    Raises
    ------
    FileFormatError
        The file is torn, or no file of ours.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        return header_of(path, file)


def header_of(path: str | Path, file: h5py.File) -> Header:
    """The header of an open file; `path` is the file, for messages.

    Raises
    ------
    FileFormatError
        An attribute is absent, or none that `create_file` writes.
    """
    text = {name: _attribute(path, file, name, str) for name in ("format", "fingerprint", "software")}
    version = number_attribute(path, file, "version")
    options, parents = json_attribute(path, file, "options", dict), json_attribute(path, file, "parents", list)
    origins = json_attribute(path, file, "origins", list) if "origins" in file.attrs else []
    details = _attribute(path, file, "details", str) if "details" in file.attrs else ""
    for name, prints in (("parents", parents), ("origins", origins)):
        if not all(isinstance(fingerprint, str) for fingerprint in prints):
            raise _bad_header(path, name)
    return Header(
        format=text["format"],
        version=version,
        fingerprint=text["fingerprint"],
        parents=tuple(parents),
        options=options,
        software=text["software"],
        origins=tuple(origins),
        details=details,
    )


def json_attribute(path: str | Path, item: h5py.Group, name: str, kind: type[Json]) -> Json:
    """An attribute that holds JSON of a kind, ``dict`` or ``list``; `path` is the file, for messages.

    Raises
    ------
    FileFormatError
        It is absent, no JSON, or of another kind.
    """
    try:
        value = json.loads(_attribute(path, item, name, str))
        check_letters(value)
    except (ValueError, RecursionError) as error:
        raise _bad_header(path, name) from error
    if not isinstance(value, kind):
        raise _bad_header(path, name)
    return value


def number_attribute(path: str | Path, item: h5py.Group, name: str) -> int:
    """An attribute that holds a whole number; `path` is the file, for messages.

    Raises
    ------
    FileFormatError
        It is absent, or no whole number.
    """
    value = _attribute(path, item, name, object)
    if not isinstance(value, np.integer):
        raise _bad_header(path, name)
    return int(value)


def content_fingerprint(
    file: h5py.File,
    leave_out: Sequence[str] = (),
    digests: Mapping[str, str] | None = None,
    groups: Sequence[str] | None = None,
) -> str:
    """SHA-256 over a line for each dataset, in the order of their names: name, type, shape, SHA-256 of the bytes.

    Parameters
    ----------
    file : h5py.File
    leave_out : sequence of str
        Datasets and groups that it does not cover.
    digests : mapping of str to str, optional
        SHA-256 of datasets, as far as they are known.
    groups : sequence of str, optional
        Cover what is in these alone.
    """
    known, path = digests or {}, str(file.filename)

    def is_wanted(name: str) -> bool:
        return (groups is None or _is_among(name, groups)) and not _is_among(name, leave_out)

    lines: dict[str, str] = {}
    for name, dataset in walk(path, file, made_here=isinstance(file, NewFile)):
        if dataset is not None and is_wanted(name):
            with reading(path, name):
                content = known[name] if name in known else _digest(dataset)
                lines[name] = f"{name} {dataset.dtype.str} {dataset.shape} {content}\n"
    whole = hashlib.sha256()
    for name in sorted(lines):
        whole.update(lines[name].encode())
    return whole.hexdigest()


def _is_among(name: str, items: Sequence[str]) -> bool:
    """Whether a dataset is one of some items of a file, or in one."""
    return any(name == item or name.startswith(item + "/") for item in items)


def _digest(dataset: h5py.Dataset) -> str:
    """SHA-256 of a dataset's bytes."""
    digest = hashlib.sha256()
    for block in _blocks(dataset):
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def _blocks(dataset: h5py.Dataset, size: int = 1 << 24) -> Iterator[np.ndarray]:
    """The dataset in blocks of rows of about 16 MiB."""
    if dataset.size == 0:
        return
    if dataset.ndim == 0:
        yield dataset[()]
        return
    rows = max(1, size // max(1, dataset.dtype.itemsize * dataset.size // len(dataset)))
    for start in range(0, len(dataset), rows):
        yield dataset[start : start + rows]


def _check_format(path: Path, file: h5py.File, format: str, version: int) -> None:
    found = _scalar_attribute(path, file, "format")
    if not isinstance(found, str) or found != format:
        said = found if isinstance(found, str) and found else "no file of sfm2tuples"
        raise FileFormatError(path, f"is {said[:80]}, not {format}")
    made = number_attribute(path, file, "version")
    if made > version:
        raise FileFormatError(
            path, f"version {made} of {format} is newer than this program reads ({version})", "upgrade"
        )


def _attribute(path: str | Path, item: h5py.Group, name: str, kind: type[Value]) -> Value:
    value = _scalar_attribute(path, item, name)
    if not isinstance(value, kind):
        raise _bad_header(path, name)
    return value


def _scalar_attribute(path: str | Path, item: h5py.Group, name: str) -> Any:
    """One text or one whole number; None where there is none, or something else."""
    with reading(path, f"its header's {name}"):
        if name not in item.attrs:
            return None
        attribute = item.attrs.get_id(name)
        if attribute.shape != () or attribute.get_type().get_class() not in (h5py.h5t.STRING, h5py.h5t.INTEGER):
            return None
        check_attribute_heaps(path, item)
        return item.attrs[name]


def _bad_header(path: str | Path, name: str) -> FileFormatError:
    return FileFormatError(path, f"not a file of sfm2tuples (its header has no valid {name})", "make it again")
