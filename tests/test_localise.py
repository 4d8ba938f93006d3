"""Poses by PnP: made worlds with known poses, what is counted where there is none, and that a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracles_localisation as oracles
import pytest
from hand_made import run
from worlds import Index, random_index, write_whole

from benchmarks.localise import correlation
from retrieval.evaluation.database_images import DatabaseImages
from retrieval.evaluation.localisability import ELSEWHERE, FAR
from retrieval.evaluation.localised_queries import compared_poses
from retrieval.local_features.feature_extraction import FoundFeatures
from retrieval.localisation import localisation as steps
from retrieval.localisation.absolute_poses import FEW, NO_FOCAL, NO_POSE, NO_SIZE, SHAPE, UNREADABLE
from retrieval.localisation.features_cache import opened_cache, prepare_cache, store_features_of
from retrieval.localisation.localisation import PoseAnswers, localise
from retrieval.localisation.options import LocalisationOptions, parse_thresholds
from retrieval.photos.sources import PhotoSources, SourceColumns
from retrieval.reconstruction.options import ReconstructionOptions
from retrieval.reconstruction.reconstruction import reconstruct
from sfm2tuples.compute.worker_pools import ThisProcess
from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.index.opened import OpenedIndex, open_index
from tests.rooms import photograph_room

pytest.importorskip("pycolmap")

POINTS, FOCAL, CAMERA = 80, 500.0, (800, 600)
"""Of each model of the made world; its photos are half as large as the camera says."""
NAMES = ("query", "near", "also near", "elsewhere", "alike", "blank", "torn", "square", "few")
SIZE = {"square": (400, 400)}


def made_index(rng: np.random.Generator) -> Index:
    """Two models of 80 points. Images 3 and 4 are of the second; 4 sees it with the features of the first."""
    index = random_index(rng, (3, 2, 4), (0, 0, 0))
    count = len(NAMES)
    model = np.repeat([0, 1, 2], (3, 2, 4))
    xyz = rng.uniform(-2, 2, (3 * POINTS, 3)) + np.array([0, 0, 6])
    xyz[POINTS : 2 * POINTS] = xyz[:POINTS]  # two models of one thing
    quaternion = np.array([1.0, 0, 0, 0]) + rng.normal(0, 0.05, (count, 4))
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True)
    translation = rng.normal(0, 0.3, (count, 3))
    xy = [
        project(quaternion[i], translation[i], xyz[m * POINTS : (m + 1) * POINTS]) for i, m in enumerate(model.tolist())
    ]
    return replace(
        index,
        models=replace(index.models, point_start=np.arange(4) * POINTS),
        cameras=replace(index.cameras, size=np.array([CAMERA]), params=np.array([FOCAL, CAMERA[0] / 2, CAMERA[1] / 2])),
        images=replace(index.images, key=list(NAMES), name=list(NAMES), quaternion=quaternion, translation=translation),
        points=replace(index.points, id=np.arange(3 * POINTS), xyz=xyz, error=np.zeros(3 * POINTS)),
        observations=replace(
            index.observations,
            indptr=np.arange(count + 1) * POINTS,
            point=np.concatenate([np.arange(m * POINTS, (m + 1) * POINTS) for m in model.tolist()]),
            xy=np.concatenate(xy).astype(np.float32),
        ),
    )


def project(quaternion: np.ndarray, translation: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    seen = xyz @ np.array(oracles.quaternion_matrix(quaternion.tolist())).T + translation
    return FOCAL * seen[:, :2] / seen[:, 2:] + np.array(CAMERA) / 2


def write_features(cache: Path, index: Index, options: LocalisationOptions) -> None:
    """Each image has a feature at each of its observations, in pixels of its photo; those of a point are alike."""
    draw = np.random.default_rng(9)
    described = draw.integers(0, 256, (3, POINTS, 128)).astype(np.uint8)
    described = np.round(described * (512 / np.linalg.norm(described, axis=2, keepdims=True))).astype(np.uint8)
    looks = {"alike": 0, "few": 0}
    made_with = json.dumps(steps._feature_options(options).as_dict(), sort_keys=True)
    prepare_cache(cache)
    with opened_cache(cache) as connection:
        for row, name in enumerate(NAMES):
            part = slice(row * POINTS, (row + 1) * POINTS)
            size = SIZE.get(name, (CAMERA[0] // 2, CAMERA[1] // 2))
            keypoints = np.zeros((POINTS, 4), np.float32)
            keypoints[:, :2] = index.observations.xy[part] / (np.array(CAMERA) / size)
            kept = {"blank": 0, "few": 9}.get(name, POINTS)
            look = described[looks.get(name, int(index.images.model[row]))]
            found = FoundFeatures(size, 1.0, keypoints[:kept], look[:kept])
            store_features_of(connection, name, made_with, (0, 0), "torn.jpg: is no photo" if name == "torn" else found)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Index, Path, LocalisationOptions]:
    """Its queries are localised in this process: a worker takes seconds to start."""
    monkeypatch.setattr(steps, "LocalProcesses", lambda jobs: ThisProcess())
    index, options = made_index(np.random.default_rng(1)), LocalisationOptions(localise_cache=tmp_path / "cache.db")
    write_whole(tmp_path / "index.h5", index)
    write_features(tmp_path / "cache.db", index, options)
    return index, tmp_path / "index.h5", options


def names(*wanted: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((name, (NAMES.index(name),)) for name in wanted)


def photos(path: Path) -> PhotoSources:
    sources = SourceColumns.below(["/nowhere"], np.zeros(len(NAMES), np.int64), list(NAMES))
    return PhotoSources(list(NAMES), sources, np.arange(len(NAMES)), path)


def found_by(world: tuple[Index, Path, LocalisationOptions], asked: dict[str, tuple[str, ...]]) -> PoseAnswers:
    with open_index(world[1]) as index:
        return localise(index, photos(world[1]), names(*asked), [names(*one) for one in asked.values()], world[2])


def test_poses_are_found_at_the_camera_s_scale_and_their_model_is_named(
    world: tuple[Index, Path, LocalisationOptions],
) -> None:
    asked = {
        "query": ("elsewhere", "near", "torn", "also near"),
        "near": ("alike",),  # its features are those of the first model, its points those of the second
        "elsewhere": ("near", "blank"),
        "torn": ("near",),
        "blank": ("near",),
        "square": ("few", "torn"),
        "also near": ("few",),
    }
    answers = found_by(world, asked)
    assert answers.reason[:1] == [""]
    assert answers.model[:2].tolist() == [0, 1]
    assert answers.reason[2:] == [FEW, UNREADABLE, FEW, SHAPE, FEW]
    assert answers.matches[0] == 2 * POINTS // 2
    truth = world[0].opened().poses()
    assert oracles.pose_distance(answers.pose[0].tolist(), truth[0].tolist()) < 1e-3
    assert oracles.rotation_degrees(answers.pose[0].tolist(), truth[0].tolist()) < 0.05
    assert np.isnan(answers.pose[2:]).all()
    assert answers.inliers[0] == answers.matches[0]


def test_a_camera_without_a_focal_length_is_a_reason(
    world: tuple[Index, Path, LocalisationOptions], tmp_path: Path
) -> None:
    index = world[0]
    panorama = replace(
        index.cameras, model=np.array([17], np.int32), indptr=np.array([0, 2]), params=np.array([8.0, 4])
    )
    write_whole(tmp_path / "panorama.h5", replace(index, cameras=panorama))
    other = index, tmp_path / "panorama.h5", world[2]
    assert found_by(other, {"query": ("near",)}).reason == [NO_FOCAL]


@pytest.mark.parametrize(
    ("column", "reason"), [({"params": np.array([0.0, 400, 300])}, NO_FOCAL), ({"size": np.array([[0, 0]])}, NO_SIZE)]
)
def test_what_a_model_does_not_say_of_its_cameras_is_a_reason(
    world: tuple[Index, Path, LocalisationOptions], tmp_path: Path, column: dict[str, np.ndarray], reason: str
) -> None:
    # As of an unknown camera of kapture; as of Bundler's and VisualSFM's cameras.
    index = replace(world[0], cameras=replace(world[0].cameras, **column))
    write_whole(tmp_path / "unsaid.h5", index)
    assert found_by((index, tmp_path / "unsaid.h5", world[2]), {"query": ("near",)}).reason == [reason]


def test_a_pose_in_one_model_outlives_a_camera_without_a_focal_length_in_another(
    world: tuple[Index, Path, LocalisationOptions], tmp_path: Path
) -> None:
    index = world[0]
    both = replace(
        index,
        models=replace(index.models, camera_start=np.array([0, 1, 2, 2])),
        cameras=replace(
            index.cameras,
            id=np.array([1, 2]),
            model=np.array([index.cameras.model[0], 17], np.int32),
            size=np.array([CAMERA, CAMERA]),
            indptr=np.array([0, 3, 5]),
            params=np.append(index.cameras.params, [8.0, 4]),
        ),
        images=replace(index.images, camera=np.array([0, 0, 0, 1, 1, 0, 0, 0, 0])),
    )
    write_whole(tmp_path / "both.h5", both)
    with open_index(tmp_path / "both.h5") as opened:
        # The query is an image of both models, and so are its matches.
        answers = localise(opened, photos(world[1]), (("query", (0, 3)),), [names("near", "alike")], world[2])
    assert (answers.reason, answers.model.tolist()) == ([""], [0])


@pytest.mark.parametrize("damage", [{"indptr": [0, 2], "params": [500.0, 400]}, {"size": [[0, 600]]}])
def test_a_damaged_camera_is_refused_in_one_line(
    world: tuple[Index, Path, LocalisationOptions], tmp_path: Path, damage: dict[str, list[Any]]
) -> None:
    columns = {name: np.array(value) for name, value in damage.items()}
    write_whole(tmp_path / "other.h5", replace(world[0], cameras=replace(world[0].cameras, **columns)))
    with pytest.raises(FileFormatError, match=r"other\.h5: the SIMPLE_PINHOLE camera of .* is none"):
        found_by((world[0], tmp_path / "other.h5", world[2]), {"query": ("near",)})


def test_matches_that_agree_on_no_pose_are_a_reason(
    world: tuple[Index, Path, LocalisationOptions], tmp_path: Path
) -> None:
    index = world[0]
    shuffled = np.random.default_rng(0).permuted(index.observations.point.reshape(-1, POINTS), axis=1)
    write_whole(
        tmp_path / "shuffled.h5", replace(index, observations=replace(index.observations, point=shuffled.ravel()))
    )
    assert found_by((index, tmp_path / "shuffled.h5", world[2]), {"query": ("near",)}).reason == [NO_POSE]


def test_what_was_done_is_not_done_again_and_a_stopped_run_goes_on(
    world: tuple[Index, Path, LocalisationOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"query": ("near",), "near": ("query",), "also near": ("query", "near")}
    store, done = steps.store_answer, []

    def stopped(connection: Any, made_of: str, answer: dict[str, Any]) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(made_of)
        store(connection, made_of, answer)

    monkeypatch.setattr(steps, "store_answer", stopped)
    with pytest.raises(KeyboardInterrupt):
        found_by(world, asked)
    again, run_jobs = [], steps.run_jobs

    def counted(jobs: list[Any], *rest: Any) -> Any:
        again.extend(job.query for job in jobs)
        return run_jobs(jobs, *rest)

    monkeypatch.setattr(steps, "store_answer", store)
    monkeypatch.setattr(steps, "run_jobs", counted)
    first = found_by(world, asked)
    assert len(again) == 1
    second = found_by(world, asked)
    assert len(again) == 1
    assert first.pose.tolist() == second.pose.tolist()
    found_by(world, {**asked, "query": ("also near",)})
    assert again[1:] == ["query"], "other results are another question"
    more = replace(world[2], max_features=9)
    assert found_by((*world[:2], more), {"query": ("near",)}).reason == [UNREADABLE], "features of other settings"
    found_by((*world[:2], more), {"query": ("near",)})
    assert again[2:] == ["query", "query"], "a photo that could not be read is tried again"


@pytest.mark.parametrize("content", [b"no database at all, but some text that is long enough " * 9, None])
def test_a_cache_that_is_something_else_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.db"
    if content is None:
        with opened_cache(path) as connection:
            connection.execute("CREATE TABLE mine (a)")
        before = path.read_bytes()
    else:
        path.write_bytes(before := content)
    with pytest.raises(DataError, match=r"other\.db.*--localise-cache"):
        prepare_cache(path)
    assert path.read_bytes() == before


def test_poses_are_held_against_the_model_that_they_are_in() -> None:
    index = made_index(np.random.default_rng(2))
    opened: OpenedIndex = index.opened()
    truth = opened.poses()
    moved = truth[:4].copy()
    moved[1, :, 3] += 100
    moved[3] = np.nan
    answers = PoseAnswers(["", "", "", FEW], np.array([0, 0, 2, -1]), moved, np.full(4, 20), np.full(4, 15))
    database = DatabaseImages.of_photos(opened, index.images.key)
    found = compared_poses(database, np.arange(4), answers, parse_thresholds("0.01:1,0.1:5"), 3)
    assert found.reason == ["", FAR, ELSEWHERE, FEW]
    assert found.distance[0] == 0
    depth = oracles.scene_depth(truth[1].tolist(), index.points.xyz[:POINTS].tolist())
    assert found.distance[1] == pytest.approx(oracles.pose_distance(moved[1].tolist(), truth[1].tolist()) / depth)
    assert np.isnan(found.distance[2:]).all()
    assert found.within(parse_thresholds("0.01:1,0.1:5")).tolist() == [[True, True], *[[False, False]] * 3]


def test_phi_is_that_of_the_four_counts() -> None:
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        one, noise = rng.random(40) < share, rng.random(40) < 0.2
        assert correlation(one, one ^ noise) == pytest.approx(oracles.phi(one, one ^ noise))
    assert np.isnan(correlation(np.ones(5, bool), np.arange(5) > 2))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of photos of an invented room, its index, and rankings of its photos."""
    folder = tmp_path_factory.mktemp("room")
    photograph_room(folder / "photos", 1, 6)
    reconstruct(folder / "photos", folder / "models", ReconstructionOptions(image_size=280, max_features=700))
    assert run("build-index", folder / "models", "-o", folder / "index.h5", "--val-share", 0) == 0
    (folder / "ranks").mkdir()
    with open_index(folder / "index.h5") as index:
        keys = index.images.key[:]
    for number, key in enumerate(keys):
        near = sorted(range(len(keys)), key=lambda other, number=number: abs(other - number))
        (folder / "ranks" / f"{Path(key).stem}.txt").write_text("\n".join(keys[other] for other in near) + "\n")
    return folder


def test_photos_of_a_room_are_localised_by_their_neighbours(
    room: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--index", room / "index.h5", "--split", "train", "--rankings", room / "ranks")
    target, words = room / "r.json", ("--localise", "--num-matched", 3)
    assert run("evaluate", *asked, *words, "-o", target) == 0
    assert "localised within 0.05 depths 5°" in capsys.readouterr().out
    content = json.loads(target.read_text())
    poses = [entry["localisable"]["pose"] for entry in content["per_query"]]
    assert len(poses) >= 5
    assert sum(pose["reason"] == "" and pose["distance"] < 0.05 for pose in poses) >= len(poses) - 1
    assert content["settings"]["localise"]["num_matched"] == 3
    assert [*content["per_query"][0]["localisable"]["seen"]] == ["1", "3", "5", "10", "20", "all"]
    assert (room / "r.localise.db").is_file()
    nothing: Callable[..., list[Any]] = lambda *_: []  # noqa: E731
    monkeypatch.setattr(steps, "features_in_turn", nothing)
    monkeypatch.setattr(steps, "run_jobs", nothing)
    assert run("evaluate", *asked, *words, "-o", room / "again.json", "--localise-cache", room / "r.localise.db") == 0
    assert json.loads((room / "again.json").read_text())["per_query"] == content["per_query"]
    assert run("report", target, "-o", room / "page") == 0
    page = (room / "page" / "index.html").read_text(encoding="utf-8")
    assert "localised within" in page
    assert "not localised" in page
