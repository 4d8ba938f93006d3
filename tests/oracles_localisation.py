"""Naive versions of what a localiser gets from results: loops and sets, written from METHOD.md section 14."""

from __future__ import annotations

import math
import statistics

import numpy as np


def points_of(indptr, point, row):
    """P(i) as a set; a row that the database does not have observes nothing."""
    return set(point[indptr[row] : indptr[row + 1]].tolist()) if 0 <= row < len(indptr) - 1 else set()


def seen_points(indptr, point, queries, results):
    """|P(q)|, and |P(q) ∩ ∪ P(r)| over the first 1, 2, … results of each query."""
    observed, seen = [], []
    for query, found in zip(queries.tolist(), results.tolist(), strict=True):
        own = points_of(indptr, point, query)
        observed.append(len(own))
        row = []
        for k in range(1, len(found) + 1):
            union = set()
            for other in found[:k]:
                union |= points_of(indptr, point, other)
            row.append(len(own & union))
        seen.append(row)
    return np.array(observed, int), np.array(seen, int).reshape(results.shape)


def attainable_points(indptr, point, queries):
    """Points of each query that some other photo sees."""
    counts = []
    for query in queries.tolist():
        others = [row for row in range(len(indptr) - 1) if row != query]
        union = set().union(*(points_of(indptr, point, row) for row in others)) if others else set()
        counts.append(len(points_of(indptr, point, query) & union))
    return np.array(counts, int)


def nearest_observation(keypoint, xy, most):
    """Row of the observation nearest to a keypoint, the lower of equal ones; -1 where none is within `most`."""
    best, found = math.inf, -1
    for row, (x, y) in enumerate(xy.tolist()):
        if math.isnan(x) or math.isnan(y):
            continue
        far = (float(keypoint[0]) - x) ** 2 + (float(keypoint[1]) - y) ** 2
        if far <= most * most and far < best:
            best, found = far, row
    return found


def centre(pose):
    """-Rᵀ t."""
    return [-sum(pose[i][j] * pose[i][3] for i in range(3)) for j in range(3)]


def pose_distance(one, other):
    """Between camera centres."""
    return math.dist(centre(one), centre(other))


def rotation_degrees(one, other):
    """By the trace of R₁ R₂ᵀ."""
    trace = sum(one[i][j] * other[i][j] for i in range(3) for j in range(3))
    return math.degrees(math.acos(max(-1.0, min(1.0, (trace - 1) / 2))))


def scene_depth(pose, xyz):
    """Median depth of the points in front; NaN without any."""
    depths = [sum(pose[2][j] * x[j] for j in range(3)) + pose[2][3] for x in xyz]
    in_front = [depth for depth in depths if depth > 0]
    return statistics.median(in_front) if in_front else math.nan


def first_photo_within(index, photo_images, query, found, distance, degrees, scale):
    """Rank of the first result of which one image is near one of the query's, in one model; -1 for none.

    `index` is a `worlds.Index` with poses; `photo_images` the images of each photo; `scale` None divides by depth.
    """
    rotation = [quaternion_matrix(q) for q in index.images.quaternion.tolist()]
    pose = [[[*r[i], t[i]] for i in range(3)] for r, t in zip(rotation, index.images.translation.tolist(), strict=True)]
    for rank, other in enumerate(found):
        if not 0 <= other < len(photo_images):
            continue
        for a in photo_images[query]:
            start, stop = index.observations.indptr[a : a + 2]
            points = sorted(set(index.observations.point[start:stop].tolist()))
            unit = scale or 1 / scene_depth(pose[a], index.points.xyz[points].tolist())
            for b in photo_images[other]:
                if index.images.model[a] != index.images.model[b]:
                    continue
                turned = rotation_degrees(pose[a], pose[b])
                if pose_distance(pose[a], pose[b]) * unit <= distance and turned <= degrees:
                    return rank
    return -1


def quaternion_matrix(wxyz):
    """Rotation of a unit quaternion."""
    w, x, y, z = (value / math.sqrt(sum(v * v for v in wxyz)) for value in wxyz)
    return [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]


def phi(one, other):
    """Correlation of two yes-or-no columns, by the four counts; NaN where one of them never changes."""
    both = sum(a and b for a, b in zip(one, other, strict=True))
    neither = sum(not a and not b for a, b in zip(one, other, strict=True))
    first, second = sum(map(bool, one)), sum(map(bool, other))
    count = len(one)
    under = math.sqrt(first * second * (count - first) * (count - second))
    only_first, only_second = first - both, second - both
    return (both * neither - only_first * only_second) / under if under else math.nan
