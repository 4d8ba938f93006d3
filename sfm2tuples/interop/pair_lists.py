"""hloc's list of pairs: two names a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfm2tuples.errors import UsageError, first_three
from sfm2tuples.files.atomic import write_text


def write_pair_list(path: str | Path, pairs: Sequence[tuple[str, str]]) -> int:
    """Write pairs of names, and give their number.

    Raises
    ------
    UsageError
        Some names hold spaces.
    """
    spaced = [name for name in dict.fromkeys(name for pair in pairs for name in pair) if name.split() != [name]]
    if spaced:
        what = f"{len(spaced):,} names hold spaces, which a list of pairs cannot, first {first_three(spaced)}"
        raise UsageError(f"{path}: {what}")
    write_text(path, "".join(f"{first} {second}\n" for first, second in pairs))
    return len(pairs)
