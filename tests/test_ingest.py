"""Building an index from folders: what is found, left out, joined, split, counted."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from hand_made import write_scene, write_text_model
from worlds import Index, read_whole

from cli.commands.build_index import command
from cli.main import group, main
from sfm2tuples.errors import DataError, ModelError, UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.ingest.build import IngestOptions, IngestSummary, build_index
from sfm2tuples.ingest.part_building import Progress
from sfm2tuples.readers.discover import PhotoFolder, find_photo_root


def photos(*names: str, salt: str = "") -> dict[str, bytes]:
    """Photos of different contents."""
    return {name: f"{salt}{name}".encode() for name in names}


def build(root: Path, **options: object) -> IngestSummary:
    """An index of a folder, beside it."""
    return build_index([root], root.parent / "index.h5", IngestOptions(), **options)  # type: ignore[arg-type]


def written(root: Path) -> Index:
    """The index beside a folder."""
    return read_whole(root.parent / "index.h5")


def built_index(root: Path, **options: object) -> Index:
    """An index of a folder, read back."""
    build(root, **options)
    return written(root)


def place_of(index: Index) -> dict[str, str]:
    """Place of each model by name."""
    return {n: index.places.name[p] for n, p in zip(index.models.name, index.models.place.tolist(), strict=True)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder for scenes."""
    (tmp_path / "scenes").mkdir()
    return tmp_path / "scenes"


def test_models_and_images_are_in_the_order_of_their_names(root: Path) -> None:
    write_scene(root, "b", photos("2.jpg", "1.jpg", salt="b"))
    write_scene(root, "a", photos("x/3.jpg", salt="a"))
    index = built_index(root)
    assert index.models.name == ["a/sparse/0", "b/sparse/0"]
    assert index.images.key == ["a/images/x/3.jpg", "b/images/1.jpg", "b/images/2.jpg"]
    assert index.images.name == ["x/3.jpg", "1.jpg", "2.jpg"]
    assert index.images.model.tolist() == [0, 1, 1]
    assert index.photo_path(0).read_bytes() == b"ax/3.jpg"


def test_equal_names_alone_join_nothing(root: Path) -> None:
    for scene in ("a", "b"):
        write_scene(root, scene, photos("1.jpg", "2.jpg", salt=scene))
    assert place_of(built_index(root)) == {"a/sparse/0": "a", "b/sparse/0": "b"}


def test_photos_of_the_same_bytes_join_places_whatever_their_names(root: Path) -> None:
    write_scene(root, "a", {"1.jpg": b"same", "2.jpg": b"other"})
    write_scene(root, "b", {"9.jpg": b"same"})
    write_scene(root, "c", {"1.jpg": b"diff"})
    index = built_index(root)
    assert place_of(index) == {"a/sparse/0": "a", "b/sparse/0": "a", "c/sparse/0": "c"}
    assert index.places.reason == ["a/sparse/0 and b/sparse/0 share 1 photo", ""]
    assert index.images.photo.tolist() == [0, 1, 0, 3]


def test_empty_photos_join_nothing_and_count_as_missing(root: Path) -> None:
    for scene in ("a", "b"):
        write_scene(root, scene, {"1.jpg": b"", "2.jpg": scene.encode()})
    summary = build(root)
    assert place_of(written(root)) == {"a/sparse/0": "a", "b/sparse/0": "b"}
    assert summary.missing == ["a/images/1.jpg", "b/images/1.jpg"]


def test_models_of_one_scene_are_one_place(root: Path) -> None:
    write_scene(root, "a", photos("1.jpg", "2.jpg"))
    write_scene(root, "a", photos("3.jpg"), model="sparse/1")
    index = built_index(root)
    assert place_of(index) == {"a/sparse/0": "a", "a/sparse/1": "a"}
    assert index.places.reason == ["same scene folder: a/sparse/0, a/sparse/1"]


def test_scenes_named_by_numbers_are_scenes_of_their_own(root: Path) -> None:
    for scene in ("0001", "0002"):
        write_scene(root, scene, photos("1.jpg", salt=scene))
    assert place_of(built_index(root)) == {"0001/sparse/0": "0001", "0002/sparse/0": "0002"}


def test_the_scene_does_not_depend_on_which_folder_is_given(root: Path) -> None:
    write_scene(root, "castle", photos("1.jpg"))
    for given in ("castle", "castle/sparse", "castle/sparse/0"):
        build_index([root / given], root.parent / "index.h5", IngestOptions())
        assert written(root).places.name == ["castle"]


def test_the_distorted_model_of_gaussian_splatting_is_a_twin(root: Path) -> None:
    write_scene(root, "a", photos("1.jpg", "2.jpg"))
    write_scene(root, "a", photos("1.jpg", "2.jpg"), "distorted/sparse/0")
    summary = build(root)
    assert summary.twins == [("a/distorted/sparse/0", "a/sparse/0")]
    assert written(root).places.name == ["a"]


def test_twins_are_left_out_and_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scene(root, "a", photos("1.jpg", "2.jpg"))
    write_text_model(root / "a/dense/sparse", ["1.jpg", "2.jpg"], num_points=9)
    summary = build(root)
    assert summary.twins == [("a/dense/sparse", "a/sparse/0")]
    assert written(root).models.name == ["a/sparse/0"]
    assert caplog.records == []


def test_a_missing_photo_is_counted_in_one_line(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = write_scene(root, "a", photos("1.jpg", "2.jpg", "3.jpg"))
    (model.parents[1] / "images/2.jpg").unlink()
    summary = build(root)
    assert summary.missing == ["2.jpg"]
    assert written(root).images.has_photo.tolist() == [True, False, True]
    assert [r.getMessage() for r in caplog.records] == ["1 of 3 photos are missing, first 2.jpg"]


def test_one_photo_root_alone_is_the_common_parent(root: Path) -> None:
    """Then keys are the names that `extract` gives to the same folder."""
    write_scene(root, "a", photos("x/1.jpg"))
    assert built_index(root).images.key == ["x/1.jpg"]


def test_a_model_without_photos_stays_in_the_index(root: Path) -> None:
    write_text_model(root / "bear/sparse/0", ["1.jpg"])
    write_scene(root, "a", photos("1.jpg"))
    index = built_index(root)
    assert index.models.photo_root == [str(root / "a/images"), ""]
    assert index.images.key == ["a/images/1.jpg", "bear/images/1.jpg"]
    assert index.images.has_photo.tolist() == [True, False]


def test_images_names_a_folder_of_photos_elsewhere(root: Path, tmp_path: Path) -> None:
    for scene in ("petra", "taj"):
        write_text_model(root / scene / "sparse/0", [f"{scene}/1.jpg"])
        (tmp_path / "photos" / scene).mkdir(parents=True)
        (tmp_path / "photos" / scene / "1.jpg").write_bytes(scene.encode())
    index = built_index(root, photo_roots=[PhotoFolder(tmp_path / "photos")])
    assert index.images.has_photo.all()
    assert index.images.key == ["petra/1.jpg", "taj/1.jpg"]
    assert index.places.name == ["petra", "taj"]


def test_a_broken_model_is_one_warning_and_the_rest_goes_on(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scene(root, "a", photos("1.jpg"))
    broken = write_scene(root, "b", photos("2.jpg"))
    (broken / "cameras.txt").write_text("1 SIMPLE_PINHOLE 200\n")
    summary = build(root)
    assert written(root).models.name == ["a/sparse/0"]
    assert len(caplog.records) == len(summary.failed) == 1
    assert "b/sparse/0/cameras.txt" in summary.failed[0]
    assert "\n" not in summary.failed[0]


@pytest.mark.parametrize("jobs", [1, 2])
def test_strict_stops_at_a_broken_model_and_writes_nothing(root: Path, jobs: int) -> None:
    write_scene(root, "a", photos("1.jpg"))
    (write_scene(root, "b", photos("2.jpg")) / "cameras.txt").write_text("1 SIMPLE_PINHOLE 200\n")
    with pytest.raises(ModelError, match=r"b/sparse/0/cameras\.txt"):
        build(root, strict=True, jobs=jobs)
    assert not (root.parent / "index.h5").exists()


def test_a_model_without_images_is_left_out_even_by_a_strict_build(root: Path) -> None:
    write_scene(root, "a", photos("1.jpg"))
    write_text_model(root / "b/sparse/0", [])
    summary = build(root, strict=True)
    assert written(root).models.name == ["a/sparse/0"]
    assert "no images" in summary.failed[0]


def _without_tracks(model: Path) -> None:
    images = (model / "images.txt").read_text().splitlines()
    (model / "images.txt").write_text("\n\n".join(images[::2]) + "\n\n")
    points = (model / "points3D.txt").read_text().splitlines()
    (model / "points3D.txt").write_text("".join(" ".join(row.split()[:8]) + "\n" for row in points))


def test_a_model_of_poses_alone_is_left_out_and_the_line_says_what_helps(root: Path) -> None:
    write_scene(root, "a", photos("1.jpg", "2.jpg"))
    _without_tracks(write_scene(root, "b", photos("1.jpg", "2.jpg", "3.jpg")))
    summary = build(root, strict=True)
    assert written(root).models.name == ["a/sparse/0"]
    assert "no two of its 3 images share a point" in summary.failed[0]
    assert "triangulate" in summary.failed[0]


def test_a_folder_of_photos_that_no_model_takes_is_named(root: Path, caplog) -> None:
    write_scene(root, "a", photos("1.jpg"))
    shutil.copytree(root / "a/images", root / "smaller")
    build(root, photo_roots=[PhotoFolder(root / "smaller")])
    assert (
        f"--images {root}/smaller: no model takes its photos from there, since all lie in images/ near their models"
        in caplog.text
    )
    caplog.clear()
    shutil.rmtree(root / "a/images")
    build(root, photo_roots=[PhotoFolder(root / "smaller")])
    assert "--images" not in caplog.text


def test_the_line_of_missing_photos_says_where_they_may_be(root: Path, caplog) -> None:
    model = write_scene(root, "a", photos("1.jpg", "2.jpg"))
    (root / "a/images/1.jpg").rename(root / "a/images/1.JPG")
    (root / "a/images/2.jpg").unlink()
    build(root)
    assert f"2 of 2 photos are missing, first 1.jpg, 2.jpg; {root}/a/images/1.JPG is there" in caplog.text
    caplog.clear()
    text = (model / "images.txt").read_text()
    (model / "images.txt").write_text(text.replace("1.jpg", "images/1.JPG").replace("2.jpg", "images/2.jpg"))
    build(root)
    assert f"give --images {root}/a" in caplog.text
    caplog.clear()
    (model / "images.txt").write_text(text.replace("1.jpg", "elsewhere.jpg"))
    build(root)
    assert f"looked in {root}/a/images; give --images DIR" in caplog.text


def test_a_build_of_poses_alone_is_refused(root: Path) -> None:
    _without_tracks(write_scene(root, "b", photos("1.jpg", "2.jpg")))
    with pytest.raises(DataError, match="no two of its 2 images share a point"):
        build(root)


def test_a_build_whose_least_shared_points_leave_no_pair_says_so(root: Path, caplog) -> None:
    write_scene(root, "a", photos("1.jpg", "2.jpg"))
    build_index([root], root.parent / "index.h5", IngestOptions(min_shared=6))
    assert "no two images share 6 points" in caplog.text


def test_a_build_of_broken_models_alone_is_refused(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (write_scene(root, "b", photos("2.jpg")) / "cameras.txt").write_text("1 SIMPLE_PINHOLE 200\n")
    with pytest.raises(ModelError, match=r"b/sparse/0/cameras\.txt: line 1: "):
        build(root)
    assert not caplog.records  # it is said once
    (write_scene(root, "c", photos("2.jpg")) / "cameras.txt").write_text("")
    with pytest.raises(DataError, match=r"none of 2 models can be used; the first: .*b/sparse/0/cameras\.txt"):
        build(root)


def test_any_number_of_jobs_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    for scene in ("a", "b", "c", "d"):
        write_scene(root, scene, photos("1.jpg", "2.jpg", salt=scene), num_points=len(scene) + 7)
    (root / "d/sparse/0/images.txt").write_text("1 word")
    for jobs in (1, 2):
        build_index([root], tmp_path / f"{jobs}.h5", IngestOptions(), jobs=jobs)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()


def test_progress_counts_every_model(root: Path) -> None:
    for scene in ("a", "b"):
        write_scene(root, scene, photos("1.jpg", salt=scene))
    seen: list[Progress] = []
    build(root, progress=seen.append)
    size = sum(path.stat().st_size for path in root.glob("*/sparse/0/*"))
    assert seen == [Progress(0, 2, 0, size), Progress(2, 2, size, size)]


def test_min_shared_drops_weak_edges(root: Path, tmp_path: Path) -> None:
    write_scene(root, "a", photos("1.jpg", "2.jpg"), num_points=5)
    assert len(built_index(root).covisibility.neighbour) == 2
    assert build_index([root], tmp_path / "i.h5", IngestOptions(min_shared=6)).num_edges == 0


def test_the_places_file_joins_and_splits(root: Path, tmp_path: Path) -> None:
    for scene in ("a", "b", "c"):
        write_scene(root, scene, photos("1.jpg", salt=scene))
    (tmp_path / "places.csv").write_text("model,place,split\na,yard,val\nb,yard,\n")
    index = built_index(root, places=tmp_path / "places.csv")
    assert place_of(index) == {"a/sparse/0": "yard", "b/sparse/0": "yard", "c/sparse/0": "c"}
    assert dict(zip(index.places.name, index.places.split.tolist(), strict=True)) == {"yard": 1, "c": 0}


def test_contradictions_of_the_places_file_are_warned_of_once(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for scene in ("a", "b"):
        write_scene(root, scene, {"1.jpg": b"same"})
    (tmp_path / "places.csv").write_text("model,place\na,left\nb,right\n")
    build(root, places=tmp_path / "places.csv")
    assert written(root).places.name == ["left", "right"]
    assert [r.getMessage().split(",")[0] for r in caplog.records] == ["1 joins overruled by the file of places"]


@pytest.mark.parametrize("options", [{"min_shared": 0}, {"val_share": -0.1}, {"val_share": 1.5}])
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(UsageError):
        IngestOptions(**options)


def test_the_command_writes_the_header_of_its_options(root: Path, tmp_path: Path) -> None:
    write_scene(root, "a", photos("1.jpg"))
    target = tmp_path / "index.h5"
    arguments = [str(root), "-o", str(target), "--min-shared", "3", "--val-share", "0.5", "--seed", "7"]
    result = CliRunner().invoke(group, ["build-index", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert read_header(target).options == IngestOptions(min_shared=3, val_share=0.5, seed=7).header(True)
    assert result.stdout.splitlines()[-2].startswith(f"made {target}: 1 model, 1 image, 5 points, 0 edges")
    assert result.stdout.splitlines()[-1].startswith("next: sfm2tuples mine-tuples")


def test_every_option_has_a_flag_of_its_name() -> None:
    flags = {parameter.name for parameter in command.params}
    assert set(asdict(IngestOptions())) <= flags
    defaults = {parameter.name: parameter.default for parameter in command.params}
    assert {name: defaults[name] for name in asdict(IngestOptions())} == asdict(IngestOptions())


def test_the_command_speaks_json(root: Path, tmp_path: Path) -> None:
    write_scene(root, "a", {"1.jpg": b"same"})
    write_scene(root, "b", {"2.jpg": b"same"})
    result = CliRunner().invoke(
        group, ["build-index", str(root), "-o", str(tmp_path / "i.h5"), "--json"], catch_exceptions=False
    )
    values = json.loads(result.stdout)
    assert values["models"] == 2
    assert values["joined"] == {"a": "a/sparse/0 and b/sparse/0 share 1 photo"}
    assert values["missing_photos"] == 0


def test_the_command_refuses_to_overwrite_without_force(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(root, "a", photos("1.jpg"))
    (tmp_path / "index.h5").write_text("mine")
    with pytest.raises(SystemExit) as exit_of:
        main(["build-index", str(root), "-o", str(tmp_path / "index.h5")])
    assert exit_of.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "index.h5").read_text() == "mine"
    main(["build-index", str(root), "-o", str(tmp_path / "index.h5"), "--force", "--quiet"])
    assert read_whole(tmp_path / "index.h5").models.name == ["a/sparse/0"]
    logging.getLogger().handlers.clear()


def test_a_failed_build_leaves_the_old_index(root: Path, tmp_path: Path) -> None:
    write_scene(root, "a", photos("1.jpg"))
    build(root)
    before = (tmp_path / "index.h5").read_bytes()
    shutil.rmtree(root / "a/sparse")
    with pytest.raises(DataError, match="holds no model"):
        build(root)
    assert (tmp_path / "index.h5").read_bytes() == before


def test_the_photo_near_a_relative_root_is_hinted_at(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_scene(root, "a", photos("1.jpg", "2.jpg"))
    text = (model / "images.txt").read_text()
    (model / "images.txt").write_text(text.replace("1.jpg", "images/1.jpg").replace("2.jpg", "images/2.jpg"))
    monkeypatch.chdir(root)
    build_index([Path("a")], tmp_path / "index.h5", IngestOptions())
    assert f"give --images {root}/a" in caplog.text


def test_each_models_photos_are_looked_for_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for scene in ("a", "b"):
        write_scene(root, scene, photos("1.jpg", salt=scene))
    (root / "a/images/1.jpg").unlink()
    looked = []

    def counted(location: object, *arguments: object) -> Path | None:
        looked.append(location)
        return find_photo_root(location, *arguments)

    monkeypatch.setattr("sfm2tuples.ingest.build.find_photo_root", counted)
    build(root)
    assert len(looked) == 2
    assert f"looked in {root}/a/images" in caplog.text
