"""A validation part inside a place: spots that lie together, and a buffer around them that is on neither side.

Where a place is several models that no common frame joins, whole models can be held out instead, without a buffer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm2tuples.index.splits import LEFT_OUT, TRAIN, VAL
from sfm2tuples.relations.site import SiteRelations

STARTS = 16
"""Spots that a part is tried to grow from."""
MOST_BUFFER = 0.5
"""Nothing is held out where the buffer would cost more than this share of the images."""


@dataclass(frozen=True)
class HeldOut:
    """The split of a place's images, and what it costs."""

    split: np.ndarray
    """(n,) int8, `TRAIN`, `VAL` or `LEFT_OUT`."""
    buffer_share: float
    """Images that take part and are left out, over all that take part; of the best part that was found, where its
    buffer was too large and nothing was held out."""


def hold_out_spots(relations: SiteRelations, spot: np.ndarray, share: float, seed: int) -> HeldOut:
    """Hold out spots of one place that lie together, with a buffer.

    A part grows from one spot. The next one is that whose images the part bars most; so the part eats its own buffer.
    It ends nearest to the wanted share of the images. Of the parts from `STARTS` spots, which the seed draws, the one
    with the smallest buffer is taken. Left out is every image that is not proven negative to all images of the part.

    Parameters
    ----------
    relations : SiteRelations
        Of the images of one place.
    spot : (n,) int64
        Spot of each image; those with -1 take no part, and are left out.
    share : float
        Of the images that take part, so many are wanted for validation.
    seed : int

    Returns
    -------
    HeldOut
    """
    takes_part, count = spot >= 0, int(spot.max(initial=-1)) + 1
    split = np.where(takes_part, TRAIN, LEFT_OUT).astype(np.int8)
    wanted = share * takes_part.sum()
    if wanted <= 0 or count < 2:
        return HeldOut(split, 0.0)
    starts = np.random.default_rng(seed).permutation(count)[:STARTS].tolist()
    best: tuple[float, np.ndarray] | None = None
    for start in starts:
        chosen = _grown_part(relations, spot, start, wanted, count)
        is_held = takes_part & chosen[spot]
        left_out = ~is_held & barred_by(relations, is_held)
        cost = float((left_out & takes_part).sum() / takes_part.sum())
        if (is_held | left_out)[takes_part].all():
            cost = 1.0
        if best is None or cost < best[0]:
            best = cost, np.where(is_held, VAL, np.where(left_out | ~takes_part, LEFT_OUT, TRAIN)).astype(np.int8)
    if best is None or best[0] > MOST_BUFFER:
        return HeldOut(split, 1.0 if best is None else best[0])
    return HeldOut(best[1], best[0])


def hold_out_models(relations: SiteRelations, spot: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Hold out whole models of one place, for want of spots that are proven to be apart from the rest.

    Nothing proves that the models show different things. The reconstruction could not join them; that is all that
    speaks for it. Pairs of two models stay unknown: they are used neither in training nor as wrong answers.

    Parameters
    ----------
    relations, spot, share, seed
        As for `hold_out_spots`.

    Returns
    -------
    (n,) int8
        `TRAIN`, `VAL` or `LEFT_OUT`. Models go to validation in an order that the seed draws, as many as come nearest
        to the share, at least one and never all. No image is `VAL` where all images that take part are of one model.
    """
    takes_part = (spot >= 0) & (relations.fragment >= 0)
    split = np.where(takes_part, TRAIN, LEFT_OUT).astype(np.int8)
    models, size = np.unique(relations.fragment[takes_part], return_counts=True)
    if len(models) < 2:
        return split
    order = np.random.default_rng(seed).permutation(len(models))
    held = np.cumsum(size[order])[:-1]
    chosen = models[order[: 1 + int(np.abs(held - share * takes_part.sum()).argmin())]]
    split[takes_part & np.isin(relations.fragment, chosen)] = VAL
    return split


def barred_by(relations: SiteRelations, chosen: np.ndarray) -> np.ndarray:
    """(n,) bool, which images of a place are not proven negative to all of the chosen ones, (n,) bool."""
    rows = np.repeat(np.arange(len(chosen)), np.diff(relations.indptr))
    barred = np.zeros(len(chosen), bool)
    barred[relations.barred[chosen[rows]]] = True
    of_chosen = np.unique(relations.fragment[chosen])
    if len(of_chosen) > 1 or (of_chosen < 0).any():
        barred[:] = True
    elif len(of_chosen):
        barred |= (relations.fragment != of_chosen[0]) | (relations.fragment < 0)
    return barred


def _grown_part(relations: SiteRelations, spot: np.ndarray, start: int, wanted: float, count: int) -> np.ndarray:
    """(count,) bool, the spots of a part that grows from one."""
    size = np.bincount(spot[spot >= 0], minlength=count)
    chosen = np.zeros(count, bool)
    barred = np.zeros(len(spot), bool)
    takes_part, fragment, following = spot >= 0, relations.fragment, start
    while True:
        held = size[chosen].sum()
        if chosen.any() and abs(held + size[following] - wanted) >= abs(held - wanted):
            return chosen
        chosen[following] = True
        if chosen.all():
            return chosen
        for row in np.flatnonzero(spot == following).tolist():
            barred[relations.barred[relations.indptr[row] : relations.indptr[row + 1]]] = True
        barred_share = np.bincount(spot[takes_part & barred], minlength=count) / np.maximum(size, 1)
        # Where nothing of the same fragment is left, any other is as far away.
        same = np.bincount(spot[takes_part & (fragment == fragment[spot == following][0])], minlength=count) > 0
        barred_share = np.where(chosen, -1, barred_share + same)
        following = int(barred_share.argmax())
