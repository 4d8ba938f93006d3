"""VisualSFM's files against their definition and COLMAP's converter, with several models, and malformed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hand_made import damaged, error_of, refused

from sfm2tuples.covisibility.graph import focal_lengths
from sfm2tuples.errors import ModelError
from sfm2tuples.readers import colmap_binary
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.by_tracks import UNREGISTERED
from sfm2tuples.readers.discover import find_models
from sfm2tuples.readers.nvm import read
from sfm2tuples.readers.nvm_sections import count_models
from tests import oracles

HALF = "0.7071067811865476"
FIRST = (
    f"2\n"
    f'castle"view/b.jpg\t800 1 0 0 0 0 0 0 0.05 0\n'
    f"a.jpg 400 {HALF} 0 {HALF} 0 1 2 3 0 0\n"
    f"\n2\n"
    f"0 0 4 10 20 30 2 0 7 1.5 2.5 1 3 -4.5 -5.5\n"
    f"1 0 8 1 2 3 1 1 4 10 20\n"
)
SECOND = "3\nc.jpg 500 1 0 0 0 0 0 0 0 0\nd.jpg 500 1 0 0 0 1 0 0 0 0\ne.jpg 500 1 0 0 0 2 0 0 0 0\n1\n5 5 5 0 0 0 0\n"
LEFT = "1\nlost.jpg 0 1 0 0 0 0 0 0 0 0\n0\n"
TAIL = "0\n\n#the last part of NVM file points to the PLY files\n0\n"
WHOLE = f"NVM_V3 \n\n# a comment\n{FIRST}\n{SECOND}\n{LEFT}\n{TAIL}"


def write(folder: Path, text: str = WHOLE, name: str = "castle.nvm") -> Path:
    """An NVM file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


# ---- conventions ---------------------------------------------------------------------------------------------------


def test_a_file_written_by_hand_gives_poses_from_centres_and_coordinates_as_written(tmp_path: Path) -> None:
    model = read(write(tmp_path))
    assert model.image_names == ["a.jpg", "castle view/b.jpg"]
    assert model.image_ids.tolist() == [1, 0]
    assert model.camera_models.tolist() == [2, 2]
    assert model.camera_params.tolist() == [800, 0, 0, -0.05, 400, 0, 0, -0.0]
    assert model.camera_sizes.tolist() == [[0, 0], [0, 0]]
    # A quarter turn around y takes (1, 2, 3) to (3, 2, -1); the translation is minus that.
    assert np.allclose(model.translations, [[-3, -2, 1], [0, 0, 0]])
    assert np.allclose(model.quaternions, [[float(HALF), 0, float(HALF), 0], [1, 0, 0, 0]])
    assert model.points.tolist() == [[0, 0, 4], [1, 0, 8]]
    assert model.observation_points.tolist() == [0, 1, 0]
    assert model.observation_xy.tolist() == [[-4.5, -5.5], [10, 20], [1.5, 2.5]]
    assert np.isnan(model.point_errors).all()


def test_visualsfms_distortion_is_colmaps_with_the_other_sign_to_first_order(tmp_path: Path) -> None:
    model = read(write(tmp_path, "NVM_V3\n1\na.jpg 500 1 0 0 0 0 0 0 0.001 0\n0\n0\n"))
    ideal = np.array([0.3, -0.2])
    focal, _, _, k = model.camera_params
    seen = focal * ideal * (1 + k * ideal @ ideal)
    # By its definition VisualSFM takes the measured point to the ideal one, r being for a focal length of 1.
    undone = seen * (1 + 0.001 * (seen @ seen) / focal**2) / focal
    assert np.abs(undone - ideal).max() < 1e-6
    assert np.abs(seen / focal - ideal).max() > 1e-5


@pytest.mark.parametrize("camera", ["SIMPLE_RADIAL", "PINHOLE"])
def test_a_model_converted_as_colmap_does_has_the_originals_geometry_and_graph(tmp_path: Path, camera: str) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions(num_rigs=2, num_frames_per_rig=4, num_points3D=80)
    options.camera_model_id = getattr(pycolmap.CameraModelId, camera)
    reconstruction = pycolmap.synthesize_dataset(options)
    (tmp_path / "colmap").mkdir()
    reconstruction.write_binary(tmp_path / "colmap")
    oracles.export_nvm(reconstruction, tmp_path / "model.nvm")
    oracles.assert_same_geometry(read_model(tmp_path / "model.nvm"), colmap_binary.read(tmp_path / "colmap"))


def test_matrices_and_translations_of_r9t_are_read(tmp_path: Path) -> None:
    text = "NVM_V3_R9T\n1\na.jpg 500 0 0 1 0 1 0 -1 0 0 1 2 3 0 0\n1\n1 1 1 0 0 0 1 0 0 1 1\n"
    model = read(write(tmp_path, text))
    assert np.allclose(model.quaternions, [[float(HALF), 0, float(HALF), 0]])
    assert model.translations.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("header", ["NVM_V3 FixedK 700 320 500 240", "NVM_V3\nFixedK 700 320 500 240 0.1"])
def test_a_fixed_calibration_gives_all_cameras_its_focal_lengths(tmp_path: Path, header: str) -> None:
    model = read(write(tmp_path, WHOLE.replace("NVM_V3 ", header)))
    assert model.camera_models.tolist() == [4, 4]
    assert model.camera_params[:8].tolist() == [700, 500, 0, 0, -0.05, 0, 0, 0]
    assert focal_lengths(model).tolist() == [600, 600]


def test_paths_of_windows_become_names_below_what_they_have_in_common(tmp_path: Path) -> None:
    text = WHOLE.replace('castle"view/b.jpg', "D:\\my\\b.jpg").replace("a.jpg", "D:\\my\\x\\a.jpg")
    for name in "cde":
        text = text.replace(f"{name}.jpg 5", f"D:\\my\\{name}.jpg 5")
    assert read(write(tmp_path, text.replace(LEFT, ""))).image_names == ["b.jpg", "x/a.jpg"]


# ---- several models ------------------------------------------------------------------------------------------------


def test_every_model_of_a_file_is_found_and_read_as_one_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "root" / "castle")
    locations = find_models([tmp_path / "root"])
    assert [location.name for location in locations] == ["castle/castle.nvm", "castle/castle.nvm/1"]
    assert {location.scene for location in locations} == {tmp_path / "root" / "castle"}
    assert [len(read_model(location).image_names) for location in locations] == [2, 3]


def test_photos_that_are_in_no_model_are_counted_once(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert read(path).dropped == {UNREGISTERED: 1}
    assert read(path / "1").dropped == {}


def test_a_file_without_points_is_one_model_without_points(tmp_path: Path) -> None:
    path = write(tmp_path, "NVM_V3\n1\na.jpg 500 1 0 0 0 0 0 0 0 0\n0\n")
    assert count_models(path) == 1
    model = read(path)
    assert (model.image_names, len(model.points), model.dropped) == (["a.jpg"], 0, {})


def test_a_file_without_cameras_is_refused(tmp_path: Path) -> None:
    for text in ("NVM_V3\n", "NVM_V3\n0\n"):
        path = write(tmp_path, text)
        assert count_models(path) == 1
        with pytest.raises(ModelError, match=r"castle\.nvm: line \d: holds no model"):
            read(path)


# ---- malformed files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("NVM_V3 ", "NVM_V2 ", "line 1: begins with 'NVM_V2'; only NVM_V3"),
        ("NVM_V3 ", "NVM_V3 FixedK 1 2 3", "line 1: only 'FixedK fx cx fy cy [r]'"),
        ("NVM_V3 ", "NVM_V3 hello", "line 1: only 'FixedK fx cx fy cy [r]'"),
        ("NVM_V3 ", "NVM_V3 FixedK a 1 1 1", "line 1: 'a' is not a number"),
        ("NVM_V3 ", "NVM_V3 FixedK 0 1 1 1", "line 1: FixedK's focal lengths"),
        ("comment\n2\n", "comment\n2.5\n", "line 4: '2.5' is not the number of cameras"),
        ("comment\n2\n", "comment\n-2\n", "line 4: '-2' is not the number of cameras"),
        ("comment\n2\n", "comment\n4000000000\n", "line 4: claims 4,000,000,000 cameras"),
        ("comment\n2\n", "comment\n1\n", "line 6: 'a.jpg 400"),
        ("\n\n2\n0 0 4", "\n\n4000000000\n0 0 4", "line 8: claims 4,000,000,000 points"),
        ("\n\n2\n0 0 4", "\n\n1\n0 0 4", "line 10: '1 0 8 1 2 3"),
        ("a.jpg 400 ", "400 ", "line 6: has 10 columns, a name and 10 numbers belong there"),
        ("a.jpg 400", "a.jpg x", "line 6: 'x' is not a number"),
        ("a.jpg 400", "a.jpg nan", "line 6: holds a number that is not finite"),
        ("800 1 0 0 0", "800 0 0 0 0", "1 of 2 rotations are all zeros: line 5"),
        ("30 2 0 7", "30 3 0 7", "line 9: claims 3 observations, has 8 columns"),
        ("30 2 0 7", "30 2 2 7", "line 9: names an image that is none of the 2"),
        ("1.5 2.5", "1.5 inf", "line 9: holds a number that is not finite"),
        ("0 0 4 10", "0 nan 4 10", "line 9: holds a number that is not finite"),
        ("1 0 8 1 2 3 1 1 4 10 20", "1 0 8", "line 10: has 3 columns, at least 7 belong there"),
        ("a.jpg", "../../../etc/x", "image name"),
    ],
)
def test_a_malformed_file_is_one_line_that_names_the_line(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in WHOLE
    path = write(tmp_path, WHOLE.replace(old, new, 1))
    assert error_of(read, path).startswith(f"{path}: {fault}")


def test_an_absent_or_empty_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is missing"):
        read(tmp_path / "x.nvm")
    with pytest.raises(ModelError, match="line 1: begins with ''"):
        read(write(tmp_path, ""))
    with pytest.raises(ModelError, match="holds 2 models, number 5"):
        read(write(tmp_path) / "5")


def test_a_file_cut_at_any_byte_is_one_line_or_the_models_before_the_cut(tmp_path: Path) -> None:
    path = write(tmp_path)
    expected = read(path)
    whole_until = WHOLE.index(SECOND) - 2
    accepted = 0
    for size in range(len(WHOLE)):
        path.write_text(WHOLE[:size])
        if refused(read, path):
            continue
        model = read(path)
        # COLMAP's converter ends after the points, without the final 0: such a cut cannot be told from the end.
        accepted += 1
        assert size > whole_until
        assert model.image_names == expected.image_names
        assert np.array_equal(model.observation_xy, expected.observation_xy)
        assert np.array_equal(model.points, expected.points)
    assert accepted < 90


def test_changed_bytes_give_a_model_or_one_line(tmp_path: Path) -> None:
    path, count = write(tmp_path), 0
    for content in damaged(WHOLE, b'0123456789-.eE \n\t#naif"\xff\0', seed=2):
        path.write_bytes(content)
        assert count_models(path) >= 1
        count += refused(read, path)
    assert 300 < count < 1500


def test_a_file_that_is_called_by_the_ending_alone_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, name=".nvm")
    first, second = (read_model(location) for location in find_models([file]))
    assert (len(first.image_names), len(second.image_names)) == (2, 3)
