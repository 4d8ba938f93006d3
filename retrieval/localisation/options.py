"""When a pose is right, and how queries are localised. Imports little: the command's help reads it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfm2tuples.errors import UsageError

METRIC = "0.25:2,0.5:5,5:10"
"""Metres and degrees that are usual in visual localisation [Sattler et al., CVPR 2018]."""
RELATIVE = "0.025:2,0.05:5,0.5:10"
"""Where a unit's length is not known, distances in units of the query's scene depth: the usual ones at 10 m."""
MOST_MATCHED = 20
"""Results of a query that an evaluation keeps, whatever is junk among them."""


@dataclass(frozen=True)
class PoseThreshold:
    """How far a pose may be off."""

    distance: float
    """Of the camera's centre: metres, or units of the scene's depth."""
    degrees: float
    """Of the rotation."""

    def text(self, unit: str) -> str:
        """As people read it: ``0.25 m 2°``."""
        return f"{self.distance:g} {unit} {self.degrees:g}°"


@dataclass(frozen=True)
class PoseThresholds:
    """When a pose is right, and in what its distance is measured."""

    thresholds: tuple[PoseThreshold, ...]
    """Tightest first."""
    scale: float | None = None
    """Metres of a unit of the models; None: distances are in units of the query's scene depth, the median depth of the
    points that it sees."""

    @property
    def unit(self) -> str:
        """``m`` or ``depths``."""
        return "depths" if self.scale is None else "m"

    def texts(self) -> list[str]:
        """Each threshold as people read it."""
        return [threshold.text(self.unit) for threshold in self.thresholds]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        pairs = [[threshold.distance, threshold.degrees] for threshold in self.thresholds]
        return {"unit": self.unit, "metres_per_unit": self.scale, "thresholds": pairs}


def parse_thresholds(text: str | None, scale: float | None = None) -> PoseThresholds:
    """Read ``DISTANCE:DEGREES,…``.

    Parameters
    ----------
    text : str or None
        None: `METRIC` with a scale, else `RELATIVE`.
    scale : float or None
        See `PoseThresholds`.

    Raises
    ------
    UsageError
        It is no list of thresholds, or a number has no meaning.
    """
    if scale is not None and not (scale > 0 and math.isfinite(scale)):
        raise UsageError(f"--scale is the metres of a model's unit, above 0, not {scale}")
    said = text or (RELATIVE if scale is None else METRIC)
    try:
        pairs = [[float(number) for number in part.split(":")] for part in said.split(",")]
    except ValueError as error:
        raise UsageError(_unlike(said)) from error
    if any(len(pair) != 2 or not all(math.isfinite(n) and n > 0 for n in pair) or pair[1] > 180 for pair in pairs):
        raise UsageError(_unlike(said))
    return PoseThresholds(tuple(PoseThreshold(*pair) for pair in sorted(pairs)), scale)


def _unlike(text: str) -> str:
    return f"{text} is no list of DISTANCE:DEGREES, such as {METRIC}, both above 0, and degrees at most 180"


@dataclass(frozen=True)
class LocalisationOptions:
    """How queries are localised."""

    num_matched: int = 10
    """First results of a query that its features are matched with."""
    feature_size: int = 1024
    """Longest side in pixels at which features are looked for; smaller photos stay as they are."""
    max_features: int = 4096
    """The largest features kept of a photo."""
    localise_cache: Path | None = None
    """Database of features and answers, which a later call goes on with; None: nothing is kept."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if not 1 <= self.num_matched <= MOST_MATCHED:
            raise UsageError(f"--num-matched {self.num_matched} is not between 1 and {MOST_MATCHED}")
        if self.feature_size < 1 or self.max_features < 1:
            raise UsageError("--feature-size and --max-features must be at least 1")

    def as_dict(self) -> dict[str, Any]:
        """What changes figures, as plain values."""
        return {
            "num_matched": self.num_matched,
            "feature_size": self.feature_size,
            "max_features": self.max_features,
        }
