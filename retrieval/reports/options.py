"""How much of a file a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retrieval.metrics.kept_images import FIRST
from sfm2tuples.errors import UsageError


@dataclass(frozen=True)
class ReportOptions:
    """What a page shows, and how much of it."""

    num_tuples: int = 40
    """Of a tuple file: tuples of each split, balanced over places."""
    index: Path | None = None
    """The index that a tuple file was mined from, to draw the points that queries and positives both see."""
    photo_size: int = 320
    """Longest side of the photos on the page, in pixels."""
    num_queries: int = 10
    """Of an evaluation: queries of each kind (worst, best, and those in which one of two ways is ahead)."""
    num_ranked: int = 10
    """Of an evaluation: first ranked images of a query, not counting the junk among them."""
    setup: str | None = None
    """Of an evaluation's setups the one that is shown; Medium, or the first, by default."""
    compare: Path | None = None
    """Another evaluation of the same queries; the teacher of the evaluation itself by default."""
    images: Path | None = None
    """Folder of an evaluation's photos, where they are not where `evaluate` found them."""

    title: str | None = None
    """What the page is about, in place of the file's name."""
    called: str | None = None
    """Of an evaluation: what it is called beside another one, in place of its file's name."""
    compare_called: str | None = None
    """What that other one is called."""

    num_models: int = 12
    """Of an index: models seen from above, those with the most images."""
    num_places: int = 6
    """Of an index: places whose shared points are drawn, those with the most images."""
    num_pairs: int = 20
    """Of an index: pairs of places that look alike. Of it and of tuples: pairs of photos to check, of each kind."""
    descriptors: Path | None = None
    """Descriptors of an index's photos, to look for places that look alike."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("num_tuples", "num_queries", "num_models", "num_places", "num_pairs"):
            value = getattr(self, name)
            if value < 0:
                raise UsageError(f"--{name.replace('_', '-')} {value}: give a number of at least 0")
        if self.photo_size < 16:
            raise UsageError(f"--photo-size {self.photo_size}: give at least 16 pixels")
        if not 0 <= self.num_ranked <= FIRST:
            what = f"an evaluation keeps the first {FIRST} that are not junk; give 0 to as many"
            raise UsageError(f"--num-ranked {self.num_ranked}: {what}")
