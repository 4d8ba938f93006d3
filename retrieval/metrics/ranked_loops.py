"""Loops over the similarities of one query, compiled; `ranked_parts` says what they are for."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def best_rows(similarity, verdict, leave_out, count):  # type: ignore[no-untyped-def]
    """Rows (k,) int64 of the most similar whose verdict is another, best first, ties by the lower row; k <= count."""
    row = np.empty(count, np.int64)
    kept = 0
    for j in range(len(similarity)):
        # This comparison is the hot loop: nearly every row ends here. Rows rise, so that a tie stays behind.
        if kept == count and not similarity[j] > similarity[row[count - 1]]:
            continue
        if verdict[j] == leave_out:
            continue
        t = min(kept, count - 1)
        while t > 0 and similarity[j] > similarity[row[t - 1]]:
            row[t] = row[t - 1]
            t -= 1
        row[t] = j
        kept = min(kept + 1, count)
    return row[:kept]


@numba.njit(cache=True, nogil=True)
def ranks(similarity, verdict, leave_out, positive):  # type: ignore[no-untyped-def]
    """How many rows of another verdict go before each positive: (p,) int64; positives best first, ties by row."""
    before = np.zeros(len(positive) + 1, np.int64)
    if len(positive) == 0:
        return before[:0]
    least = similarity[positive[-1]]
    for j in range(len(similarity)):
        if not similarity[j] >= least or verdict[j] == leave_out:
            continue
        low, high = 0, len(positive)
        while low < high:  # the first positive that row j goes before
            middle = (low + high) // 2
            p = positive[middle]
            if similarity[j] > similarity[p] or (similarity[j] == similarity[p] and j < p):
                high = middle
            else:
                low = middle + 1
        before[low] += 1
    return np.cumsum(before)[: len(positive)]
