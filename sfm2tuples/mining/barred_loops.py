"""Loops over pairs of images that may be barred, compiled; `barred` says what they ask."""

from __future__ import annotations

import numba
import numpy as np

from sfm2tuples.similarity.barred_rows import is_barred


@numba.njit(cache=True, nogil=True)
def holds(query, image, home, indptr, barred):  # type: ignore[no-untyped-def]
    """Whether each image (k,) int64 is barred for its query (k,) int64: bool; O(k log of the images named for one)."""
    barred_for = np.empty(len(query), np.bool_)
    for i in range(len(query)):
        q, j = query[i], image[i]
        barred_for[i] = is_barred(home[q], home[j], j, barred[indptr[q] : indptr[q + 1]])
    return barred_for


@numba.njit(cache=True, nogil=True)
def have_negative(query, rows, spot, home, indptr, barred):  # type: ignore[no-untyped-def]
    """Which queries have an image of another spot that is not barred: (q,) bool; O(q r), and each ends at its first."""
    found = np.zeros(len(query), np.bool_)
    for i in range(len(query)):
        q = query[i]
        own = barred[indptr[q] : indptr[q + 1]]
        for j in rows:
            if spot[j] != spot[q] and not is_barred(home[q], home[j], j, own):
                found[i] = True
                break
    return found
