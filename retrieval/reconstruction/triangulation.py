"""Tracks for a model of poses alone: features, pairs by frusta, verification, triangulation; each step resumable.

What is made lies beside the index, `.NAME.tracks/KEY/`, where KEY is a digest of all that it is made of, so that a
second build finds it. The given model is read and never touched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from retrieval.reconstruction.database import (
    compared_pairs,
    create_database,
    is_sound,
    open_database,
    photos_with_features,
    remove_database,
    settle,
)
from retrieval.reconstruction.features import add_features
from retrieval.reconstruction.frusta import Views, meeting_pairs
from retrieval.reconstruction.known_poses import PosedPhotos, posed_photos
from retrieval.reconstruction.model_files import sync_folder, write_binary_model
from retrieval.reconstruction.options import TriangulationOptions
from retrieval.reconstruction.point_triangulation import Triangulated, TriangulationJob, triangulate_known
from retrieval.reconstruction.progress import Report
from retrieval.reconstruction.verification import add_matches
from sfm2tuples.errors import DataError, ModelError, first_three
from sfm2tuples.files.atomic import write_text
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.remote.address import Address
from sfm2tuples.files.text import read_json
from sfm2tuples.ingest.photo_hints import where_photos_may_be
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.colmap_database import read_verified_pairs
from sfm2tuples.readers.discover import ModelLocation, PhotoFolder, find_photo_root
from sfm2tuples.readers.sparse_model import SparseModel

log = logging.getLogger(__name__)

MODEL, SUMMARY, DATABASE, RAW = "model", "tracks.json", "database.db", "raw"
"""In the folder of a key: the model with tracks, what came out (written last), and what is there meanwhile."""
RECIPE = 1
"""Raised where the same photos and options would give other tracks."""


@dataclass(frozen=True)
class MadeTracks:
    """What came out for one model."""

    images: int
    """Images of the model."""
    tracked: int
    """Those that see a point or more."""
    points: int
    error: float
    """Mean reprojection error in pixels of the photos."""
    off: float
    """How far the model's poses are off, in pixels of the photos: see `point_triangulation.poses_off`."""
    pairs: int
    """Pairs that were compared."""
    verified: int
    """Those that are verified."""
    left_out: list[str]
    """One line for each image that took no part."""
    seconds: float


@dataclass
class TrackMaker:
    """Makes tracks for models that have none, as `build_index` wants it: called with a model, it gives it with tracks.

    Parameters
    ----------
    target : Path
        The index; the tracks lie beside it.
    photo_folders : sequence of PhotoFolder
        What the user gave with `--images`.
    options : TriangulationOptions
    jobs : int
        Processes that look for features and compare photos, and threads of pycolmap.
    report : Report, optional
    """

    target: Path
    photo_folders: Sequence[PhotoFolder] = ()
    options: TriangulationOptions = field(default_factory=TriangulationOptions)
    jobs: int = 1
    report: Report | None = None
    made: dict[str, MadeTracks] = field(default_factory=dict)
    """Of each model that was asked for, by name."""
    keys: set[str] = field(default_factory=set)
    """Folders that this build uses."""

    @property
    def folder(self) -> Path:
        """Where the tracks of the index's models lie: `.NAME.tracks/` beside it."""
        return self.target.absolute().with_name(f".{self.target.name}.tracks")

    def __call__(self, location: ModelLocation) -> ModelLocation:
        """The same model, with tracks.

        Raises
        ------
        ModelError
            Its photos are not there, or nothing comes of them.
        UsageError
            pycolmap is absent or too old.
        """
        model = read_model(location)
        root = find_photo_root(location, self.photo_folders, model.image_names)
        if root is None:
            what = "has no tracks, and its photos, of which --triangulate makes some, are not found"
            raise ModelError(
                location.path, what, where_photos_may_be(location, self.photo_folders, model.image_names[0])
            )
        if isinstance(root, Address):
            what = f"has no tracks, and --triangulate makes none of photos elsewhere ({root})"
            raise ModelError(location.path, what, "copy them first")
        photos = posed_photos(model, root.absolute())
        if len(photos.image) < 2:
            what = f"has no tracks, and {len(photos.image)} of its {len(model.image_names):,} photos can be used"
            raise ModelError(location.path, what, first_three(photos.left_out))
        key = tracks_key(model, photos, self.options)
        self.keys.add(key)
        folder = self.folder / key
        made = _read_summary(folder)
        if made is None:
            made = self._make(location, model, photos, folder)
        self.made[location.name] = made
        if not made.points:
            what = f"no point comes of its photos: {made.verified:,} of {made.pairs:,} pairs are verified"
            raise ModelError(location.path, what, "are its poses, its cameras and their photos of one another?")
        return replace(location, tracks=folder / MODEL)

    def forget_others(self) -> None:
        """Remove the tracks that this build did not use."""
        for entry in list(self.folder.iterdir()) if self.folder.is_dir() else []:
            if entry.name not in self.keys:
                shutil.rmtree(entry, ignore_errors=True)

    def _make(self, location: ModelLocation, model: SparseModel, photos: PosedPhotos, folder: Path) -> MadeTracks:
        """All steps; features and pairs that the database of a stopped run holds are not made again."""
        started = time.monotonic()
        log.info("%s: making tracks", location.name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(folder, f"cannot be made ({error.strerror})") from error
        database = folder / DATABASE
        if not is_sound(database):
            create_database(database)
        unreadable = add_features(database, photos.table, photos.cameras, self.options, self.jobs, self.report)
        views = Views.of(
            model.quaternions[photos.image],
            model.translations[photos.image],
            [photos.cameras[row] for row in range(len(photos.image))],
        )
        count = self.options.num_neighbours if len(views) >= self.options.all_pairs_below else len(views) - 1
        pairs = meeting_pairs(views, count)
        with open_database(database) as connection:
            held = photos_with_features(connection)
        pairs = pairs[np.isin(pairs, held).all(axis=1)]
        add_matches(database, pairs, photos.cameras, self.options.seed, self.jobs, self.report)
        with open_database(database) as connection:
            compared = len(compared_pairs(connection))
        settle(database)
        verified = sum(len(block[0]) for block in read_verified_pairs(database))
        found = self._triangulate(model, photos, held, folder) if verified else _NOTHING
        tracked = self._write(model, photos, found, folder)
        made = MadeTracks(
            images=len(model.image_names),
            tracked=tracked,
            points=len(found.points),
            error=float(found.errors.mean()) if len(found.errors) else 0.0,
            off=0.0 if np.isnan(found.off) else found.off,
            pairs=compared,
            verified=verified,
            left_out=[*photos.left_out, *unreadable.values()],
            seconds=round(time.monotonic() - started, 1),
        )
        write_text(folder / SUMMARY, json.dumps(asdict(made), indent=1))
        remove_database(database)
        return made

    def _triangulate(self, model: SparseModel, photos: PosedPhotos, held: np.ndarray, folder: Path) -> Triangulated:
        rows = held.tolist()
        own = photos.image[held]
        raw = folder / RAW
        shutil.rmtree(raw, ignore_errors=True)
        job = TriangulationJob(
            str(folder / DATABASE),
            str(photos.table.root),
            str(raw),
            rows,
            [photos.table.names[row] for row in rows],
            np.hstack([model.quaternions[own], model.translations[own]]),
            [photos.cameras[row] for row in rows],
            self.options.seed,
            self.jobs,
        )
        found = triangulate_known(job, self.report)
        shutil.rmtree(raw, ignore_errors=True)
        return found

    def _write(self, model: SparseModel, photos: PosedPhotos, found: Triangulated, folder: Path) -> int:
        """Write the model with tracks; gives how many of its images see a point."""
        whole = with_points(model, photos, found)
        target = folder / MODEL
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        write_binary_model(target, whole)
        sync_folder(target)
        return int((np.diff(whole.observation_indptr) > 0).sum())


_NOTHING = Triangulated(
    np.empty((0, 3)), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 2)), 0.0
)  # fmt: skip


def tracks_key(model: SparseModel, photos: PosedPhotos, options: TriangulationOptions) -> str:
    """A digest of all that tracks are made of: names, poses and cameras, sizes and states of the photos' files."""
    digest = hashlib.sha256(repr((RECIPE, asdict(options), photos.image.tolist(), model.image_names)).encode(
        "utf-8", "surrogateescape"))  # fmt: skip
    columns = (
        *(model.camera_models, model.camera_sizes, model.camera_indptr, model.camera_params, model.image_cameras),
        *(model.image_ids, model.camera_ids, model.quaternions, model.translations),
        *(photos.table.state, photos.table.size),
    )
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:32]


def with_points(model: SparseModel, photos: PosedPhotos, found: Triangulated) -> SparseModel:
    """A model with the points that were found, observations in its own pixels; point ids count from 1."""
    image = photos.image[found.row]
    order = np.lexsort((found.point, image))
    xy = found.xy * photos.scale[found.row] + photos.shift[found.row]
    return replace(
        model,
        observation_indptr=indptr_of(np.bincount(image, minlength=len(model.image_names))),
        observation_points=found.point[order],
        observation_xy=xy[order],
        point_ids=np.arange(1, len(found.points) + 1),
        points=found.points,
        point_errors=found.errors,
    )


def _read_summary(folder: Path) -> MadeTracks | None:
    """What a finished run left; None where it is not whole."""
    try:
        return MadeTracks(**read_json(folder / SUMMARY)) if (folder / MODEL).is_dir() else None
    except (DataError, TypeError):
        return None
