"""Naive versions of what a teacher adds (method.md section 15): pair by pair, from the words."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def relational(student: Rows, teacher: Rows) -> float:
    """Park et al., CVPR 2019, equations 5 to 7: a sum over photos of the mean over the others."""
    n = len(student)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    if n < 3:
        return 0.0
    mean = [sum(distance(rows[i], rows[j]) for i, j in pairs) / len(pairs) for rows in (student, teacher)]
    if min(mean) < 1e-5:
        return 0.0
    total = 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                gap = abs(distance(student[i], student[j]) / mean[0] - distance(teacher[i], teacher[j]) / mean[1])
                total += (0.5 * gap**2 if gap <= 1 else gap - 0.5) / (n - 1)
    return total


def agreement(student: Rows, teacher: Rows, queries: Sequence[int], count: int) -> float:
    """Mean over queries of the share of the teacher's nearest rows that are among the student's; ties: lower row."""
    shares = []
    for query in queries:
        near = []
        for rows in (teacher, student):
            others = [row for row in range(len(rows)) if row != query]
            others.sort(key=lambda row: -sum(x * y for x, y in zip(rows[row], rows[query], strict=True)))
            near.append(set(others[:count]))
        shares.append(len(near[0] & near[1]) / count)
    return sum(shares) / len(shares)
