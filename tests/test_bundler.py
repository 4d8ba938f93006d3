"""Bundler's files against its manual and COLMAP's converter, with lists from anywhere, and malformed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hand_made import damaged, error_of, refused

from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.errors import ModelError
from sfm2tuples.readers import colmap_binary
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.bundler import read
from sfm2tuples.readers.bundler_files import find_list
from sfm2tuples.readers.by_tracks import NOT_REGISTERED, UNREGISTERED
from tests import oracles

ZERO = "0 0 0\n" * 5
CAMERAS = [
    # f k1 k2, R, t: looks along -z from the origin; from (-1, 0, 0); not registered.
    "800 0.01 -0.002\n1 0 0\n0 1 0\n0 0 1\n0 0 0\n",
    "400 0 0\n1 0 0\n0 1 0\n0 0 1\n1 0 0\n",
    ZERO,
]
POINTS = [
    "0 0 -4\n10 20 30\n2 0 7 1.5 2.5 1 3 -4.5 -5.5\n",
    "1 0 -8\n1 2 3\n1 1 4 10 20\n",
    "1 1 -8\n1 2 3\n2 2 0 1 1 0 9 2 2\n",
]
WHOLE = f"# Bundle file v0.3\n3 3\n{''.join(CAMERAS)}{''.join(POINTS)}"
LIST = "./images/b.jpg 0 800.5\nimages/a.jpg\nimages/c.jpg 0 1.0e3\n"


def write(folder: Path, text: str = WHOLE, names: str = LIST) -> Path:
    """`bundle.out` with its list."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bundle.out").write_text(text)
    (folder / "list.txt").write_text(names)
    return folder / "bundle.out"


# ---- conventions ---------------------------------------------------------------------------------------------------


def test_a_file_written_by_hand_gives_colmaps_axes_and_centred_coordinates(tmp_path: Path) -> None:
    model = read(write(tmp_path))
    assert model.image_names == ["images/a.jpg", "images/b.jpg"]
    assert model.image_ids.tolist() == [1, 0]
    assert model.camera_sizes.tolist() == [[0, 0], [0, 0]]
    assert model.camera_models.tolist() == [3, 3]
    assert model.camera_params.tolist() == [800, 0, 0, 0.01, -0.002, 400, 0, 0, 0, 0]
    assert model.camera_ids[model.image_cameras].tolist() == [1, 0]
    # Half a turn around x takes y up, z backwards to y down, z forward.
    assert np.allclose(np.abs(model.quaternions), [[0, 1, 0, 0], [0, 1, 0, 0]])
    assert np.allclose(model.translations, [[1, 0, 0], [0, 0, 0]])
    assert model.points.tolist() == [[0, 0, -4], [1, 0, -8], [1, 1, -8]]
    assert model.observation_indptr.tolist() == [0, 2, 4]
    assert model.observation_points.tolist() == [0, 1, 0, 2]
    assert model.observation_xy.tolist() == [[-4.5, 5.5], [10, -20], [1.5, -2.5], [2, -2]]
    assert np.isnan(model.point_errors).all()


def test_projection_by_bundlers_manual_is_projection_by_the_camera_that_is_read(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    num_cameras, num_points = 6, 9
    turns = [np.linalg.qr(random.normal(size=(3, 3)))[0] for _ in range(num_cameras)]
    turns = [turn * np.sign(np.linalg.det(turn)) for turn in turns]
    cameras = [(*random.uniform(0.01, 0.1, 2), random.uniform(300, 900), random.normal(size=3)) for _ in turns]
    points = random.normal(size=(num_points, 3))
    lines = ["# Bundle file v0.3", f"{num_cameras} {num_points}"]
    for turn, (k1, k2, focal, shift) in zip(turns, cameras, strict=True):
        lines += [f"{focal!r} {k1!r} {k2!r}", *(" ".join(map(repr, row)) for row in turn.tolist())]
        lines.append(" ".join(map(repr, shift.tolist())))
    for point in points.tolist():
        views = [
            (row, *oracles.bundler_projection(turn, shift, focal, k1, k2, point))
            for row, (turn, (k1, k2, focal, shift)) in enumerate(zip(turns, cameras, strict=True))
        ]
        lines += [
            " ".join(map(repr, point)),
            "0 0 0",
            f"{num_cameras} " + " ".join(f"{r} 0 {x!r} {y!r}" for r, x, y in views),
        ]
    text = "\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n"
    model = read(write(tmp_path, text, "".join(f"{row}.jpg\n" for row in range(num_cameras))))
    for row in range(num_cameras):
        focal, _, _, k1, k2 = model.camera_params[5 * row : 5 * row + 5]
        start, end = model.observation_indptr[row : row + 2]
        for point, xy in zip(model.observation_points[start:end], model.observation_xy[start:end], strict=True):
            pose = model.quaternions[row], model.translations[row]
            assert np.allclose(oracles.colmap_projection(*pose, focal, k1, k2, model.points[point]), xy, rtol=1e-6)


@pytest.mark.parametrize(
    ("camera", "params"),
    [
        ("SIMPLE_RADIAL", [900, 512, 384, 0.05]),
        ("RADIAL", [900, 512, 384, 0.05, -0.01]),
        ("PINHOLE", [900, 1000, 512, 384]),
    ],
)
def test_a_model_converted_as_colmap_does_has_the_originals_geometry_and_graph(
    tmp_path: Path, camera: str, params: list[float]
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions(num_rigs=2, num_frames_per_rig=4, num_points3D=80)
    options.camera_model_id, options.camera_params = getattr(pycolmap.CameraModelId, camera), params
    reconstruction = pycolmap.synthesize_dataset(options)
    (tmp_path / "colmap").mkdir()
    reconstruction.write_binary(tmp_path / "colmap")
    oracles.export_bundler(reconstruction, tmp_path / "bundle.out", tmp_path / "list.txt")
    oracles.assert_same_geometry(read_model(tmp_path / "bundle.out"), colmap_binary.read(tmp_path / "colmap"))


def test_a_camera_of_focal_length_zero_is_left_out_and_counted_with_its_observations(tmp_path: Path) -> None:
    model = read(write(tmp_path))
    assert "images/c.jpg" not in model.image_names
    assert model.dropped == {UNREGISTERED: 1, NOT_REGISTERED: 1}


def test_a_photo_that_sees_a_point_twice_shares_it_once(tmp_path: Path) -> None:
    text = WHOLE.replace(POINTS[0], "0 0 -4\n1 1 1\n3 0 7 1 2 0 8 3 4 1 3 5 6\n")
    graph = covisibility(read(write(tmp_path, text)))
    assert graph.shared.tolist() == [1, 1]


def test_a_file_without_points_or_with_no_registered_camera_is_a_model(tmp_path: Path) -> None:
    empty = read(write(tmp_path / "a", f"# Bundle file v0.3\n1 0\n{CAMERAS[0]}", "x.jpg\n"))
    assert (empty.image_names, len(empty.points)) == (["x.jpg"], 0)
    assert read(write(tmp_path / "b", f"# Bundle file v0.3\n1 0\n{ZERO}", "x.jpg\n")).image_names == []
    assert read(write(tmp_path / "c", "# Bundle file v0.3\n0 0\n", "")).image_names == []


def test_windows_line_ends_read_the_same(tmp_path: Path) -> None:
    path = write(tmp_path)
    expected = read(path)
    path.write_bytes(WHOLE.replace("\n", "\r\n").encode())
    (tmp_path / "list.txt").write_bytes(LIST.replace("\n", "\r\n").encode())
    assert read(path).image_names == expected.image_names
    assert np.array_equal(read(path).observation_xy, expected.observation_xy)


# ---- the list of photos ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bundle", "beside"),
    [
        ("bundle/bundle.out", "list.txt"),
        ("bundle/bundle.out", "bundle/list.txt"),
        ("bundle.rd.out", "list.rd.txt"),
        ("bundle.db.orig.out", "list.db.orig.txt"),
        ("bundle.orig.out", "list.db.txt"),
        ("castle.bundle.out", "castle.list.txt"),
        ("gt_bundle.out", "list.txt"),
    ],
)
def test_the_list_is_found_beside_the_file_or_in_the_folder_above(tmp_path: Path, bundle: str, beside: str) -> None:
    (tmp_path / bundle).parent.mkdir(exist_ok=True)
    (tmp_path / bundle).write_text(WHOLE)
    (tmp_path / beside).write_text(LIST)
    assert read(tmp_path / bundle).image_names == ["images/a.jpg", "images/b.jpg"]


def test_a_list_of_another_length_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path, names="only.jpg\n")
    with pytest.raises(ModelError, match=r"bundle\.out: line 2: has 3 cameras, but list\.txt names 1 photos$"):
        read(path)
    (tmp_path / "list_all.txt").write_text(LIST)
    assert [found.name for found in find_list(path)] == ["list.txt", "list_all.txt"]
    assert len(read(path).image_names) == 2


def names_of(folder: Path, *listed: str) -> list[str]:
    """Names that the list gives, all cameras registered."""
    cameras = CAMERAS[0] * len(listed)
    text = f"# Bundle file v0.3\n{len(listed)} 0\n{cameras}"
    return read(write(folder, text, "".join(f"{name}\n" for name in listed))).image_names


def test_names_of_another_machine_become_relative_to_what_they_have_in_common(tmp_path: Path) -> None:
    assert names_of(tmp_path, "/home/x/castle/images/a.jpg 0 700", "/home/x/castle/images/b.jpg") == ["a.jpg", "b.jpg"]
    assert names_of(tmp_path, "/data/p/1/a.jpg", "/data/p/2/a.jpg") == ["1/a.jpg", "2/a.jpg"]
    assert names_of(tmp_path, "C:\\photos\\a.jpg", "C:\\photos\\x\\b.jpg") == ["a.jpg", "x/b.jpg"]
    assert names_of(tmp_path, "../images/a.jpg", "../images/b.jpg") == ["a.jpg", "b.jpg"]
    assert names_of(tmp_path, "/etc/passwd") == ["passwd"]


def test_relative_names_stay_as_they_are_but_for_dots_and_backslashes(tmp_path: Path) -> None:
    listed = ["./images//a b.jpg 0 512.3", ".\\images\\c.jpg", "d/../e.jpg", "Zürich 2.jpg"]
    assert names_of(tmp_path, *listed) == ["Zürich 2.jpg", "e.jpg", "images/a b.jpg", "images/c.jpg"]


@pytest.mark.parametrize(
    ("listed", "fault"),
    [
        (["/photos/a.jpg", "b.jpg"], "some photos have absolute paths and others do not"),
        (["../a.jpg", "b.jpg"], "leaves the photo root"),
        (["../../a.jpg", "../b.jpg"], "leaves the photo root"),
        (["C:/a.jpg", "D:/b.jpg"], "is an absolute path"),
        (["."], "photo 1 has no name"),
        (["a.jpg", "./a.jpg"], "two images are named 'a.jpg'"),
    ],
)
def test_names_never_leave_the_root(tmp_path: Path, listed: list[str], fault: str) -> None:
    with pytest.raises(ModelError, match=fault):
        names_of(tmp_path, *listed)


# ---- malformed files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("# Bundle file v0.3", "# Bundle file v0.4", "line 1: is version 0.4; only"),
        ("# Bundle file v0.3", "hello", "line 1: has not Bundler's header"),
        ("\n3 3\n", "\n3\n", "line 2: has only 1 columns"),
        ("\n3 3\n", "\n3 3 3\n", "line 2: has 3 columns, 2 belong there"),
        ("\n3 3\n", "\n3 -3\n", "line 2: -3 is out of range"),
        ("\n3 3\n", "\n3 x\n", "line 2: 'x' is not an integer"),
        ("\n3 3\n", "\n4000000000 3\n", "line 2: claims 4,000,000,000 cameras and 3 points"),
        ("\n3 3\n", "\n3 4000000000\n", "line 2: claims 3 cameras and 4,000,000,000 points"),
        ("\n3 3\n", "\n3 2\n", "line 24: comes after the last of 2 points"),
        ("800 0.01 -0.002", "800 0.01", "line 3: has 2 columns, 3 belong there"),
        ("800 0.01", "800 nan", "line 3: holds a number that is not finite"),
        ("800 0.01", "f 0.01", "line 3: 'f' is not a number"),
        ("400 0 0\n1 0 0", "400 0 0\n0 0 0", "line 9: the matrix is no rotation"),
        ("400 0 0\n1 0 0", "400 0 0\n-1 0 0", "line 9: the matrix is no rotation"),
        ("400 0 0\n1 0 0", "400 0 0\n1e300 0 0", "line 9: the matrix is no rotation"),
        ("0 0 -4\n", "0 0 inf\n", "line 18: holds a number that is not finite"),
        ("10 20 30\n", "10 20\n", "line 19: has 2 columns, 3 belong there"),
        ("\n2 0 7", "\n3 0 7", "line 20: claims 3 observations, has 8 columns of 4 each"),
        ("\n2 0 7", "\n1.5 0 7", "line 20: claims 1.5 observations"),
        ("\n2 0 7", "\n-1 0 7", "line 20: claims -1 observations"),
        ("\n2 0 7", "\nnan 0 7", "line 20: claims nan observations"),
        ("1 3 -4.5", "3 3 -4.5", "line 20: names an image that is none of the 3"),
        ("1 3 -4.5", "-1 3 -4.5", "line 20: names an image that is none of the 3"),
        ("1 3 -4.5", "0.5 3 -4.5", "line 20: names an image that is none of the 3"),
        ("1 3 -4.5", "1 3 inf", "line 20: holds a number that is not finite"),
        ("1 1 4 10 20", "1 1 4 10 2O", "line 23: '2O' is not a number"),
    ],
)
def test_a_malformed_file_is_one_line_that_names_the_line(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in WHOLE
    path = write(tmp_path, WHOLE.replace(old, new, 1))
    assert error_of(read, path).startswith(f"{path}: {fault}")


def test_the_list_that_colmaps_window_writes_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a")
    whole = read(path)
    (path.parent / "list.txt").rename(path.with_name(f"{path.name}.list.txt"))
    assert read(path).image_names == whole.image_names


def test_a_file_without_a_list_says_what_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "b")
    (path.parent / "list.txt").unlink()
    with pytest.raises(ModelError, match=r"there is no list of its photos \(list\.txt or "):
        read(path)


def test_an_absent_or_empty_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        read(tmp_path / "bundle.out")
    with pytest.raises(ModelError, match="line 1: has not Bundler's header"):
        read(write(tmp_path, ""))
    with pytest.raises(ModelError, match="line 1: has not Bundler's header"):
        read_model(write(tmp_path, "\xff" * 100))
    with pytest.raises(ModelError, match=r"begins with a zero byte.*UTF-16LE"):
        read_model(write(tmp_path, "\x00\xff" * 100))


def test_a_list_in_utf16_without_a_mark_is_said_to_be_that(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.with_name("list.txt").write_bytes(LIST.encode("utf-16-le"))
    with pytest.raises(ModelError, match=r"list\.txt: begins with a zero byte: it is text in UTF-16, or no text"):
        read(path)


def test_a_file_cut_at_any_byte_is_one_line(tmp_path: Path) -> None:
    path = write(tmp_path)
    for size in range(len(WHOLE)):
        path.write_text(WHOLE[:size])
        assert refused(read, path)


def test_changed_bytes_give_a_model_or_one_line(tmp_path: Path) -> None:
    path, count = write(tmp_path), 0
    for content in damaged(WHOLE, b"0123456789-.eE \n\t#naif\xff\0", seed=1):
        path.write_bytes(content)
        count += refused(read, path)
    assert 300 < count < 1500
