"""Photos to models: the steps, one after the other, each of which goes on where an earlier run was stopped."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.networks.choice import NetworkChoice
from retrieval.photos.choices import EXIF
from retrieval.reconstruction.cameras import PhotoCamera, camera_numbers, cameras_of, parameters_of_cameras
from retrieval.reconstruction.database import (
    compared_pairs,
    create_database,
    is_sound,
    open_database,
    photos_and_cameras,
    photos_with_features,
    remove_pairs,
    settle,
)
from retrieval.reconstruction.descriptions import described, network_key
from retrieval.reconstruction.features import add_features
from retrieval.reconstruction.mapping import MappedModel, MappingJob, Selection, map_photos
from retrieval.reconstruction.options import ReconstructionOptions
from retrieval.reconstruction.pairs import chosen_pairs
from retrieval.reconstruction.photo_table import (
    PhotoTable,
    listed_photos,
    read_known,
    table_of_photos,
)
from retrieval.reconstruction.progress import Report
from retrieval.reconstruction.summary import (
    ModelSummary,
    ReconstructionSummary,
    database_is_untouched,
    difference,
    made_of_before,
    of_same_names,
    read_summary,
)
from retrieval.reconstruction.unregistered import (
    ALONE,
    VERIFIED,
    photos_left_out,
    strongest_partners,
    write_left_out,
)
from retrieval.reconstruction.verification import add_matches
from retrieval.reconstruction.work import UNREGISTERED, WorkFolder, held_folder
from sfm2tuples.errors import ReconstructionError, UsageError, first_three, told_of
from sfm2tuples.readers.colmap_database import read_verified_pairs
from sfm2tuples.similarity.exact_search import most_similar

PHOTOS, PARTS, MAPPED = "photos.csv", "descriptors", "mapped"
"""In the hidden folder: the table of photos, their descriptors, and models that are not in place yet."""


def reconstruct(
    photos: Path,
    output: Path,
    choice: NetworkChoice,
    options: ReconstructionOptions | None = None,
    *,
    images: Path | None = None,
    device: str | None = None,
    jobs: int = 1,
    resume: bool = True,
    progress: Report | None = None,
) -> ReconstructionSummary:
    """Make COLMAP models of loose photos. The photos are read and never touched.

    Parameters
    ----------
    photos : Path
        A folder (all photos below it), or a ``.txt`` list of names.
    output : Path
        Folder of the models; what lies there then is in docs/formats.md.
    choice : NetworkChoice
        The network that says which photos are alike; it is loaded for `all_pairs_below` photos and more.
    options : ReconstructionOptions, optional
    images : Path, optional
        Folder that the names of a list start from.
    device : str, optional
        Where the network runs.
    jobs : int
        Processes that look for features and compare photos, and threads of the mapper.
    resume : bool
        Go on with what `output` holds of an earlier run, finished, killed or with other options; False: begin anew.
    progress : callable, optional
        Called with a step (``describe``, ``features``, ``matches``, ``mapping``), what is done of it, and all of it;
        without it there are bars on stderr.

    Raises
    ------
    ReconstructionError
        Too few photos, no two that show the same thing, or no model that is large enough.
    DataError
        A folder in use, or a full disk.
    UsageError
        Options without meaning; a folder of something else; pycolmap is absent.
    """
    if jobs < 1:
        raise UsageError(f"jobs must be at least 1, not {jobs}")
    options = options or ReconstructionOptions()
    root, names = listed_photos(photos, images)
    _check_count(photos, len(names), "photos", options)
    with held_folder(output, resume) as work:
        run = _Run(work, options, choice, device, jobs, progress)
        return run.models_of(root, names, photos)


@dataclass
class _Run:
    """One run over the steps, and what it has found out so far."""

    work: WorkFolder
    options: ReconstructionOptions
    choice: NetworkChoice
    device: str | None
    jobs: int
    report: Report | None
    remade: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def models_of(self, root: Path, names: list[str], photos: Path) -> ReconstructionSummary:
        """All steps."""
        table, cameras = self._table(root, names)
        _check_count(photos, len(table.distinct), "photos that differ and can be opened", self.options)
        linked = self.work.link_photos(root)
        made_of = self._made_of(table)
        finished = read_summary(self.work, made_of)
        if finished is not None:
            return replace(finished, photos_linked=linked)
        pairs, unreadable = self._pairs(table)
        unreadable |= table.unreadable
        with self._timed("features"):
            unreadable |= add_features(self.work.database, table, cameras, self.options, self.jobs, self.report)
        self._check_read(table, unreadable, photos)
        with self._timed("matches"):
            self._compare(cameras, pairs)
        partner, inliers, verified = strongest_partners(len(table), read_verified_pairs(self.work.database))
        left = photos_left_out(table, unreadable, [], partner, inliers)
        write_left_out(self.work.path / UNREGISTERED, left)  # Until there are models it lists all photos.
        if not verified:
            self._forget_models()
            what = f"no two of its {len(table.distinct):,} photos are seen to show the same thing"
            raise ReconstructionError(photos, what, "models need photos that overlap; --num-neighbours compares more")
        with self._timed("mapping"):
            models, selection = self._map(table, photos)
        registered = {name for row in selection.kept for name in models[row].images}
        left = photos_left_out(table, unreadable, registered, partner, inliers)
        write_left_out(self.work.path / UNREGISTERED, left)
        summary = ReconstructionSummary(
            output=self.work.path,
            photos=len(names),
            unreadable=[unreadable[name] for name in sorted(unreadable)],
            copies=len(table) - len(table.distinct),
            pairs=self._compared(),
            verified_pairs=verified,
            models=[
                ModelSummary(str(number), len(models[row].images), models[row].points, models[row].error)
                for number, row in enumerate(selection.kept)
            ],
            registered=len(registered),
            crumbs=len(selection.crumbs),
            crumb_images=sum(len(models[row].images) for row in selection.crumbs),
            twins=len(selection.twins),
            verified_only=sum(one.role == VERIFIED for one in left),
            alone=sum(one.role == ALONE for one in left),
            photos_linked=linked,
            remade=self.remade,
            seconds=self.seconds,
        )
        summary.write(self.work, made_of)
        return summary

    def _check_read(self, table: PhotoTable, unreadable: dict[str, str], photos: Path) -> None:
        """Refuse too few photos, now that their pixels were read; the list of photos in no model says which."""
        read = [row for row in table.distinct.tolist() if table.names[row] not in unreadable]
        if len(read) < self.options.min_images:
            nobody = np.full(len(table), -1, np.int64)
            left = photos_left_out(table, unreadable, [], nobody, nobody)
            write_left_out(self.work.path / UNREGISTERED, left)
            self._forget_models()
        _check_count(photos, len(read), "photos that differ and can be read", self.options)

    def _table(self, root: Path, names: list[str]) -> tuple[PhotoTable, dict[int, PhotoCamera]]:
        """The photos and their cameras; a database that was made of other ones is made anew."""
        path = self.work.hidden / PHOTOS
        settings = self.options.settings_of("features")
        before = of_same_names(self.work.settings().get("features", {}), settings)
        known, why, held = read_known(path), None, {}
        if before and before != settings:
            why = difference(before, settings)
        elif before and not is_sound(self.work.database, whole=not database_is_untouched(self.work)):
            why = f"{self.work.database.name} is torn"
        elif before and not known:
            why = f"{path.name}, the table of photos, is damaged"
        elif before:
            held = photos_and_cameras(self.work.database)
        table, changed = table_of_photos(root, names, known, {row: name for row, (name, _) in held.items()})
        own = {row: number for row, (_, number) in held.items()}
        cameras, moved = self._cameras(table, {} if changed else own)
        if changed:
            why = f"{told_of(len(changed), 'photos are gone or were changed')}, first {first_three(changed)}"
        elif moved:
            why = f"{told_of(len(moved), 'photos have another camera now')}, first {first_three(moved)}"
        if before and why is None:
            table.write(path)
            return table, cameras
        if why is not None:
            self.remade.append(f"features, matches and models: {why}")
            table, _ = table_of_photos(root, names, known, {})
            cameras, _ = self._cameras(table, {})
        self._forget_models()
        self.work.begin("features", {})  # Nothing is believed until the database is there.
        create_database(self.work.database)
        table.write(path)
        self.work.begin("matches", self.options.settings_of("matches"))
        self.work.begin("features", settings)
        return table, cameras

    def _cameras(self, table: PhotoTable, held: dict[int, int]) -> tuple[dict[int, PhotoCamera], list[str]]:
        """The camera of each photo, and photos of a database that have another one there."""
        camera = cameras_of(table, self.options.cameras)
        number, moved = camera_numbers(camera, held)
        return parameters_of_cameras(table, camera, number), [table.names[row] for row in moved]

    def _forget_models(self) -> None:
        """Remove the models of an earlier run: first the word that they are whole."""
        self.work.summary.unlink(missing_ok=True)
        for folder in self.work.model_folders():
            shutil.rmtree(folder)

    def _made_of(self, table: PhotoTable) -> dict[str, Any]:
        """All that the models depend on; where the photos lie is not among it, so that they may be moved."""
        digest = hashlib.sha256("\0".join(table.names).encode())
        digest.update(np.ascontiguousarray(table.state).tobytes())
        steps = {step: self.options.settings_of(step) for step in ("features", "matches", "pairs", "mapping")}
        network = network_key(self.choice) if self._needs_network(table) else {}
        return {**steps, "photos": digest.hexdigest(), "network": network}

    def _needs_network(self, table: PhotoTable) -> bool:
        return len(table.distinct) >= self.options.all_pairs_below

    def _pairs(self, table: PhotoTable) -> tuple[np.ndarray, dict[str, str]]:
        """The pairs to compare, and photos that the network could not be shown."""
        rows, values = table.distinct, None
        unreadable: dict[str, str] = {}
        if self._needs_network(table):
            with self._timed("describe"):
                extraction = ExtractionOptions(self.options.network_size, upright=EXIF)
                parts = self.work.hidden / PARTS
                rows, values, unreadable = described(parts, table, self.choice, extraction, self.device, self.report)
        pairs = chosen_pairs(rows, table.names, table.size, values, self.options, most_similar)
        return pairs, unreadable

    def _compare(self, cameras: dict[int, PhotoCamera], pairs: np.ndarray) -> None:
        """Matches of the pairs whose photos have features."""
        settings = self.options.settings_of("matches")
        before = self.work.settings().get("matches")
        with open_database(self.work.database) as connection:
            if before != settings:
                self.remade.append(f"matches and models: {difference(before or {}, settings)}")
                remove_pairs(connection, compared_pairs(connection))
                self.work.begin("matches", settings)
            held = photos_with_features(connection)
        pairs = pairs[np.isin(pairs, held).all(axis=1)]
        add_matches(self.work.database, pairs, cameras, self.options.seed, self.jobs, self.report)

    def _map(self, table: PhotoTable, photos: Path) -> tuple[list[MappedModel], Selection]:
        """Models, put in place one by one; the summary, which is written later, says that they are whole."""
        if self.work.model_folders() and not self.remade:
            self.remade.append(f"models: {self._why_models_anew(self._made_of(table))}")
        self._forget_models()
        mapped = self.work.hidden / MAPPED
        shutil.rmtree(mapped, ignore_errors=True)
        mapped.mkdir()
        settle(self.work.database)
        options = self.options
        names = [name for name, _ in photos_and_cameras(self.work.database).values()]
        models, selection = map_photos(
            MappingJob(
                str(self.work.database), str(table.root), names, str(mapped), options.mapper,
                options.min_images, options.min_points, options.seed, self.jobs,
            ),
            self.report,
        )  # fmt: skip
        settle(self.work.database)
        if not selection.kept:
            shutil.rmtree(mapped)
            largest = max(models, key=lambda model: len(model.images), default=MappedModel([], 0, 0.0))
            what = f"no model of {options.min_images} images and {options.min_points} points comes of its photos"
            remedy = f"the largest of {len(models):,} has {len(largest.images)} images and {largest.points} points"
            raise ReconstructionError(photos, what, f"{remedy}: see --min-images and --min-points")
        for number in range(len(selection.kept)):
            os.replace(mapped / str(number), self.work.path / str(number))
        mapped.rmdir()
        return models, selection

    def _why_models_anew(self, made_of: dict[str, Any]) -> str:
        """What has changed since the models that are there were made."""
        before = of_same_names(made_of_before(self.work), made_of)
        if not before or before == made_of:
            return "they are not whole"
        if {**before, "photos": ""} == {**made_of, "photos": ""}:
            return "there are more photos"
        return difference(before, made_of)

    def _compared(self) -> int:
        with open_database(self.work.database) as connection:
            return len(compared_pairs(connection))

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[step] = round(time.monotonic() - started, 1)


def _check_count(photos: Path, count: int, of_what: str, options: ReconstructionOptions) -> None:
    if count < options.min_images:
        what = f"has {count:,} {of_what}; a model needs {options.min_images} (--min-images)"
        raise ReconstructionError(photos, what, "add photos of the same thing from several sides")
