"""What changes the models that are made of photos. Imports little: the command's help reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sfm2tuples.errors import UsageError

AUTO, PER_IMAGE, PER_FOLDER, SINGLE = "auto", "per-image", "per-folder", "single"
CAMERAS = (AUTO, PER_IMAGE, PER_FOLDER, SINGLE)
"""Which photos share a camera."""
GLOBAL, INCREMENTAL = "global", "incremental"
MAPPERS = (GLOBAL, INCREMENTAL)
"""pycolmap's mappers."""
LEAST_IMAGES = 3
"""Images of the smallest model that a mapper makes."""
RATIO = 0.8
"""Most distance of a match, over that of the second-nearest: COLMAP's own."""
MOST_ANGLE = 0.7
"""Most angle between the descriptors of a match, in radians: COLMAP's own."""


@dataclass(frozen=True)
class ReconstructionOptions:
    """How photos become models."""

    num_neighbours: int = 20
    """Photos nearest by the network that each photo is compared with."""
    all_pairs_below: int = 200
    """Of fewer photos than this every pair is compared, and no network is asked."""
    sequence: int = 5
    """Where names of photos of one size count up, each is compared with so many next ones too; 0: with none."""
    network_size: int = 512
    """Longest side in pixels at which the network sees photos."""
    image_size: int = 1600
    """Longest side in pixels at which features are looked for; smaller photos stay as they are."""
    max_features: int = 2500
    """The largest features kept of a photo."""
    cameras: str = AUTO
    """``auto``: one for a folder whose photos have equal sizes and focal lengths, else one a photo; ``per-image``,
    ``per-folder``, ``single``."""
    mapper: str = GLOBAL
    """``global``: few, whole models; ``incremental``."""
    min_images: int = 5
    """Models of fewer images are left out."""
    min_points: int = 30
    """Models of fewer points are left out."""
    seed: int = 0
    """Of verification and mapping."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        least = {"num_neighbours": 1, "all_pairs_below": 0, "sequence": 0, "network_size": 1, "image_size": 1}
        least |= {"max_features": 1, "min_images": LEAST_IMAGES, "min_points": 1, "seed": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UsageError(f"{name.replace('_', ' ')} must be at least {smallest}, not {getattr(self, name)}")
        if self.cameras not in CAMERAS or self.mapper not in MAPPERS:
            known = f"{', '.join(CAMERAS)}; {', '.join(MAPPERS)}"
            raise UsageError(f"cameras {self.cameras!r}, mapper {self.mapper!r}: known are {known}")

    def settings_of(self, step: str) -> dict[str, Any]:
        """What changes the result of a step: ``features``, ``matches``, ``pairs`` or ``mapping``."""
        fields = asdict(self)
        names = {
            "features": ("image_size", "max_features", "cameras"),
            "matches": ("seed",),
            "pairs": ("num_neighbours", "all_pairs_below", "sequence", "network_size"),
            "mapping": ("mapper", "min_images", "min_points", "seed"),
        }
        return {name: fields[name] for name in names[step]}


@dataclass(frozen=True)
class TriangulationOptions:
    """How photos whose cameras and poses are known get tracks."""

    num_neighbours: int = 30
    """Nearest cameras, of those whose viewing cones meet its own, that each photo is compared with."""
    all_pairs_below: int = 200
    """Of fewer photos than this all pairs whose cones meet are compared."""
    image_size: int = 1600
    """Longest side in pixels at which features are looked for; smaller photos stay as they are."""
    max_features: int = 4000
    """The largest features kept of a photo."""
    seed: int = 0
    """Of verification and triangulation."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        least = {"num_neighbours": 1, "all_pairs_below": 0, "image_size": 1, "max_features": 1, "seed": 0}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise UsageError(f"{name.replace('_', ' ')} must be at least {smallest}, not {getattr(self, name)}")
