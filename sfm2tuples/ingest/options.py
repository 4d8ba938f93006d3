"""The options of an index, and their check at the door."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sfm2tuples.errors import UsageError

LARGEST = 2**31 - 1
"""Of every count, which is kept in 32 bits."""


UNKNOWN, APART = "unknown", "apart"
FRAGMENTS = (UNKNOWN, APART)
"""What a pair of images of two models of one place is."""
ALL, GRAPH = "all", "graph"
KEPT = (ALL, GRAPH)
"""What of the models an index holds."""
INSIDE = {None: "auto", True: "yes", False: "no"}
"""How the header of an index says whether relations were asked for."""


@dataclass(frozen=True)
class IngestOptions:
    """What changes the content of an index besides the models, the photos and the places file."""

    min_shared: int = 1
    """Pairs of images that share fewer points are left out of the graph."""
    val_share: float = 0.2
    """Share of the places that goes to validation."""
    seed: int = 0
    """Decides, with a place's name, whether it goes to validation."""
    join_scenes: bool = True
    """Whether models of one scene folder and photo root are one place."""
    min_matches: int = 30
    """Verified matches that a pair of images of two models needs to count for joining them; COLMAP's mapper wants
    as many to register an image."""
    min_match_pairs: int = 3
    """Such pairs of images that join two models."""
    inside: bool | None = None
    """Whether the index says which images of one place cannot have seen the same, and splits places into spots; None:
    where it has fewer than 6 places with photos."""
    fragments: str = UNKNOWN
    """What a pair of images of two models of one place is: unknown, or a proven negative since they are apart."""
    val_names: str | None = None
    """Pattern of the names of images that are held out for validation, instead of a share of the spots or places."""
    keep: str = ALL
    """What of the models is kept: all, or only the graph, with cameras, poses and relations, but without points and
    observations."""

    def __post_init__(self) -> None:
        if self.min_shared < 1:
            raise UsageError(f"min-shared is {self.min_shared}; give 1 point or more")
        if not 0 <= self.val_share <= 1:
            raise UsageError(f"val-share is {self.val_share}; give a share from 0 to 1")
        for name in ("min_matches", "min_match_pairs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name)}; give 1 or more")
        if self.fragments not in FRAGMENTS:
            raise UsageError(f"fragments is {self.fragments}; give {' or '.join(FRAGMENTS)}")
        if self.keep not in KEPT:
            raise UsageError(f"keep is {self.keep}; give {' or '.join(KEPT)}")
        if self.inside is False and (self.val_names is not None or self.fragments != UNKNOWN):
            raise UsageError("--val-names and --fragments need what --no-inside leaves out; give one or the other")
        for name in ("min_shared", "min_matches", "min_match_pairs"):
            if getattr(self, name) > LARGEST:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name)}; give at most {LARGEST:,}")

    def header(self, has_inside: bool) -> dict[str, Any]:
        """What the header of an index says; those of relations are there only where the index has some."""
        said = asdict(self)
        of_relations = {name: said.pop(name) for name in ("inside", "fragments", "val_names")}
        return {**said, **of_relations, "inside": INSIDE[self.inside]} if has_inside else said
