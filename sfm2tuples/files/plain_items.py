"""Find groups and datasets of an HDF5 file that nobody vouches for: no link is followed, no size is believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from sfm2tuples.errors import FileFormatError, one_line
from sfm2tuples.files.opening import short_reason

DEEPEST = 64
"""Groups within groups: no name of a photo has more folders."""
SHRUNK = 1100
"""Bytes that a compressed byte of a file may stand for; deflate reaches 1032."""
_AGAIN = "make it again"


def plain_item(path: str | Path, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """A group or dataset below a group, each part of whose name is a plain (hard) link; None where there is none.

    Raises
    ------
    FileFormatError
        A part is a link to elsewhere, which is not followed: there may be a pipe, or somebody's secrets. Or the item is
        a dataset whose bytes are not in this file, or are fewer than it claims; or HDF5 cannot read it.
    """
    at: h5py.h5g.GroupID | h5py.h5d.DatasetID = group.id
    with reading(path, name):
        for part in name.encode("utf-8", "surrogateescape").split(b"/"):
            if not isinstance(at, h5py.h5g.GroupID) or not at.links.exists(part):
                return None
            _refuse_link(path, name, at.links.get_info(part).type)
            at = h5py.h5o.open(at, part)
        return _wrapped(path, name, at)


def plain_dataset(path: str | Path, group: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset below a group, as `plain_item` finds it.

    Raises
    ------
    FileFormatError
        There is none; errors as of `plain_item`.
    """
    item = plain_item(path, group, name)
    if item is None:
        raise FileFormatError(path, f"torn or incomplete (no {one_line(name)})", _AGAIN)
    if not isinstance(item, h5py.Dataset):
        raise FileFormatError(path, f"{one_line(name)} is a group, not a dataset", _AGAIN)
    return item


def plain_group(path: str | Path, group: h5py.Group, name: str) -> h5py.Group:
    """A group below a group, as `plain_item` finds it; FileFormatError where there is none."""
    item = plain_item(path, group, name)
    if not isinstance(item, h5py.Group):
        raise FileFormatError(path, f"torn or incomplete (no group {one_line(name)})", _AGAIN)
    return item


def walk(path: str | Path, file: h5py.Group, made_here: bool = False) -> Iterator[tuple[str, h5py.Dataset | None]]:
    """All datasets below a group, and with None the groups that hold nothing, in the order of their paths' parts.

    Parameters
    ----------
    made_here : bool
        The file is being written: not all bytes of a dataset need be there.

    Raises
    ------
    FileFormatError
        Groups lie in each other deeper than `DEEPEST`, or in themselves; errors as of `plain_item`.
    """
    seen: set[int] = set()
    waiting: list[tuple[h5py.h5g.GroupID, str, str]] = [(file.id, "", "")]
    while waiting:
        parent, part, name = waiting.pop()
        with reading(path, name):
            item = h5py.h5o.open(parent, part.encode("utf-8", "surrogateescape")) if part else parent
            if not isinstance(item, h5py.h5g.GroupID):
                found, below = _wrapped(path, name, item, made_here), None
            else:
                found, below = None, _names_in(path, name, item, seen)
        if below is None:
            yield name, found
        elif not below and name:
            yield name, None
        else:
            waiting += [(item, n, f"{name}/{n}" if name else n) for n in reversed(below)]


@contextmanager
def reading(path: str | Path, name: str) -> Iterator[None]:
    """Turn what HDF5 raises of a damaged file, which is nearly anything, into one line."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, OverflowError, SystemError) as error:
        what = f"torn: {one_line(name) or 'its root'} cannot be read ({short_reason(error)})"
        raise FileFormatError(path, what, "make it again, or give another") from error


def _names_in(path: str | Path, name: str, group: h5py.h5g.GroupID, seen: set[int]) -> list[str]:
    """Names in a group, rising by their bytes."""
    address = h5py.h5o.get_info(group).addr
    if address in seen or name.count("/") >= DEEPEST:
        what = "are in themselves" if address in seen else f"lie in each other deeper than {DEEPEST}"
        raise FileFormatError(path, f"its groups {what}, first {one_line(name[:80])}", _AGAIN)
    seen.add(address)
    links: dict[bytes, int] = {}
    twice: list[bytes] = []

    def note(part: bytes, info: h5py.h5l.LinkInfo) -> bool | None:
        # A damaged list of names may lead back into itself; True ends it.
        if part in links:
            twice.append(part)
            return True
        links[part] = info.type
        return None

    group.links.iterate(note, info=True)
    names = [part.decode("utf-8", "surrogateescape") for part in sorted(links)]
    if twice:
        raise FileFormatError(path, f"{one_line(name) or 'its root'} holds a name twice", _AGAIN)
    for part in names:
        _refuse_link(path, f"{name}/{part}".lstrip("/"), links[part.encode("utf-8", "surrogateescape")])
    return names


def _refuse_link(path: str | Path, name: str, kind: int) -> None:
    if kind != h5py.h5l.TYPE_HARD:
        what = f"{one_line(name)} is a link to elsewhere, which is not followed"
        raise FileFormatError(path, what, "copy there what it leads to")


def _wrapped(
    path: str | Path, name: str, item: h5py.h5g.GroupID | h5py.h5d.DatasetID, made_here: bool = False
) -> h5py.Group | h5py.Dataset:
    if isinstance(item, h5py.h5g.GroupID):
        return h5py.Group(item)
    if not isinstance(item, h5py.h5d.DatasetID):
        raise FileFormatError(path, f"{one_line(name)} is neither a group nor a dataset", _AGAIN)
    if not made_here:
        _refuse_absent_bytes(path, name, item)
    return h5py.Dataset(item)


def _refuse_absent_bytes(path: str | Path, name: str, item: h5py.h5d.DatasetID) -> None:
    """Refuse a dataset whose bytes lie in another file, or that claims more of them than there are."""
    plan = item.get_create_plist()
    kind, total = plan.get_layout(), h5py.h5i.get_file_id(item).get_filesize()
    if plan.get_external_count() or kind == h5py.h5d.VIRTUAL:
        what = f"the values of {one_line(name)} lie in other files, which are not read"
        raise FileFormatError(path, what, "copy them into it")
    if item.get_space().get_simple_extent_type() != h5py.h5s.SIMPLE:
        return
    claimed = item.get_type().get_size() * item.get_space().get_simple_extent_npoints()
    if kind == h5py.h5d.CONTIGUOUS:
        offset = item.get_offset()
        there = 0 if offset is None else total - offset
    elif kind == h5py.h5d.CHUNKED:
        there = min(item.get_storage_size(), total) * (SHRUNK if plan.get_nfilters() else 1)
    else:
        there = total
    if claimed > there:
        shape = item.get_space().get_simple_extent_dims()
        raise FileFormatError(path, f"{one_line(name)} claims the shape {shape}, but has not so many bytes", _AGAIN)
