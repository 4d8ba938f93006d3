"""Observations that an image's own rows lack but the points' tracks name, as COLMAP itself takes them from there.

Tools that import models often write only one of the two sides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sfm2tuples.readers import kernels

if TYPE_CHECKING:
    from sfm2tuples.readers.assembly import ImageRecords, PointRecords

OBSERVATION_WORDS = 3
"""x, y and the point's id, 8 bytes each, as `assembly.OBSERVATION` has them."""


def with_tracks(images: ImageRecords, points: PointRecords, lacking: np.ndarray) -> tuple[ImageRecords, np.ndarray]:
    """Take the observations of some images from the tracks of the points: O(track elements).

    Parameters
    ----------
    images : ImageRecords
    points : PointRecords
    lacking : np.ndarray
        (n,) bool, images none of whose own observations names a point.

    Returns
    -------
    images : ImageRecords
        Images of `lacking` that a track names have the observations that the tracks give them, in the order of the
        points. The coordinates are those of the image's row that the track element names, and NaN where it has none.
        All other images are as they were.
    taken : np.ndarray
        (n,) bool, images whose observations come from tracks.
    """
    rows = np.flatnonzero(lacking)
    rows = rows[np.argsort(images.ids[rows], kind="stable")]
    counts = np.zeros(len(rows), np.int64)
    kernels.count_tracks_of(points.buffer, points.starts, points.lengths, images.ids[rows], counts)
    taken = np.zeros(len(images.ids), bool)
    taken[rows] = counts > 0
    if not taken.any():
        return images, taken
    rows, counts = rows[counts > 0], counts[counts > 0]
    tracks = points.buffer, points.starts, points.lengths, images.ids[rows]
    ends = np.cumsum(counts)
    records = np.empty((int(ends[-1]), OBSERVATION_WORDS))
    own = images.buffer, images.starts[rows], images.counts[rows]
    kernels.gather_tracks_of(*tracks, points.ids, *own, ends - counts, records, records.view(np.int64))
    starts, number = images.starts.copy(), images.counts.copy()
    starts[rows] = len(images.buffer) + (ends - counts) * kernels.OBSERVATION_BYTES
    number[rows] = counts
    buffer = np.concatenate([images.buffer, records.reshape(-1).view(np.uint8)])
    return replace(images, buffer=buffer, starts=starts, counts=number), taken
