"""Points of verified matches where cameras and poses are known, by pycolmap in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.reconstruction.apart import Apart, run_apart
from retrieval.reconstruction.cameras import PhotoCamera
from retrieval.reconstruction.progress import Report, told

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True)
class TriangulationJob:
    """What pycolmap is given."""

    database: str
    photos: str
    """Folder of the photos; they are not read."""
    folder: str
    """Where pycolmap may write."""
    rows: list[int]
    """Rows of the photos that have features."""
    names: list[str]
    """Of those photos."""
    poses: np.ndarray
    """(n, 7) float64 of those photos: world to camera, quaternions wxyz and translations."""
    cameras: list[PhotoCamera]
    """Of those photos."""
    seed: int
    threads: int


@dataclass(frozen=True)
class Triangulated:
    """Points and their tracks, in the photos' pixels."""

    points: np.ndarray
    """(p, 3) float64."""
    errors: np.ndarray
    """(p,) float64, mean reprojection error in pixels."""
    point: np.ndarray
    """(m,) int64, rows of observed points."""
    row: np.ndarray
    """(m,) int64, rows of the photos."""
    xy: np.ndarray
    """(m, 2) float64."""


def triangulate_known(job: TriangulationJob, report: Report | None = None) -> Triangulated:
    """Triangulate the verified matches of a database; poses and cameras are held as they are.

    Parameters
    ----------
    job : TriangulationJob
    report : Report, optional
        Hears of ``triangulation`` that it goes on; how far it is pycolmap does not say.

    Raises
    ------
    DataError
        pycolmap's process ended before it was done, or pycolmap failed.
    """
    called = Apart("pycolmap's triangulation", job.database, "give more memory, or fewer photos")
    with told("triangulation", 0, len(job.rows), "photo", report) as add:
        found = run_apart(_triangulate, job, called, add)
        add(len(job.rows))
    return found


def _triangulate(job: TriangulationJob, line: Connection) -> Triangulated:
    """What the process with pycolmap does."""
    import pycolmap

    pycolmap.logging.minloglevel = 3
    model = _posed(job)
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.extract_colors = job.threads, job.seed, False
    options.triangulation.random_seed = job.seed
    Path(job.folder).mkdir(exist_ok=True)
    model = pycolmap.triangulate_points(model, job.database, job.photos, job.folder, True, options)
    return _columns(model)


def _posed(job: TriangulationJob) -> pycolmap.Reconstruction:
    """A model of the poses, with the numbers that the database has."""
    import pycolmap

    model = pycolmap.Reconstruction()
    added = set()
    for row, name, pose, camera in zip(job.rows, job.names, job.poses, job.cameras, strict=True):
        number = camera.number + 1
        if number not in added:
            added.add(number)
            shape = {"model": camera.model, "width": camera.width, "height": camera.height}
            model.add_camera_with_trivial_rig(pycolmap.Camera(camera_id=number, params=camera.parameters, **shape))
        w, x, y, z = pose[:4].tolist()
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([x, y, z, w])), pose[4:])
        model.add_image_with_trivial_frame(pycolmap.Image(name=name, camera_id=number, image_id=row + 1), rigid)
    return model


def _columns(model: pycolmap.Reconstruction) -> Triangulated:
    """Points in the order of their numbers, observations in that of their tracks."""
    xyz, errors, point, row, feature = [], [], [], [], []
    for place, number in enumerate(sorted(model.point3D_ids())):
        one = model.point3D(number)
        xyz.append(one.xyz)
        errors.append(one.error)
        for element in one.track.elements:
            point.append(place)
            row.append(element.image_id - 1)
            feature.append(element.point2D_idx)
    rows, features = np.array(row, np.int64), np.array(feature, np.int64)
    xy = np.empty((len(rows), 2))
    for of in np.unique(rows).tolist():
        own = rows == of
        found = np.array([two.xy for two in model.image(of + 1).points2D]).reshape(-1, 2)
        xy[own] = found[features[own]]
    return Triangulated(
        np.array(xyz, np.float64).reshape(-1, 3), np.array(errors, np.float64), np.array(point, np.int64), rows, xy
    )
