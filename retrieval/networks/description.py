"""What a network is made of, as plain values: enough to build it anew, without its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from sfm2tuples.errors import UsageError, shown
from sfm2tuples.files.plain_fields import odd_field

Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
"""Mean colour that torchvision's weights were trained with; RGB in 0..1."""
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)
"""Standard deviation that goes with it."""
L2_EPS = 1e-6
"""Added to the norm in every L2 normalisation ([C])."""
LARGEST_SIDE = 4096
"""Pixels of a photo's side that a network may warp photos to."""

FOR_PEOPLE = ("weights", "prepared")
"""Fields that say where weights came from; a network's fingerprint covers the weights themselves."""
_LATER = ("regional", "local_whitening", "clusters", "output_dim", "prepared", "pooling_sizes", "photo_size")
"""Fields that came after the first checkpoints: written where they are set, so that older files keep their meaning."""


@dataclass(frozen=True)
class NetworkDescription:
    """What a network is made of; the same fields describe it in checkpoints."""

    backbone: str
    """Its name; `networks.by_name` has all of them."""
    pooling: str
    """Its name, likewise."""
    whole_image: bool = False
    """For R-MAC and regions: the whole map is one region more ([C], [M])."""
    mean: Colour = IMAGENET_MEAN
    """Subtracted from RGB in 0..1 before the backbone."""
    std: Colour = IMAGENET_STD
    """Divides what is left."""
    l2_eps: float = L2_EPS
    """Added to the norm that divides the descriptor."""
    weights: str = ""
    """Where the first weights came from: a file's name, or the seed of random ones; for people to read."""
    regional: bool = False
    """Pool each region of R-MAC's grid, project it by a learned layer, and sum ([G16]; `regional` in [C])."""
    local_whitening: bool = False
    """A learned linear layer on each cell of the map, before pooling (`local_whitening` in [C])."""
    clusters: int = 0
    """NetVLAD's centres, SALAD's clusters; 0 for every other pooling."""
    output_dim: int = 0
    """Dimension of the learned whitening layer at the end; 0 where there is none."""
    prepared: str = ""
    """What was learned from photos before training (NetVLAD's centres, the projection of regions); for people."""
    pooling_sizes: tuple[int, ...] = ()
    """Sizes of the pooling's layers, in the order of its class's `sizes`; empty where it has none."""
    photo_size: tuple[int, ...] = ()
    """Height and width in pixels that every photo is warped to; empty where photos keep their own shape."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.clusters < 0 or self.output_dim < 0:
            raise UsageError(f"clusters {self.clusters} and output_dim {self.output_dim} cannot be below 0")
        if self.photo_size and (len(self.photo_size) != 2 or not all(1 <= s <= LARGEST_SIDE for s in self.photo_size)):
            sides = f"height and width in pixels, at most {LARGEST_SIDE:,}"
            raise UsageError(f"a photo size is {sides}, such as 322x322, not {'x'.join(map(str, self.photo_size))}")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkDescription:
        """Rebuild from `to_dict`.

        Raises
        ------
        UsageError
            A key is unknown, one that has no default is missing, or a value is of another kind than its field.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(f"a network's description has no {', '.join(unknown)}")
        missing = sorted({"backbone", "pooling"} - set(values))
        if missing:
            raise UsageError(f"a network's description needs {', '.join(missing)}")
        odd = odd_field(values, cls)
        if odd is not None:
            raise UsageError(f"a network's description has {shown(values[odd])} for {odd}")
        # JSON and checkpoints know lists only.
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and file headers."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in values.items() if value or key not in _LATER}
