"""Whether a file of ours still holds what was written: its content's fingerprint, computed anew."""

from __future__ import annotations

import zipfile
from pathlib import Path

from retrieval.reports.inspection import FORMATS
from sfm2tuples.errors import FileFormatError, UsageError
from sfm2tuples.files.container import content_fingerprint, open_file, read_header
from sfm2tuples.files.regular_files import require_file
from sfm2tuples.index import schema
from sfm2tuples.mining import tuple_file

UNHASHED = {schema.FORMAT: schema.UNHASHED, tuple_file.FORMAT: tuple_file.UNHASHED}
"""Of the formats that have some, the datasets that the fingerprint does not cover."""
DETAILS = {schema.FORMAT: schema.POINT_TABLES}
"""Likewise the groups that have a fingerprint of their own, where the header says one (`Header.details`)."""


def verify_file(path: Path) -> str:
    """Compute the fingerprint of a file's content anew and compare it with what the file says; reads all of it.

    Parameters
    ----------
    path : Path
        As for `inspect_file`; a checkpoint of cirtorch has no fingerprint.

    Returns
    -------
    str
        The fingerprint. It covers the content: neither the options nor where photos lie on this machine.

    Raises
    ------
    DataError
        The fingerprint is another: the file was changed or damaged. Or as for `inspect_file`.
    UsageError
        The file says none.
    """
    require_file(path)
    if path.suffix in (".pt", ".pth") or zipfile.is_zipfile(path):
        return _verified_network(path)
    header = read_header(path)
    if header.format not in FORMATS:
        raise FileFormatError(path, f"is {header.format}, which this program does not know")
    unhashed = UNHASHED.get(header.format, ())
    apart = DETAILS.get(header.format, ()) if header.details else ()
    with open_file(path, header.format, header.version) as file:
        found = content_fingerprint(file, [*unhashed, *apart])
        _compare(path, "content", found, header.fingerprint)
        if header.details:
            details = content_fingerprint(file, unhashed, groups=apart)
            _compare(path, f"content in {' and '.join(apart)}", details, header.details)
    return found


def _compare(path: Path, what: str, found: str, said: str) -> None:
    if found != said:
        both = f"its {what} has the fingerprint {found[:16]}, its header says {said[:16]}"
        raise FileFormatError(path, f"was changed or damaged after it was written: {both}", "make it again")


def _verified_network(path: Path) -> str:
    from retrieval.networks.checkpoints import checked_content, network_of
    from retrieval.networks.cirtorch_checkpoints import is_cirtorch, load_with_arrays

    content = load_with_arrays(path)
    if is_cirtorch(content):
        raise UsageError(f"{path}: is a checkpoint of cirtorch, which holds no fingerprint to compare with")
    return network_of(checked_content(content, path), path).fingerprint()
