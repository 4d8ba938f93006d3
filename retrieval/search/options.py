"""How a database is searched."""

from __future__ import annotations

import math
from dataclasses import dataclass

from retrieval.search.engines import ENGINES, HNSW, IVF
from retrieval.search.query_expansion import Expansion, parse_expansion
from sfm2tuples.errors import UsageError

MOST_RESULTS = 10_000
"""Results of a query that are kept sorted as they are found, at most; whole rankings are what `evaluate` makes."""
WINDOWS, GEOMETRY = "R", "geometry"
"""Ways to re-rank: by the best window of each photo [R16], or by local features that one geometry explains [P07]."""
RERANKED = {WINDOWS: 1000, GEOMETRY: 100}
"""Images of a short list that are re-ranked where nothing else is said: [R16]'s 1,000; matching costs more."""


@dataclass(frozen=True)
class Reranking:
    """How the first images of each query are put in another order."""

    way: str
    """`WINDOWS` or `GEOMETRY`."""
    num_images: int
    """How many of them."""


@dataclass(frozen=True)
class Refinement:
    """What is done beyond one search by the descriptors as they are."""

    qe: str | None = None
    """Query expansion: ``average:N`` or ``alpha:N:ALPHA``; after ``R`` it averages window vectors, after ``geometry``
    the images that are verified."""
    dba: str | None = None
    """Database-side augmentation, in the same words."""
    rerank: str | None = None
    """``R:N``: re-rank the first N by the best window of each photo. ``geometry:N``: verify the first N by their local
    features and put those that are verified in front."""

    def __post_init__(self) -> None:
        """Refuse what cannot be read."""
        for text in (self.qe, self.dba):
            if text is not None:
                parse_expansion(text)
        if self.rerank is not None:
            parse_rerank(self.rerank)

    @property
    def query_expansion(self) -> Expansion | None:
        """`qe`, read."""
        return None if self.qe is None else parse_expansion(self.qe)

    @property
    def augmentation(self) -> Expansion | None:
        """`dba`, read."""
        return None if self.dba is None else parse_expansion(self.dba)

    @property
    def num_reranked(self) -> int:
        """Images of each short list that are re-ranked, in either way; 0 without."""
        return 0 if self.rerank is None else parse_rerank(self.rerank).num_images

    @property
    def num_windows(self) -> int:
        """Images of each short list that are re-ranked by their best window; 0 without."""
        return self._num_images(WINDOWS)

    @property
    def num_verified(self) -> int:
        """Images of each short list that are verified by their local features; 0 without."""
        return self._num_images(GEOMETRY)

    @property
    def any(self) -> bool:
        """Whether anything is asked for."""
        return (self.qe, self.dba, self.rerank) != (None, None, None)

    def as_dict(self) -> dict[str, str]:
        """What was asked for, as plain values."""
        asked = {"qe": self.qe, "dba": self.dba, "rerank": self.rerank}
        return {name: text for name, text in asked.items() if text is not None}

    def _num_images(self, way: str) -> int:
        if self.rerank is None:
            return 0
        reranking = parse_rerank(self.rerank)
        return reranking.num_images if reranking.way == way else 0


def parse_rerank(text: str) -> Reranking:
    """Read ``R[:N]`` or ``geometry[:N]``; N is that of `RERANKED` where it is left out.

    Raises
    ------
    UsageError
        It is neither.
    """
    way, colon, number = text.partition(":")
    if way in RERANKED and not colon:
        return Reranking(way, RERANKED[way])
    if way not in RERANKED or not number.isdecimal() or not 1 <= int(number) <= MOST_RESULTS:
        raise UsageError(f"{text} is no re-ranking such as R:1000 or geometry:100, with 1 to {MOST_RESULTS:,} images")
    return Reranking(way, int(number))


@dataclass(frozen=True)
class SearchOptions:
    """Engine, number of results, and what is done beyond one search."""

    engine: str = "flat"
    """``flat`` (exact), ``ivf`` (faiss's inverted lists) or ``hnsw`` (faiss's graph of neighbours)."""
    num_results: int = 100
    """Images kept for each query."""
    min_similarity: float | None = None
    """Images that are less similar are left out; after ``--rerank R`` the similarity is the window's."""
    include_self: bool = False
    """Whether a query may find the image of its own name."""
    nprobe: int | None = None
    """ivf: lists that a query looks into; one of 16 where left out."""
    ef: int | None = None
    """hnsw: rows kept in sight; 256, or the results wanted where they are more."""
    qe: str | None = None
    """See `Refinement.qe`."""
    dba: str | None = None
    """See `Refinement.dba`."""
    rerank: str | None = None
    """See `Refinement.rerank`."""

    def __post_init__(self) -> None:
        """Refuse values out of range, and options of another engine."""
        if self.engine not in ENGINES:
            raise UsageError(f"no engine is called {self.engine}; there are {', '.join(ENGINES)}")
        if not 1 <= self.num_results <= MOST_RESULTS:
            raise UsageError(f"num_results {self.num_results:,} is not between 1 and {MOST_RESULTS:,}")
        if self.min_similarity is not None and math.isnan(self.min_similarity):
            raise UsageError("min_similarity must be a number")
        for name, engine in (("nprobe", IVF), ("ef", HNSW)):
            value = getattr(self, name)
            if value is not None and (self.engine != engine or value < 1):
                raise UsageError(f"--{name} {value} is for --engine {engine}, and at least 1")
        Refinement(self.qe, self.dba, self.rerank)

    @property
    def refinement(self) -> Refinement:
        """What is done beyond one search."""
        return Refinement(self.qe, self.dba, self.rerank)
