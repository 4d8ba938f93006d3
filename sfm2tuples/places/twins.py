"""Twins: models of one scene folder whose images are all in another model there, such as an undistorted copy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

COPIES = ("dense", "distorted")
"""Folders whose model is another form of the one in `sparse`: COLMAP's, and 3D Gaussian Splatting's."""


@dataclass(frozen=True)
class TwinCandidate:
    """What decides between two models that hold the same images."""

    scene: Path
    """Scene folder of the model, absolute."""
    path: Path
    """Folder of the model."""
    images: Sequence[str]
    """Names of its images."""
    listed: bool
    """Whether the places file lists it."""
    num_points: int
    """Points of the model."""


def find_twins(models: Sequence[TwinCandidate]) -> dict[int, int]:
    """Find the models to leave out.

    Kept is the model with more images, then the one in the places file, then `sparse/*` before `dense/*` and
    `distorted/*`, then the one with more points, then the first.

    Parameters
    ----------
    models : sequence of TwinCandidate

    Returns
    -------
    dict
        Row of each twin to the row of a model that is kept and holds all its images.
    """
    by_scene: dict[Path, list[int]] = defaultdict(list)
    for row, model in enumerate(models):
        by_scene[model.scene].append(row)
    twins: dict[int, int] = {}
    for rows in by_scene.values():
        if len(rows) > 1:
            twins.update(_twins_of_scene(sorted(rows, key=lambda row: _rank(models[row], row)), models))
    return twins


def _rank(model: TwinCandidate, row: int) -> tuple[int, bool, bool, int, int]:
    """Where a model stands in its scene: the first is kept."""
    parts = model.path.absolute().parts[len(model.scene.parts) :]
    copy = any(folder in parts for folder in COPIES)
    return (-len(model.images), not model.listed, copy, -model.num_points, row)


def _twins_of_scene(ranked: Sequence[int], models: Sequence[TwinCandidate]) -> dict[int, int]:
    """Go from the best model down; a model is a twin where one kept model holds each of its images."""
    twins: dict[int, int] = {}
    kept_with: dict[str, set[int]] = defaultdict(set)
    rank = {row: place for place, row in enumerate(ranked)}
    for row in ranked:
        names = models[row].images
        holders = _held_by_all([kept_with.get(name, set()) for name in names])
        if holders:
            twins[row] = min(holders, key=rank.__getitem__)
            continue
        for name in names:
            kept_with[name].add(row)
    return twins


def _held_by_all(holders: Sequence[set[int]]) -> set[int]:
    """Rows that are in every set, looked at from the smallest set on."""
    if not holders:
        return set()
    return min(holders, key=len).intersection(*holders)
