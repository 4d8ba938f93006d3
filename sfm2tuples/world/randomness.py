"""Counter-based generators: what is drawn for an item depends on the seed and the item, never on the order of work."""

from __future__ import annotations

import numpy as np


def generator(seed: int, *items: int) -> np.random.Generator:
    """A generator of its own for one item (a place, a photo of a place, ...).

    Parameters
    ----------
    seed : int
        The seed of the world.
    items : int
        What the numbers are for, e.g. purpose, place and photo.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, *items])))
