"""Loose photos to models: what comes out, what is left out, and that a killed run goes on and ends the same."""

from __future__ import annotations

import csv
import errno
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from hand_made import run
from PIL import Image
from worlds import read_whole

from retrieval.descriptors.extraction import ExtractionOptions
from retrieval.networks.choice import NetworkChoice
from retrieval.photos.names import photos_below
from retrieval.reconstruction import database
from retrieval.reconstruction import reconstruction as steps
from retrieval.reconstruction.apart import Apart, run_apart
from retrieval.reconstruction.cameras import camera_numbers, cameras_of, parameters_of_cameras
from retrieval.reconstruction.database import is_sound, photos_and_cameras
from retrieval.reconstruction.descriptions import described
from retrieval.reconstruction.features import add_features
from retrieval.reconstruction.focal_lengths import focal_in_pixels, size_and_focal
from retrieval.reconstruction.mapping import MappedModel, select_models, write_whole
from retrieval.reconstruction.options import ReconstructionOptions
from retrieval.reconstruction.pairs import all_pairs, nearest_pairs, sequence_pairs
from retrieval.reconstruction.photo_table import PhotoTable, listed_photos, table_of_photos
from retrieval.reconstruction.reconstruction import reconstruct
from retrieval.reconstruction.summary import ReconstructionSummary
from retrieval.reconstruction.unregistered import strongest_partners
from retrieval.reconstruction.verification import mutual_matches
from retrieval.tuple_files.distractors import read_distractors
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.similarity.exact_search import most_similar
from tests.rooms import photograph_room
from tests.textures import root_sift, texture
from tests.worlds import unit_rows

pycolmap = pytest.importorskip("pycolmap")

NOBODY = NetworkChoice()
"""No network: few photos are compared with all others."""
SMALL = ReconstructionOptions(image_size=280, max_features=700, min_points=30)
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rooms; a photo of neither, a torn one, a copy, and names that COLMAP's own lists of pairs cannot hold."""
    folder = tmp_path_factory.mktemp("photos")
    photograph_room(folder / "the kitchen", 1, 7)
    photograph_room(folder / "hall", 2, 6)
    shutil.copy(folder / "hall" / "0002.jpg", folder / "hall" / "a copy.jpg")
    Image.fromarray(texture(99, 280, 210)).save(folder / "lone.jpg")
    (folder / "torn.jpg").write_bytes((folder / "lone.jpg").read_bytes()[:2000])
    (folder / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ReconstructionSummary]:
    folder = tmp_path_factory.mktemp("made") / "models"
    return folder, reconstruct(photos, folder, NOBODY, SMALL, jobs=2)


@pytest.fixture
def folder(made: tuple[Path, ReconstructionSummary], tmp_path: Path) -> Path:
    """A copy of what was made, to be damaged."""
    return Path(shutil.copytree(made[0], tmp_path / "models", symlinks=True))


def models_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for number in sorted(p for p in folder.iterdir() if p.name.isdecimal())
        for path in sorted(number.iterdir())
    }


def counts_of(folder: Path) -> list[tuple[int, list[str]]]:
    """Points and names of the images of each model."""
    models = [pycolmap.Reconstruction(str(p)) for p in sorted(folder.iterdir()) if p.name.isdecimal()]
    return [(m.num_points3D(), sorted(m.image(i).name for i in m.reg_image_ids())) for m in models]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_room_is_a_model_of_all_its_photos(made: tuple[Path, ReconstructionSummary]) -> None:
    folder, summary = made
    names = [[f"the kitchen/{n:04d}.jpg" for n in range(7)], [f"hall/{n:04d}.jpg" for n in range(6)]]
    found = counts_of(folder)
    assert [images for _, images in found] == names
    assert [(m.name, m.images, m.points) for m in summary.models] == [
        (str(number), len(images), points) for number, (points, images) in enumerate(found)
    ]
    assert summary.registered == 13
    assert summary.pairs == 14 * 13 // 2
    assert summary.verified_pairs >= 12
    assert summary.photos == 17


def test_cameras_come_out_as_they_were_rendered(made: tuple[Path, ReconstructionSummary]) -> None:
    for number in "01":
        model = pycolmap.Reconstruction(str(made[0] / number))
        assert len(model.cameras) == 1
        focal = next(iter(model.cameras.values())).focal_length
        assert focal == pytest.approx(1.2 * 280, rel=0.05)
        assert model.compute_mean_reprojection_error() < 1


def test_photos_in_no_model_are_listed_with_their_kind(made: tuple[Path, ReconstructionSummary], photos: Path) -> None:
    folder, summary = made
    rows = {row["image"]: row for row in rows_of(folder / "unregistered.csv")}
    roles = {name: row["role"] for name, row in rows.items()}
    unreadable = {"torn.jpg": "unreadable", "empty.jpg": "unreadable"}
    assert roles == {"lone.jpg": "distractor", "hall/a copy.jpg": "copy", **unreadable}
    assert rows["hall/a copy.jpg"]["verified_with"] == "hall/0002.jpg"
    assert (summary.alone, summary.verified_only, summary.copies, len(summary.unreadable)) == (1, 0, 1, 2)
    found = read_distractors(folder / "unregistered.csv", photos)
    assert (found.key, found.name) == (["lone.jpg"], ["lone.jpg"])
    assert (Path(found.root[0]) / found.name[0]).is_file()


def test_build_index_finds_models_photos_and_matches_without_a_flag(folder: Path, photos: Path, tmp_path: Path) -> None:
    assert run("build-index", folder, "-o", tmp_path / "index.h5") == 0
    index = read_whole(tmp_path / "index.h5")
    assert index.models.name == ["0", "1"]
    assert index.images.has_photo.all()
    assert len(index.places.name) == 2
    assert set(index.images.key) < set(photos_below(photos))
    with sqlite3.connect(folder / "database.db") as connection:
        ids = dict(connection.execute("SELECT name, image_id FROM images").fetchall())
        first, second = ids["the kitchen/0000.jpg"], ids["hall/0000.jpg"]
        low, high = min(first, second), max(first, second)
        where = f"pair_id = {2147483647 * low + high}"
        connection.execute(f"UPDATE two_view_geometries SET rows = 500, config = 3 WHERE {where}")
    flags = ["--min-match-pairs", 1]
    assert run("build-index", folder, "-o", tmp_path / "joined.h5", *flags) == 0
    assert len(read_whole(tmp_path / "joined.h5").places.name) == 1


def test_the_photos_are_not_touched(made: tuple[Path, ReconstructionSummary], photos: Path) -> None:
    assert (made[0] / "images").resolve() == photos.resolve()
    assert {p.suffix for p in photos.rglob("*") if p.is_file()} == {".jpg"}


def test_the_database_is_one_that_pycolmap_would_have_written(made: tuple[Path, ReconstructionSummary]) -> None:
    folder, summary = made
    assert sorted(p.name for p in folder.glob("database.db*")) == ["database.db"]
    shutil.copy(folder / "database.db", folder.parent / "copy.db")
    database = pycolmap.Database.open(str(folder.parent / "copy.db"))
    images = {image.name: image for image in database.read_all_images()}
    one, other = images["hall/0000.jpg"], images["hall/0001.jpg"]
    low, high = sorted([one.image_id, other.image_id])
    assert database.num_images() == 14
    assert database.num_matched_image_pairs() == summary.pairs == 91
    keypoints, descriptors = database.read_keypoints(low), database.read_descriptors(low)
    assert keypoints.shape[0] == np.array(descriptors.data).shape[0] > 100
    geometry = database.read_two_view_geometry(low, high)
    matches = database.read_matches(low, high)
    inliers = {tuple(pair) for pair in geometry.inlier_matches.tolist()}
    assert inliers <= {tuple(pair) for pair in matches.tolist()}
    points = [database.read_keypoints(image)[:, :2].astype(np.float64) for image in (low, high)]
    camera = database.read_camera(one.camera_id)
    again = pycolmap.estimate_two_view_geometry(camera, points[0], camera, points[1], matches)
    matrix = "F" if geometry.F is not None else "H"
    cosine = np.vdot(getattr(again, matrix), getattr(geometry, matrix)) / (
        np.linalg.norm(getattr(again, matrix)) * np.linalg.norm(getattr(geometry, matrix))
    )
    assert again.config == geometry.config
    assert abs(cosine) > 0.99
    assert database.read_frame(one.frame_id).rig_id == one.camera_id
    database.close()


def test_a_second_call_makes_nothing_anew(folder: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("add_features", "add_matches", "map_photos", "described"):
        monkeypatch.delattr(steps, name)
    before = (folder / "reconstruction.json").read_bytes()
    summary = reconstruct(photos, folder, NOBODY, SMALL, jobs=2)
    assert summary.registered == 13
    assert summary.remade == []
    assert (folder / "reconstruction.json").read_bytes() == before


def test_photos_and_models_that_were_moved_are_as_they_were(
    folder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    for entry in photos.rglob("*.jpg"):
        shutil.copystat(entry, moved / entry.relative_to(photos))
    (folder / "images").unlink()
    (folder / "images").symlink_to(tmp_path / "where they were")
    assert run("build-index", folder, "-o", tmp_path / "index.h5") == 0
    said = (
        f"images is a link to {tmp_path}/where they were, where nothing is; let it lead to the photos, or give --images"
    )
    assert said in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(steps, "add_features", None)
        patch.setattr(steps, "map_photos", None)
        summary = reconstruct(moved, folder, NOBODY, SMALL)
    assert (summary.remade, summary.photos_linked, summary.registered) == ([], True, 13)
    assert os.path.realpath(folder / "images") == str(moved)


def test_a_model_that_is_not_whole_is_made_again(
    made: tuple[Path, ReconstructionSummary], folder: Path, photos: Path
) -> None:
    points = folder / "1" / "points3D.bin"
    points.write_bytes(points.read_bytes()[:-10])
    summary = reconstruct(photos, folder, NOBODY, SMALL)
    assert summary.remade == ["models: they are not whole"]
    assert counts_of(folder)[0][1] == counts_of(made[0])[0][1]
    assert summary.registered == 13


@pytest.mark.parametrize("damage", ["a model's points", "a model's file", "the list", "the database", "the table"])
def test_what_is_damaged_after_a_finished_run_is_made_again(
    made: tuple[Path, ReconstructionSummary], folder: Path, photos: Path, damage: str
) -> None:
    """Cut or lost files, and other bytes in a file of the same size."""
    points, database = folder / "1" / "points3D.bin", folder / "database.db"
    if damage == "a model's points":
        points.write_bytes(points.read_bytes()[:-8] + b"\xff" * 8)
    elif damage == "a model's file":
        points.unlink()
    elif damage == "the list":
        (folder / "unregistered.csv").unlink()
    elif damage == "the table":
        (folder / ".steps" / "photos.csv").write_bytes(b"name\n\xff")
    else:
        half = database.stat().st_size // 2
        database.write_bytes(database.read_bytes()[:half] + bytes(database.stat().st_size - half))
    summary = reconstruct(photos, folder, NOBODY, SMALL, jobs=2)
    anew = {"the database": "database.db is torn", "the table": "photos.csv, the table of photos, is damaged"}
    wanted = f"features, matches and models: {anew[damage]}" if damage in anew else "models: they are not whole"
    assert summary.remade == [wanted]
    assert rows_of(folder / "unregistered.csv") == rows_of(made[0] / "unregistered.csv")
    assert (summary.registered, len(summary.models)) == (13, 2)
    assert run("build-index", folder, "-o", folder.parent / "index.h5", "--force", "--quiet") == 0


def test_a_disk_without_room_for_a_database_is_one_line(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What pycolmap says then names no file: here a folder stands where the database is to be."""
    monkeypatch.setattr(database, "remove_database", lambda path: None)
    (tmp_path / "models.db").mkdir()
    with pytest.raises(DataError, match=r"models\.db: cannot be made; make room on the disk"):
        database.create_database(tmp_path / "models.db")
    assert "Traceback" not in capfd.readouterr().err


def test_a_model_that_a_full_disk_cuts_off_is_an_error(
    made: tuple[Path, ReconstructionSummary], tmp_path: Path
) -> None:
    """pycolmap says nothing where files may not grow, as on a full disk; Python's own writing fails."""
    model = pycolmap.Reconstruction(str(made[0] / "0"))
    write_whole(model, tmp_path / "whole")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"torn: is not written whole; make room on the disk"):
            write_whole(model, tmp_path / "torn")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    called = Apart("the work", "its file", "give more memory")
    with pytest.raises(DataError, match=r"^/dev/full: cannot be written \(No space left on device\)$"):
        run_apart(fill_the_disk, "/dev/full", called, print)


def fill_the_disk(path: str, line: Connection) -> None:
    """Work for a process of its own."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def test_junk_does_not_count_as_photos_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three whole photos, one of which is there twice, three torn ones whose header can be read, and two of nothing."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(texture(number, 160, 120)).save(folder / f"{number}.jpg")
    shutil.copy(folder / "0.jpg", folder / "copy.jpg")
    words = ("reconstruct", folder, "-o", tmp_path / "models")
    for number in range(3):
        whole = (folder / f"{number}.jpg").read_bytes()
        (folder / f"torn{number}.jpg").write_bytes(whole[: len(whole) // 2])
    for number in range(2):
        (folder / f"junk{number}.jpg").write_bytes(b"no photo")
    assert run(*words) == 1
    assert f"{folder}: has 3 photos that differ and can be read; a model needs 5" in capsys.readouterr().err
    roles = [row["role"] for row in rows_of(tmp_path / "models" / "unregistered.csv")]
    assert [roles.count(role) for role in ("distractor", "copy", "unreadable")] == [3, 1, 5]
    (folder / "torn0.jpg").unlink()
    (folder / "torn1.jpg").unlink()
    assert run(*words, "--resume") == 1
    assert "has 4 photos that differ and can be opened" in capsys.readouterr().err


def test_fewer_images_and_more_photos_make_only_models_anew(folder: Path, photos: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    options = ReconstructionOptions(image_size=280, max_features=700, min_points=30, min_images=7)
    summary = reconstruct(photos, folder, NOBODY, options, progress=lambda *step: told.append(step))
    assert summary.remade == ["models: min images was 5, is 7"]
    assert (len(summary.models), summary.crumbs, summary.crumb_images, summary.verified_only) == (1, 1, 6, 6)
    assert [step for step in told if step[0] in ("features", "matches")] == [
        ("features", 14, 15),  # The torn photo is tried again.
        ("features", 15, 15),
        ("matches", 91, 91),
    ]
    roles = {row["image"]: row for row in rows_of(folder / "unregistered.csv")}
    assert roles["hall/0000.jpg"]["role"] == "verified"
    assert roles["hall/0000.jpg"]["verified_with"].startswith("hall/")
    assert int(roles["hall/0000.jpg"]["inliers"]) >= 15


def test_photos_that_come_later_are_added(folder: Path, photos: Path, tmp_path: Path) -> None:
    more = Path(shutil.copytree(photos, tmp_path / "more"))
    for entry in photos.rglob("*.jpg"):
        shutil.copystat(entry, more / entry.relative_to(photos))
    target = tmp_path / "target"
    names = [p for p in more.rglob("*.jpg") if p.parent.name != "hall"]
    (tmp_path / "some.txt").write_text("\n".join(p.relative_to(more).as_posix() for p in names))
    first = reconstruct(tmp_path / "some.txt", target, NOBODY, SMALL, images=more)
    assert [m.images for m in first.models] == [7]
    before = photos_and_cameras(target / "database.db")
    told: list[tuple[str, int, int]] = []
    summary = reconstruct(more, target, NOBODY, SMALL, progress=lambda *step: told.append(step))
    assert summary.remade == ["models: there are more photos"]
    assert ("features", 8, 15) in told
    assert [m.images for m in summary.models] == [7, 6]
    assert before.items() <= photos_and_cameras(target / "database.db").items()
    (more / "lone.jpg").write_bytes((photos / "hall" / "0001.jpg").read_bytes())
    os.utime(more / "lone.jpg", (1, 1))
    summary = reconstruct(more, target, NOBODY, SMALL)
    assert summary.remade == ["features, matches and models: 1 photo is gone or was changed, first lone.jpg"]
    assert (summary.copies, summary.alone) == (2, 0)


def test_a_photo_that_is_replaced_by_one_of_another_size_meanwhile_is_left_out(tmp_path: Path) -> None:
    """The database would have its features in the new photo's pixels, and a camera in those of the old one."""
    names = ["a.png", "b.png"]
    for number, name in enumerate(names):
        Image.fromarray(texture(number, 120, 90)).save(tmp_path / name)
    table, _ = table_of_photos(tmp_path, names, {}, {})
    cameras = parameters_of_cameras(table, cameras_of(table, "auto"), np.zeros(2, np.int64))
    Image.fromarray(texture(1, 60, 45)).save(tmp_path / "b.png")
    path = tmp_path / "database.db"
    database.create_database(path)
    unreadable = add_features(path, table, cameras, SMALL, 1, None)
    assert list(unreadable) == ["b.png"]
    assert "other sides than when it was first looked at" in unreadable["b.png"]
    assert photos_and_cameras(path) == {0: ("a.png", 0)}


def test_other_features_and_a_torn_database_begin_anew(folder: Path, photos: Path) -> None:
    options = ReconstructionOptions(image_size=280, max_features=600, min_points=30)
    assert reconstruct(photos, folder, NOBODY, options).remade == [
        "features, matches and models: max features was 700, is 600"
    ]
    database = folder / "database.db"
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2])
    assert not is_sound(database)
    summary = reconstruct(photos, folder, NOBODY, options)
    assert summary.remade == ["features, matches and models: database.db is torn"]
    assert summary.registered == 13


@pytest.mark.parametrize("step", ["features", "matches", "mapping"])
def test_killed_in_a_step_the_same_command_goes_on(
    made: tuple[Path, ReconstructionSummary], photos: Path, tmp_path: Path, step: str
) -> None:
    target = tmp_path / "models"
    words = [photos, "-o", target, "--image-size", 280, "--max-features", 700, "--min-points", 30]
    command = [sys.executable, "-m", "cli", "reconstruct", *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    _wait_until(lambda: _is_in(target, step), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (target / "reconstruction.json").exists()
    assert run("reconstruct", *words) == 2
    assert run("reconstruct", *words, "--resume") == 0
    assert [images for _, images in counts_of(target)] == [images for _, images in counts_of(made[0])]
    assert rows_of(target / "unregistered.csv") == rows_of(made[0] / "unregistered.csv")
    assert not list((target / ".steps").glob("mapped*"))


def _wait_until(reached: object, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not reached():  # type: ignore[operator]
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_in(target: Path, step: str) -> bool:
    """Whether some of a step is done, or the mapper runs."""
    if step == "mapping":
        return (target / ".steps" / "mapped").is_dir()
    try:
        with sqlite3.connect(f"file:{target / 'database.db'}?mode=ro", uri=True) as connection:
            table = {"features": "images", "matches": "two_view_geometries"}[step]
            return bool(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 2)
    except sqlite3.Error:
        return False


def test_ctrl_c_ends_at_once_and_says_how_to_go_on(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli", "reconstruct", str(photos), "-o", str(tmp_path / "models")]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True)
    _wait_until(lambda: _is_in(tmp_path / "models", "features"), process)  # type: ignore[arg-type]
    os.kill(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "interrupted: go on with the same command and --resume"
    assert "Traceback" not in error


def test_photos_without_overlap_give_one_line_and_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        Image.fromarray(texture(number, 160, 120)).save(tmp_path / "photos" / f"{number * 7}.jpg")
    assert run("reconstruct", tmp_path / "photos", "-o", tmp_path / "models") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/photos: no two of its 5 photos are seen to show the same thing; ")
    assert error.count("\n") == 1
    assert [row["role"] for row in rows_of(tmp_path / "models" / "unregistered.csv")] == ["distractor"] * 5
    assert run("reconstruct", tmp_path / "photos", "-o", tmp_path / "models", "--resume") == 1


def test_the_network_chooses_pairs_of_many_photos(photos: Path, tmp_path: Path) -> None:
    options = ReconstructionOptions(
        image_size=280,
        max_features=700,
        min_points=30,
        all_pairs_below=5,
        network_size=96,
        num_neighbours=4,
        sequence=1,
    )
    choice = NetworkChoice(backbone="squeezenet1_1")
    summary = reconstruct(photos, tmp_path / "models", choice, options)
    assert summary.pairs <= 14 * 4 + 11
    assert {"lone.jpg"} <= {row["image"] for row in rows_of(tmp_path / "models" / "unregistered.csv")}
    parts = sorted((tmp_path / "models" / ".steps" / "descriptors").iterdir())
    times = [part.stat().st_mtime_ns for part in parts]
    fewer = ReconstructionOptions(**{**vars(options), "num_neighbours": 3})
    again = reconstruct(photos, tmp_path / "models", choice, fewer)
    assert again.pairs < summary.pairs
    assert [part.stat().st_mtime_ns for part in parts] == times


def test_the_network_sees_photos_as_their_exif_turns_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A telephone stores what it took upright as lying, and says so: pairs are of the same thing all the same."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    for number in range(3):
        photo = Image.fromarray(texture(number, 120, 90))
        photo.save(tmp_path / "photos" / f"{number} upright.png")
        lying = photo.transpose(Image.Transpose.ROTATE_90)
        lying.save(tmp_path / "photos" / f"{number} lying.png", exif=exif)

    class Enough(Exception):
        pass

    def chosen(rows: np.ndarray, names: list[str], size: np.ndarray, values: np.ndarray, *_: object) -> None:
        assert size.tolist() == [[90, 120], [120, 90]] * 3
        assert np.allclose(values[::2], values[1::2], atol=1e-5)
        assert np.abs(values[0] - values[2]).max() > 1e-2
        raise Enough

    monkeypatch.setattr(steps, "chosen_pairs", chosen)
    options = ReconstructionOptions(all_pairs_below=5, network_size=120)
    with pytest.raises(Enough):
        reconstruct(tmp_path / "photos", tmp_path / "models", NetworkChoice(backbone="squeezenet1_1"), options)


def test_a_photo_that_was_changed_is_described_anew(tmp_path: Path) -> None:
    """By its old descriptor it would be compared with the neighbours of what it showed before."""
    names = ["a.jpg", "b.jpg"]
    for number, name in enumerate(names):
        Image.fromarray(texture(number, 60, 60)).save(tmp_path / name)
    how = (NetworkChoice(backbone="squeezenet1_1"), ExtractionOptions(60), "cpu", None)
    rows, before, _ = described(tmp_path / "parts", table_of_photos(tmp_path, names, {}, {})[0], *how)
    Image.fromarray(texture(7, 60, 60)).save(tmp_path / "a.jpg")
    rows, after, unreadable = described(tmp_path / "parts", table_of_photos(tmp_path, names, {}, {})[0], *how)
    assert (rows.tolist(), unreadable) == ([0, 1], {})
    assert not np.allclose(after[0], before[0], atol=1e-3)
    assert np.array_equal(after[1], before[1])
    (tmp_path / "new").mkdir()
    _, anew, _ = described(tmp_path / "new", table_of_photos(tmp_path, names, {}, {})[0], *how)
    assert np.allclose(after, anew, atol=1e-5)


def test_the_incremental_mapper_makes_the_same_models(folder: Path, photos: Path) -> None:
    options = ReconstructionOptions(image_size=280, max_features=700, min_points=30, mapper="incremental")
    summary = reconstruct(photos, folder, NOBODY, options)
    assert summary.remade == ["models: mapper was global, is incremental"]
    assert [m.images for m in summary.models] == [7, 6]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["absent"], 1, "absent: no such file or folder"),
        (["two"], 1, "two: has 2 photos; a model needs 5 (--min-images)"),
        (["none"], 1, "none: names no photos"),
        (["two", "--min-images", "2"], 2, "--min-images"),
        (["two", "--cameras", "many"], 2, "--cameras"),
        (["two", "--jobs", "0"], 2, "--jobs"),
        (["two", "--resume", "--force"], 2, "give one of them"),
        (["sizes", "--cameras", "single"], 1, "have different sizes, so they share no camera"),
    ],
)
def test_a_wrong_request_is_one_line(
    words: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").mkdir()
    for folder, count in (("two", 2), ("sizes", 5)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            Image.fromarray(texture(number, 60 + number, 60)).save(tmp_path / folder / f"{number}.jpg")
    assert run("reconstruct", *words, "-o", "models") == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "models" / "reconstruction.json").exists()


def test_a_folder_of_something_else_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    for flag in ([], ["--force"], ["--resume"]):
        assert run("reconstruct", photos, "-o", tmp_path / "mine", *flag) == 2
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_force_begins_anew_and_removes_only_what_was_made(folder: Path, photos: Path) -> None:
    (folder / "notes.txt").write_text("kept")
    words = [photos, "-o", folder, "--image-size", 280, "--max-features", 700, "--min-points", 30, "--json"]
    assert run("reconstruct", *words, "--force") == 0
    assert (folder / "notes.txt").read_text() == "kept"
    assert json.loads((folder / "reconstruction.json").read_text())["remade"] == []


def test_two_runs_do_not_share_a_folder(folder: Path, photos: Path) -> None:
    with steps.held_folder(folder, resume=True), pytest.raises(DataError, match="another process"):
        reconstruct(photos, folder, NOBODY, SMALL)


def test_options_without_meaning_are_refused() -> None:
    for wrong in ({"num_neighbours": 0}, {"min_images": 2}, {"cameras": "many"}, {"mapper": "fast"}, {"seed": -1}):
        with pytest.raises(UsageError):
            ReconstructionOptions(**wrong)


def table_like(names: list[str], sizes: list[tuple[int, int]], focal: list[float] | None = None) -> PhotoTable:
    count = len(names)
    state, same = np.zeros((count, 2), np.int64), np.arange(count)
    return PhotoTable(Path("/p"), names, state, np.array(sizes), np.array(focal or [0.0] * count), same, {})


def test_photos_of_a_folder_of_one_size_share_a_camera() -> None:
    names = ["a/1.jpg", "b/1.jpg", "a/2.jpg", "b/2.jpg", "b/3.jpg"]
    table = table_like(names, [(4, 3), (4, 3), (4, 3), (4, 3), (3, 4)])
    assert cameras_of(table, "auto").tolist() == [0, 1, 0, 3, 4]
    assert cameras_of(table, "per-image").tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="/p/b: its photos have different sizes"):
        cameras_of(table, "per-folder")
    even = table_like(names, [(4, 3)] * 5)
    assert cameras_of(even, "per-folder").tolist() == [0, 1, 0, 1, 1]
    assert cameras_of(even, "single").tolist() == [0] * 5
    assert camera_numbers(np.array([0, 1, 0, 3, 4]), {2: 7, 4: 3}) == (pytest.approx([7, 1, 7, 8, 3]), [])
    assert camera_numbers(np.array([0, 0, 2]), {0: 0, 1: 1})[1] == [1]
    assert camera_numbers(np.array([0, 1, 2]), {0: 5, 1: 5})[1] == [1]
    zoomed = table_like(names, [(4, 3)] * 5, [5.0, 5.0, 9.0, 5.0, 5.0])
    assert cameras_of(zoomed, "auto").tolist() == [0, 1, 2, 1, 1]


def test_focal_lengths_are_exifs(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA405: 28, 0x920A: 4.2})
    Image.fromarray(texture(0, 400, 300)).save(tmp_path / "a.jpg", exif=exif)
    width, height, focal = size_and_focal(tmp_path / "a.jpg", "a.jpg")
    assert (width, height, focal) == (400, 300, pytest.approx(400 * 28 / 36))
    theirs = pycolmap.infer_camera_from_image(str(tmp_path / "a.jpg"))
    assert theirs.has_prior_focal_length
    assert focal == pytest.approx(theirs.focal_length, rel=0.05)
    # 5.8 mm on a sensor of 1 / 400 mm a pixel, in a photo that was made half as large.
    assert focal_in_pixels({0x920A: 5.8, 0xA20E: 4000.0, 0xA210: 3, 0xA002: 4000}, 2000, 1500) == pytest.approx(1160)
    # The same on a sensor of 4,000 x 3,000 pixels, the photo turned to stand upright; without a unit it is inches.
    turned = {0x920A: 5.8, 0xA20E: 10160.0, 0xA002: 4000, 0xA003: 3000}
    assert focal_in_pixels(turned, 1500, 2000) == pytest.approx(1160)
    assert focal_in_pixels(turned | {0xA210: 2}, 2000, 1500) == pytest.approx(1160)
    assert focal_in_pixels(turned | {0xA210: 4, 0xA20E: 400.0}, 3000, 4000) == pytest.approx(2320)
    for nonsense in ({}, {0xA405: 0}, {0xA405: "wide"}, {0xA405: 1e9}, {0x920A: 5.8}, {0xA405: float("nan")}):
        assert focal_in_pixels(nonsense, 400, 300) == 0


def test_each_photo_is_compared_with_its_nearest() -> None:
    values = unit_rows(np.random.default_rng(0), 30, 8)
    rows = np.sort(np.random.default_rng(1).permutation(40)[:30])
    similarity = values @ values.T
    np.fill_diagonal(similarity, -2)
    nearest = {tuple(sorted((int(rows[i]), int(rows[j])))) for i in range(30) for j in np.argsort(-similarity[i])[:4]}
    found = nearest_pairs(rows, values, 4, most_similar)
    assert [tuple(pair) for pair in found.tolist()] == sorted(nearest)
    assert all_pairs(rows[:4]).tolist() == [[a, b] for i, a in enumerate(rows[:4]) for b in rows[i + 1 : 4]]


def test_names_that_count_up_make_a_sequence() -> None:
    names = [f"v/img_{n}.jpg" for n in (10, 8, 9, 12, 11)] + [f"v/img_{n}.jpg" for n in (900, 901)] + ["v/x.jpg"]
    names += [f"w/{n}0000.jpg" for n in range(6)]
    sizes = np.array([(4, 3)] * 5 + [(3, 4)] * 2 + [(4, 3)] * 7)
    order = [1, 2, 0, 4, 3]
    ahead = {tuple(sorted((order[i], order[j]))) for i in range(5) for j in (i + 1, i + 2) if j < 5}
    found = sequence_pairs(np.arange(len(names)), names, sizes, 2)
    assert [tuple(pair) for pair in found.tolist()] == sorted(ahead)
    assert sequence_pairs(np.arange(len(names)), names, sizes, 0).shape == (0, 2)
    counted_suffix = [f"img_{n}.jp2" for n in range(5)]
    assert sequence_pairs(np.arange(5), counted_suffix, sizes, 1).tolist() == [[n, n + 1] for n in range(4)]


def test_names_of_every_script_are_taken_and_those_that_break_a_line_are_not(tmp_path: Path) -> None:
    """A Mac writes a narrow space before AM and PM; Japanese names have wide ones; a family is joined by U+200D."""
    odd = ["Screenshot 10.00.00\u202fAM.jpg", "\u5bfa\u3000\u6771.jpg", "\U0001f468\u200d\U0001f467.jpg"]
    for name in odd:
        (tmp_path / name).write_bytes(b"")
    assert listed_photos(tmp_path, None) == (tmp_path, sorted(odd, key=os.fsencode))
    (tmp_path / "two\nlines.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 4 names are no text in UTF-8, or hold a line break, .*; rename the"):
        listed_photos(tmp_path, None)
    (tmp_path / "list.txt").write_text("../a.jpg\n/tmp/b.jpg\nc.jpg\n")
    with pytest.raises(
        DataError, match=r"2 of 3 names lead out of .*first \.\./a\.jpg, /tmp/b\.jpg; .* --images FOLDER"
    ):
        listed_photos(tmp_path / "list.txt", None)


def test_matches_are_mutual_and_clear_for_both() -> None:
    rng = np.random.default_rng(3)
    left = root_sift(rng, 60).astype(np.float32) / 512
    right = np.concatenate([left[:40], left[36:40]])
    right += 0.02 * rng.standard_normal(right.shape).astype(np.float32)
    right = (right / np.linalg.norm(right, axis=1, keepdims=True)).astype(np.float32)
    distance = np.linalg.norm(left[:, None].astype(np.float64) - right[None], axis=2)
    wanted = []
    for i, j in enumerate(distance.argmin(axis=1)):
        others = np.delete(distance[i], j).min(), np.delete(distance[:, j], i).min()
        if distance[:, j].argmin() == i and distance[i, j] < 0.8 * min(others) and distance[i, j] < 2 * np.sin(0.35):
            wanted.append([i, int(j)])
    assert mutual_matches(left, right).tolist() == wanted
    assert 30 < len(wanted) < 40
    assert mutual_matches(left[:0], right).shape == (0, 2)


def test_the_strongest_partner_is_the_one_with_most_inliers() -> None:
    blocks = [
        (np.array([1, 1, 2]), np.array([2, 3, 4]), np.array([20, 50, 20])),
        (np.array([2]), np.array([3]), np.array([20])),
    ]
    partner, inliers, pairs = strongest_partners(5, iter(blocks))
    assert (partner.tolist(), inliers.tolist(), pairs) == ([2, 0, 0, 1, -1], [50, 20, 50, 20, 0], 4)


def test_twins_and_crumbs_are_left_out() -> None:
    models = [
        MappedModel(list("abc"), 500, 0.5),
        MappedModel(list("abcdefg"), 200, 0.5),
        MappedModel(list("uvwxyz"), 99, 0.5),
        MappedModel(list("bcdefg"), 900, 0.5),
        MappedModel(list("klmno"), 100, 0.5),
        MappedModel(list("klmnopqr"), 100, 0.5),
    ]
    found = select_models(models, 5, 100)
    assert (found.kept, found.twins, found.crumbs) == ([5, 1], [3, 4], [0, 2])


def test_photos_keep_their_rows_when_others_come(tmp_path: Path) -> None:
    for number in range(6):
        Image.fromarray(texture(number, 60, 60)).save(tmp_path / f"{number}.jpg")
    first, _ = table_of_photos(tmp_path, ["1.jpg", "3.jpg", "4.jpg"], {}, {})
    first.write(tmp_path / "photos.csv")
    known = steps.read_known(tmp_path / "photos.csv")
    held = {0: "1.jpg", 2: "4.jpg"}
    everything = [f"{n}.jpg" for n in range(6)]
    table, changed = table_of_photos(tmp_path, everything, known, held)
    assert (table.names, changed) == (["1.jpg", "0.jpg", "4.jpg", "2.jpg", "3.jpg", "5.jpg"], [])
    shutil.copy(tmp_path / "4.jpg", tmp_path / "0.jpg")
    table, _ = table_of_photos(tmp_path, everything, known, held)
    assert table.same_as.tolist() == [0, 2, 2, 3, 4, 5]
    (tmp_path / "4.jpg").unlink()
    table, changed = table_of_photos(tmp_path, everything, known, held)
    assert changed == ["4.jpg"]
    assert "4.jpg" in table.unreadable
