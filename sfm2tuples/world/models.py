"""Writes sparse models through pycolmap, in a process where Pillow has no part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm2tuples.world.cameras import Camera


@dataclass(frozen=True)
class SceneModel:
    """A model that is to be written; images in the order of their names."""

    folder: Path
    """Where the model's files go."""
    names: list[str]
    cameras: list[Camera]
    points: np.ndarray
    """(p, 3) float64."""
    observed: list[np.ndarray]
    """For each image the rows of the points that it observes."""
    xy: list[np.ndarray]
    """For each image where it observes them, (m, 2) pixels."""


def moved(model: SceneModel, turn: float, shift: np.ndarray, scale: float) -> SceneModel:
    """The same model in another frame of coordinates, as a second reconstruction has it.

    Parameters
    ----------
    model : SceneModel
        In metres, z up.
    turn : float
        Radians about the vertical axis.
    shift : ndarray, (3,)
        Added after turning and scaling.
    scale : float
        Length of a metre.
    """
    cosine, sine = np.cos(turn), np.sin(turn)
    rotation = np.asarray([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    points = scale * model.points @ rotation.T + shift
    cameras = [
        Camera(camera.rotation @ rotation.T, scale * rotation @ camera.centre + shift, camera.focal, camera.size)
        for camera in model.cameras
    ]
    return SceneModel(model.folder, model.names, cameras, points, model.observed, model.xy)


def write_models(models: list[SceneModel]) -> None:
    """Write models as COLMAP's binary files; each image has its own camera, PINHOLE and SIMPLE_PINHOLE in turn."""
    for model in models:
        _write(model)


def _write(model: SceneModel) -> None:
    import pycolmap

    reconstruction = pycolmap.Reconstruction()
    tracks: list[list] = [[] for _ in model.points]
    for row, (name, camera) in enumerate(zip(model.names, model.cameras, strict=True)):
        number = row + 1
        kind = "PINHOLE" if row % 2 else "SIMPLE_PINHOLE"
        middle = [camera.size[0] / 2, camera.size[1] / 2]
        focal = [camera.focal] * (2 if row % 2 else 1)
        reconstruction.add_camera_with_trivial_rig(
            pycolmap.Camera(
                camera_id=number, model=kind, width=camera.size[0], height=camera.size[1], params=[*focal, *middle]
            )
        )
        image = pycolmap.Image(name=name, keypoints=model.xy[row], camera_id=number, image_id=number)
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(camera.rotation), -camera.rotation @ camera.centre)
        reconstruction.add_image_with_trivial_frame(image, pose)
        for place_in_image, point in enumerate(model.observed[row].tolist()):
            tracks[point].append(pycolmap.TrackElement(number, place_in_image))
    for xyz, track in zip(model.points, tracks, strict=True):
        reconstruction.add_point3D(xyz, pycolmap.Track(elements=track), np.full(3, 128, np.uint8))
    reconstruction.update_point_3d_errors()
    model.folder.mkdir(parents=True, exist_ok=True)
    reconstruction.write_binary(str(model.folder))
