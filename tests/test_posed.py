"""`transforms.json` and kapture: a model written by loops reads back the same, and what is wrong is one line."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import run
from PIL import Image

from benchmarks.damage import damage
from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.errors import ModelError
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.ingest.jobs import Wanted, find_files
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.discover import find_models
from sfm2tuples.readers.sparse_model import SparseModel
from sfm2tuples.world.synthetic import write_world
from tests.oracles_posed import camera_of, transforms_of, write_kapture
from tests.worlds import read_whole

FRAME = {"file_path": "images/a.jpg", "transform_matrix": np.eye(4).tolist()}
GLOBAL = {"w": 640, "h": 480, "fl_x": 500.0, "cx": 320.0, "cy": 240.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small built-in world."""
    pytest.importorskip("pycolmap")
    folder = tmp_path_factory.mktemp("world") / "world"
    write_world(folder, places=2, photos_per_place=6, size=(96, 72), jobs=1)
    return folder


@pytest.fixture(scope="module")
def scene(world: Path) -> Path:
    return sorted(path for path in world.iterdir() if path.is_dir())[0]


@pytest.fixture(scope="module")
def model(scene: Path) -> SparseModel:
    return read_model(scene / "sparse" / "0")


def write(folder: Path, content: Any, name: str = "transforms.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / name


def same_poses(read: SparseModel, model: SparseModel) -> None:
    """The same rotations up to the quaternion's sign, and translations, up to rounding."""
    assert np.allclose(np.abs((read.quaternions * model.quaternions).sum(axis=1)), 1, atol=1e-12)
    size = np.abs(model.translations).max()
    assert np.allclose(read.translations, model.translations, atol=1e-9 * size)


# ---- transforms.json -----------------------------------------------------------------------------------------------


def test_a_world_as_transforms_reads_back_to_its_cameras_and_poses(tmp_path: Path, model: SparseModel) -> None:
    read = read_model(write(tmp_path, transforms_of(model)))
    assert read.image_names == [f"images/{name}" for name in model.image_names]
    same_poses(read, model)
    for image in range(len(model.image_names)):
        _, size, params = camera_of(model, image)
        assert camera_of(read, image) == ("PINHOLE", size, [params[0], params[-3], *params[-2:]])
    assert len(read.points) == len(read.observation_points) == 0


def test_the_world_of_a_scaled_matrix_and_three_rows_is_the_same_camera(tmp_path: Path, model: SparseModel) -> None:
    content = transforms_of(model)
    for frame in content["frames"]:
        matrix = np.array(frame["transform_matrix"])
        matrix[:3, :3] *= 0.25
        frame["transform_matrix"] = matrix[:3].tolist()
    same_poses(read_model(write(tmp_path, content)), model)


def test_frames_go_before_the_file_and_equal_ones_share_a_camera(tmp_path: Path) -> None:
    frames = [{**FRAME, "file_path": f"{name}.jpg"} for name in "abc"]
    frames[1] |= {"fl_x": 400, "fl_y": 410, "k1": 0.1}
    read = read_model(write(tmp_path, {**GLOBAL, "frames": frames}))
    assert read.image_cameras.tolist() == [0, 1, 0]
    assert camera_of(read, 0) == ("PINHOLE", [640, 480], [500, 500, 320, 240])
    assert camera_of(read, 1) == ("OPENCV", [640, 480], [400, 410, 320, 240, 0.1, 0, 0, 0])


@pytest.mark.parametrize(
    ("more", "camera", "params"),
    [
        ({"k3": 0.3, "p1": 0.01}, "FULL_OPENCV", [500, 500, 320, 240, 0, 0, 0.01, 0, 0.3, 0, 0, 0]),
        ({"camera_model": "OPENCV_FISHEYE", "k4": 0.4}, "OPENCV_FISHEYE", [500, 500, 320, 240, 0, 0, 0, 0.4]),
        ({"is_fisheye": True, "k1": 0.1}, "OPENCV_FISHEYE", [500, 500, 320, 240, 0.1, 0, 0, 0]),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR", [640, 480]),
        ({"cx": None, "cy": None}, "PINHOLE", [500, 500, 320, 240]),
        ({"fl_x": None, "camera_angle_x": math.pi / 2}, "PINHOLE", [320, 320, 320, 240]),
        ({"fl_x": None, "x_fov": 90.0}, "PINHOLE", [320, 320, 320, 240]),
        ({"fl_x": None, "y_fov": 90.0}, "PINHOLE", [240, 240, 320, 240]),
        ({"fl_x": None, "fl_y": 300.0}, "PINHOLE", [300, 300, 320, 240]),
        ({"fl_x": None, "x_fov": 90.0, "camera_angle_y": math.pi / 2}, "PINHOLE", [320, 240, 320, 240]),
        (
            {"fl_x": None, "camera_angle_x": math.pi / 2, "camera_angle_y": math.pi / 2},
            "PINHOLE",
            [320, 240, 320, 240],
        ),
    ],
)
def test_lenses_become_colmaps(tmp_path: Path, more: dict[str, Any], camera: str, params: list[float]) -> None:
    read = read_model(write(tmp_path, {**GLOBAL, **more, "frames": [FRAME]}))
    assert camera_of(read, 0)[:2] == (camera, [640, 480])
    assert np.allclose(camera_of(read, 0)[2], params)


def test_instant_ngps_file_without_sizes_and_suffixes_takes_them_from_the_photos(tmp_path: Path) -> None:
    frames = [{**FRAME, "file_path": f"./train/{name}"} for name in ("r_0", "r_1")]
    file = write(tmp_path, {"camera_angle_x": 0.7, "frames": frames}, "transforms_train.json")
    with pytest.raises(ModelError, match=r"frame 0 \(\./train/r_0\) has no w and h, and none of the photos"):
        read_model(file)
    (tmp_path / "train").mkdir()
    Image.new("RGB", (80, 60)).save(tmp_path / "train" / "r_1.jpg")
    read = read_model(file)
    assert read.image_names == ["train/r_0.png", "train/r_1.jpg"]
    assert camera_of(read, 0)[1] == [80, 60]
    assert camera_of(read, 0)[2][0] == pytest.approx(40 / math.tan(0.35))


def test_photos_above_the_file_are_relative_to_their_folder(tmp_path: Path) -> None:
    frames = [{**FRAME, "file_path": f"../photos/{name}.jpg"} for name in "ab"]
    assert read_model(write(tmp_path, {**GLOBAL, "frames": frames})).image_names == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("start", ["../photos/", "..\\photos\\", "{}/photos/"])
def test_sizes_are_taken_from_photos_that_lie_above_the_file(tmp_path: Path, start: str) -> None:
    frames = [{**FRAME, "file_path": f"{start.format(tmp_path)}{name}.jpg"} for name in "ab"]
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (80, 60)).save(tmp_path / "photos" / "b.jpg")
    (tmp_path / "capture").mkdir()
    read = read_model(write(tmp_path / "capture", {"camera_angle_x": 0.7, "frames": frames}))
    assert (read.image_names, camera_of(read, 0)[1]) == (["a.jpg", "b.jpg"], [80, 60])


def test_a_file_beside_the_model_that_it_was_made_from_is_passed_over(tmp_path: Path, scene: Path) -> None:
    write(tmp_path / "s", {**GLOBAL, "frames": [FRAME]})
    write(tmp_path / "t", {**GLOBAL, "frames": [FRAME]}, "transforms_test.json")
    write(tmp_path / "t", {**GLOBAL, "frames": [FRAME]}, "transforms_train.json")
    names = [location.name for location in find_models([tmp_path])]
    assert names == ["s/transforms.json", "t/transforms_test.json", "t/transforms_train.json"]
    (tmp_path / "s/colmap/sparse").mkdir(parents=True)
    (tmp_path / "s/colmap/sparse/0").symlink_to(scene / "sparse/0")
    assert "s/transforms.json" not in [location.name for location in find_models([tmp_path])]
    assert read_model(tmp_path / "s/transforms.json").image_names == ["images/a.jpg"]


def frame_with(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["frames"][1] |= changes

    return change


def file_with(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(changes)


SINGULAR = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
FAULTS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda content: content.pop("frames"), "holds no list 'frames'"),
    (file_with(frames={}), "holds no list 'frames'"),
    (file_with(frames=[3]), "frame 0 is no object, but 3"),
    (frame_with(file_path=None), "frame 1 has no file_path"),
    (frame_with(file_path=" "), r"frame 1 \( \) has no file_path"),
    (frame_with(file_path="images/a.jpg"), "two images are named 'images/a.jpg'"),
    (frame_with(file_path="/b.jpg"), "some photos have absolute paths"),
    (frame_with(file_path="x\0.jpg"), "NUL"),
    (frame_with(transform_matrix=None), r"frame 1 \(images/b.jpg\) has no transform_matrix"),
    (frame_with(transform_matrix=[[1, 2], [3]]), "is not 4 x 4"),
    (frame_with(transform_matrix=[["a"] * 4] * 4), "is not 4 x 4"),
    (frame_with(transform_matrix=[[10**400] * 4] * 4), "is not 4 x 4"),
    (frame_with(transform_matrix=[[math.nan] * 4] * 4), "a number that is not finite"),
    (frame_with(transform_matrix=SINGULAR), r"1 of 2 matrices turn nothing .*frame 1"),
    (frame_with(transform_matrix=np.diag([-1, 1, 1, 1]).tolist()), "mirrored"),
    (frame_with(transform_matrix=np.diag([1, 2, 1, 1]).tolist()), "skewed"),
    (frame_with(transform_matrix=np.diag([1e300, 1e300, 1e300, 1]).tolist()), "matrices turn nothing"),
    (frame_with(transform_matrix=[*np.eye(4).tolist()[:3], [0, 0, 1, 1]]), "last row"),
    (file_with(fl_x=math.inf), "fl_x of frame 0 .* no finite number"),
    (file_with(fl_x=0), "fl_x of frame 0 .* not positive"),
    (file_with(fl_x=None), "no fl_x, x_fov or camera_angle_x"),
    (file_with(fl_x=None, camera_angle_x=4), "not within 0 to pi"),
    (file_with(fl_x=None, y_fov=180), "not within 0 to 180 degrees"),
    (file_with(cx="320"), "cx of frame 0 .* is '320', no finite number"),
    (file_with(cx=True), "is True, no finite number"),
    (file_with(w=10**400), "w of frame 0"),
    (file_with(w=10**18), "pixels"),
    (file_with(h=0.5), "640 x 0.5 pixels"),
    (file_with(k4=0.1), "is no fisheye and has k4"),
    (file_with(camera_model="VR180_L"), "is of camera_model 'VR180_L'; known are"),
    (file_with(camera_model=["x"]), "is of camera_model a value of type list"),
]


@pytest.mark.parametrize(("spoil", "said"), FAULTS)
def test_a_faulty_transforms_is_one_line(tmp_path: Path, spoil: Callable[[Any], object], said: str) -> None:
    content = {**GLOBAL, "frames": [copy.deepcopy(FRAME), {**copy.deepcopy(FRAME), "file_path": "images/b.jpg"}]}
    spoil(content)
    with pytest.raises(ModelError, match=said) as error:
        read_model(write(tmp_path, content))
    assert str(error.value).startswith(str(tmp_path / "transforms.json"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 5000, '{"frames": ' + "[" * 5000, "\xff"])
def test_a_file_that_is_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "transforms.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"transforms\.json: is no (JSON|text)"):
        read_model(tmp_path / "transforms.json")


# ---- kapture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("rig", [False, True])
def test_a_world_as_kapture_reads_back_the_same(tmp_path: Path, model: SparseModel, rig: bool, version: str) -> None:
    write_kapture(tmp_path / "k", model, rig=rig, version=version)
    read = read_model(tmp_path / "k")
    assert read.image_names == model.image_names
    same_poses(read, model)
    for image in range(len(model.image_names)):
        assert camera_of(read, image) == camera_of(model, image)
    assert np.array_equal(read.points, model.points)
    for image in range(len(model.image_names)):
        own = slice(*model.observation_indptr[image : image + 2])
        theirs = slice(*read.observation_indptr[image : image + 2])
        wanted = sorted(zip(model.observation_points[own], map(tuple, model.observation_xy[own]), strict=True))
        assert (
            sorted(zip(read.observation_points[theirs], map(tuple, read.observation_xy[theirs]), strict=True)) == wanted
        )
    assert read.dropped == {}


def test_without_keypoints_the_graph_is_the_same_and_coordinates_are_unknown(
    tmp_path: Path, model: SparseModel
) -> None:
    write_kapture(tmp_path / "k", model, keypoints=False)
    read = read_model(tmp_path / "k")
    assert np.isnan(read.observation_xy).all()
    assert len(read.observation_xy) == len(model.observation_xy)
    assert covisibility(read).shared.tolist() == covisibility(model).shared.tolist()
    assert read.dropped == {}


def test_an_index_of_a_kapture_is_that_of_its_model(tmp_path: Path, scene: Path, model: SparseModel) -> None:
    write_kapture(tmp_path / "site/k", model)
    (tmp_path / "site/k/sensors/records_data").symlink_to(scene / "images")
    (location,) = find_models([tmp_path / "site"])
    assert (location.name, location.kind) == ("k", "posed.kapture")
    build_index([tmp_path / "site"], tmp_path / "a.h5", IngestOptions())
    build_index([scene], tmp_path / "b.h5", IngestOptions())
    a, b = read_whole(tmp_path / "a.h5"), read_whole(tmp_path / "b.h5")
    assert a.images.name == b.images.name
    assert a.images.has_photo.all()
    assert a.covisibility.shared.tolist() == b.covisibility.shared.tolist()
    assert np.allclose(a.covisibility.scale_change, b.covisibility.scale_change, rtol=1e-5)


def test_photos_without_a_whole_pose_are_left_out_and_counted(tmp_path: Path, model: SparseModel) -> None:
    write_kapture(tmp_path / "k", model)
    path = tmp_path / "k/sensors/trajectories.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-2], "4, cam4, , , , , 1, 2, 3"]) + "\n")
    read = read_model(tmp_path / "k")
    assert read.image_names == model.image_names[:4]
    assert read.dropped["photos that are not registered"] == len(model.image_names) - 4
    assert read.dropped["observations in a camera that is not registered"] > 0


def test_an_unknown_camera_has_no_focal_length(tmp_path: Path, model: SparseModel) -> None:
    write_kapture(tmp_path / "k", model)
    path = tmp_path / "k/sensors/sensors.txt"
    lines = path.read_text().splitlines()
    lines[2] = "cam0, , camera, UNKNOWN_CAMERA, 96, 72"
    path.write_text("\n".join(lines) + "\n")
    read = read_model(tmp_path / "k")
    assert camera_of(read, 0) == ("SIMPLE_PINHOLE", [96, 72], [0, 48, 36])
    assert covisibility(read).without_focal_length == 1


def line(number: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:number], text, *lines[number + 1 :]]


KAPTURE_FAULTS: list[tuple[str, Callable[[list[str]], list[str] | None], str]] = [
    ("sensors/trajectories.txt", lambda _: None, "is missing"),
    ("sensors/sensors.txt", lambda _: None, "is missing"),
    ("sensors/records_camera.txt", lambda lines: [*lines, "9, cam"], "line 9: has only 2 columns"),
    ("sensors/sensors.txt", line(0, "# kapture format: 2.0"), "versions 1.0 and 1.1 are read"),
    ("sensors/sensors.txt", line(2, "cam0, , camera, ODD, 1, 1"), r"line 3: is a camera of unknown model 'ODD'"),
    ("sensors/sensors.txt", line(2, "cam0, , camera, PINHOLE, 1, 1, 3"), "line 3: has only 7 columns"),
    ("sensors/sensors.txt", line(2, "cam0, , camera, PINHOLE, 1, 1e30, 3, 3, 3, 3"), "pixels"),
    ("sensors/sensors.txt", line(2, "cam0, , camera, PINHOLE, 1, 1, nan, 3, 3, 3"), "1 of 6 cameras are not finite"),
    ("sensors/sensors.txt", line(2, "cam1, , camera, PINHOLE, 1, 1, 3, 3, 3, 3"), "sensor 'cam1' comes twice"),
    ("sensors/records_camera.txt", line(2, "0, cam9, 0000.jpg"), "names the sensor 'cam9', which is no camera"),
    ("sensors/records_camera.txt", line(2, "0, wifi0, 0000.jpg"), "names the sensor 'wifi0', which is no camera"),
    ("sensors/records_camera.txt", line(2, "0, cam0, ../0000.jpg"), "leaves the photo root"),
    ("sensors/records_camera.txt", line(2, "0, cam0, /etc/passwd"), "is an absolute path"),
    ("sensors/records_camera.txt", line(2, "0, cam0, 0001.jpg"), "two images are named '0001.jpg'"),
    ("sensors/records_camera.txt", line(2, "0, cam0"), "line 3: has only 2 columns"),
    ("sensors/trajectories.txt", line(2, "0, cam0, 1, 0, 0, 0, 0, 0"), "has 6 columns of a pose"),
    ("sensors/trajectories.txt", line(2, "0, cam0, 0, 0, 0, 0, 0, 0, 0"), "line 3: the rotation is all zeros"),
    ("sensors/trajectories.txt", line(2, "0, cam0, 1, 0, 0, 0, 0, nan, 0"), "line 3: the pose is not finite"),
    ("sensors/trajectories.txt", line(2, "0, cam0, x, 0, 0, 0, 0, 0, 0"), "'x' is not a number"),
    ("sensors/trajectories.txt", line(2, "1, cam1, 1, 0, 0, 0, 0, 0, 0"), "two poses at time '1'"),
    ("reconstruction/points3d.txt", line(2, "1, 2"), "line 3: has 2 columns"),
    ("reconstruction/points3d.txt", line(2, "1, 2, inf, 0, 0, 0"), "line 3: holds a number that is not finite"),
    ("reconstruction/observations.txt", line(2, "99999999, SIFT, 0000.jpg, 0"), "names point 99,999,999"),
    ("reconstruction/observations.txt", line(2, f"{10**30}, SIFT, 0000.jpg, 0"), "is not a whole number"),
    ("reconstruction/observations.txt", line(2, "0, SIFT, 0000.jpg, -1"), "'-1' is not a whole number"),
    ("reconstruction/observations.txt", line(2, "0, ../up, 0000.jpg, 0"), "is no name of a folder"),
    ("reconstruction/keypoints/SIFT/keypoints.txt", line(2, "x, object, 4"), "keypoints are 4 columns of 'object'"),
    ("reconstruction/keypoints/SIFT/keypoints.txt", line(2, "x, float64, 999999999"), "is not a whole number"),
    ("reconstruction/keypoints/SIFT/keypoints.txt", line(2, "x, float64, 300"), "no whole number of keypoints"),
]


@pytest.mark.parametrize(("name", "spoil", "said"), KAPTURE_FAULTS)
def test_a_faulty_kapture_is_one_line(
    tmp_path: Path, model: SparseModel, name: str, spoil: Callable[[list[str]], list[str] | None], said: str
) -> None:
    write_kapture(tmp_path / "k", model)
    path = tmp_path / "k" / name
    changed = spoil(path.read_text().splitlines())
    path.unlink()
    if changed is not None:
        path.write_text("\n".join(changed) + "\n")
    with pytest.raises(ModelError, match=said) as error:
        read_model(find_models([tmp_path])[0])
    assert "\n" not in str(error.value)


def test_rigs_that_hold_each_other_are_refused(tmp_path: Path, model: SparseModel) -> None:
    write_kapture(tmp_path / "k", model)
    trajectories = tmp_path / "k/sensors/trajectories.txt"
    trajectories.write_text("\n".join(trajectories.read_text().splitlines()[:2]) + "\n")
    pose = "1, 0, 0, 0, 0, 0, 0"
    (tmp_path / "k/sensors/rigs.txt").write_text(f"a, cam0, {pose}\nb, a, {pose}\na, b, {pose}\n")
    with pytest.raises(ModelError, match=r"rigs\.txt: the rigs that .* is on hold each other"):
        read_model(tmp_path / "k")


def test_rigs_on_very_many_rigs_are_refused(tmp_path: Path, model: SparseModel) -> None:
    write_kapture(tmp_path / "k", model)
    trajectories = tmp_path / "k/sensors/trajectories.txt"
    trajectories.write_text("\n".join(trajectories.read_text().splitlines()[:2]) + "\n")
    rigs = ["r0, cam0", *(f"r{number + 1}, r{number}" for number in range(5000))]
    (tmp_path / "k/sensors/rigs.txt").write_text("".join(f"{rig}, 1, 0, 0, 0, 0, 0, 0\n" for rig in rigs))
    with pytest.raises(ModelError, match=r"rigs\.txt: 'cam0' is on more than 100 rigs"):
        read_model(tmp_path / "k")


def test_names_longer_than_any_files_are_of_photos_that_are_not_there(tmp_path: Path, model: SparseModel) -> None:
    name = "a" * 3000
    posed = read_model(write(tmp_path, {**GLOBAL, "frames": [{**FRAME, "file_path": name}]}))
    assert posed.image_names == [f"{name}.png"]
    write_kapture(tmp_path / "k", model)
    for table in ("sensors/records_camera.txt", "reconstruction/observations.txt"):
        path = tmp_path / "k" / table
        path.write_text(path.read_text().replace("0000.jpg", f"{name}.jpg"))
    assert f"{name}.jpg" in read_model(tmp_path / "k").image_names


def test_a_feature_that_a_photo_lacks_is_counted(tmp_path: Path, model: SparseModel) -> None:
    write_kapture(tmp_path / "k", model)
    path = tmp_path / "k/reconstruction/observations.txt"
    path.write_text(path.read_text() + "0, SIFT, 0000.jpg, 999999\n0, SIFT, elsewhere.jpg, 1\n")
    assert read_model(tmp_path / "k").dropped == {
        "track elements that name an observation its image lacks": 1,
        "observations in a camera that is not registered": 1,
    }


@pytest.mark.parametrize("name", ["transforms.json", "kapture"])
def test_poses_alone_are_one_line_that_says_triangulate(
    tmp_path: Path, model: SparseModel, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "kapture":
        write_kapture(tmp_path / "site", model)
        (tmp_path / "site/reconstruction/observations.txt").unlink()
    else:
        write(tmp_path / "site", transforms_of(model))
    assert run("build-index", tmp_path / "site", "-o", tmp_path / "index.h5") == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: {tmp_path / 'site'}")
    assert "no two of its 6 images share a point" in said
    assert "build-index --triangulate" in said


@pytest.mark.parametrize("name", ["sensors/sensors.txt", "reconstruction/points3d.txt"])
def test_a_kapture_that_ends_without_a_line_break_is_refused(tmp_path: Path, model: SparseModel, name: str) -> None:
    write_kapture(tmp_path / "k", model)
    (tmp_path / "k" / name).write_text((tmp_path / "k" / name).read_text()[:-2])
    with pytest.raises(ModelError, match="the file ends without a line break"):
        read_model(tmp_path / "k")


def test_a_damaged_transforms_is_one_line_or_a_sound_model(tmp_path: Path, model: SparseModel) -> None:
    text = json.dumps(transforms_of(model), indent=0)
    said = []
    for seed in range(150):
        path = write(tmp_path, text)
        damage(path, np.random.default_rng(seed), False)
        try:
            read = read_model(path)
        except ModelError as error:
            said.append(str(error))
        else:
            assert np.isfinite(read.quaternions).all()
            assert np.isfinite(read.translations).all()
            assert np.isfinite(read.camera_params).all()
    assert 30 < len(said) < 150
    assert [line for line in said if "\n" in line] == []


def key_of(path: Path) -> str:
    """What a resumed build tells a changed model by."""
    (location,) = find_models([path])
    return find_files(location, Wanted()).key


def test_a_resumed_build_sees_that_keypoints_of_a_kapture_changed(tmp_path: Path, model: SparseModel) -> None:
    write_kapture(tmp_path / "k", model)
    before = key_of(tmp_path / "k")
    assert key_of(tmp_path / "k") == before
    (changed, gone, *_) = sorted((tmp_path / "k/reconstruction/keypoints").rglob("*.kpt"))
    changed.write_bytes(bytes(len(changed.read_bytes())))
    after = key_of(tmp_path / "k")
    gone.unlink()
    assert len({before, after, key_of(tmp_path / "k")}) == 3


def test_a_resumed_build_sees_that_photos_changed_which_a_transforms_asks(tmp_path: Path) -> None:
    focal = {"fl_x": 500.0}
    asks = write(tmp_path / "asks", {**focal, "frames": [FRAME, {**FRAME, "file_path": "images/b"}]})
    says = write(tmp_path / "says", {**GLOBAL, "frames": [FRAME]})
    keys = []
    for name, size in (("none", 0), ("a.jpg", 8), ("a.jpg", 9), ("b.JPG", 9)):
        for folder in (tmp_path / "asks/images", tmp_path / "says/images"):
            folder.mkdir(exist_ok=True)
            if size:
                Image.new("RGB", (size, size)).save(folder / name)
        keys.append((key_of(asks), key_of(says)))
    assert [len(set(each)) for each in zip(*keys, strict=True)] == [4, 1]


def test_a_photo_of_a_transforms_by_an_odd_name_has_no_key_but_a_line(tmp_path: Path) -> None:
    file = write(tmp_path, {"fl_x": 500.0, "frames": [{**FRAME, "file_path": "a\0b"}, 7, {"file_path": 3}]})
    assert key_of(file)
    with pytest.raises(ModelError, match="transforms"):
        read_model(file)
