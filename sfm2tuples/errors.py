"""One tree of errors. A message is one line: the file, what is wrong, what to do."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from tokenize import TokenError

_SHOWN = 80
"""Characters of a foreign text that a message shows."""


UNREADABLE_ARRAYS = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, MemoryError, SyntaxError, TokenError),
    *(OverflowError, RuntimeError, zipfile.BadZipFile, zlib.error),
)
"""What NumPy raises for a damaged .npy or .npz."""


class SfmTuplesError(Exception):
    """Root of everything that this project raises for its users; `exit_code` is what the command ends with."""

    exit_code = 1


class UsageError(SfmTuplesError):
    """The request itself is off (options that exclude each other, a value out of range); exit code 2."""

    exit_code = 2


class DataError(SfmTuplesError):
    """Something in the user's data is off.

    Parameters
    ----------
    path : object
        The file at fault: its path, its address, or what it is called.
    what : str
        What is wrong with it.
    remedy : str, optional
        What the user can do about it.
    """

    def __init__(self, path: object, what: str, remedy: str = "") -> None:
        self.path = str(path)
        self.what = what
        self.remedy = remedy
        super().__init__(one_line(f"{self.path}: {what}" + (f"; {remedy}" if remedy else "")))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Survive the way home from a worker process."""
        return type(self), (self.path, self.what, self.remedy)


class ModelError(DataError):
    """A sparse model that cannot be read."""


class NoModelError(DataError):
    """A folder in which no sparse model is found."""


class ReconstructionError(DataError):
    """Photos of which no model comes as asked; what is wrong and what to do name flags of `reconstruct`."""


class PhotoError(DataError):
    """A photo that is absent or cannot be decoded."""


class NotFiniteError(DataError):
    """Descriptors, a loss or weights that are NaN or infinite: a network has diverged."""


class FileFormatError(DataError):
    """One of our files (index, tuples, descriptors, whitening) that is torn, of another format or too new."""


class WeightsError(DataError):
    """Weights or a checkpoint that do not fit the network."""


class MiningError(SfmTuplesError):
    """Tuples that cannot be mined as asked (too few places, no positives)."""


def counted(number: int, noun: str) -> str:
    """A number of things, for people.

    Examples
    --------
    >>> counted(1, "place"), counted(1200, "place"), counted(0, "query")
    ('1 place', '1,200 places', '0 queries')
    """
    return f"{number:,} {noun_of(number, noun)}"


def noun_of(number: int, noun: str) -> str:
    """What that number of things is called: the noun itself of one thing, else its plural.

    A noun may be followed by what says more of it, which stays as it is.

    Examples
    --------
    >>> noun_of(1, "query"), noun_of(2, "query"), noun_of(2, "match"), noun_of(0, "image with a photo")
    ('query', 'queries', 'matches', 'images with a photo')
    """
    if number == 1:
        return noun
    head, space, more = noun.partition(" ")
    if head.endswith("y") and head[-2:-1] not in "aeiou":
        return f"{head[:-1]}ies{space}{more}"
    return f"{head}{'es' if head.endswith(('s', 'x', 'ch', 'sh')) else 's'}{space}{more}"


_OF_ONE = {"are": "is", "have": "has", "were": "was"}
_OF_ONE |= {
    verb: f"{verb}s"
    for verb in ["belong", "hold", "lack", "lie", "look", "occur", "see", "seem", "serve", "show", "take"]
}
"""Verbs as they follow one thing."""


def told_of(number: int, of_many: str) -> str:
    """A number of things and what is told of them, for people; `of_many` tells it of many.

    Examples
    --------
    >>> told_of(1200, "photos cannot be read and are left out")
    '1,200 photos cannot be read and are left out'
    >>> told_of(1, "photos cannot be read and are left out"), told_of(1, "ranked queries have no positive")
    ('1 photo cannot be read and is left out', '1 ranked query has no positive')
    """
    words = of_many.split(" ")
    if number == 1:
        words = [_OF_ONE.get(word, word) for word in words]
        noun = next(at for at, word in enumerate(words) if word.endswith("s"))
        words[noun] = re.sub("(ie)?s$", lambda end: "y" if end[1] else "", words[noun])
    return f"{number:,} {' '.join(words)}"


def first_three(names: Sequence[str]) -> str:
    """Name up to three offenders of many: ``"a, b, c …"``."""
    return one_line(", ".join(str(name) for name in names[:3]) + (" …" if len(names) > 3 else ""))


def refuse_some(path: object, offenders: Sequence[str], count: int, what: str, remedy: str = "") -> None:
    """Raise DataError where there are offenders: ``PATH: 3 of 10 photos have no features, first a, b, c; remedy``."""
    if offenders:
        what = f"{len(offenders):,} of {count:,} {what}, first {first_three(offenders)}"
        raise DataError(path, what, remedy)


def first_line(error: BaseException) -> str:
    """The first line that an error of a library says; its kind, where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def shown(value: object) -> str:
    """A value that a file holds, for a message: short text and numbers as they are, of others only their kind.

    Lists in lists, a file of a few bytes, can take more memory to print than there is.
    """
    if isinstance(value, str):
        return repr(value[:_SHOWN]) + " …" * (len(value) > _SHOWN)
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 1 << 64):
        return repr(value)
    return f"a value of type {type(value).__name__}"


def one_line(text: str) -> str:
    """Printable on one line whatever a hostile file name holds."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
