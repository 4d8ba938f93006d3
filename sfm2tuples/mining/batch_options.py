"""How large a batch of places is, and how its places are chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sfm2tuples.errors import UsageError

TUPLES, GRAPH = "tuples", "graph:PxK"
"""What `--sampling` takes."""
HARD, RANDOM = "hard", "random"
BATCH_CHOICES = (HARD, RANDOM)
"""How the places of a batch are chosen."""
FEWEST = 2
"""Places of a batch, and photos of a place, below which there is no pair to learn from."""


@dataclass(frozen=True)
class GraphSampling:
    """The size of a batch."""

    places: int
    """P: places (inside, spots) of a batch at most."""
    photos: int
    """K: photos of a place at most, the query among them."""

    @classmethod
    def of(cls, text: str) -> GraphSampling | None:
        """What ``tuples`` (None) or ``graph:PxK`` means.

        Raises
        ------
        UsageError
            It means nothing.

        Examples
        --------
        >>> GraphSampling.of("graph:8x4")
        GraphSampling(places=8, photos=4)
        """
        if text == TUPLES:
            return None
        size = two_numbers("graph", text)
        if not size or min(size) < FEWEST:
            what = f"sampling {text!r} is unknown; {TUPLES}, or {GRAPH} with P places of K photos each"
            raise UsageError(f"{what}, both at least {FEWEST}, such as graph:8x4")
        return cls(*size)


def two_numbers(kind: str, text: str) -> tuple[int, int] | None:
    """P and K of ``KIND:PxK``; None of any other text."""
    found = re.fullmatch(rf"{kind}:([0-9]{{1,6}})x([0-9]{{1,6}})", text)
    return (int(found[1]), int(found[2])) if found else None
