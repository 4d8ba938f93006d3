"""Observations that an image's own rows lack but the points' tracks name, as COLMAP itself takes them from there.

Tools that import models often write only one of the two sides.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sfm2tuples.readers import kernels
from sfm2tuples.readers.records import ImageRecords, PointRecords, observations_with_point

OBSERVATION_WORDS = 3
"""x, y and the point's id, 8 bytes each, as `records.OBSERVATION` has them."""


def with_missing_observations(
    images: ImageRecords, points: PointRecords, threads: int | None
) -> tuple[ImageRecords, np.ndarray, np.ndarray]:
    """Take the observations of images that have none of a point from the tracks of the points: O(track elements).

    Parameters
    ----------
    images : ImageRecords
    points : PointRecords
    threads : int, optional
        By default `sfm2tuples.compute.threads.default_threads()`; changes nothing but the time.

    Returns
    -------
    images : ImageRecords
        Images none of whose own observations names a point have those that the tracks give them, in the order of the
        points. The coordinates are those of the image's row that the track element names, and NaN where it has none.
        All other images are as they were.
    counts : np.ndarray
        (n,) int64, observations of each image that name a point.
    taken : np.ndarray
        (n,) bool, images whose observations come from tracks.
    """
    named = np.diff(observations_with_point(images, np.arange(len(images.ids)), threads))
    taken = np.zeros(len(images.ids), bool)
    rows = np.flatnonzero(named == 0)
    rows = rows[np.argsort(images.ids[rows], kind="stable")]
    counts = np.zeros(len(rows), np.int64)
    if len(rows):
        kernels.count_tracks_of(points.buffer, points.starts, points.lengths, images.ids[rows], counts)
    taken[rows] = counts > 0
    if not taken.any():
        return images, named, taken
    rows, counts = rows[counts > 0], counts[counts > 0]
    tracks = points.buffer, points.starts, points.lengths, images.ids[rows]
    ends = np.cumsum(counts)
    records = np.empty((int(ends[-1]), OBSERVATION_WORDS))
    detections = images.buffer, images.starts[rows], images.counts[rows]
    kernels.gather_tracks_of(*tracks, points.ids, *detections, ends - counts, records, records.view(np.int64))
    starts, number = images.starts.copy(), images.counts.copy()
    starts[rows] = len(images.buffer) + (ends - counts) * kernels.OBSERVATION_BYTES
    number[rows] = named[rows] = counts
    buffer = np.concatenate([images.buffer, records.reshape(-1).view(np.uint8)])
    return replace(images, buffer=buffer, starts=starts, counts=number), named, taken
