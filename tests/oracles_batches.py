"""Naive versions of batches of places and their losses (method.md section 13): pair by pair, from the words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Rows = Sequence[Sequence[float]]
Relation = Sequence[Sequence[int]]
"""1 for a positive pair, -1 for a negative one, 0 for an unknown one."""


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def of_kind(relation: Relation, anchor: int, kind: int) -> list[int]:
    return [other for other, known in enumerate(relation[anchor]) if known == kind]


def contrastive(rows: Rows, relation: Relation, margin: float, eps: float = 0.0, hardest: int = 5) -> float:
    """Per anchor the mean over positives, and the hardest negatives."""
    total = 0.0
    for anchor, row in enumerate(rows):
        squares = [sum((x - y + eps) ** 2 for x, y in zip(row, other, strict=True)) for other in rows]
        positives = of_kind(relation, anchor, 1)
        if positives:
            total += sum(0.5 * squares[p] for p in positives) / len(positives)
        negatives = sorted(of_kind(relation, anchor, -1), key=lambda n: -dot(row, rows[n]))
        total += sum(0.5 * max(0.0, margin - math.sqrt(squares[n])) ** 2 for n in negatives[:hardest])
    return total


def soft_contrastive(
    rows: Rows, relation: Relation, overlap: Sequence[Sequence[float | None]], margin: float, grade: float | None = None
) -> float:
    """The generalized contrastive loss, or the graded one with its exponent; an overlap of None is not known."""
    total = 0.0
    for anchor, row in enumerate(rows):
        distance = [math.dist(row, other) for other in rows]
        positives = of_kind(relation, anchor, 1)
        for p in positives:
            known = overlap[anchor][p]
            psi = 1.0 if known is None else known
            if grade is not None:
                term = psi**grade * 0.5 * distance[p] ** 2
            else:
                term = psi * 0.5 * distance[p] ** 2 + (1 - psi) * 0.5 * max(0.0, margin - distance[p]) ** 2
            total += term / len(positives)
        nearest = sorted(distance[n] for n in of_kind(relation, anchor, -1))[:5]
        total += sum(0.5 * max(0.0, margin - d) ** 2 for d in nearest)
    return total


def multi_similarity(
    rows: Rows, relation: Relation, margin: float = 0.1, alpha: float = 2, beta: float = 50, base: float = 0.5
) -> float:
    """Wang et al., CVPR 2019: equations of the miner and of the loss, a sum over anchors."""
    total = 0.0
    for anchor, row in enumerate(rows):
        near = [dot(row, rows[p]) for p in of_kind(relation, anchor, 1)]
        far = [dot(row, rows[n]) for n in of_kind(relation, anchor, -1)]
        if not near or not far:
            continue
        mined_near = [s for s in near if s < max(far) + margin]
        mined_far = [s for s in far if s > min(near) - margin]
        total += math.log(1 + sum(math.exp(-alpha * (s - base)) for s in mined_near)) / alpha
        total += math.log(1 + sum(math.exp(beta * (s - base)) for s in mined_far)) / beta
    return total


def smooth_ap(rows: Rows, relation: Relation, temperature: float = 0.01) -> float:
    """Brown et al., ECCV 2020: one less the smooth AP of each anchor with positives."""

    def ahead(s: float) -> float:
        return 1 / (1 + math.exp(-s / temperature)) if s > -700 * temperature else 0.0

    total = 0.0
    for anchor, row in enumerate(rows):
        positives, negatives = of_kind(relation, anchor, 1), of_kind(relation, anchor, -1)
        if not positives:
            continue
        precision = 0.0
        for i in positives:
            own = dot(row, rows[i])
            near = 1 + sum(ahead(dot(row, rows[j]) - own) for j in positives if j != i)
            precision += near / (near + sum(ahead(dot(row, rows[j]) - own) for j in negatives))
        total += 1 - precision / len(positives)
    return total


def m3_pairs(candidates: Any, min_overlap: float, max_scale_change: float) -> set[tuple[int, int]]:
    """Queries and candidates that m3 allows; comparisons in float32, as the columns are."""
    pairs = set()
    for at, query in enumerate(candidates.query.tolist()):
        for k in range(candidates.indptr[at], candidates.indptr[at + 1]):
            fits = candidates.overlap[k] >= candidates.overlap.dtype.type(min_overlap)
            if fits and candidates.scale_change[k] <= candidates.scale_change.dtype.type(max_scale_change):
                pairs.add((query, int(candidates.image[k])))
    return pairs


def relation_of(i: int, j: int, spot: Any, positives: set[tuple[int, int]], barred: Any | None) -> int:
    """What is known of two images: 1, -1 or 0."""
    if (i, j) in positives or (j, i) in positives:
        return 1
    if spot[i] == spot[j]:
        return 0
    if barred is None:
        return -1
    if barred.place[i] >= 0 and barred.place[i] == barred.place[j]:
        if barred.fragment[i] != barred.fragment[j] or barred.fragment[i] < 0:
            return 0
        for one, other in ((i, j), (j, i)):
            if other in barred.image[barred.indptr[one] : barred.indptr[one + 1]].tolist():
                return 0
    return -1


def overlap_of(i: int, j: int, candidates: Any) -> float | None:
    """The overlap of a query i and its candidate j; where that is not known, of j and its candidate i."""
    for query, image in ((i, j), (j, i)):
        for at in np.flatnonzero(candidates.query == query).tolist():
            for k in range(candidates.indptr[at], candidates.indptr[at + 1]):
                if candidates.image[k] == image and not math.isnan(candidates.overlap[k]):
                    return float(candidates.overlap[k])
    return None


def nearest_places(
    start: int, possible: Sequence[int], rows: dict[int, Sequence[float]], spot: Any, barred: Any | None, count: int
) -> list[int]:
    """The nearest image of each of the nearest other places; ties: lower row first."""

    def may_be(image: int) -> bool:
        if spot[image] == spot[start]:
            return False
        return barred is None or image not in barred.of(start).tolist()

    found: list[int] = []
    for image in sorted(filter(may_be, possible), key=lambda i: (-dot(rows[start], rows[i]), i)):
        if spot[image] not in {spot[other] for other in found}:
            found.append(image)
    return found[:count]
