"""The teacher's road by commands: features, a bag of words, and its answers alone and beside descriptors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hand_made import run
from PIL import Image

from cli.commands.evaluate import command
from retrieval.local_features.bag_of_words import read_bag_of_words
from retrieval.local_features.feature_files import read_features
from retrieval.local_features.options import GEOMETRIES
from retrieval.photos.names import photos_below
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from tests.textures import texture

pytest.importorskip("pycolmap")

FEATURES = ("--first-octave", "0", "--no-affine-shape", "--image-size", "200")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of three photos each, moved windows of one texture a label, and two distractors; their teacher."""
    folder = tmp_path_factory.mktemp("world")
    for label, seed in (("left", 1), ("right", 2), ("distractors", 3)):
        (folder / "photos" / label).mkdir(parents=True)
        picture = texture(seed, 260, 220)
        for number in range(3):
            x = 25 * number if label != "distractors" else 0
            seen = picture[10 : 180 - x // 5, x : x + 180] if label != "distractors" else texture(9 + number, 180, 170)
            Image.fromarray(seen).save(folder / "photos" / label / f"{label}{number}.jpg", quality=95)
    assert run("extract-features", folder / "photos", "-o", folder / "features.h5", *FEATURES) == 0
    assert run("build-bow", folder / "features.h5", "-o", folder / "bow.h5", "--num-words", 200) == 0
    return folder


def evaluate(world: Path, *words: object) -> dict:
    target = world / "result.json"
    assert run("evaluate", "--labels", world / "photos", *words, "-o", target, "--force") == 0
    return json.loads(target.read_text())


def random_descriptors(world: Path, flaw: int = 0) -> Path:
    names = photos_below(world / "photos")
    values = np.random.default_rng(0).normal(size=(len(names), 8)).astype(np.float32)
    path = world / f"d{flaw}.h5"
    write_descriptors(path, Descriptors(names, values / np.linalg.norm(values, axis=1, keepdims=True)))
    return path


def test_the_road_finds_moved_photos(world: Path) -> None:
    found = evaluate(world, "--teacher", world / "bow.h5", "--num-verified", 5)
    assert found["mean_over_queries"] == 1.0
    assert found["settings"]["teacher"]["num_verified"] == 5
    assert found["settings"]["teacher"]["num_words"] == 200
    assert found["parents"] == [read_bag_of_words(world / "bow.h5").fingerprint]


def test_verification_by_two_processes_finds_the_same(world: Path) -> None:
    flags = ("--teacher", world / "bow.h5", "--num-verified", 4, "--num-expanded", 2, "--geometry", "homography")
    assert evaluate(world, *flags)["per_query"] == evaluate(world, *flags, "--jobs", 2)["per_query"]


def test_hamming_embedding_and_its_expansion_are_options(world: Path) -> None:
    flags = ("--hamming", 30, "--num-verified", 4, "--num-expanded", 3, "--expand-inliers", 12)
    found = evaluate(world, "--teacher", world / "bow.h5", *flags)
    assert found["settings"]["teacher"]["hamming"] == {"max_distance": 30, "spread": 16.0}
    assert found["settings"]["teacher"]["expand_inliers"] == 12
    assert found["mean_over_queries"] == 1.0


def test_the_teacher_stands_beside_descriptors(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    descriptors = random_descriptors(world)
    alone = evaluate(world, "--descriptors", descriptors)
    capsys.readouterr()
    both = evaluate(world, "--descriptors", descriptors, "--teacher", world / "bow.h5")
    teacher = evaluate(world, "--teacher", world / "bow.h5")
    assert both["figures"]["labels"] == alone["figures"]["labels"]
    assert both["figures"]["labels, teacher"] == teacher["figures"]["labels"]
    assert both["setups"]["labels, teacher"]["per_query"] == teacher["per_query"]
    header = capsys.readouterr().out.splitlines()[0].split()
    assert header == ["label", "queries", "mAP", "teacher"]


def test_distractors_that_the_teacher_has_not_seen_are_named(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    descriptors = random_descriptors(world, 1)
    names, values = ["elsewhere.jpg"], np.eye(1, 8, dtype=np.float32)
    write_descriptors(world / "more.h5", Descriptors(names, values))
    words = ("--labels", world / "photos", "--descriptors", descriptors, "--teacher", world / "bow.h5")
    assert run("evaluate", *words, "--distractors", world / "more.h5") == 1
    assert "1 of 10 photos of the protocol are absent, first elsewhere.jpg" in capsys.readouterr().err


def test_what_does_not_fit_is_one_line(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = ("--teacher", world / "bow.h5")
    assert run("evaluate", "--labels", world / "photos", *teacher, "--qe", "average:2") == 2
    assert "--num-expanded" in capsys.readouterr().err
    assert run("evaluate", "--labels", world / "photos", *teacher, "--distractors", world / "features.h5") == 2
    assert "name a network or --descriptors beside --teacher" in capsys.readouterr().err
    assert run("evaluate", "--labels", world / "photos", *teacher, "--rankings", world / "photos") == 2
    assert "leave out --teacher" in capsys.readouterr().err
    assert run("evaluate", "--labels", world / "photos", "--teacher", world / "features.h5") == 1
    assert "is sfm2tuples-features, not sfm2tuples-bow" in capsys.readouterr().err
    both = ("--learn-from", world / "features.h5", "--vocabulary", world / "bow.h5")
    assert run("build-bow", world / "features.h5", "-o", world / "x.h5", *both) == 2
    assert "leave out --learn-from" in capsys.readouterr().err


def test_words_cannot_be_learned_from_blank_photos(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "blank").mkdir()
    Image.new("RGB", (80, 60)).save(world / "blank/1.png")
    assert run("extract-features", world / "blank", "-o", world / "blank.h5") == 0
    for words in ((world / "blank.h5",), (world / "features.h5", "--learn-from", world / "blank.h5")):
        assert run("build-bow", *words, "-o", world / "none.h5") == 1
        assert f"{world / 'blank.h5'}: holds no local feature to learn words from" in capsys.readouterr().err


def test_a_vocabulary_is_taken_as_it_is(world: Path) -> None:
    words = ("--vocabulary", world / "bow.h5", "--num-nearest", 3)
    assert run("build-bow", world / "features.h5", "-o", world / "soft.h5", *words) == 0
    first, second = read_bag_of_words(world / "bow.h5"), read_bag_of_words(world / "soft.h5")
    assert np.array_equal(first.words, second.words)
    assert np.array_equal(first.word[:, 0], second.word[:, 0])
    assert second.word.shape[1] == 3
    assert second.options["num_words"] == 200


def test_features_are_those_of_the_photos_that_can_be_read(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "more").mkdir()
    (world / "more" / "torn.jpg").write_bytes(b"no photo")
    Image.fromarray(texture(4, 120, 90)).save(world / "more" / "whole.jpg")
    assert run("extract-features", world / "more", "-o", world / "m.h5", *FEATURES) == 0
    assert "1 photo could not be read" in capsys.readouterr().err
    assert read_features(world / "m.h5").names == ["whole.jpg"]
    assert run("extract-features", world / "more", "-o", world / "m2.h5", *FEATURES, "--strict") == 1
    assert "torn.jpg: cannot be read as a photo" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["features.h5", "bow.h5"])
def test_inspect_says_what_is_in_them(world: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("inspect", world / name, "--json") == 0
    content = json.loads(capsys.readouterr().out)["content"]
    assert content["photos"] == 9
    assert content["features"] == len(read_bag_of_words(world / "bow.h5").word)


def test_every_geometry_is_a_choice() -> None:
    (flag,) = [parameter for parameter in command.params if parameter.name == "geometry"]
    assert list(flag.type.choices) == list(GEOMETRIES)
