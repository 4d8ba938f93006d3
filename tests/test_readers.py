"""Readers of COLMAP models, held against COLMAP itself (pycolmap) and against files cut anywhere."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm2tuples.covisibility.shared_points import shared_points
from sfm2tuples.errors import ModelError
from sfm2tuples.readers import colmap_binary, colmap_text, kernels
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.assembly import DROPPED_POINT, DROPPED_TRACK_IMAGE, DROPPED_TRACK_INDEX, check_name
from sfm2tuples.readers.camera_models import CAMERA_MODELS
from sfm2tuples.readers.frames import compose
from sfm2tuples.readers.sparse_model import SparseModel
from tests import oracles

pycolmap = pytest.importorskip("pycolmap")

NAMES = ["b/2.jpg", "Zürich 1.jpg", "a.jpg", "ä.jpg", "日本/東京.jpg", "empty.jpg", "b/10.jpg"]


def make_model(spaces: bool = True) -> pycolmap.Reconstruction:
    """Seven images of two cameras, unordered ids, odd names, one image without points, one that sees a point twice."""
    random = np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    for camera in (7, 3):
        pinhole = pycolmap.Camera.create_from_model_name(camera, "OPENCV", 500.0, 640, 480)
        model.add_camera_with_trivial_rig(pinhole)
    ids = [40, 3, 17, 5, 99, 21, 8]
    for number, name in zip(ids, NAMES, strict=True):
        keypoints = random.uniform(0, 480, (0 if name == "empty.jpg" else 12, 2))
        image = pycolmap.Image(
            name=name if spaces else name.replace(" ", "_"), keypoints=keypoints, camera_id=7, image_id=number
        )
        if number == 17:
            image.camera_id = 3
        rotation = pycolmap.Rotation3d(random.normal(size=4) / 2)
        rotation.normalize()
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(rotation, random.normal(size=3)))
    elements = [(number, index) for number in ids if number != 21 for index in range(0, 12, 2)]
    random.shuffle(elements)
    for first in range(0, len(elements), 4):
        track = pycolmap.Track([pycolmap.TrackElement(*element) for element in elements[first : first + 4]])
        model.add_point3D(random.normal(size=3), track, np.zeros(3, np.uint8))
    twice = pycolmap.Track([pycolmap.TrackElement(40, 1), pycolmap.TrackElement(40, 3), pycolmap.TrackElement(3, 1)])
    model.add_point3D(random.normal(size=3), twice, np.zeros(3, np.uint8))
    return model


def make_rigs() -> pycolmap.Reconstruction:
    """Two rigs of two cameras each, three frames a rig; the second camera is turned and shifted."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 2, 3
    options.num_points3D = 30
    options.sensor_from_rig_rotation_stddev, options.sensor_from_rig_translation_stddev = 20.0, 0.5
    return pycolmap.synthesize_dataset(options)


def write(model: pycolmap.Reconstruction, folder: Path, kind: str) -> Path:
    """Write a model as .bin or .txt."""
    folder.mkdir(parents=True)
    model.write_binary(folder) if kind == "bin" else model.write_text(folder)
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model in both kinds."""
    root = tmp_path_factory.mktemp("good")
    model = make_model(spaces=False)
    return {kind: write(model, root / kind, kind) for kind in ("bin", "txt")}


def copy_with(source: Path, target: Path, file: str, content: bytes) -> Path:
    """Copy a model and put other content in one of its files."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        (target / path.name).write_bytes(content if path.name == file else path.read_bytes())
    return target


def read_or_line(folder: Path) -> SparseModel | str:
    """The model, or the one line that reading it gives; anything else fails the test."""
    try:
        return read_model(folder)
    except ModelError as error:
        return str(error)


def line_of(folder: Path) -> str:
    """The one line that reading a broken model gives."""
    line = read_or_line(folder)
    assert isinstance(line, str), "a broken model was read"
    assert "\n" not in line
    return line


# ---- as COLMAP reads it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_a_model_reads_as_colmap_reads_it(good: dict[str, Path], kind: str) -> None:
    oracles.assert_same_model(read_model(good[kind]), good[kind])


def test_text_equals_binary(good: dict[str, Path]) -> None:
    text, binary = read_model(good["txt"]), read_model(good["bin"])
    for field in text.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(text, field), getattr(binary, field), err_msg=field)
        if isinstance(getattr(text, field), np.ndarray):
            assert getattr(text, field).dtype == getattr(binary, field).dtype


def test_columns_have_the_dtypes_they_promise(good: dict[str, Path]) -> None:
    model = read_model(good["bin"])
    wanted = {
        "camera_ids": np.int64,
        "camera_models": np.int32,
        "camera_sizes": np.int64,
        "camera_indptr": np.int64,
        "camera_params": np.float64,
        "image_ids": np.int64,
        "image_cameras": np.int64,
        "quaternions": np.float64,
        "translations": np.float64,
        "observation_indptr": np.int64,
        "observation_points": np.int64,
        "observation_xy": np.float64,
        "point_ids": np.int64,
        "points": np.float64,
        "point_errors": np.float64,
    }
    assert {field: getattr(model, field).dtype for field in wanted} == wanted
    assert all(getattr(model, field).flags.c_contiguous for field in wanted)


def test_images_are_in_the_order_of_their_names_bytes(good: dict[str, Path]) -> None:
    names = read_model(good["bin"]).image_names
    assert [name.encode() for name in names] == sorted(name.encode() for name in names)
    assert names.index("b/10.jpg") < names.index("b/2.jpg") < names.index("ä.jpg") < names.index("日本/東京.jpg")


def test_a_name_with_spaces_is_kept_whole_in_text_too(tmp_path: Path) -> None:
    # COLMAP's own text reader cuts it at the first space, so binary is the oracle here.
    model = make_model(spaces=True)
    text = read_model(write(model, tmp_path / "txt", "txt"))
    assert "Zürich 1.jpg" in text.image_names
    assert text.image_names == read_model(write(model, tmp_path / "bin", "bin")).image_names


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_every_camera_model_reads_as_colmap_reads_it(tmp_path: Path, kind: str) -> None:
    model = pycolmap.Reconstruction()
    names = [name for name in pycolmap.CameraModelId.__members__ if name != "INVALID"]
    for number, name in enumerate(names, 1):
        model.add_camera_with_trivial_rig(pycolmap.Camera.create_from_model_name(number, name, 512.5, 640, 480))
    folder = write(model, tmp_path / kind, kind)
    oracles.assert_same_model(read_model(folder), folder)


def test_the_table_of_camera_models_is_colmaps() -> None:
    for number, model in CAMERA_MODELS.items():
        camera = pycolmap.Camera.create_from_model_name(1, model.name, 500.0, 640, 480)
        assert int(camera.model.value if hasattr(camera.model, "value") else camera.model) == number
        assert len(camera.params) == model.num_params
        assert list(camera.focal_length_idxs()) == list(range(model.num_focal))
    assert len(CAMERA_MODELS) == len(pycolmap.CameraModelId.__members__) - 1


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_poses_in_a_rig_of_two_cameras_are_colmaps(tmp_path: Path, kind: str) -> None:
    folder = write(make_rigs(), tmp_path / kind, kind)
    model = read_model(folder)
    oracles.assert_same_model(model, folder)
    assert len(model.image_names) == 12
    # The second cameras stand elsewhere than the first, so the rig is really part of the pose.
    assert np.abs(model.translations - [0, 0, 5]).max() > 0.1


def test_a_frames_pose_wins_over_the_images_own(tmp_path: Path) -> None:
    source = write(make_rigs(), tmp_path / "rigs", "bin")
    content = bytearray((source / "images.bin").read_bytes())
    content[44:68] = struct.pack("<3d", 9, 9, 9)
    folder = copy_with(source, tmp_path / "moved", "images.bin", bytes(content))
    oracles.assert_same_model(read_model(folder), folder)
    np.testing.assert_array_equal(read_model(folder).translations, read_model(source).translations)


@pytest.mark.parametrize("kind", ["bin", "txt"])
def test_without_rigs_and_frames_the_images_own_poses_are_taken(tmp_path: Path, kind: str) -> None:
    folder = write(make_rigs(), tmp_path / kind, kind)
    with_frames = read_model(folder)
    (folder / f"rigs.{kind}").unlink()
    (folder / f"frames.{kind}").unlink()
    oracles.assert_same_model(read_model(folder), folder)
    np.testing.assert_allclose(read_model(folder).translations, with_frames.translations, atol=1e-12)


def test_composed_poses_move_a_point_as_one_after_the_other() -> None:
    random = np.random.default_rng(1)
    first, second, point = random.normal(size=(5, 7)), random.normal(size=(5, 7)), random.normal(size=3)
    composed = compose(second, first)
    for row in range(5):
        between = oracles.rotation_matrix(first[row, :4] / np.linalg.norm(first[row, :4])) @ point + first[row, 4:]
        unit = second[row, :4] / np.linalg.norm(second[row, :4])
        expected = oracles.rotation_matrix(unit) @ between + second[row, 4:]
        got = oracles.rotation_matrix(composed[row, :4]) @ point + composed[row, 4:]
        np.testing.assert_allclose(got, expected, atol=1e-12)


def test_quaternions_are_normalised(tmp_path: Path) -> None:
    folder = write_rows(tmp_path / "m", images="1 2 0 0 0 0 0 0 1 a.jpg\n\n2 0 1e-200 0 0 0 0 0 1 b.jpg\n\n")
    np.testing.assert_array_equal(read_model(folder).quaternions, [[1, 0, 0, 0], [0, 1, 0, 0]])


def test_ids_far_apart_are_found_by_search(tmp_path: Path) -> None:
    far = 2**52
    folder = write_rows(
        tmp_path / "m",
        images=f"4000000000 1 0 0 0 0 0 0 1 a.jpg\n1 2 {far} 3 4 5 6 7 -1\n7 1 0 0 0 0 0 0 1 b.jpg\n3 3 5\n",
        points=f"{far} 1 2 3 0 0 0 0.5 4000000000 0\n5 1 2 3 0 0 0 0.5 7 0 4000000000 1\n",
    )
    model = read_model(folder)
    assert kernels.row_table(model.point_ids).size == 0
    assert model.dropped == {}
    assert model.point_ids.tolist() == [5, far]
    assert model.observation_points.tolist() == [1, 0, 0]
    assert model.observation_indptr.tolist() == [0, 2, 3]


def test_rows_are_found_the_same_way_by_table_and_by_search(good: dict[str, Path], monkeypatch) -> None:
    by_table = read_model(good["bin"])
    monkeypatch.setattr(kernels, "row_table", lambda keys: np.empty(0, np.int32))
    by_search = read_model(good["bin"])
    np.testing.assert_array_equal(by_table.observation_points, by_search.observation_points)
    assert by_search.dropped == {}


def test_a_model_without_images_is_read(tmp_path: Path) -> None:
    for kind in ("bin", "txt"):
        model = read_model(write(pycolmap.Reconstruction(), tmp_path / kind, kind))
        assert (model.image_names, len(model.points), len(model.camera_ids)) == ([], 0, 0)
        assert model.observation_indptr.tolist() == [0]
        assert model.quaternions.shape == (0, 4)
        assert model.points.shape == (0, 3)


# ---- text ----------------------------------------------------------------------------------------------------------


def write_rows(folder: Path, cameras: str = "1 SIMPLE_PINHOLE 640 480 500 320 240\n", images="", points="") -> Path:
    """A text model from rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("cameras", cameras), ("images", images), ("points3D", points)):
        (folder / f"{name}.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def test_text_may_hold_comments_blank_rows_tabs_and_carriage_returns(tmp_path: Path) -> None:
    folder = write_rows(
        tmp_path / "m",
        "# cameras\n\n1 SIMPLE_PINHOLE 640 480 500 320 240\r\n",
        "# images\r\n\r\n1 1 0 0 0 0 0 0 1 a b.jpg \r\n1 2 5\t3 4 -1\r\n# between\n2 1 0 0 0 0 0 0 1 c.jpg\n\n",
        "#\n5  1 2 3 0 0 0 0.5  1 0\r\n\n# end",
    )
    model = read_model(folder)
    assert model.image_names == ["a b.jpg", "c.jpg"]
    assert model.observation_indptr.tolist() == [0, 1, 1]
    assert model.observation_xy.tolist() == [[1, 2]]
    assert model.points.tolist() == [[1, 2, 3]]
    assert model.dropped == {}


def test_text_in_many_blocks_equals_text_in_one(good: dict[str, Path], monkeypatch) -> None:
    from sfm2tuples.readers import text_rows

    whole = read_model(good["txt"])
    monkeypatch.setattr(text_rows, "BLOCK_BYTES", 100)
    blocks = read_model(good["txt"])
    np.testing.assert_array_equal(whole.points, blocks.points)
    np.testing.assert_array_equal(whole.observation_xy, blocks.observation_xy)


@pytest.mark.parametrize(
    ("file", "rows", "fault"),
    [
        ("cameras", "1 NO_SUCH 640 480 1 2 3\n", "unknown model 'NO_SUCH'"),
        ("cameras", "1 PINHOLE 640 480 1 2 3\n", "camera 1 has 3 parameters, PINHOLE has 4"),
        ("cameras", "1 SIMPLE_PINHOLE 640 480 1 2 x\n", "line 1: 'x' is not a number"),
        ("cameras", "1 SIMPLE_PINHOLE 640 480 1 2 nan\n", "1 of 1 cameras are not finite"),
        ("cameras", "1 SIMPLE_PINHOLE 6e9 480 1 2 3\n", "'6e9' is not an integer"),
        ("cameras", "1 SIMPLE_PINHOLE 64 48 1 2 3\n1 SIMPLE_PINHOLE 64 48 1 2 3\n", "camera id 1 comes twice"),
        ("images", "1 1 0 0 0 0 0 0 1 a.jpg", "ends after the row of image 1"),
        ("images", "1 1 0 0 0 0 0 0 1\n\n", "an empty name"),
        ("images", "1 1 0 0 0 0 0\n\n", "line 1: has only 7 columns"),
        ("images", "-1 1 0 0 0 0 0 0 1 a.jpg\n\n", "line 1: -1 is out of range"),
        ("images", "1 1 0 0 0 0 0 0 9 a.jpg\n\n", "image 'a.jpg' names camera 9"),
        ("images", "1 1 0 0 0 0 0 inf 1 a.jpg\n\n", "1 of 1 poses are not finite: a.jpg"),
        ("images", "1 0 0 0 0 0 0 1 1 a.jpg\n\n", "1 of 1 rotations are all zeros: a.jpg"),
        (
            "images",
            "1 1 0 0 0 0 0 0 1 a.jpg\n1 2 -1 3\n",
            "line 2: the observations of image 'a.jpg' are not in threes",
        ),
        ("images", "1 1 0 0 0 0 0 0 1 a.jpg\n1 2 -1 3 4 4.5\n", "point id is not a whole number"),
        ("images", "1 1 0 0 0 0 0 0 1 a.jpg\n1 two -1\n", "line 2: 'two' is not a number"),
        ("images", "1 1 0 0 0 0 0 0 1 a.jpg\n1 nan 5\n", "image 'a.jpg' has an observation that is not finite"),
        ("images", "1 1 0 0 0 0 0 0 1 a.jpg\n1 2 \0 -1\n", "line 2"),
        ("images", "1 1 0 0 0 0 0 0 1 a\0.jpg\n\n", "NUL"),
        ("images", "1 1 0 0 0 0 0 0 1 a.jpg\n\n2 1 0 0 0 0 0 0 1 a.jpg\n\n", "two images are named 'a.jpg'"),
        ("images", "1 1 0 0 0 0 0 0 1 a.jpg\n\n1 1 0 0 0 0 0 0 1 b.jpg\n\n", "image id 1 comes twice"),
        ("images", "# Number of images: 2\n1 1 0 0 0 0 0 0 1 a.jpg\n\n", "holds 1 rows, its header says 2"),
        ("points3D", "5 1 2 3 0 0 0\n", "line 1: has 7 columns"),
        ("points3D", "5 1 2 3 0 0 0 0.5 1\n", "line 1: has 9 columns"),
        ("points3D", "# x\n5 1 2 3 0 0 0 0.5 1 zero\n", "line 2: 'zero' is not a number"),
        ("points3D", "5 1 2 3 0 0 0 0.5 1 0.5\n", "track element is not a whole number"),
        ("points3D", "5.5 1 2 3 0 0 0 0.5 1 0\n", "point id is not a whole number"),
        ("points3D", "5 1 2 nan 0 0 0 0.5 1 0\n", "1 of 1 points are not finite, first point 5"),
        ("points3D", "5 1 2 3 0 0 0 0.5\n5 1 2 3 0 0 0 0.5\n", "point id 5 comes twice"),
    ],
)
def test_a_fault_in_text_is_named_in_one_line(tmp_path: Path, file: str, rows: str, fault: str) -> None:
    parts = {
        "cameras": "1 SIMPLE_PINHOLE 640 480 500 320 240\n",
        "images": "1 1 0 0 0 0 0 0 1 a.jpg\n1 2 5\n",
        "points3D": "5 1 2 3 0 0 0 0.5 1 0\n",
    }
    assert read_model(write_rows(tmp_path / "good", *parts.values())).image_names == ["a.jpg"]
    line = line_of(write_rows(tmp_path / "bad", *{**parts, file: rows}.values()))
    assert f"{file}.txt: " in line or file == "cameras"
    assert fault in line


# ---- what is dropped, and names --------------------------------------------------------------------------------------


def test_rows_whose_other_end_is_absent_are_dropped_and_counted(tmp_path: Path) -> None:
    folder = write_rows(
        tmp_path / "m",
        images="1 1 0 0 0 0 0 0 1 a.jpg\n1 2 77 3 4 5 5 6 78\n2 1 0 0 0 0 0 0 1 b.jpg\n7 8 5\n",
        points="5 1 2 3 0 0 0 0.5 1 1 2 0 2 1 4242 0 4243 0\n",
    )
    model = read_model(folder)
    assert model.dropped == {DROPPED_TRACK_IMAGE: 2, DROPPED_TRACK_INDEX: 1, DROPPED_POINT: 2}
    assert model.observation_indptr.tolist() == [0, 1, 2]
    assert model.observation_xy.tolist() == [[3, 4], [7, 8]]
    assert model.observation_points.tolist() == [0, 0]


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"/a.jpg",
        b"\\a.jpg",
        b"C:\\a.jpg",
        b"c:/a.jpg",
        b"../a.jpg",
        b"a/../b.jpg",
        b"a\\..\\b.jpg",
        b"..",
        b"../\xff",
    ],
)
def test_a_name_that_is_empty_absolute_or_escaping_is_refused(name: bytes) -> None:
    with pytest.raises(ModelError, match=r"^images\.bin: "):
        check_name(name, Path("images.bin"))


@pytest.mark.parametrize("name", ["a.jpg", "a/b c.jpg", "..a.jpg", "a../b..jpg", "…/é.jpg", "c:a.jpg", ".hidden/a.jpg"])
def test_other_names_are_kept_as_they_are(name: str) -> None:
    assert check_name(name.encode(), Path("images.bin")) == name


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"\xff/a.jpg", b"\xed\xb3\xa9.jpg"])
def test_bytes_of_a_name_that_are_not_utf8_are_kept(name: bytes) -> None:
    assert os.fsencode(check_name(name, Path("images.bin"))) == name


def test_backslashes_in_a_name_are_slashes() -> None:
    assert check_name(rb"cam0\a b.jpg", Path("images.bin")) == "cam0/a b.jpg"


# ---- cut, lengthened, scrambled ------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["cameras.bin", "images.bin", "points3D.bin", "rigs.bin", "frames.bin"])
def test_a_binary_file_cut_anywhere_is_an_error_that_names_it(good: dict[str, Path], tmp_path: Path, file: str) -> None:
    content = (good["bin"] / file).read_bytes()
    folder = copy_with(good["bin"], tmp_path / "cut", file, content)
    for size in range(len(content)):
        (folder / file).write_bytes(content[:size])
        assert f"/{file}: " in line_of(folder), size
    (folder / file).write_bytes(content + b"\0")
    assert f"/{file}: has 1 bytes after its last row" in line_of(folder)


@pytest.mark.parametrize("file", ["cameras.txt", "images.txt", "points3D.txt", "rigs.txt", "frames.txt"])
def test_a_text_file_cut_anywhere_gives_a_model_or_one_line(good: dict[str, Path], tmp_path: Path, file: str) -> None:
    content = (good["txt"] / file).read_bytes()
    folder = copy_with(good["txt"], tmp_path / "cut", file, content)
    whole = read_model(folder)
    for size in range(0, len(content), 7):
        (folder / file).write_bytes(content[:size])
        outcome = read_or_line(folder)
        # Only the last row can be cut unnoticed, where no header is left that counts the rows.
        if isinstance(outcome, SparseModel) and size >= 300:
            assert outcome.image_names == whole.image_names
            assert len(outcome.points) == len(whole.points)


@pytest.mark.parametrize("file", ["cameras", "images", "points3D", "rigs"])
def test_a_missing_file_is_named(good: dict[str, Path], tmp_path: Path, file: str) -> None:
    for kind, source in good.items():
        folder = copy_with(source, tmp_path / kind, "", b"")
        (folder / f"{file}.{kind}").unlink()
        assert f"/{file}.{kind}: is missing" in line_of(folder)


def test_a_folder_in_place_of_a_file_is_one_line(good: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_with(good["bin"], tmp_path / "m", "", b"")
    (folder / "images.bin").unlink()
    (folder / "images.bin").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        colmap_binary.read(folder)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_scrambled_bytes_never_give_anything_but_a_model_or_one_line(
    good: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(["bin", "txt"]))
    file = data.draw(st.sampled_from(["cameras", "images", "points3D", "rigs", "frames"])) + "." + kind
    content = bytearray((good[kind] / file).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        piece = data.draw(st.one_of(st.binary(min_size=1, max_size=9), st.just(b"\xff" * 8), st.just(b"9" * 40)))
        content[at : at + len(piece)] = piece
    folder = copy_with(good[kind], tmp_path_factory.mktemp("scrambled"), file, bytes(content))
    outcome = read_or_line(folder)
    if isinstance(outcome, SparseModel):
        assert np.isfinite(outcome.quaternions).all()
        assert np.isfinite(outcome.points).all()
        assert outcome.observation_indptr[-1] == len(outcome.observation_points)
    else:
        assert "\n" not in outcome


@pytest.mark.parametrize("number", [2**60, 2**63, 2**64 - 1])
def test_a_huge_count_takes_no_memory(good: dict[str, Path], tmp_path: Path, number: int) -> None:
    places = {"images.bin": [0], "cameras.bin": [0], "points3D.bin": [0, 51], "rigs.bin": [0], "frames.bin": [0]}
    for file, offsets in places.items():
        for offset in offsets:
            content = bytearray((good["bin"] / file).read_bytes())
            content[offset : offset + 8] = struct.pack("<Q", number)
            folder = copy_with(good["bin"], tmp_path / "huge", file, bytes(content))
            assert f"/{file}: " in line_of(folder)


# ---- rigs and frames -----------------------------------------------------------------------------------------------


FRAMES_HEAD = "1 SIMPLE_PINHOLE 640 480 500 320 240\n"


@pytest.mark.parametrize(
    ("rigs", "frames", "fault"),
    [
        ("1 1 CAMERA 1\n", "1 2 1 0 0 0 0 0 0 1 CAMERA 1 1\n", "frames.txt: frame 1 names rig 2"),
        ("1 1 CAMERA 2\n", "1 1 1 0 0 0 0 0 0 1 CAMERA 1 1\n", "frames.txt: image 1 of camera 1"),
        ("1 1 LIDAR 1\n", "1 1 1 0 0 0 0 0 0 1 CAMERA 1 1\n", "rigs.txt: line 1: 'LIDAR' is no type of sensor"),
        ("1 1 CAMERA 1 5\n", "1 1 1 0 0 0 0 0 0 1 CAMERA 1 1\n", "rigs.txt: line 1: has 5 columns"),
        ("1 2 CAMERA 2 CAMERA 1 1 0 0 0 0 0 0 0\n", "", "rigs.txt: the rotation of sensor 1 of rig 1"),
        ("1 1 CAMERA 1\n1 1 CAMERA 1\n", "", "rigs.txt: rig id 1 comes twice"),
        ("1 1 CAMERA 1\n", "1 1 nan 0 0 0 0 0 0 1 CAMERA 1 1\n", "frames.txt: the pose of frame 1 is not finite"),
        ("1 1 CAMERA 1\n", "1 1 1 0 0 0 0 0 0 0\n1 1 1 0 0 0 0 0 0 0\n", "frames.txt: frame id 1 comes twice"),
        ("1 1 CAMERA 1\n", "1 1 1 0 0 0 0 0 0 2 CAMERA 1 1 CAMERA 1 1\n", "frames.txt: image 1 belongs to two frames"),
    ],
)
def test_a_fault_in_rigs_or_frames_is_named(tmp_path: Path, rigs: str, frames: str, fault: str) -> None:
    folder = write_rows(tmp_path / "m", FRAMES_HEAD, "1 1 0 0 0 1 2 3 1 a.jpg\n\n")
    (folder / "rigs.txt").write_text(rigs)
    (folder / "frames.txt").write_text(frames)
    assert fault in line_of(folder)


@pytest.mark.parametrize(
    ("rigs", "frames"),
    [
        ("1 1 CAMERA 1\n", ""),
        ("1 2 CAMERA 2 CAMERA 1 0\n", "1 1 1 0 0 0 9 9 9 1 CAMERA 1 1\n"),
        ("1 2 IMU 1 CAMERA 1 0\n", "1 1 1 0 0 0 9 9 9 2 IMU 1 1 CAMERA 1 1\n"),
    ],
)
def test_an_image_without_a_frame_or_a_known_sensor_keeps_its_own_pose(tmp_path: Path, rigs: str, frames: str) -> None:
    folder = write_rows(tmp_path / "m", FRAMES_HEAD, "1 1 0 0 0 1 2 3 1 a.jpg\n\n")
    (folder / "rigs.txt").write_text(rigs)
    (folder / "frames.txt").write_text(frames)
    assert read_model(folder).translations.tolist() == [[1, 2, 3]]


def test_a_model_found_in_a_path_and_the_two_readers_agree(good: dict[str, Path]) -> None:
    assert colmap_text.read(good["txt"]).image_names == colmap_binary.read(good["bin"]).image_names
    with pytest.raises(ModelError, match="holds no model"):
        read_model(good["bin"].parent)


# ---- observations that stand on one side only ------------------------------------------------------------------------


def _one_sided(folder: Path, rows: tuple[str, str], tracks: tuple[str, str]) -> Path:
    images = "".join(f"{i} 1 0 0 0 0 0 0 1 {i}.jpg\n{row}\n" for i, row in enumerate(rows, 1))
    points = "".join(f"{point} 1 2 3 0 0 0 0.5 {track}\n" for point, track in zip((7, 9), tracks, strict=True))
    return write_rows(folder, images=images, points=points)


def test_tracks_are_taken_where_an_images_observations_name_no_point(tmp_path: Path) -> None:
    rows = "1 2 -1 3 4 -1", "5 6 -1 7 8 -1"
    model = read_model(_one_sided(tmp_path / "m", rows, ("1 0 2 1", "1 1 2 0")))
    assert model.observation_indptr.tolist() == [0, 2, 4]
    assert model.observation_points.tolist() == [0, 1, 0, 1]
    assert model.observation_xy.tolist() == [[1, 2], [3, 4], [7, 8], [5, 6]]
    assert not model.dropped


def test_tracks_are_taken_where_an_image_has_no_observations_at_all(tmp_path: Path) -> None:
    """Where they lie in the photo is not known then; one image that has its own keeps them, and only them."""
    model = read_model(_one_sided(tmp_path / "m", ("1 2 7", ""), ("1 0 2 900", "2 901")))
    assert model.observation_indptr.tolist() == [0, 1, 3]
    assert model.observation_points.tolist() == [0, 0, 1]
    assert model.observation_xy[0].tolist() == [1, 2]
    assert np.isnan(model.observation_xy[1:]).all()
    assert not model.dropped


def test_shared_points_come_from_tracks_too(tmp_path: Path) -> None:
    binary = write(make_model(), tmp_path / "m", "bin")
    told = shared_points(binary).matrix().toarray()
    content = bytearray((binary / "images.bin").read_bytes())
    images = colmap_binary.read_images(binary / "images.bin")
    for start, count in zip(images.starts.tolist(), images.counts.tolist(), strict=True):
        for at in range(start, start + 24 * count, 24):
            content[at + 16 : at + 24] = b"\xff" * 8
    (binary / "images.bin").write_bytes(content)
    assert (shared_points(binary).matrix().toarray() == told).all()
    assert (shared_points(read_model(binary)).matrix().toarray() == told).all()
