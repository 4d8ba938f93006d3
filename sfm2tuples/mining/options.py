"""The options of mining, and their check at the door."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from sfm2tuples.errors import UsageError

POSITIVES = ("m1", "m2", "m3")
NEGATIVES = ("N1", "N2", "random", "semi-hard")
"""Names of the rules; `sfm2tuples.mining.negatives.RULES` has a function for each."""
EXACT, IVF = "exact", "ivf"
SEARCHES = (EXACT, IVF)
AUTO, NO = "auto", "no"
"""`across`: sequences as names, cameras or EXIF tell them apart; none."""
NEAR_DUPLICATE = 0.95
"""Overlap, the smaller of both ways, above which two photos of one site teach nothing (ours). [method.md section 4]"""


@dataclass(frozen=True)
class PoolStrategy:
    """Which images negatives are chosen from: method.md section 5."""

    ends: bool
    """Whether the chosen queries and positives belong to it."""
    per_place: int
    """Random images of every place; 0 for none."""
    total: int
    """Random images up to this size of the pool; 0 for none."""

    @classmethod
    def of(cls, text: str) -> PoolStrategy:
        """The strategy that `--pool` names: ``ends+per-place:N``, ``ends+random:N`` or ``random:N``.

        Raises
        ------
        UsageError
            It is none of these.
        """
        kind, _, number = text.partition(":")
        if kind not in ("ends+per-place", "ends+random", "random") or not number.isascii() or not number.isdigit():
            raise UsageError(f"--pool {text}: give ends+per-place:N, ends+random:N or random:N")
        _at_least("pool", int(number), 1)
        per_place = kind == "ends+per-place"
        return cls(kind != "random", int(number) if per_place else 0, 0 if per_place else int(number))

    def __str__(self) -> str:
        """The text that `of` reads, as `--pool` and files have it."""
        kind = "per-place" if self.per_place else "random"
        return f"{'ends+' if self.ends else ''}{kind}:{self.per_place or self.total}"


@dataclass(frozen=True)
class MiningOptions:
    """Everything that decides which tuples are mined; a command's flags are these fields."""

    positives: str = "m3"
    """How positives are chosen: m1 nearest by descriptor, m2 most shared points, m3 random among the allowed."""
    negatives: str = "N2"
    """How negatives are chosen: N1 nearest, N2 nearest with one a place, random, semi-hard."""
    num_positives: int = 1
    """Positives of a tuple."""
    num_negatives: int = 5
    """Negatives of a tuple."""
    inside: bool | None = None
    """Whether negatives are mined inside places too, where the models prove them; None: where places are too few."""
    num_candidates: int = 100
    """Size of M(q), the images with most shared points that positives are chosen from."""
    min_overlap: float = 0.2
    """m3: least share of the query's points that the positive sees too."""
    max_scale_change: float = 1.5
    """m3: most change of scale between query and positive."""
    min_shared: int = 1
    """Least number of shared points of any positive."""
    max_angle: float | None = None
    """Largest mean viewing angle between query and positive, in degrees; None for no limit."""
    max_overlap: float | None = None
    """Pairs with more overlap both ways are near-duplicates and no positives; 1 for no limit. None: as the way of
    mining asks, which is 0.95 from inside one site, and no limit where negatives are other places."""
    across: str | None = None
    """m3: prefer positives of other sequences: ``auto``, ``no``, or a regular expression, see
    `sfm2tuples.mining.sequences`. None: as the way of mining asks, ``auto`` from inside one site, else ``no``."""
    query_share: float = 0.1
    """Share of a place's images that become queries, rounded up."""
    queries_per_place: int = 30
    """Most queries of one place."""
    num_queries: int | None = None
    """Most queries in all, taken from the places in turn; None for no limit."""
    pool: PoolStrategy = PoolStrategy(ends=True, per_place=20, total=0)
    """What negatives are chosen from."""
    margin: float = 0.1
    """semi-hard: how much farther than the positive a negative may be."""
    max_negative_similarity: float | None = None
    """More similar images are no negatives, as they may show the query's place; None for no limit."""
    search: str = EXACT
    """How the most similar are found: ``exact``, or ``ivf`` by inverted lists, which misses some: for pools beyond
    a million images."""
    seed: int = 0
    """Seed of every draw."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing, each in one line."""
        _one_of("positives", self.positives, POSITIVES)
        _one_of("negatives", self.negatives, NEGATIVES)
        _one_of("search", self.search, SEARCHES)
        for name in ("num_positives", "num_negatives", "num_candidates", "min_shared", "queries_per_place"):
            _at_least(name, getattr(self, name), 1)
        if self.num_queries is not None:
            _at_least("num_queries", self.num_queries, 1)
        if not 0 < self.query_share <= 1:
            raise UsageError(f"--query-share {self.query_share}: a share is above 0 and at most 1")
        if not 0 <= self.min_overlap <= 1:
            raise UsageError(f"--min-overlap {self.min_overlap}: an overlap lies between 0 and 1")
        if not self.max_scale_change >= 1:
            raise UsageError(f"--max-scale-change {self.max_scale_change}: a scale change is at least 1")
        if self.max_angle is not None and not self.max_angle > 0:
            raise UsageError(f"--max-angle {self.max_angle}: an angle in degrees is above 0")
        if self.max_overlap is not None and not 0 < self.max_overlap <= 1:
            raise UsageError(f"--max-overlap {self.max_overlap}: an overlap above 0 and at most 1")
        if self.across is not None:
            _compiles("across", self.across)
        if not self.margin > 0:
            raise UsageError(f"--margin {self.margin}: must be above 0")

    @property
    def needs_descriptors(self) -> bool:
        """Whether any choice looks at descriptors."""
        return self.positives == "m1" or self.negatives != "random"

    def for_one_site(self) -> MiningOptions:
        """The same with what mining from inside one site asks for where the user left it open."""
        return replace(
            self,
            max_overlap=NEAR_DUPLICATE if self.max_overlap is None else self.max_overlap,
            across=AUTO if self.across is None else self.across,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as files have them; `mining_options` reads them back.

        What was left open is absent, and `inside` is there only where it is so.
        """
        values = asdict(self) | {"pool": str(self.pool), "inside": self.inside or None}
        return {name: value for name, value in values.items() if name not in LEFT_OPEN or value is not None}


LEFT_OPEN = ("inside", "max_overlap", "across")
"""Fields whose None is decided by the way of mining; files without them are as they were before there were any."""


def mining_options(values: dict[str, Any]) -> MiningOptions:
    """Options from flags, or from a part of a file's header.

    Parameters
    ----------
    values : dict
        Field names and values, the pool as text; absent fields keep their defaults.

    Raises
    ------
    UsageError
        A key that is no field, or a value without meaning.
    """
    known = {f.name for f in fields(MiningOptions)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"unknown mining option {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    pool = {"pool": PoolStrategy.of(values["pool"])} if "pool" in values else {}
    return MiningOptions(**values | pool)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"--{name.replace('_', '-')} {value}: give one of {', '.join(allowed)}")


def _compiles(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        what = f"--{name} {pattern}: no regular expression ({error})"
        raise UsageError(f"{what}; give {AUTO}, {NO} or one such as 'day|night'") from error


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise UsageError(f"--{name.replace('_', '-')} {value}: must be at least {least}")
