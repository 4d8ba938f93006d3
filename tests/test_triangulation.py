"""Tracks for models of poses alone: which pairs are looked at, what comes out, and that nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hand_made import run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from worlds import read_whole

from retrieval.reconstruction import triangulation
from retrieval.reconstruction.cameras import PhotoCamera
from retrieval.reconstruction.frusta import DEPTHS, GRID, LOOKED, SHARE, Views, meeting_pairs, rotation_matrices
from retrieval.reconstruction.known_poses import posed_photos, scaled_parameters
from retrieval.reconstruction.model_files import write_binary_model
from retrieval.reconstruction.options import TriangulationOptions
from retrieval.reconstruction.triangulation import TrackMaker
from sfm2tuples.errors import ModelError, UsageError
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.camera_models import CAMERA_MODEL_IDS
from sfm2tuples.readers.discover import find_models
from sfm2tuples.readers.sparse_model import SparseModel
from tests import oracles_posed as oracles
from tests.oracles_posed import camera_of, matrix_of
from tests.rooms import SIZE, photograph_posed_room

pycolmap = pytest.importorskip("pycolmap")

PHOTOS = 6
OPTIONS = TriangulationOptions(max_features=700)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photograph_posed_room(tmp_path_factory.mktemp("room") / "site", scale=2.0)


@pytest.fixture(scope="module")
def made(site: Path) -> tuple[TrackMaker, SparseModel, SparseModel]:
    """Who made the tracks, the model of the site, and the same with tracks."""
    maker = TrackMaker(site.parent / "made.h5", options=OPTIONS)
    (location,) = find_models([site])
    return maker, read_model(location), read_model(maker(location))


def shared_of(model: SparseModel) -> np.ndarray:
    """Shared points of each pair, (n, n), by sets."""
    seen = [
        set(model.observation_points[a:b].tolist())
        for a, b in zip(model.observation_indptr[:-1], model.observation_indptr[1:], strict=True)
    ]
    return np.array([[len(one & other) for other in seen] for one in seen])


# ---- what comes out ------------------------------------------------------------------------------------------------


def test_cameras_and_poses_stay_as_given_to_the_last_bit(made: tuple[TrackMaker, SparseModel, SparseModel]) -> None:
    _, before, after = made
    for name in ("quaternions", "translations", "camera_params", "camera_sizes", "image_cameras", "image_ids"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert before.image_names == after.image_names


def test_points_lie_on_the_walls_and_project_to_their_observations(
    made: tuple[TrackMaker, SparseModel, SparseModel],
) -> None:
    maker, _, model = made
    assert len(model.points) > 100
    off = np.min(np.abs(model.points - [2.0, 1.2, 4.0])[:, [0, 1, 2]], axis=1)
    assert np.median(off) < 0.02
    for image in range(len(model.image_names)):
        own = slice(*model.observation_indptr[image : image + 2])
        fx, fy, cx, cy = camera_of(model, image)[2]
        pose = matrix_of(model.quaternions[image], model.translations[image])
        seen = model.points[model.observation_points[own]] @ pose[:3, :3].T + pose[:3, 3]
        xy = np.stack([fx * seen[:, 0] / seen[:, 2] + cx, fy * seen[:, 1] / seen[:, 2] + cy], axis=1)
        # The cameras are of photos twice as large, so a pixel of the photo is two here.
        assert np.median(np.linalg.norm(xy - model.observation_xy[own], axis=1)) < 2
        assert (model.observation_xy[own] <= [2 * SIZE[0], 2 * SIZE[1]]).all()
        assert model.observation_xy[own].max() > SIZE[0]
    summary = maker.made["transforms.json"]
    assert (summary.images, summary.tracked, summary.points) == (PHOTOS, PHOTOS, len(model.points))
    assert 0 < summary.error < 1
    assert 0 < summary.off < 0.5


def test_poses_that_are_off_leave_the_graph_nearly_as_it_was(
    made: tuple[TrackMaker, SparseModel, SparseModel], site: Path, tmp_path: Path
) -> None:
    """As those of a telephone or of VGGT are: half a degree, at random."""
    copy = Path(shutil.copytree(site, tmp_path / "s"))
    content = json.loads((copy / "transforms.json").read_text())
    random = np.random.default_rng(0)
    for frame in content["frames"]:
        matrix = np.array(frame["transform_matrix"])
        turn = np.hstack([1.0, random.normal(0, np.radians(0.5) / 2, 3)])
        matrix[:3, :3] = matrix[:3, :3] @ matrix_of(turn / np.linalg.norm(turn), [0, 0, 0])[:3, :3]
        frame["transform_matrix"] = matrix.tolist()
    (copy / "transforms.json").write_text(json.dumps(content))
    maker = TrackMaker(tmp_path / "index.h5", options=OPTIONS)
    shared, wanted = shared_of(read_model(maker(find_models([copy])[0]))), shared_of(made[2])
    above = np.triu_indices(PHOTOS, 1)
    assert maker.made["transforms.json"].off > 2 * made[0].made["transforms.json"].off
    assert np.corrcoef(shared[above], wanted[above])[0, 1] > 0.9
    assert shared[above].sum() > 0.7 * wanted[above].sum()


def test_neighbours_share_points(made: tuple[TrackMaker, SparseModel, SparseModel]) -> None:
    shared = shared_of(made[2])
    assert all(shared[row, row + 1] >= 20 for row in range(PHOTOS - 1))


def test_points_that_one_image_sees_each_give_way_to_tracks(
    made: tuple[TrackMaker, SparseModel, SparseModel], site: Path, tmp_path: Path
) -> None:
    """As VGGT writes its points: each of one photo alone."""
    model = made[2]
    folder = tmp_path / "vggt/sparse/0"
    folder.mkdir(parents=True)
    shutil.copytree(site / "images", tmp_path / "vggt/images/images")
    lone = np.arange(len(model.observation_points))
    alone = replace(
        model,
        observation_points=lone,
        points=model.points[model.observation_points],
        point_ids=lone + 1,
        point_errors=np.zeros(len(lone)),
    )
    write_binary_model(folder, alone)
    (location,) = find_models([tmp_path / "vggt"])
    assert shared_of(read_model(location)).trace() == shared_of(read_model(location)).sum()
    tracked = read_model(TrackMaker(tmp_path / "index.h5", options=OPTIONS)(location))
    assert shared_of(tracked).tolist() == shared_of(model).tolist()


def test_a_second_call_takes_what_is_there(
    made: tuple[TrackMaker, SparseModel, SparseModel], site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triangulation, "create_database", None)
    again = TrackMaker(made[0].target, options=OPTIONS)
    assert shared_of(read_model(again(find_models([site])[0]))).tolist() == shared_of(made[2]).tolist()
    assert again.made == made[0].made
    assert again.keys == made[0].keys
    assert sorted(path.name for path in (again.folder / next(iter(again.keys))).iterdir()) == ["model", "tracks.json"]


def test_what_was_made_of_other_photos_or_options_is_another_key(site: Path, tmp_path: Path) -> None:
    model = read_model(site / "transforms.json")
    key = triangulation.tracks_key(model, posed_photos(model, site), OPTIONS)
    assert triangulation.tracks_key(model, posed_photos(model, site), OPTIONS) == key
    assert triangulation.tracks_key(model, posed_photos(model, site), TriangulationOptions()) != key
    moved = replace(model, translations=model.translations + 1e-9)
    assert triangulation.tracks_key(moved, posed_photos(model, site), OPTIONS) != key
    copy = Path(shutil.copytree(site, tmp_path / "copy"))
    assert triangulation.tracks_key(model, posed_photos(model, copy), OPTIONS) == key
    os.utime(copy / "images/0000.jpg", (1, 1))
    assert triangulation.tracks_key(model, posed_photos(model, copy), OPTIONS) != key


def test_pycolmap_reads_the_model_that_is_written(made: tuple[TrackMaker, SparseModel, SparseModel]) -> None:
    maker, _, model = made
    read = pycolmap.Reconstruction(str(maker.folder / next(iter(maker.keys)) / "model"))
    assert read.num_points3D() == len(model.points)
    assert read.compute_num_observations() == len(model.observation_points)
    assert sorted(image.name for image in read.images.values()) == model.image_names
    image = next(image for image in read.images.values() if image.name == model.image_names[1])
    assert np.allclose(image.cam_from_world().translation, model.translations[1])
    assert read.compute_mean_reprojection_error() < 2


def test_a_written_model_reads_back_the_same(made: tuple[TrackMaker, SparseModel, SparseModel], tmp_path: Path) -> None:
    model = made[2]
    write_binary_model(tmp_path, model)
    read = read_model(tmp_path)
    for name in ("camera_params", "observation_indptr", "observation_points", "observation_xy", "points", "point_ids"):
        assert np.array_equal(getattr(read, name), getattr(model, name))
    assert np.allclose(read.quaternions, model.quaternions, rtol=0, atol=1e-15)
    assert read.dropped == {}


# ---- the command ---------------------------------------------------------------------------------------------------


def test_build_index_makes_tracks_keeps_them_and_leaves_the_model_alone(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in site.rglob("*") if path.is_file()}
    target = tmp_path / "index.h5"
    assert run("build-index", site, "-o", target, "--triangulate") == 0
    said = capsys.readouterr().out
    assert "tracks made" in said
    assert f"they are kept in {tmp_path / '.index.h5.tracks'}" in said
    index = read_whole(target)
    assert index.models.name == ["transforms.json"]
    assert index.images.has_photo.all()
    assert len(index.covisibility.shared) > 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in site.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [".index.h5.tracks", "index.h5"]
    monkeypatch.setattr(triangulation, "create_database", None)
    first = target.read_bytes()
    assert run("build-index", site, "-o", target, "--triangulate", "--force") == 0
    assert target.read_bytes() == first


def test_stale_tracks_go_and_models_with_tracks_get_none(
    made: tuple[TrackMaker, SparseModel, SparseModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m/sparse").mkdir(parents=True)
    write_binary_model(tmp_path / "m/sparse", made[2])
    (tmp_path / ".index.h5.tracks/old").mkdir(parents=True)
    assert run("build-index", tmp_path / "m", "-o", tmp_path / "index.h5", "--triangulate") == 0
    assert "every model has tracks, none were made" in capsys.readouterr().out
    assert list((tmp_path / ".index.h5.tracks").iterdir()) == []


def test_a_killed_build_goes_on_with_the_features_that_it_has(site: Path, tmp_path: Path) -> None:
    code = f"from cli.main import main; main(['build-index', {str(site)!r}, '-o', 'index.h5', '--triangulate'])"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 60
    database = None
    while time.monotonic() < deadline and process.poll() is None:
        database = next(iter(tmp_path.glob(".index.h5.tracks/*/database.db")), None)
        if database is not None and _photos_in(database) >= 2:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.02)
    process.wait()
    assert database is not None
    kept = _photos_in(database)
    maker = TrackMaker(tmp_path / "index.h5")
    heard = []
    maker.report = lambda step, done, total: heard.append((step, done, total))
    maker(find_models([site])[0])
    assert kept >= 2
    assert heard[0] == ("features", kept, PHOTOS)
    assert not database.exists()


def _photos_in(database: Path) -> int:
    from retrieval.reconstruction.database import is_sound, photos_and_cameras

    return len(photos_and_cameras(database)) if is_sound(database) else 0


# ---- what cannot be triangulated -----------------------------------------------------------------------------------


def refusal(site: Path, target: Path) -> str:
    with pytest.raises(ModelError) as error:
        TrackMaker(target, options=OPTIONS)(find_models([site])[0])
    assert "\n" not in str(error.value)
    return str(error.value)


def test_photos_that_are_not_there_are_asked_for(site: Path, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    shutil.copy(site / "transforms.json", tmp_path / "s")
    said = refusal(tmp_path / "s", tmp_path / "index.h5")
    assert "has no tracks, and its photos, of which --triangulate makes some, are not found" in said
    assert "give --images DIR" in said


def test_photos_of_another_proportion_or_torn_are_left_out_and_named(site: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "s"))
    with Image.open(copy / "images/0000.jpg") as photo:
        photo.rotate(90, expand=True).save(copy / "images/0000.jpg")
    (copy / "images/0001.jpg").write_bytes(b"no photo")
    (copy / "images/0002.jpg").unlink()
    model = read_model(copy / "transforms.json")
    photos = posed_photos(model, copy)
    assert photos.image.tolist() == [3, 4, 5]
    assert len(photos.left_out) == 3
    assert "it has 210 x 280 pixels and its camera 560 x 420" in photos.left_out[0]
    for number in (3, 4):
        (copy / f"images/000{number}.jpg").unlink()
    assert "has no tracks, and 1 of its 6 photos can be used" in refusal(copy, tmp_path / "index.h5")


def test_photos_that_share_nothing_are_one_line(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(site, tmp_path / "s"))
    for number in range(PHOTOS):
        Image.new("RGB", SIZE, (20 * number, 0, 0)).save(copy / f"images/{number:04d}.jpg")
    assert run("build-index", copy, "-o", tmp_path / "index.h5", "--triangulate") == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no point comes of its photos: 0 of" in said


def test_options_without_meaning_are_refused() -> None:
    for name in ("num_neighbours", "image_size", "max_features"):
        with pytest.raises(UsageError, match="must be at least 1"):
            TriangulationOptions(**{name: 0})


def test_a_model_without_tracks_among_others_is_added(
    made: tuple[TrackMaker, SparseModel, SparseModel], site: Path, tmp_path: Path
) -> None:
    (tmp_path / "all/m/sparse").mkdir(parents=True)
    write_binary_model(tmp_path / "all/m/sparse", made[2])
    shutil.copytree(site, tmp_path / "all/n")
    target = tmp_path / "index.h5"
    summary = build_index([tmp_path / "all"], target, IngestOptions(), strict=True)
    assert summary.num_models == 1
    assert "--triangulate" in summary.failed[0]
    # The tracks of the same photos and poses lie where an earlier build left them.
    shutil.copytree(made[0].folder, tmp_path / ".index.h5.tracks")
    maker = TrackMaker(target, options=OPTIONS)
    summary = build_index([tmp_path / "all"], target, IngestOptions(), make_tracks=maker)
    assert (summary.num_models, summary.failed) == (2, [])
    assert read_whole(target).models.name == ["m/sparse", "n/transforms.json"]


# ---- cameras of other sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE", "EQUIRECTANGULAR"]
)
def test_scaled_cameras_are_pycolmaps(name: str) -> None:
    camera = pycolmap.Camera.create_from_model_name(1, name, 500.0, 1109, 1479)
    params = np.array(camera.params) * np.linspace(1, 1.01, len(camera.params))
    camera.params = params
    found = scaled_parameters(CAMERA_MODEL_IDS[name], params, (1109, 1479), (480, 640))
    if name == "EQUIRECTANGULAR":
        assert np.allclose(found, params * [480 / 1109, 640 / 1479])
        return
    camera.rescale(480, 640)
    assert np.allclose(found, camera.params, rtol=1e-12)


def test_a_camera_without_a_size_is_centred_on_the_photo() -> None:
    found = scaled_parameters(CAMERA_MODEL_IDS["RADIAL"], np.array([500.0, 0, 0, 0.1, 0.2]), (0, 0), (640, 480))
    assert found.tolist() == [500, 320, 240, 0.1, 0.2]


# ---- frusta --------------------------------------------------------------------------------------------------------


def random_views(seed: int, count: int, tied: bool) -> Views:
    random = np.random.default_rng(seed)
    quaternions = random.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    centres = random.integers(0, 3, (count, 3)).astype(float) if tied else random.normal(size=(count, 3))
    models = [("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("OPENCV_FISHEYE", 8), ("EQUIRECTANGULAR", 2)]
    cameras = []
    for row in range(count):
        name, number = models[int(random.integers(len(models)))] if seed % 2 else models[0]
        params = {"PINHOLE": (90.0, 80.0, 50.0, 40.0), "SIMPLE_RADIAL": (70.0, 55.0, 35.0, 0.1)}.get(
            name, (60.0, 65.0, 50.0, 40.0, 0.0, 0.0, 0.0, 0.0)
        )
        cameras.append(PhotoCamera(row, 100, 80, params[:number], True, name))
    translations = -np.einsum("nij,nj->ni", rotation_matrices(quaternions), centres)
    return Views.of(quaternions, translations, cameras)


def loop_pairs(views: Views, count: int) -> list[tuple[int, int]]:
    rows = [
        (views.rotations[i], views.centres[i].tolist(), views.focal[i], views.middle[i], views.size[i],
         views.fisheye[i], views.around[i])
        for i in range(len(views))
    ]  # fmt: skip
    return oracles.meeting_pairs(rows, count, LOOKED, DEPTHS, GRID, SHARE)


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 6]), st.sampled_from([1, 2, 8]))
def test_pairs_are_those_of_the_loops(seed: int, count: int, wanted: int) -> None:
    views = random_views(seed, count, tied=False)
    assert list(map(tuple, meeting_pairs(views, wanted).tolist())) == loop_pairs(views, wanted)


def test_rotations_are_those_of_the_oracle() -> None:
    random = np.random.default_rng(5)
    quaternions = random.normal(size=(20, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    wanted = [matrix_of(q, [0, 0, 0])[:3, :3] for q in quaternions]
    assert np.allclose(rotation_matrices(quaternions), wanted, atol=1e-14)


def views_towards(*poses: tuple[list[float], float]) -> Views:
    """Cameras at some places in the plane, turned by an angle around the upright axis (0: along z)."""
    camera = PhotoCamera(0, 100, 80, (90.0, 90.0, 50.0, 40.0), True, "PINHOLE")
    quaternions = np.array([[np.cos(-a / 2), 0, np.sin(-a / 2), 0] for _, a in poses])
    centres = np.array([where for where, _ in poses], float)
    translations = -np.einsum("nij,nj->ni", rotation_matrices(quaternions), centres)
    return Views.of(quaternions, translations, [camera] * len(poses))


def test_cameras_side_by_side_meet_and_those_back_to_back_or_face_to_face_do_not() -> None:
    ahead, behind = ([0.0, 0, 0], 0.0), ([0.0, 0, 0], np.pi)
    assert len(meeting_pairs(views_towards(ahead, ([1.0, 0, 0], 0.0)), 1)) == 1
    assert len(meeting_pairs(views_towards(ahead, ([0.0, 0, 1], 0.0)), 1)) == 1
    assert len(meeting_pairs(views_towards(ahead, ([0.0, 0, -1], np.pi)), 1)) == 0
    assert len(meeting_pairs(views_towards(ahead, ([0.0, 0, 1], np.pi)), 1)) == 0
    assert len(meeting_pairs(views_towards(behind, behind), 1)) == 1
    assert len(meeting_pairs(views_towards(ahead), 1)) == 0
    assert len(meeting_pairs(views_towards(ahead, ([1.0, 0, 0], np.pi / 2), ([-1.0, 0, 0], 0.2)), 2)) == 1


def test_cameras_around_a_thing_meet_up_to_forty_degrees() -> None:
    def pair(degrees: float) -> int:
        angle = np.radians(degrees)
        other = ([-np.sin(angle) * 5, 0.0, 5 - 5 * np.cos(angle)], angle)
        return len(meeting_pairs(views_towards(([0.0, 0, 0], 0.0), other), 1))

    assert pair(30) == 1
    assert pair(120) == 0


def test_no_views_make_no_pairs() -> None:
    assert meeting_pairs(random_views(0, 0, tied=False), 5).shape == (0, 2)


def test_ties_in_distance_go_to_the_first() -> None:
    for seed in range(3):
        views = random_views(2 * seed, 7, tied=True)
        assert list(map(tuple, meeting_pairs(views, 1).tolist())) == loop_pairs(views, 1)
