"""hloc's list of pairs: two names a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sfm2tuples.errors import UsageError, first_three, told_of
from sfm2tuples.files.atomic import write_text


def write_pair_list(path: str | Path, pairs: Sequence[tuple[str, str]]) -> int:
    """Write pairs of names, and give their number.

    Raises
    ------
    UsageError
        Some names hold spaces.
    """
    refuse_spaced_names(path, (name for pair in pairs for name in pair))
    write_text(path, "".join(f"{first} {second}\n" for first, second in pairs))
    return len(pairs)


def refuse_spaced_names(path: str | Path, names: Iterable[str]) -> None:
    """Refuse names that no list of pairs can hold; `path` is the list to be made. To be asked before long work.

    Raises
    ------
    UsageError
        Some names hold spaces.
    """
    spaced = [name for name in dict.fromkeys(names) if name.split() != [name]]
    if spaced:
        what = f"{told_of(len(spaced), 'names hold spaces, which a list of pairs cannot')}, first {first_three(spaced)}"
        raise UsageError(f"{path}: {what}")
