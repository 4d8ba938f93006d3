"""The split of each place: training or validation."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from sfm2tuples.index.schema import TRAIN, VAL


def split_places(
    names: Sequence[str], has_photos: Sequence[bool], fixed: dict[str, int], val_share: float, seed: int
) -> np.ndarray:
    """Split places into training and validation.

    Places go to validation in the order of a hash of seed and name, so a new place does not reshuffle the others.

    Parameters
    ----------
    names : sequence of str
    has_photos : sequence of bool
        A place without photos can be neither trained on nor measured: it goes to training, and does not count.
    fixed : dict
        Place to split, where the places file says so.
    val_share : float
        Share of the places that goes to validation, rounded half up; at least one where the share is above 0 and
        there are two places, and never all of them below a share of 1.
    seed : int

    Returns
    -------
    (k,) int8
        `TRAIN` or `VAL`.
    """
    split = np.array([fixed.get(name, TRAIN) for name in names], np.int8)
    eligible = sum(name in fixed or photos for name, photos in zip(names, has_photos, strict=True))
    wanted = math.floor(val_share * eligible + 0.5)
    if val_share > 0 and eligible >= 2:
        wanted = max(1, wanted)
    if val_share < 1:
        wanted = min(wanted, eligible - 1)
    free = [row for row, name in enumerate(names) if has_photos[row] and name not in fixed]
    free.sort(
        key=lambda row: (hashlib.sha256(f"{seed}:{names[row]}".encode("utf-8", "surrogateescape")).digest(), names[row])
    )
    split[free[: max(0, wanted - int((split == VAL).sum()))]] = VAL
    return split
