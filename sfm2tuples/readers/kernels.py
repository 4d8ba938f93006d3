"""Compiled loops over the bytes of a model: one pass over the points, one over their tracks, one over the observations.

A byte buffer is used as it came from the file, so records are not aligned and integers are put together from bytes,
which the compiler turns into one load.
"""

from __future__ import annotations

import numpy as np
from numba import njit

POINT_BYTES = 51
"""A point of points3D.bin without its track: id, xyz, rgb, error, track length."""
TRACK_BYTES = 8
"""An element of a track: image id and observation index, uint32 each."""
OBSERVATION_BYTES = 24
"""An observation: x, y as float64 and the point's id as uint64, all ones where there is no point."""


@njit(cache=True, inline="always")
def _uint32(buffer, at):  # type: ignore[no-untyped-def]
    return (
        np.int64(buffer[at])
        | np.int64(buffer[at + 1]) << 8
        | np.int64(buffer[at + 2]) << 16
        | np.int64(buffer[at + 3]) << 24
    )


@njit(cache=True, inline="always")
def _int64(buffer, at):  # type: ignore[no-untyped-def]
    return _uint32(buffer, at) | _uint32(buffer, at + 4) << 32


@njit(cache=True, inline="always")
def _float64(buffer, at):  # type: ignore[no-untyped-def]
    return np.int64(_int64(buffer, at)).view(np.float64)


@njit(cache=True, inline="always")
def _row_of(key, keys, table):  # type: ignore[no-untyped-def]
    """Row of `key` in the sorted `keys`, or -1; `table` (key -> row) is used where it is not empty."""
    if table.size > 0:
        return table[key] if 0 <= key < table.size else -1
    row = np.searchsorted(keys, key)
    return row if row < keys.size and keys[row] == key else -1


def row_table(keys: np.ndarray) -> np.ndarray:
    """Make a dense look-up table for sorted keys where they are dense enough to pay.

    Parameters
    ----------
    keys : np.ndarray
        (n,) int64, sorted, not negative.

    Returns
    -------
    np.ndarray
        (max + 1,) int64, key to row, -1 where there is none; empty where it would be much larger than `keys`
        (a hostile file may hold one id of 2^60), and then a binary search is used.
    """
    if keys.size == 0 or keys[-1] > 8 * keys.size + 65536:
        return np.empty(0, np.int64)
    table = np.full(int(keys[-1]) + 1, -1, np.int64)
    table[keys] = np.arange(keys.size)
    return table


@njit(cache=True)
def scan_points(buffer, ids, xyz, errors, starts, lengths):  # type: ignore[no-untyped-def]
    """Fill the columns of points3D.bin in one pass, O(points); tracks are jumped over.

    Returns (rows read, byte after the last one); fewer rows than asked for means that the file ends inside that row.
    """
    at = 8
    for row in range(ids.size):
        if at + POINT_BYTES > buffer.size:
            return row, at
        ids[row] = _int64(buffer, at)
        for axis in range(3):
            xyz[row, axis] = _float64(buffer, at + 8 + 8 * axis)
        errors[row] = _float64(buffer, at + 35)
        length = _int64(buffer, at + 43)
        at += POINT_BYTES
        # A length of 2^63 or more is negative here; the division keeps the comparison from overflowing.
        if length < 0 or length > (buffer.size - at) // TRACK_BYTES:
            return row, at
        starts[row] = at
        lengths[row] = length
        at += length * TRACK_BYTES
    return ids.size, at


@njit(cache=True)
def count_stray_tracks(buffer, starts, lengths, image_ids, image_table, num_observations):  # type: ignore[no-untyped-def]
    """Count the track elements that name an absent image, and those that name an observation the image lacks.

    O(sum of track lengths), no memory. `num_observations` is by row of the sorted `image_ids`.
    """
    absent = 0
    outside = 0
    for point in range(starts.size):
        for element in range(lengths[point]):
            at = starts[point] + element * TRACK_BYTES
            row = _row_of(_uint32(buffer, at), image_ids, image_table)
            if row < 0:
                absent += 1
            elif _uint32(buffer, at + 4) >= num_observations[row]:
                outside += 1
    return absent, outside


@njit(cache=True)
def count_observations(buffer, starts, counts, point_ids, point_table, kept):  # type: ignore[no-untyped-def]
    """Count by image the observations whose point exists, into `kept`; return how many name an absent point."""
    absent = 0
    for image in range(starts.size):
        kept[image] = 0
        for item in range(counts[image]):
            key = _int64(buffer, starts[image] + item * OBSERVATION_BYTES + 16)
            if key == -1:
                continue
            if _row_of(key, point_ids, point_table) >= 0:
                kept[image] += 1
            else:
                absent += 1
    return absent


@njit(cache=True)
def gather_observations(buffer, starts, counts, point_ids, point_table, points, xy):  # type: ignore[no-untyped-def]
    """Fill the point row and the coordinates of every observation that has a point, image by image; O(observations).

    Returns the image whose coordinates are not finite, or -1.
    """
    out = 0
    for image in range(starts.size):
        for item in range(counts[image]):
            at = starts[image] + item * OBSERVATION_BYTES
            key = _int64(buffer, at + 16)
            row = _row_of(key, point_ids, point_table) if key != -1 else -1
            if row < 0:
                continue
            x = _float64(buffer, at)
            y = _float64(buffer, at + 8)
            if not (np.isfinite(x) and np.isfinite(y)):
                return image
            points[out] = row
            xy[out, 0] = x
            xy[out, 1] = y
            out += 1
    return -1
