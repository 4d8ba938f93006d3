"""The built-in world: the same bytes by seed, models that fit their photos, photos that look like photos."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter

from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.errors import UsageError
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.world.rendering import Camera
from sfm2tuples.world.synthetic import Shot, WorldSummary, scene_model, write_models, write_world

PLACES, PHOTOS = 3, 8
SIZE = (160, 120)


def make(folder: Path, seed: int = 0, jobs: int = 1) -> WorldSummary:
    return write_world(folder, places=PLACES, photos_per_place=PHOTOS, size=SIZE, seed=seed, jobs=jobs)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    return make(tmp_path_factory.mktemp("world"), jobs=2)


def photos(world: WorldSummary, scene: str) -> list[Path]:
    return sorted((world.folder / scene / "images").iterdir())


def grey(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    with Image.open(path) as photo:
        return np.asarray((photo.resize(size) if size else photo).convert("L"), np.float64)


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_jobs(world: WorldSummary, tmp_path: Path) -> None:
    make(tmp_path / "again")
    assert hashes(tmp_path / "again") == hashes(world.folder)


def test_another_seed_gives_other_photos(world: WorldSummary, tmp_path: Path) -> None:
    make(tmp_path / "other", seed=1)
    mine, other = hashes(world.folder), hashes(tmp_path / "other")
    assert not set(mine.values()) & {other[name] for name in other if name.endswith(".jpg")}


def test_the_summary_counts_what_is_on_disk(world: WorldSummary) -> None:
    assert sorted(world.scenes) == sorted(path.name for path in world.folder.iterdir())
    files = [hashlib.sha256(path.read_bytes()).digest() for path in world.folder.rglob("*.jpg")]
    models = [read_model(world.folder / scene / "sparse" / "0") for scene in world.scenes]
    assert world.photos == len(files)
    assert world.shared_photos == len(files) - len(set(files)) == len(files) - PLACES * PHOTOS
    assert world.points == sum(len(model.points) for model in models)
    assert world.observations == sum(len(model.observation_points) for model in models)


def test_pycolmap_projects_every_point_within_a_pixel_of_its_observation(world: WorldSummary) -> None:
    import pycolmap

    for scene in world.scenes:
        model = pycolmap.Reconstruction(str(world.folder / scene / "sparse" / "0"))
        for image in model.images.values():
            seen = [spot for spot in image.points2D if spot.has_point3D()]
            points = np.array([model.points3D[spot.point3D_id].xyz for spot in seen])
            in_camera = image.cam_from_world() * points
            projected = model.cameras[image.camera_id].img_from_cam(in_camera)
            assert (in_camera[:, 2] > 0).all()
            assert np.abs(projected - np.array([spot.xy for spot in seen])).max() < 1


def test_images_have_the_size_of_their_camera_and_observations_lie_inside(world: WorldSummary) -> None:
    for scene in world.scenes:
        model = read_model(world.folder / scene / "sparse" / "0")
        assert model.image_names == [path.name for path in photos(world, scene)]
        for row, path in enumerate(photos(world, scene)):
            with Image.open(path) as photo:
                assert photo.size == tuple(model.camera_sizes[model.image_cameras[row]])
                xy = model.observation_xy[model.observation_indptr[row] : model.observation_indptr[row + 1]]
                assert (xy > 0).all()
                assert (xy < photo.size).all()


def test_every_image_observes_thirty_points_and_every_point_two_images(world: WorldSummary) -> None:
    for scene in world.scenes:
        model = read_model(world.folder / scene / "sparse" / "0")
        assert np.diff(model.observation_indptr).min() >= 30
        assert np.bincount(model.observation_points, minlength=len(model.points)).min() >= 2


def test_half_of_the_images_have_an_m3_partner_and_some_pairs_differ_in_scale(world: WorldSummary) -> None:
    large_changes = []
    for scene in world.scenes:
        model = read_model(world.folder / scene / "sparse" / "0")
        graph = covisibility(model)
        query = np.repeat(np.arange(len(model.image_ids)), np.diff(graph.indptr))
        overlap = graph.shared / np.diff(model.observation_indptr)[query]
        fits = (overlap >= 0.2) & (graph.scale_change <= 1.5)
        assert len(np.unique(query[fits])) >= len(model.image_ids) / 2
        large_changes.append(graph.scale_change > 1.5)
    assert 0.05 < np.concatenate(large_changes).mean() < 0.8


def test_some_images_of_a_place_share_nothing(world: WorldSummary) -> None:
    model = read_model(world.folder / world.scenes[0] / "sparse" / "0")
    partners = np.diff(covisibility(model).indptr)
    assert partners.min() < PHOTOS - 1


def test_photos_agree_at_the_observations_of_a_point(world: WorldSummary) -> None:
    # The same spot of a wall is light or dark in all photos; spots that are mixed up are not.
    same_spot, mixed_up = [], []
    for scene in world.scenes:
        model = read_model(world.folder / scene / "sparse" / "0")
        blurred = [uniform_filter(grey(path), 3) for path in photos(world, scene)]
        image = np.repeat(np.arange(len(blurred)), np.diff(model.observation_indptr))
        pixel = np.floor(model.observation_xy).astype(int)
        value = np.array([blurred[row][y, x] for row, (x, y) in zip(image, pixel, strict=True)])
        for row in range(len(blurred)):
            value[image == row] -= value[image == row].mean()
        order = np.argsort(model.observation_points, kind="stable")
        neighbours = model.observation_points[order][:-1] == model.observation_points[order][1:]
        first, second = value[order][:-1][neighbours], value[order][1:][neighbours]
        same_spot.append(np.corrcoef(first, second)[0, 1])
        mixed_up.append(np.corrcoef(first, np.roll(second, 7))[0, 1])
    assert np.mean(same_spot) > 0.3
    assert np.mean(same_spot) > np.mean(mixed_up) + 0.15


def test_photos_are_no_noise_and_no_flat_colour(world: WorldSummary) -> None:
    for scene in world.scenes:
        for path in photos(world, scene):
            picture = grey(path)
            beside = np.corrcoef(picture[:, 1:].ravel(), picture[:, :-1].ravel())[0, 1]
            assert beside > 0.6
            assert picture.std() > 8
            assert path.stat().st_size < 0.8 * picture.size


def test_light_varies_within_a_place(world: WorldSummary) -> None:
    brightness, warmth = [], []
    for scene in world.scenes:
        colours = np.array([np.asarray(Image.open(path)).mean(axis=(0, 1)) for path in photos(world, scene)])
        brightness.append(np.ptp(colours.mean(axis=1)))
        warmth.append(np.ptp(colours[:, 0] / colours[:, 2]))
    assert np.mean(brightness) > 20
    assert np.mean(warmth) > 0.15


def test_a_folder_that_holds_something_is_refused(world: WorldSummary) -> None:
    with pytest.raises(UsageError, match="not an empty folder"):
        make(world.folder)


@pytest.mark.parametrize(
    ("argument", "value"), [("places", 1), ("photos_per_place", 3), ("seed", -1), ("jobs", 0), ("size", (20, 20))]
)
def test_arguments_out_of_range_are_refused(tmp_path: Path, argument: str, value: int | tuple[int, int]) -> None:
    with pytest.raises(UsageError, match=argument):
        write_world(tmp_path / "world", **{argument: value})


def test_photos_beyond_the_ten_thousandth_keep_their_own_pose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each photo looks for what a killed writer left in its folder: half a minute, and none of this test.
    monkeypatch.setattr("sfm2tuples.files.atomic.remove_stale_temporaries", lambda path, dead_only=False: None)
    count = 10_003
    shots = [
        Shot(b"x", Camera(np.eye(3), np.array([float(number), 0, 0]), 100.0, (64, 64)), np.array([0]), np.ones((1, 2)))
        for number in range(count)
    ]
    write_models([scene_model(tmp_path / "scene", shots, np.zeros((1, 3)))])
    model = read_model(tmp_path / "scene/sparse/0")
    place = {name: -t[0] for name, t in zip(model.image_names, model.translations, strict=True)}
    assert {int(Path(name).stem): round(x) for name, x in place.items()} == {n: n for n in range(count)}
