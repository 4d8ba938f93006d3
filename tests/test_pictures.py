"""What a camera can see: the box holds all that COLMAP's own projection puts into the picture."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest

from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.relations.pictures import WIDE, Pictures, pictures_of

WITH_FOCAL = [(number, model.name) for number, model in CAMERA_MODELS.items() if model.num_focal]


def pictures_of_one(number: int, size: tuple[int, int], params: list[float]) -> Pictures:
    return pictures_of(np.array([number]), np.array([size]), np.array([0, len(params)]), np.array(params))


def drawn_params(rng: np.random.Generator, name: str, num_focal: int, num_params: int) -> list[float]:
    focal = rng.uniform(250, 700, num_focal)
    rest = num_params - num_focal - 2
    scale = {"SIMPLE_RADIAL": 0.3, "RADIAL": 0.2, "SIMPLE_DIVISION": 0.3, "DIVISION": 0.3}.get(name, 0.03)
    more = rng.uniform(-scale, scale, rest)
    if name == "FOV":
        more = rng.uniform(0.1, 1.2, 1)
    if name == "EUCM":
        more = np.array([rng.uniform(0.3, 0.8), rng.uniform(0.7, 1.5)])
    return [*focal, *rng.uniform([280, 200], [360, 280]), *more]


@pytest.mark.parametrize(("number", "name"), WITH_FOCAL, ids=[name for _, name in WITH_FOCAL])
def test_what_colmap_projects_into_the_picture_lies_in_the_box(number: int, name: str) -> None:
    rng, model, inside = np.random.default_rng(number), CAMERA_MODELS[number], 0
    for _ in range(25):
        params = drawn_params(rng, name, model.num_focal, model.num_params)
        box = pictures_of_one(number, (640, 480), params).box[0]
        camera = pycolmap.Camera(camera_id=1, model=name, width=640, height=480, params=params)
        pixels = rng.uniform(0, [640, 480], (400, 2))
        rays = np.array([ray if ray is not None else (np.nan, np.nan) for ray in camera.cam_from_img(pixels)])
        if name in WIDE:
            r = np.hypot(*rays.T)
            rays = rays * (np.arctan(r) / r)[:, None]
        # COLMAP's inverse need not have met the pixel that it was asked for.
        cast = rays * (np.tan(np.hypot(*rays.T)) / np.hypot(*rays.T))[:, None] if name in WIDE else rays
        back = camera.img_from_cam(np.c_[cast, np.ones(len(cast))])
        right = np.isfinite(rays).all(axis=1) & (np.abs(back - pixels).max(axis=1) < 0.01)
        x, y = rays[right].T
        inside += len(x)
        assert (x >= box[0]).all()
        assert (x <= box[1]).all()
        assert (y >= box[2]).all()
        assert (y <= box[3]).all()
    assert inside > 2000


def test_the_box_of_a_pinhole_is_its_picture() -> None:
    found = pictures_of_one(1, (100, 80), [50.0, 40.0, 50.0, 60.0])
    np.testing.assert_array_equal(found.box, [[-1, 1, -1.5, 0.5]])
    assert not found.is_wide[0]


def test_little_distortion_changes_the_box_little() -> None:
    plain, bent = (pictures_of_one(2, (640, 480), [500.0, 320, 240, k]).box for k in (0.0, 1e-4))
    np.testing.assert_allclose(bent, plain, rtol=0.01)


def test_a_fisheye_with_a_view_of_220_degrees_sees_behind_itself() -> None:
    focal = 320 / np.deg2rad(110)
    found = pictures_of_one(14, (640, 640), [focal, 320, 320])
    assert found.is_wide[0]
    np.testing.assert_allclose(found.box[0, 1], np.deg2rad(110))


@pytest.mark.parametrize(
    ("number", "size", "params"),
    [
        (17, (640, 320), [320.0, 160.0]),
        (0, (0, 0), [500.0, 0, 0]),
        (0, (64, 48), [-5.0, 32, 24]),
        (1, (64, 48), [5.0, 0, 0, 0]),
    ],
    ids=["spherical", "no size", "negative focal length", "one focal length is 0"],
)
def test_a_camera_without_a_focal_length_or_a_size_has_no_box(
    number: int, size: tuple[int, int], params: list[float]
) -> None:
    assert np.isnan(pictures_of_one(number, size, params).box).all()


def test_no_camera_has_no_picture() -> None:
    none = np.zeros(0, np.int64)
    assert pictures_of(none, none.reshape(0, 2), np.zeros(1, np.int64), np.zeros(0)).box.shape == (0, 4)


@pytest.mark.parametrize(("number", "name"), WITH_FOCAL, ids=[name for _, name in WITH_FOCAL])
@pytest.mark.filterwarnings("error")
def test_a_camera_without_a_focal_length_has_no_box_and_numpy_says_nothing(number: int, name: str) -> None:
    model = CAMERA_MODELS[number]
    for focal in (0.0, -100.0):
        params = [focal] * model.num_focal + [0.1] * (model.num_params - model.num_focal)
        assert np.isnan(pictures_of_one(number, (640, 480), params).box).all()
