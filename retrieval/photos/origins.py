"""Whose photos a file is about: descriptors of one index are not looked up by the names of another."""

from __future__ import annotations

import hashlib

import numpy as np

from sfm2tuples.errors import DataError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors
from sfm2tuples.files.opening import is_hdf5
from sfm2tuples.files.remote.address import Address, AnyPath
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import FORMAT as INDEX_FORMAT

SHOWN = 12
"""Letters of a fingerprint in a message."""


def origins_of(source: AnyPath) -> tuple[str, ...]:
    """What tells whose photos a source names.

    Parameters
    ----------
    source : Path or Address
        An index, a file that was made from one, or any other source of photos.

    Returns
    -------
    tuple of str
        Of an index its fingerprint and that of its images alone, which a build with other options leaves as it is. Of
        other files of ours what their header says; none of anything else.
    """
    if isinstance(source, Address) or not is_hdf5(source):
        return ()
    header = read_header(source)
    if header.format != INDEX_FORMAT:
        return header.origins
    with open_index(source) as index:
        return origins_of_index(index)


def origins_of_index(index: OpenedIndex) -> tuple[str, ...]:
    """As `origins_of`, for an index that is open; reads the names and rotations of all images."""
    keys = index.images.key[:]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    digest = hashlib.sha256("\0".join(keys[row] for row in order.tolist()).encode("utf-8", "surrogateescape"))
    digest.update(np.ascontiguousarray(index.images.quaternion[:][order]).data)
    return index.header.fingerprint, f"images {digest.hexdigest()}"


def refuse_others(described: Descriptors, source: AnyPath, fingerprint: str) -> None:
    """Refuse descriptors that were made of another index's photos than those that a file names.

    Descriptors of a folder, of foreign files and of files that do not say are taken, since names alone speak for them.

    Parameters
    ----------
    described : Descriptors
    source : Path
        An index or a tuple file; looked into only where its fingerprint says nothing.
    fingerprint : str
        Its fingerprint.

    Raises
    ------
    DataError
        Both files say whose photos they are about, and have nothing in common.
    """
    if not described.origins or fingerprint in described.origins:
        return
    known = origins_of(source)
    if known and not set(known) & set(described.origins):
        what = f"was made of another index ({described.origins[0][:SHOWN]}) than {source} ({known[0][:SHOWN]})"
        raise DataError(described.path, what, f"run extract on {source} or on the folder of its photos")
