"""Which photos of a place belong together as a walk, a camera or a day: positives across these teach most.

A *sequence* is a set of photos of one place that were taken in one go: a folder, names that count up, a camera, an
outing. Two photos of one sequence look alike for reasons of their own (same light, same lens, neighbouring frames).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from sfm2tuples.errors import MiningError, first_three
from sfm2tuples.files.remote.address import AnyPath
from sfm2tuples.mining.options import AUTO

TakenBy = Callable[[AnyPath], tuple[str, float | None]]
"""Camera and time in seconds of a photo by its EXIF; an empty text and None where that says nothing."""
OUTING = 3600.0
"""Seconds without a photo of one camera after which a new sequence begins (ours)."""
TOGETHER = 0.5
"""Least share of a place's photos that must have company in their sequence: what gives nearly every photo a sequence of
its own, such as a camera model an image or names that are hashes, tells nothing (ours)."""
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")

Label = Hashable | None
"""Names a sequence within a place; None: not known."""


@dataclass(frozen=True)
class Sequences:
    """The sequence of each photo."""

    of_image: np.ndarray
    """(n,) int64, number of the sequence; -1 where nothing tells it."""
    told_by: dict[str, int]
    """By what told sequences apart (``folders``, ``names``, ``cameras``, ``EXIF``, ``the pattern``), in how many
    places."""

    def across(self, query: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Whether pairs of photos are of two known sequences: (k,) bool; rows of images, -1 for none."""
        one, other = np.append(self.of_image, -1)[query], np.append(self.of_image, -1)[image]
        return (one >= 0) & (other >= 0) & (one != other)


def sequences_of(
    across: str,
    key: Sequence[str],
    place: np.ndarray,
    camera: np.ndarray,
    path_of: Callable[[int], AnyPath],
    taken: TakenBy | None = None,
) -> Sequences:
    """Tell the sequences of each place apart. method.md section 4.

    Parameters
    ----------
    across : str
        ``auto``: for each place the first of these that tells its photos apart: folders of the keys, file names but for
        their last number, cameras of the model, camera and time by EXIF. Else a regular expression: what its first
        group, or all of it, matches in a key names the sequence; keys that it does not match are one sequence.
    key : sequence of str, length n
    place, camera : (n,) int64
        Place and camera of each photo.
    path_of : callable
        Where the photo of a row lies, for EXIF.
    taken : callable, optional
        Reads EXIF; asked only in places that nothing else tells apart.

    Raises
    ------
    MiningError
        The pattern tells the photos of no place apart.
    """
    by_pattern = None if across == AUTO else re.compile(across)
    of_image, told_by, known = np.full(len(key), -1, np.int64), Counter[str](), 0
    for rows in _runs(place):
        for by, labels in _labels(rows, key, camera, path_of, taken, by_pattern):
            if _tells_apart(labels, by_pattern is not None):
                of_image[rows] = _numbered(labels, known)
                known, told_by[by] = known + len(set(labels) - {None}), told_by[by] + 1
                break
    if by_pattern is not None and not told_by:
        what = f"--across {across}: this tells the photos of no place apart, first {first_three(key)}"
        raise MiningError(f"{what}; give a pattern whose match differs between them, or auto")
    return Sequences(of_image, dict(told_by))


def _labels(
    rows: np.ndarray,
    key: Sequence[str],
    camera: np.ndarray,
    path_of: Callable[[int], AnyPath],
    taken: TakenBy | None,
    by_pattern: re.Pattern[str] | None,
) -> Iterable[tuple[str, list[Label]]]:
    """What may tell the photos of one place apart: how it is called, and the label of each photo."""
    keys = [key[row] for row in rows.tolist()]
    if by_pattern is not None:
        yield "the pattern", [_match(by_pattern, text) for text in keys]
        return
    paths = [PurePosixPath(text) for text in keys]
    yield "folders", [str(path.parent) for path in paths]
    yield "names", [_LAST_NUMBER.sub("#", path.stem) for path in paths]
    yield "cameras", camera[rows].tolist()
    if taken is not None:
        yield "EXIF", outings([taken(path_of(row)) for row in rows.tolist()])


def _match(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return "" if found is None else found.group(1 if pattern.groups else 0) or ""


def outings(taken: Sequence[tuple[str, float | None]]) -> list[Label]:
    """The outing of each photo: photos of one camera, none of them more than `OUTING` after the one before.

    Parameters
    ----------
    taken : sequence of (str, float or None)
        Camera and time in seconds.

    Returns
    -------
    list
        Camera and number of the outing; the camera alone without a time, None without both.
    """
    labels: list[Label] = [(camera, -1) if camera else None for camera, _ in taken]
    last: dict[str, tuple[float, int]] = {}
    timed = [(camera, time, i) for i, (camera, time) in enumerate(taken) if time is not None]
    for camera, time, i in sorted(timed):
        before, number = last.get(camera, (time, 0))
        number += time - before > OUTING
        last[camera], labels[i] = (time, number), (camera, number)
    return labels


def _tells_apart(labels: Sequence[Label], asked: bool) -> bool:
    """Whether labels make two sequences at least; those that nobody asked for must also put photos together."""
    size = Counter(label for label in labels if label is not None)
    together = sum(count for count in size.values() if count > 1)
    return len(size) > 1 and (asked or together >= TOGETHER * len(labels))


def _numbered(labels: Sequence[Label], first: int) -> list[int]:
    number: dict[Label, int] = {}
    return [-1 if label is None else number.setdefault(label, first + len(number)) for label in labels]


def _runs(place: np.ndarray) -> list[np.ndarray]:
    """Rows of each place, rising."""
    order = np.argsort(place, kind="stable")
    return [run for run in np.split(order, np.flatnonzero(np.diff(place[order])) + 1) if len(run)]
