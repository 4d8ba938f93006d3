"""The photos that are in no model, and why: a list that `mine-tuples --distractors` takes."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval.reconstruction.photo_table import PhotoTable
from sfm2tuples.files.atomic import write_atomically
from sfm2tuples.readers.colmap_database import VerifiedPairs

COLUMNS = ("image", "label", "role", "verified_with", "inliers")
ALONE, VERIFIED, COPY, UNREADABLE = "distractor", "verified", "copy", "unreadable"
"""Roles. Only the first is of use as a distractor: whatever else it shows, no photo here was found to show it too."""


@dataclass(frozen=True)
class LeftOut:
    """A photo in no model."""

    image: str
    role: str
    verified_with: str = ""
    """The photo that it has most inlier matches with, or that it is a copy of."""
    inliers: int = 0


def strongest_partners(count: int, blocks: Iterable[VerifiedPairs]) -> tuple[np.ndarray, np.ndarray, int]:
    """The photo that each photo has most inlier matches with.

    Parameters
    ----------
    count : int
        Photos.
    blocks : iterable of VerifiedPairs
        Pairs of their numbers in COLMAP's database, which are rows + 1.

    Returns
    -------
    partner : (n,) int64
        Row of the other photo, the lower of equal ones; -1 where there is none.
    inliers : (n,) int64
        Matches with it, 0 where there is none.
    pairs : int
        Verified pairs.
    """
    partner, inliers, pairs = np.full(count, -1, np.int64), np.zeros(count, np.int64), 0
    for first, second, matches in blocks:
        pairs += len(matches)
        one, other = np.concatenate([first, second]) - 1, np.concatenate([second, first]) - 1
        strength = np.concatenate([matches, matches])
        order = np.lexsort((-other, strength))
        one, other, strength = one[order], other[order], strength[order]
        # The last assignment to a row counts: the strongest, the lowest of equal ones.
        best, with_whom = np.zeros(count, np.int64), np.full(count, -1, np.int64)
        best[one], with_whom[one] = strength, other
        better = (best > inliers) | ((best == inliers) & (with_whom >= 0) & (with_whom < partner))
        partner[better], inliers[better] = with_whom[better], best[better]
    return partner, inliers, pairs


def photos_left_out(
    table: PhotoTable,
    unreadable: Collection[str],
    registered: Collection[str],
    partner: np.ndarray,
    inliers: np.ndarray,
) -> list[LeftOut]:
    """Every photo that is in no model, in the order of the names' bytes."""
    left: list[LeftOut] = [LeftOut(name, UNREADABLE) for name in unreadable]
    for row, name in enumerate(table.names):
        original = int(table.same_as[row])
        if name in registered or name in unreadable:
            continue
        if original != row:
            left.append(LeftOut(name, COPY, table.names[original]))
        elif partner[row] >= 0:
            left.append(LeftOut(name, VERIFIED, table.names[partner[row]], int(inliers[row])))
        else:
            left.append(LeftOut(name, ALONE))
    return sorted(left, key=lambda photo: photo.image.encode())


def write_left_out(path: Path, photos: Sequence[LeftOut]) -> None:
    """Write the list; each photo is a place of its own."""
    with write_atomically(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows([one.image, one.image, one.role, one.verified_with, one.inliers] for one in photos)
