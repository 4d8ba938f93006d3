"""Merge models into the columns of one index: rows, keys, photos, places and splits."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.columns import indptr_of
from sfm2tuples.covisibility import Covisibility
from sfm2tuples.errors import DataError
from sfm2tuples.index import Cameras, CovisibilityGraph, Images, Index, Models, Observations, Places, Points
from sfm2tuples.joining import Grouping, group_models, photo_joins, scene_joins
from sfm2tuples.photo_contents import number_photos
from sfm2tuples.places import split_places
from sfm2tuples.readers.discover import ModelLocation
from sfm2tuples.readers.sparse_model import SparseModel


@dataclass(frozen=True)
class BuiltModel:
    """One model, read, with its graph."""

    location: ModelLocation
    """Where it lies."""
    model: SparseModel
    """Its columns; it has images."""
    graph: Covisibility
    """Its co-visibility graph."""


@dataclass(frozen=True)
class PlaceChoices:
    """What the user says about places and splits."""

    listed: Sequence[str | None]
    """By model: its place in the places file, or None."""
    fixed_split: dict[str, int]
    """Place to `TRAIN` or `VAL`, where the places file says so."""
    val_share: float
    """Share of the places that goes to validation."""
    seed: int
    """Seed of the split."""


def merge_models(
    built: Sequence[BuiltModel], photo_roots: Sequence[Path | None], choices: PlaceChoices
) -> tuple[Index, Grouping]:
    """Merge models into one index.

    Parameters
    ----------
    built : sequence of BuiltModel
        In the order of their rows.
    photo_roots : sequence of Path or None
        For each model the folder that its image names are relative to; None where its photos were not found.
    choices : PlaceChoices

    Returns
    -------
    Index
        Its header is None.
    Grouping
        How the models were joined, with the evidence that the places file overrules.
    """
    models = [b.model for b in built]
    image_start = indptr_of(np.array([len(m.image_ids) for m in models]))
    point_start = indptr_of(np.array([len(m.point_ids) for m in models]))
    camera_start = indptr_of(np.array([len(m.camera_ids) for m in models]))
    roots = ["" if root is None else os.path.abspath(root) for root in photo_roots]
    images = _images(built, roots, camera_start)
    scenes = [b.location.scene for b in built]
    names = [b.location.name for b in built]
    joins = photo_joins(images.photo, images.has_photo, images.model) + scene_joins(scenes, roots)
    grouping = group_models(names, scenes, joins, choices.listed)
    index = Index(
        header=None,
        models=Models(names, roots, grouping.place, image_start, point_start, camera_start),
        cameras=_cameras(models),
        images=images,
        observations=_observations(models, point_start),
        points=_points(models),
        covisibility=_graph([b.graph for b in built], image_start),
        places=_places(grouping, images, choices),
    )
    return index, grouping


def photo_keys(
    image_names: Sequence[Sequence[str]], photo_roots: Sequence[str], scenes: Sequence[Path]
) -> list[list[str]]:
    """Key of each image: its photo's path relative to the common parent of the photo roots.

    A model without photos is named as if they lay in its scene folder's `images/`.

    Parameters
    ----------
    image_names : sequence of sequence of str
        By model: names relative to its photo root.
    photo_roots : sequence of str
        By model: absolute path, or "".
    scenes : sequence of Path
        By model: its scene folder, absolute.
    """
    folders = [root or str(scene / "images") for root, scene in zip(photo_roots, scenes, strict=True)]
    base = os.path.commonpath(folders)
    prefixes = [Path(os.path.relpath(folder, base)).as_posix() for folder in folders]
    for folder, prefix in zip(folders, prefixes, strict=True):
        if any("\ud800" <= letter <= "\udfff" for letter in prefix):
            raise DataError(folder, "the folder's name is not UTF-8", "rename it")
    return [
        [posixpath.normpath(f"{prefix}/{name}") for name in names]
        for prefix, names in zip(prefixes, image_names, strict=True)
    ]


def _images(built: Sequence[BuiltModel], roots: Sequence[str], camera_start: np.ndarray) -> Images:
    models = [b.model for b in built]
    model_keys = photo_keys([m.image_names for m in models], roots, [b.location.scene for b in built])
    keys = [key for part in model_keys for key in part]
    names = [name for m in models for name in m.image_names]
    row_roots = [root for root, m in zip(roots, models, strict=True) for _ in m.image_names]
    files = [os.path.normpath(f"{root}/{name}") if root else "" for root, name in zip(row_roots, names, strict=True)]
    photo, has_photo = number_photos(files, keys)
    return Images(
        key=keys,
        name=names,
        id=np.concatenate([m.image_ids for m in models]).astype(np.int64),
        model=np.repeat(np.arange(len(models)), [len(m.image_ids) for m in models]),
        camera=_shifted([m.image_cameras for m in models], camera_start),
        quaternion=np.concatenate([m.quaternions for m in models]),
        translation=np.concatenate([m.translations for m in models]),
        photo=photo,
        has_photo=has_photo,
    )


def _cameras(models: Sequence[SparseModel]) -> Cameras:
    return Cameras(
        id=np.concatenate([m.camera_ids for m in models]).astype(np.int64),
        model=np.concatenate([m.camera_models for m in models]).astype(np.int32),
        size=np.concatenate([m.camera_sizes for m in models]).astype(np.int64),
        indptr=_joined_indptr([m.camera_indptr for m in models]),
        params=np.concatenate([m.camera_params for m in models]),
    )


def _observations(models: Sequence[SparseModel], point_start: np.ndarray) -> Observations:
    return Observations(
        indptr=_joined_indptr([m.observation_indptr for m in models]),
        point=_shifted([m.observation_points for m in models], point_start),
        xy=np.concatenate([m.observation_xy for m in models]).astype(np.float32),
    )


def _points(models: Sequence[SparseModel]) -> Points:
    return Points(
        id=np.concatenate([m.point_ids for m in models]).astype(np.int64),
        xyz=np.concatenate([m.points for m in models]),
        error=np.concatenate([m.point_errors for m in models]),
    )


def _graph(graphs: Sequence[Covisibility], image_start: np.ndarray) -> CovisibilityGraph:
    return CovisibilityGraph(
        indptr=_joined_indptr([g.indptr for g in graphs]),
        neighbour=_shifted([g.neighbour for g in graphs], image_start),
        shared=np.concatenate([g.shared for g in graphs]),
        scale_change=np.concatenate([g.scale_change for g in graphs]),
        angle=np.concatenate([g.angle for g in graphs]),
        axis_angle=np.concatenate([g.axis_angle for g in graphs]),
    )


def _places(grouping: Grouping, images: Images, choices: PlaceChoices) -> Places:
    with_photos = np.bincount(grouping.place[images.model[images.has_photo]], minlength=len(grouping.name)) > 0
    split = split_places(grouping.name, with_photos.tolist(), choices.fixed_split, choices.val_share, choices.seed)
    return Places(name=grouping.name, split=split, reason=grouping.reason)


def _shifted(rows: Sequence[np.ndarray], start: np.ndarray) -> np.ndarray:
    """Rows within each model to rows of the index."""
    return np.concatenate([part + first for part, first in zip(rows, start[:-1], strict=True)]).astype(np.int64)


def _joined_indptr(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One CSR's row starts from those of its parts."""
    return indptr_of(np.concatenate([np.diff(part) for part in parts]))
