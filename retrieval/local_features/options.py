"""How local features are compared: by the bits of one word, and by a geometry that matches agree on."""

from __future__ import annotations

from dataclasses import dataclass

from sfm2tuples.errors import UsageError

GEOMETRIES = {"fundamental": 7, "homography": 4, "affine": 3}
"""Models of the motion between two photos, and how many matches fix one."""
BITS = 64
"""Bits of a signature."""


@dataclass(frozen=True)
class HammingOptions:
    """Which features of one word match, and how much they count."""

    max_distance: int = 24
    """Bits that two features may differ in."""
    spread: float = 16.0
    """A match counts exp(-bits²/spread²)."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if not 0 <= self.max_distance <= BITS:
            raise UsageError(f"Hamming distance must be 0 to {BITS}, not {self.max_distance}")
        if not self.spread > 0:
            raise UsageError(f"Hamming spread must be above 0, not {self.spread}")


@dataclass(frozen=True)
class VerificationOptions:
    """How features are matched and what the matches must agree on."""

    geometry: str = "fundamental"
    """One of `GEOMETRIES`."""
    ratio: float = 0.85
    """A match's distance is at most this share of the distance to the next descriptor of that photo."""
    max_error: float = 4.0
    """Pixels of the photos as they were looked at that a match may be off."""
    min_inliers: int = 15
    """Matches that must agree for a photo to be verified."""
    expand_inliers: int = 15
    """Matches that must agree for a query to be averaged with a verified photo."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.geometry not in GEOMETRIES:
            raise UsageError(f"no geometry is called {self.geometry}; there are {', '.join(GEOMETRIES)}")
        if not 0 < self.ratio <= 1:
            raise UsageError(f"ratio must be above 0 and at most 1, not {self.ratio}")
        if not self.max_error > 0:
            raise UsageError(f"max error must be above 0 pixels, not {self.max_error}")
        if self.min_inliers < GEOMETRIES[self.geometry]:
            least = GEOMETRIES[self.geometry]
            raise UsageError(f"min inliers {self.min_inliers} is below the {least} that fix a {self.geometry}")
        if self.expand_inliers < 1:
            raise UsageError(f"expand inliers must be at least 1, not {self.expand_inliers}")
