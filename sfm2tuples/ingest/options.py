"""The options of an index, and their check at the door."""

from __future__ import annotations

from dataclasses import dataclass

from sfm2tuples.errors import UsageError

LARGEST = 2**31 - 1
"""Of every count, which is kept in 32 bits."""


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

    def __post_init__(self) -> None:
        if self.min_shared < 1:
            raise UsageError(f"min-shared is {self.min_shared}; give 1 point or more")
        if not 0 <= self.val_share <= 1:
            raise UsageError(f"val-share is {self.val_share}; give a share from 0 to 1")
        for name in ("min_matches", "min_match_pairs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name)}; give 1 or more")
        for name in ("min_shared", "min_matches", "min_match_pairs"):
            if getattr(self, name) > LARGEST:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name)}; give at most {LARGEST:,}")
