"""Points of verified matches where cameras and poses are known, by pycolmap in a process of its own."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval.reconstruction.apart import Apart, run_apart
from retrieval.reconstruction.cameras import PhotoCamera
from retrieval.reconstruction.progress import Report, told
from sfm2tuples.readers.colmap_database import MIN_INLIERS

if TYPE_CHECKING:
    import pycolmap


ASKED = 500
"""Pairs that tell how far the poses are off."""
LEAST_PIXELS, LEAST_DEGREES = 4.0, 2.0
"""COLMAP's own limits of reprojection errors and of angles."""
TIMES_OFF = 6.0
"""The limit of reprojection errors, over how far the poses are off: measured (docs/triangulate.md)."""


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
    off: float
    """How far the given poses are off, in pixels, see `poses_off`; NaN where nothing tells."""


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
    off = poses_off(model, job.database)
    _allow(options, model, off)
    Path(job.folder).mkdir(exist_ok=True)
    model = pycolmap.triangulate_points(model, job.database, job.photos, job.folder, True, options)
    return _columns(model, off)


def poses_off(model: pycolmap.Reconstruction, database: str) -> float:
    """How far the given poses are off: the median, over the inliers of verified pairs, of Sampson's distance in pixels.

    Verification does not know the poses, so its inliers lie apart from the epipolar lines of poses that are wrong. Of
    at most `ASKED` pairs, evenly drawn; NaN where none is verified.
    """
    import pycolmap

    opened = pycolmap.Database.open(database)
    numbers, geometries = opened.read_two_view_geometries()
    opened_pairs = [(number, g.inlier_matches) for number, g in zip(numbers, geometries, strict=True)]
    good = [(number, matches) for number, matches in opened_pairs if len(matches) >= MIN_INLIERS]
    distances = []
    for number, matches in good[:: max(1, len(good) // ASKED)]:
        first, second = pycolmap.pair_id_to_image_pair(number)
        if all(model.exists_image(n) and _has_focal_length(model.image(n).camera) for n in (first, second)):
            distances.append(_sampson(model, opened, first, second, matches))
    opened.close()
    return float(np.nanmedian(np.concatenate(distances))) if distances else float("nan")


def _has_focal_length(camera: pycolmap.Camera | None) -> bool:
    return camera is not None and len(camera.focal_length_idxs()) > 0


def _sampson(
    model: pycolmap.Reconstruction, database: pycolmap.Database, first: int, second: int, matches: np.ndarray
) -> np.ndarray:
    """Sampson's distances of matches (m,) in pixels, by the poses of two images."""
    rays, focal = [], 0.0
    for number, column in ((first, 0), (second, 1)):
        camera: Any = model.image(number).camera
        xy = database.read_keypoints(number)[matches[:, column], :2].astype(np.float64)
        rays.append(np.hstack([camera.cam_from_img(xy), np.ones((len(matches), 1))]))
        focal += camera.mean_focal_length() / 2
    relative = model.image(second).cam_from_world() * model.image(first).cam_from_world().inverse()
    x, y, z = relative.translation
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative.rotation.matrix()
    right, left = rays[0] @ essential.T, rays[1] @ essential
    product = (rays[1] * right).sum(axis=1)
    slope = np.sqrt((right[:, :2] ** 2).sum(axis=1) + (left[:, :2] ** 2).sum(axis=1))
    return np.asarray(focal * np.abs(product) / np.maximum(slope, 1e-300))


def _allow(options: pycolmap.IncrementalPipelineOptions, model: pycolmap.Reconstruction, off: float) -> None:
    """Let points be as far off as the poses are: COLMAP's own limits are for poses that it has adjusted."""
    pixels = LEAST_PIXELS if np.isnan(off) else max(LEAST_PIXELS, TIMES_OFF * off)
    focal = [camera.mean_focal_length() for camera in model.cameras.values() if _has_focal_length(camera)]
    angle = max(LEAST_DEGREES, float(np.degrees(np.arctan(pixels / np.median(focal))))) if focal else LEAST_DEGREES
    triangulation, mapper = options.triangulation, options.mapper
    triangulation.complete_max_reproj_error = triangulation.merge_max_reproj_error = pixels
    mapper.filter_max_reproj_error = pixels
    triangulation.create_max_angle_error = triangulation.continue_max_angle_error = angle


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


def _columns(model: pycolmap.Reconstruction, off: float) -> Triangulated:
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
        np.array(xyz, np.float64).reshape(-1, 3), np.array(errors, np.float64), np.array(point, np.int64), rows, xy, off
    )
