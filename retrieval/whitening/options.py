"""What decides a whitening besides the descriptors."""

from __future__ import annotations

from dataclasses import dataclass

from sfm2tuples.errors import UsageError
from sfm2tuples.index.splits import SPLITS
from sfm2tuples.mining.options import MiningOptions

METHODS = ("lw", "pca")
ALL_SPLITS = "all"


@dataclass(frozen=True)
class WhiteningOptions:
    """What decides a whitening besides the descriptors."""

    method: str = "lw"
    """``lw`` from matching pairs, ``pca`` from the images alone."""
    dim: int | None = None
    """Dimensions to keep; None for all."""
    shrinkage: float | None = None
    """λ in 0..1, 0 as published. None is auto: for lw chosen by leaving places out; pca is left as published."""
    split: str = "train"
    """Places to learn from: ``train``, ``val`` or ``all``; an evaluation on the val places needs ``train``."""
    min_overlap: float = 0.2
    """Least share of the query's points that its partner sees too, as in m3."""
    max_scale_change: float = 1.5
    """Most change of scale between the two, as in m3."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.method not in METHODS:
            raise UsageError(f"unknown method {self.method}; choose from {', '.join(METHODS)}")
        if self.split not in (*SPLITS, ALL_SPLITS):
            raise UsageError(f"unknown split {self.split}; choose from {', '.join((*SPLITS, ALL_SPLITS))}")
        if self.dim is not None and self.dim < 1:
            raise UsageError(f"dim must be at least 1, not {self.dim}")
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise UsageError(f"shrinkage {self.shrinkage} is not between 0 and 1")

    @property
    def mining(self) -> MiningOptions:
        """The rule that says which images match: m3."""
        return MiningOptions(positives="m3", min_overlap=self.min_overlap, max_scale_change=self.max_scale_change)
