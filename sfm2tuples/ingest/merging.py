"""Merge the parts of an index: rows, keys, photos, places and splits in memory, the large columns as streams."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from sfm2tuples.files.columns import ColumnStream, Utf8Strings, indptr_of
from sfm2tuples.files.remote.address import Address, as_local
from sfm2tuples.files.tables import Column
from sfm2tuples.index.schema import POINT_TABLES, Places
from sfm2tuples.ingest.part_files import BOUNDED, COLUMNS, KINDS, ModelRecord, Part
from sfm2tuples.ingest.rounding import MOST_LOST, half_of
from sfm2tuples.places.grouping import Grouping, Join, group_models, photo_joins, scene_joins
from sfm2tuples.places.photo_contents import PhotoFile, number_photos
from sfm2tuples.places.splits import split_places
from sfm2tuples.readers.discover import ModelLocation

BLOCK_ROWS = 1 << 19
"""Rows of one model that are gathered at a time: a few megabytes."""
SHIFTED = {"images/camera": "cameras", "observations/point": "points", "covisibility/neighbour": "images"}
"""Columns of rows within a model, and what they are rows of: in the index they count from its first row."""
LENGTHS = {
    "cameras/indptr": "cameras/num_params",
    "observations/indptr": "images/num_observations",
    "covisibility/indptr": "images/num_neighbours",
}
"""Row starts of the index, and the column of a part that they are summed from."""


@dataclass(frozen=True)
class StoredModel:
    """A model in a part."""

    location: ModelLocation
    """Where it was read from."""
    part: Part
    """The part that holds it."""
    row: int
    """Its row there."""
    image_names: list[str]
    """COLMAP's names."""

    @property
    def record(self) -> ModelRecord:
        """What the part says of it."""
        return self.part.models[self.row]


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
    matches: Sequence[Join] = ()
    """Joins by the verified matches of COLMAP's databases."""
    join_scenes: bool = True
    """Whether models of one scene folder and photo root are one place."""


@dataclass(frozen=True)
class MergedImages:
    """The images of all models, as far as places and photos need them."""

    key: list[str]
    """Key of each image."""
    model: np.ndarray
    """(n,) int64, row of the model."""
    photo: np.ndarray
    """(n,) int64, first row whose photo has the same content."""
    has_photo: np.ndarray
    """(n,) bool, whether the photo is there."""


@dataclass(frozen=True)
class MergedIndex:
    """All models as one index."""

    images: MergedImages
    """Their images."""
    grouping: Grouping
    """How the models were joined, with the evidence that the places file overrules."""
    places: Places
    """The places, with their splits."""
    tables: dict[str, dict[str, Column]]
    """All columns of the index by group and name; the large ones are streams over the parts."""


def merge_models(
    models: Sequence[StoredModel], photo_roots: Sequence[PhotoFile], choices: PlaceChoices, lean: bool = False
) -> MergedIndex:
    """Merge models into one index.

    Parameters
    ----------
    models : sequence of StoredModel
        In the order of their rows.
    photo_roots : sequence of str or Address
        By model: absolute path that its image names are relative to, or "" where its photos were not found.
    choices : PlaceChoices
    lean : bool
        Leave out points and observations, which lean parts do not have.
    """
    images = _merge_images(models, photo_roots)
    roots = [str(root) for root in photo_roots]
    grouping, places = _group_into_places(models, roots, images, choices)
    tables = _merge_columns(models, roots, images, grouping, places)
    if lean:
        tables = {name: table for name, table in tables.items() if name not in POINT_TABLES}
    return MergedIndex(images, grouping, places, tables)


def stored_models(part: Part, locations: Sequence[ModelLocation | None]) -> list[StoredModel]:
    """The models of a part with their names.

    Parameters
    ----------
    part : Part
    locations : sequence of ModelLocation or None
        For each of its rows where the model lies; None for a model that is not wanted.
    """
    lengths = part.read_whole("images/num_name_bytes")
    names = Utf8Strings(part.read_whole("images/name"), indptr_of(lengths)).tolist()
    images = itertools.pairwise(part.starts["images"].tolist())
    return [
        StoredModel(location, part, row, names[start:end])
        for row, (location, (start, end)) in enumerate(zip(locations, images, strict=True))
        if location is not None
    ]


def photo_keys(
    image_names: Sequence[Sequence[str]], photo_roots: Sequence[PhotoFile], scenes: Sequence[Path]
) -> list[list[str]]:
    """Key of each image: its photo's path relative to the common parent of the photo roots.

    A model without photos is named as if they lay in its scene folder's `images/`.

    Parameters
    ----------
    image_names : sequence of sequence of str
        By model: names relative to its photo root.
    photo_roots : sequence of str or Address
        By model: absolute path, or "".
    scenes : sequence of Path
        By model: its scene folder, absolute.
    """
    folders = [
        as_local(root) if isinstance(root, Address) else root or str(scene / "images")
        for root, scene in zip(photo_roots, scenes, strict=True)
    ]
    base = os.path.commonpath(folders)
    prefixes = [Path(os.path.relpath(folder, base)).as_posix() for folder in folders]
    return [
        [posixpath.normpath(f"{prefix}/{name}") for name in names]
        for prefix, names in zip(prefixes, image_names, strict=True)
    ]


def _merge_images(models: Sequence[StoredModel], photo_roots: Sequence[PhotoFile]) -> MergedImages:
    """Keys and photos of all images."""
    names = [model.image_names for model in models]
    keys = list(itertools.chain.from_iterable(photo_keys(names, photo_roots, [_scene(m.location) for m in models])))
    files = [
        root / name if isinstance(root, Address) else os.path.normpath(f"{root}/{name}") if root else ""
        for root, model_names in zip(photo_roots, names, strict=True)
        for name in model_names
    ]
    photo, has_photo = number_photos(files, keys)
    model_of = np.repeat(np.arange(len(models)), [len(n) for n in names])
    return MergedImages(keys, model_of, photo, has_photo)


def _scene(location: ModelLocation) -> Path:
    """The scene folder of a model, of one elsewhere as `as_local` has it."""
    mirror = location.elsewhere
    return location.scene if mirror is None else Path("/", location.scene.relative_to(mirror.top))


def _group_into_places(
    models: Sequence[StoredModel], photo_roots: Sequence[str], images: MergedImages, choices: PlaceChoices
) -> tuple[Grouping, Places]:
    """Join models into places, by shared photos, verified matches and scene folders; split the places."""
    scenes = [model.location.scene for model in models]
    joins = photo_joins(images.photo, images.has_photo, images.model) + list(choices.matches)
    if choices.join_scenes:
        joins += scene_joins(scenes, photo_roots)
    grouping = group_models([model.location.name for model in models], scenes, joins, choices.listed)
    with_photos = np.bincount(grouping.place[images.model[images.has_photo]], minlength=len(grouping.name)) > 0
    split = split_places(grouping.name, with_photos.tolist(), choices.fixed_split, choices.val_share, choices.seed)
    return grouping, Places(name=grouping.name, split=split, reason=grouping.reason)


def _merge_columns(
    models: Sequence[StoredModel],
    photo_roots: Sequence[str],
    images: MergedImages,
    grouping: Grouping,
    places: Places,
) -> dict[str, dict[str, Column]]:
    """All columns of the index by group and name; the large ones are streams over the parts."""
    segments = _segments(models)
    starts = {kind: indptr_of(np.array([model.record.counts[kind] for model in models])) for kind in KINDS}
    columns: dict[str, Column] = {
        "models/name": [model.location.name for model in models],
        "models/photo_root": list(photo_roots),
        "models/place": grouping.place,
        "models/image_start": starts["images"],
        "models/point_start": indptr_of(np.array([model.record.num_points for model in models])),
        "models/camera_start": starts["cameras"],
        "images/key": images.key,
        "images/model": images.model,
        "images/photo": images.photo,
        "images/has_photo": images.has_photo,
        **{f"places/{name}": column for name, column in vars(places).items()},
    }
    for name, (kind, dtype, width) in COLUMNS.items():
        if name not in ("images/name", "images/num_name_bytes", *LENGTHS.values()):
            shift = starts[SHIFTED[name]] if name in SHIFTED else None
            blocks, shape = partial(_blocks, segments, name, shift), (int(starts[kind][-1]), *width)
            columns[name] = ColumnStream(np.dtype(dtype), shape, blocks, _bounds(models, name, shift))
    columns |= _point_columns(models, segments)

    def whole(name: str) -> np.ndarray:
        return np.concatenate(list(_blocks(segments, name, None)))

    columns["images/name"] = Utf8Strings(whole("images/name"), indptr_of(whole("images/num_name_bytes")))
    columns |= {name: indptr_of(whole(lengths)) for name, lengths in LENGTHS.items()}
    tables: dict[str, dict[str, Column]] = {}
    for name, column in columns.items():
        group, _, field = name.partition("/")
        tables.setdefault(group, {})[field] = column
    return tables


def _bounds(models: Sequence[StoredModel], name: str, shift: np.ndarray | None) -> tuple[int, int] | None:
    """Between what the values of a column of whole numbers lie; None where it is no such column."""
    if shift is not None:
        return 0, int(shift[-1])
    if name not in BOUNDED:
        return None
    bounds = [model.record.bounds[name] for model in models]
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _point_columns(models: Sequence[StoredModel], segments: Sequence[_Segment]) -> dict[str, Column]:
    """Positions relative to their models' centres, in single precision where that moves no photo's points; errors.

    Where one model would lose more than `MOST_LOST`, the positions of all are kept as they are.
    """
    count, centre = sum(model.record.counts["points"] for model in models), np.zeros((len(models), 3))
    dtype: np.dtype = np.dtype(np.float64)
    if all(model.record.rounding <= MOST_LOST for model in models):
        centre, dtype = np.array([model.record.centre for model in models]).reshape(-1, 3), np.dtype(np.float32)
    xyz, error = partial(_blocks, segments, "points/xyz", -centre), partial(_blocks, segments, "points/error", None)
    return {
        "points/xyz": ColumnStream(dtype, (count, 3), xyz),
        "points/error": ColumnStream(np.dtype(np.float16), (count,), lambda: map(half_of, error())),
        "points/centre": centre,
    }


@dataclass(frozen=True)
class _Segment:
    """Consecutive models of the index that lie in one part, in the same order."""

    part: Part
    rows: np.ndarray
    """(k,) rows of the part, rising."""
    first: int
    """Row of the first model in the index."""


def _segments(models: Sequence[StoredModel]) -> list[_Segment]:
    """Cut the models where the part changes, or its order is another one."""
    segments: list[_Segment] = []
    rows: list[int] = []
    for position, model in enumerate(models):
        rows.append(model.row)
        following = models[position + 1] if position + 1 < len(models) else None
        if following is None or following.part is not model.part or following.row <= model.row:
            segments.append(_Segment(model.part, np.array(rows), position + 1 - len(rows)))
            rows = []
    return segments


def _blocks(segments: Sequence[_Segment], column: str, shift: np.ndarray | None) -> Iterator[np.ndarray]:
    """A column of the index in blocks: of one model in pieces, of several of a part (they are small) at once."""
    for segment in segments:
        starts = segment.part.starts[COLUMNS[column][0]]
        begin, end = starts[segment.rows], starts[segment.rows + 1]
        added = None if shift is None else shift[segment.first : segment.first + len(segment.rows)]
        if len(segment.rows) == 1:
            for start in range(int(begin[0]), int(end[0]), BLOCK_ROWS):
                block = segment.part.read(column, start, min(start + BLOCK_ROWS, int(end[0])))
                yield block if added is None else block + added[0]
            continue
        block = segment.part.read(column, int(begin[0]), int(end[-1]))
        if (begin[1:] != end[:-1]).any():
            block = np.concatenate([block[a:b] for a, b in zip(begin - begin[0], end - begin[0], strict=True)])
        yield block if added is None else block + np.repeat(added, end - begin, axis=0)
