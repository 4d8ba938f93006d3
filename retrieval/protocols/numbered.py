"""Photos whose number says which object they show, for Holidays and UKBench."""

from __future__ import annotations

import re
from collections.abc import Sequence

from retrieval.photos.names import short_name
from sfm2tuples.errors import DataError, first_three, told_of


def numbered_photos(names: Sequence[str], pattern: str, origin: str) -> dict[int, str]:
    """Photos by the number in their name, rising; photos of other names are left out.

    Parameters
    ----------
    names : sequence of str
        Names with or without folders and suffix.
    pattern : str
        What the short name must be, with the number as its group.
    origin : str
        Where the names are from, for messages.

    Raises
    ------
    DataError
        No name fits, or two have one number.
    """
    found: dict[int, str] = {}
    twice = []
    for name in names:
        match = re.fullmatch(pattern, short_name(name))
        if match and int(match[1]) in found:
            twice.append(name)
        elif match:
            found[int(match[1])] = name
    if twice:
        raise DataError(
            origin, f"{told_of(len(twice), 'photos have the number of another')}, first {first_three(twice)}"
        )
    if not found:
        raise DataError(origin, "no photo has the name that the protocol expects", "see docs/protocols.md")
    return dict(sorted(found.items()))
