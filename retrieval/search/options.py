"""How a database is searched, and what is done beyond one search: the texts of the flags are read here, once."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retrieval.local_features.options import HammingOptions, VerificationOptions
from sfm2tuples.errors import UsageError

NO_FEATURES = "--rerank geometry compares local features: give --features, made by extract-features"
FLAT, IVF, HNSW = ENGINES = ("flat", "ivf", "hnsw")
"""Exact; faiss's inverted lists; faiss's graph of neighbours."""
MOST_RESULTS = 10_000
"""Results of a query that are kept sorted as they are found, at most; whole rankings are what `evaluate` makes."""
WINDOWS, GEOMETRY = "R", "geometry"
"""Ways to re-rank: by the best window of each photo [R16], or by local features that one geometry explains [P07]."""
RERANKED = {WINDOWS: 1000, GEOMETRY: 100}
"""Images of a short list that are re-ranked where nothing else is said: [R16]'s 1,000; matching costs more."""
AVERAGE, ALPHA = "average", "alpha"
AVERAGED = 5
"""Images of average query expansion [RM]."""
WEIGHTED, POWER = 50, 3.0
"""Images of α query expansion, and the power of their similarity [P18]."""


@dataclass(frozen=True)
class Expansion:
    """A vector becomes the weighted mean of itself, with weight 1, and of its most similar ones, then L2."""

    num_images: int = AVERAGED
    """How many of the most similar."""
    alpha: float = 0.0
    """Their weight is similarity^alpha, nothing below 0 counting; 0: all weights are 1, whatever the similarity."""
    text: str = field(default="", compare=False)
    """As the flag said it."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.num_images < 1:
            raise UsageError(f"expansion takes at least 1 image, not {self.num_images}")
        if not (math.isfinite(self.alpha) and self.alpha >= 0):
            raise UsageError(f"alpha must be 0 or more, not {self.alpha}")


@dataclass(frozen=True)
class Reranking:
    """How the first images of each query are put in another order."""

    way: str
    """`WINDOWS` or `GEOMETRY`."""
    num_images: int
    """How many of them."""
    text: str = field(default="", compare=False)
    """As the flag said it."""


@dataclass(frozen=True)
class Refinement:
    """What is done beyond one search by the descriptors as they are."""

    qe: Expansion | None = None
    """Query expansion; after ``R`` it averages window vectors, after ``geometry`` the images that are verified."""
    dba: Expansion | None = None
    """Database-side augmentation."""
    rerank: Reranking | None = None
    """Re-ranking of the first images, by the best window of each photo or by their local features."""

    @classmethod
    def parse(cls, qe: str | None = None, dba: str | None = None, rerank: str | None = None) -> Refinement:
        """Read the texts of `--qe`, `--dba` and `--rerank`; None where a flag was not given.

        Raises
        ------
        UsageError
            One of them cannot be read.
        """
        return cls(
            None if qe is None else parse_expansion(qe),
            None if dba is None else parse_expansion(dba),
            None if rerank is None else parse_rerank(rerank),
        )

    @property
    def num_averaged(self) -> int:
        """Images that a query is averaged with; 0 without expansion."""
        return 0 if self.qe is None else self.qe.num_images

    @property
    def num_reranked(self) -> int:
        """Images of each short list that are re-ranked, in either way; 0 without."""
        return 0 if self.rerank is None else self.rerank.num_images

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
        """What was asked for, in the words of the flags."""
        asked = {"qe": self.qe, "dba": self.dba, "rerank": self.rerank}
        return {name: flag.text for name, flag in asked.items() if flag is not None}

    def _num_images(self, way: str) -> int:
        return self.num_reranked if self.rerank is not None and self.rerank.way == way else 0


def parse_expansion(text: str) -> Expansion:
    """Read ``average[:N]`` or ``alpha[:N[:ALPHA]]``; N is 5 for the average, N and ALPHA are 50 and 3 for alpha.

    Raises
    ------
    UsageError
        It is neither.
    """
    kind, *numbers = text.split(":")
    try:
        if kind == AVERAGE and len(numbers) <= 1:
            return Expansion(int(numbers[0]) if numbers else AVERAGED, text=text)
        if kind == ALPHA and len(numbers) <= 2:
            alpha = float(numbers[1]) if numbers[1:] else POWER
            return Expansion(int(numbers[0]) if numbers else WEIGHTED, alpha, text)
    except ValueError as error:
        raise UsageError(
            f"{text} is no expansion for --qe or --dba: its numbers are whole images and a power"
        ) from error
    raise UsageError(f"{text} is no expansion for --qe or --dba, such as average:5 or alpha:50:3")


def parse_rerank(text: str) -> Reranking:
    """Read ``R[:N]`` or ``geometry[:N]``; N is that of `RERANKED` where it is left out.

    Raises
    ------
    UsageError
        It is neither.
    """
    way, colon, number = text.partition(":")
    if way in RERANKED and not colon:
        return Reranking(way, RERANKED[way], text)
    if way not in RERANKED or not number.isdecimal() or not 1 <= int(number) <= MOST_RESULTS:
        raise UsageError(f"{text} is no re-ranking such as R:1000 or geometry:100, with 1 to {MOST_RESULTS:,} images")
    return Reranking(way, int(number), text)


@dataclass(frozen=True)
class SearchOptions:
    """Engine, number of results, and which results are kept."""

    engine: str = FLAT
    """One of `ENGINES`."""
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


@dataclass(frozen=True)
class VerificationSources:
    """What ``--rerank geometry:N`` compares, and how, as a command is told."""

    features: tuple[Path, ...] = ()
    """Files of features, made by ``extract-features``; together they hold the photos of queries and database."""
    options: VerificationOptions = field(default_factory=VerificationOptions)
    """How photos are verified."""
    jobs: int = 1
    """Processes that verify; changes no figure."""

    def check(self, refinement: Refinement) -> None:
        """Refuse features without verification, and the other way round.

        Raises
        ------
        UsageError
        """
        if refinement.num_verified and not self.features:
            raise UsageError(NO_FEATURES)
        if self.features and not refinement.num_verified:
            raise UsageError("--features are for --rerank geometry:N; leave them out, or ask for it")


@dataclass(frozen=True)
class TeacherOptions:
    """What is done beyond one search of the inverted file."""

    power: float = 1.0
    """Of a word's count in a photo, see `InvertedFile`."""
    num_verified: int = 0
    """First images of a query that are verified and, where they are, go in front; 0: none."""
    num_expanded: int = 0
    """Images that a query is averaged with for a second search, which is then the answer: the first verified ones where
    there is verification, else the first ones. A query without any keeps its first answer. 0: none."""
    hamming: HammingOptions | None = None
    """Tell features of one word apart by their bits. A feature then has its nearest word alone, and `power` is not
    looked at."""
    verification: VerificationOptions = field(default_factory=VerificationOptions)
    """How images are verified."""
    jobs: int = 1
    """Processes that verify; changes no figure."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if not 0 <= self.power <= 1:
            raise UsageError(f"power must be 0 to 1, not {self.power}")
        if min(self.num_verified, self.num_expanded) < 0 or self.jobs < 1:
            raise UsageError("images to verify or expand with cannot be negative, and jobs must be at least 1")

    def as_dict(self) -> dict[str, Any]:
        """The options that change figures, as plain values."""
        plain: dict[str, Any] = {
            "power": self.power,
            "num_verified": self.num_verified,
            "num_expanded": self.num_expanded,
        }
        plain |= {"hamming": asdict(self.hamming)} if self.hamming else {}
        return plain | (asdict(self.verification) if self.num_verified else {})

    @property
    def refinement(self) -> Refinement:
        """What is done beyond one search, as the steps of a pipeline take it."""
        qe = Expansion(self.num_expanded) if self.num_expanded else None
        return Refinement(qe, rerank=Reranking(GEOMETRY, self.num_verified) if self.num_verified else None)
