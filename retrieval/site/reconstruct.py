"""Photos without a model: the one place where `tune` asks for models of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sfm2tuples.errors import DataError


def models_of_photos(roots: Sequence[Path], models: Path) -> Path:
    """Make models of loose photos, and return the folder that holds them.

    Raises
    ------
    DataError
        It cannot be done.
    """
    remedy = "make models of its photos first (COLMAP: feature extraction, matching, mapper), and give their folder"
    raise DataError(roots[0], "holds photos and no model", remedy)
