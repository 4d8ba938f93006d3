"""COLMAP's camera models: their ids, names and numbers of parameters, as in COLMAP 4.2."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CameraModel:
    """What a reader must know of a camera model."""

    name: str
    """COLMAP's name, as text models write it."""
    num_params: int
    """Number of float64 parameters that follow width and height."""
    num_focal: int
    """How many of the first parameters are focal lengths in pixels: 1, 2, or 0 where there is none."""


CAMERA_MODELS: dict[int, CameraModel] = {
    0: CameraModel("SIMPLE_PINHOLE", 3, 1),
    1: CameraModel("PINHOLE", 4, 2),
    2: CameraModel("SIMPLE_RADIAL", 4, 1),
    3: CameraModel("RADIAL", 5, 1),
    4: CameraModel("OPENCV", 8, 2),
    5: CameraModel("OPENCV_FISHEYE", 8, 2),
    6: CameraModel("FULL_OPENCV", 12, 2),
    7: CameraModel("FOV", 5, 2),
    8: CameraModel("SIMPLE_RADIAL_FISHEYE", 4, 1),
    9: CameraModel("RADIAL_FISHEYE", 5, 1),
    10: CameraModel("THIN_PRISM_FISHEYE", 12, 2),
    11: CameraModel("RAD_TAN_THIN_PRISM_FISHEYE", 16, 2),
    12: CameraModel("SIMPLE_DIVISION", 4, 1),
    13: CameraModel("DIVISION", 5, 2),
    14: CameraModel("SIMPLE_FISHEYE", 3, 1),
    15: CameraModel("FISHEYE", 4, 2),
    16: CameraModel("EUCM", 6, 2),
    17: CameraModel("EQUIRECTANGULAR", 2, 0),
}

CAMERA_MODEL_IDS: dict[str, int] = {model.name: number for number, model in CAMERA_MODELS.items()}
