"""Compiled loops over the bytes of a model: one pass over the points, one over their tracks, two over the observations.

Loops that take `begin` and `end` work on a block of rows and release the interpreter's lock.

A byte buffer is used as it came from the file. A run of records of one kind is viewed as numbers where it lies, aligned
or not, which costs nothing on x86 and ARM; single integers are put together from bytes, which the compiler turns into
one load. Rows are looked up in the loop itself: as an inlined function with arrays for arguments it costs twice the
whole loop. A key is compared as an unsigned number, so that one comparison serves for negative and too large ones.
"""

from __future__ import annotations

import numpy as np
from numba import njit

POINT_BYTES = 51
"""A point of points3D.bin without its track: id, xyz, rgb, error, track length."""
TRACK_BYTES = 8
"""An element of a track: image id and observation index, uint32 each."""
IMAGE_BYTES = 64
"""An image of images.bin up to its name: id, pose, camera."""
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


@njit(nogil=True, cache=True)
def _search(key, keys):  # type: ignore[no-untyped-def]
    """Row of `key` in the sorted `keys`, or -1."""
    place = np.searchsorted(keys, key)
    return np.int64(place) if place < keys.size and keys[place] == key else np.int64(-1)


def row_table(keys: np.ndarray) -> np.ndarray:
    """Make a dense look-up table for sorted keys where they are dense enough to pay.

    Parameters
    ----------
    keys : np.ndarray
        (n,) int64, sorted, not negative.

    Returns
    -------
    np.ndarray
        (max + 1,) int32, key to row, -1 where there is none; empty where it would be much larger than `keys`
        (a hostile file may hold one id of 2^60), and then a binary search is used.
    """
    if keys.size == 0 or keys[-1] > 8 * keys.size + 65536:
        return np.empty(0, np.int32)
    table = np.full(int(keys[-1]) + 1, -1, np.int32)
    table[keys] = np.arange(keys.size)
    return table


@njit(nogil=True, cache=True)
def find_images(buffer, starts, names, counts):  # type: ignore[no-untyped-def]
    """Find where the images of images.bin start, where their names end, and how many observations they have.

    O(images), and the letters of their names. Returns (images found, byte after the last one): fewer images than asked
    for means that the file ends inside that image; its count is then -1, or the one that there is no room for.
    """
    at = 8
    for row in range(starts.size):
        starts[row] = at
        counts[row] = -1
        name = at + IMAGE_BYTES
        while name < buffer.size and buffer[name] != 0:
            name += 1
        if name + 9 > buffer.size:
            return row, at
        names[row] = name
        counts[row] = _int64(buffer, name + 1)
        at = name + 9
        # As an unsigned number, a count of 2^63 or more is too large rather than negative.
        if np.uint64(counts[row]) > np.uint64((buffer.size - at) // OBSERVATION_BYTES):
            return row, at
        at += OBSERVATION_BYTES * counts[row]
    return starts.size, at


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def count_stray_tracks(begin, end, buffer, starts, lengths, image_ids, table, counts):  # type: ignore[no-untyped-def]
    """Count the track elements that name an absent image, and those that name an observation the image lacks.

    O(sum of track lengths). `counts` holds the observations of each row of the sorted `image_ids`.
    """
    absent = 0
    outside = 0
    dense = table.size > 0
    for point in range(begin, end):
        words = buffer[starts[point] : starts[point] + TRACK_BYTES * lengths[point]].view(np.uint32)
        for element in range(lengths[point]):
            key = np.int64(words[2 * element])
            if dense:
                row = np.int64(table[key]) if np.uint64(key) < np.uint64(table.size) else np.int64(-1)
            else:
                row = _search(key, image_ids)
            if row < 0:
                absent += 1
            elif words[2 * element + 1] >= counts[row]:
                outside += 1
    return absent, outside


@njit(nogil=True, cache=True)
def count_tracks_of(buffer, starts, lengths, image_ids, counts):  # type: ignore[no-untyped-def]
    """Count the track elements that name each of the sorted `image_ids`; O(track elements)."""
    for point in range(starts.size):
        words = buffer[starts[point] : starts[point] + TRACK_BYTES * lengths[point]].view(np.uint32)
        for element in range(lengths[point]):
            row = _search(np.int64(words[2 * element]), image_ids)
            if row >= 0:
                counts[row] += 1


@njit(nogil=True, cache=True)
def gather_tracks_of(  # type: ignore[no-untyped-def]
    buffer, starts, lengths, image_ids, point_ids, observations, image_starts, image_counts, slots, doubles, longs
):
    """Fill an observation for each track element that names one of the sorted `image_ids`; O(track elements).

    `slots` is where each image's observations start; `doubles` and `longs` are one memory. Coordinates are NaN where
    the image lacks the observation that the element names.
    """
    out = slots.copy()
    for point in range(starts.size):
        words = buffer[starts[point] : starts[point] + TRACK_BYTES * lengths[point]].view(np.uint32)
        for element in range(lengths[point]):
            row = _search(np.int64(words[2 * element]), image_ids)
            if row < 0:
                continue
            slot = out[row]
            out[row] += 1
            index = np.int64(words[2 * element + 1])
            doubles[slot, 0] = doubles[slot, 1] = np.nan
            if index < image_counts[row]:
                at = image_starts[row] + OBSERVATION_BYTES * index
                doubles[slot, :2] = observations[at : at + 16].view(np.float64)
            longs[slot, 2] = point_ids[point]


@njit(nogil=True, cache=True)
def count_with_point(begin, end, buffer, starts, counts, named):  # type: ignore[no-untyped-def]
    """Count by image the observations that name a point; O(observations)."""
    for image in range(begin, end):
        longs = buffer[starts[image] : starts[image] + OBSERVATION_BYTES * counts[image]].view(np.int64)
        found = 0
        for item in range(counts[image]):
            found += longs[3 * item + 2] != -1
        named[image] = found


@njit(nogil=True, cache=True)
def gather_point_ids(begin, end, buffer, starts, counts, indptr, ids):  # type: ignore[no-untyped-def]
    """Fill the point's id of each observation that names one; O(observations)."""
    for image in range(begin, end):
        longs = buffer[starts[image] : starts[image] + OBSERVATION_BYTES * counts[image]].view(np.int64)
        out = indptr[image]
        for item in range(counts[image]):
            if longs[3 * item + 2] != -1:
                ids[out] = longs[3 * item + 2]
                out += 1


@njit(nogil=True, cache=True)
def gather_observations(  # type: ignore[no-untyped-def]
    begin, end, buffer, starts, counts, indptr, point_ids, table, points, xy
):
    """Fill row of the point (-1: absent) and coordinates of each observation that names a point, image by image.

    O(observations). Returns (observations of an absent point, whether all coordinates are finite).
    """
    absent = 0
    zero = 0.0
    dense = table.size > 0
    for image in range(begin, end):
        records = buffer[starts[image] : starts[image] + OBSERVATION_BYTES * counts[image]]
        longs, doubles = records.view(np.int64), records.view(np.float64)
        out = indptr[image]
        for item in range(counts[image]):
            key = longs[3 * item + 2]
            if key == -1:
                continue
            if dense:
                row = np.int64(table[key]) if np.uint64(key) < np.uint64(table.size) else np.int64(-1)
            else:
                row = _search(key, point_ids)
            absent += row < 0
            x = doubles[3 * item]
            y = doubles[3 * item + 1]
            # x - x is 0 for finite numbers and NaN for all others: a check without a branch.
            zero += (x - x) + (y - y)
            points[out] = row
            xy[out, 0] = x
            xy[out, 1] = y
            out += 1
    return absent, zero == 0.0
