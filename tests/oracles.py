"""Naive versions of every numeric routine: loops and sets, written from the definition, slow and obvious."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["math", "np"]


# --- losses (METHOD.md section 6) ---------------------------------------------------------------------------------


def contrastive_loss(query, positives, negatives, margin, eps=0.0):
    """Double loop over lists of descriptors; a missing one is None."""
    total = 0.0
    for q, ps, ns in zip(query, positives, negatives, strict=True):
        for p in ps:
            if p is not None:
                total += 0.5 * sum((a - b + eps) ** 2 for a, b in zip(q, p, strict=True))
        for n in ns:
            if n is not None:
                distance = math.sqrt(sum((a - b + eps) ** 2 for a, b in zip(q, n, strict=True)))
                total += 0.5 * max(0.0, margin - distance) ** 2
    return total


def triplet_loss(query, positives, negatives, margin):
    """Triple loop over lists of descriptors; a missing one is None."""
    total = 0.0
    for q, ps, ns in zip(query, positives, negatives, strict=True):
        for p in ps:
            for n in ns:
                if p is not None and n is not None:
                    to_positive = sum((a - b) ** 2 for a, b in zip(q, p, strict=True))
                    to_negative = sum((a - b) ** 2 for a, b in zip(q, n, strict=True))
                    total += max(0.0, to_positive - to_negative + margin)
    return total
