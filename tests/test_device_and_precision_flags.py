"""`--device` and `--precision`: one meaning in every command that describes photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import run
from test_commands import command_of

from retrieval.descriptors import described_photos
from retrieval.networks import choice
from retrieval.whitening import linear_algebra
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.mining.tuple_file import read_tuples
from sfm2tuples.world.synthetic import write_world

NETWORK = ["--backbone", "squeezenet1_1", "--image-size", 64]
COMMANDS = ("extract", "whiten", "evaluate", "mine-tuples", "import-tuples")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world and its index."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder / "world", places=4, photos_per_place=6, size=(96, 72), jobs=1)
    assert run("build-index", folder / "world", "-o", folder / "index.h5", "--val-share", 0.5) == 0
    return folder


def words_of(command: str, world: Path, target: Path) -> list[object]:
    """A whole request to a command, but for the flags in question."""
    index = world / "index.h5"
    wanted = {
        "extract": ["extract", index, "-o", target / "d.h5"],
        "whiten": ["whiten", index, "-o", target / "w.h5", "--method", "pca", "--shrinkage", 0.5],
        "evaluate": ["evaluate", "--index", index, "--min-shared", 1, "-o", target / "e.json"],
        "mine-tuples": ["mine-tuples", index, "-o", target / "t.h5", "--num-negatives", 1, "--query-share", 1],
        "train": ["train", target / "absent.h5", "-o", target / "run"],
        "import-tuples": ["import-tuples", target / "absent.pkl", "-o", target / "t.h5"],
    }
    return [*wanted[command], *NETWORK]


@pytest.mark.parametrize("command", [*COMMANDS, "train"])
def test_a_device_that_is_not_there_is_one_line_and_exit_code_2(command, world, tmp_path, capsys):
    capsys.readouterr()
    assert run(*words_of(command, world, tmp_path), "--device", "cuda:99") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --device cuda:99: cannot be used (")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS[:3])
def test_the_network_runs_on_the_device_that_is_named(command, world, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(choice, "choose_device", lambda name: asked.append(name) or torch.device("cpu"))
    assert run(*words_of(command, world, tmp_path), "--device", "cuda:7") == 0
    assert run(*words_of(command, world, tmp_path), "--force") == 0
    assert asked == ["cuda:7", None]


def test_the_flags_say_the_same_everywhere():
    flags = {name: {p.name: p for p in command_of(name).params} for name in (*COMMANDS, "train")}
    assert len({flags[name]["device"].help for name in flags}) == 1
    assert {flags[name]["precision"].default for name in COMMANDS} == {"fp32"}
    assert len({tuple(flags[name]["precision"].type.choices) for name in flags}) == 1


def test_extract_describes_in_the_precision_that_is_asked_for(world, tmp_path):
    described = {}
    for precision in ("fp32", "bf16", "fp16"):
        target = tmp_path / f"{precision}.h5"
        assert run("extract", world / "index.h5", "-o", target, *NETWORK, "--precision", precision) == 0
        described[precision] = read_descriptors(target)
        assert described[precision].settings["precision"] == precision
    for precision in ("bf16", "fp16"):
        cosine = (described["fp32"].values * described[precision].values).sum(axis=1)
        assert cosine.min() > 0.999
        assert not np.array_equal(described["fp32"].values, described[precision].values)


def test_whiten_and_evaluate_say_the_precision_of_what_they_described(world, tmp_path):
    words = ["--precision", "bf16", "--device", "cpu"]
    assert run(*words_of("whiten", world, tmp_path), *words) == 0
    assert read_header(tmp_path / "w.h5").options["settings"]["precision"] == "bf16"
    assert run(*words_of("evaluate", world, tmp_path), *words) == 0
    assert '"precision": "bf16"' in (tmp_path / "e.json").read_text()


def test_mining_looks_in_the_precision_that_is_asked_for_and_its_file_says_so(world, tmp_path):
    similarity = {}
    for precision in ("fp32", "bf16"):
        words = [*words_of("mine-tuples", world, tmp_path), "--force", "--precision", precision, "--device", "cpu"]
        assert run(*words) == 0
        assert read_header(tmp_path / "t.h5").options["precision"] == precision
        similarity[precision] = read_tuples(tmp_path / "t.h5").tuples["train"].positive_similarity
    np.testing.assert_allclose(similarity["fp32"], similarity["bf16"], atol=5e-3)
    assert not np.array_equal(similarity["fp32"], similarity["bf16"])


def test_tuples_of_no_network_have_no_precision(world, tmp_path):
    target = tmp_path / "t.h5"
    words = ["--negatives", "random", "--num-negatives", 1, "--query-share", 1]
    assert run("mine-tuples", world / "index.h5", "-o", target, *words) == 0
    assert read_header(target).options["precision"] is None


def test_whiten_refuses_too_many_dimensions_before_a_photo_is_described(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(linear_algebra, "machine_memory", lambda: 10**6)
    monkeypatch.setattr(described_photos, "describe_photos", lambda *given: pytest.fail("described"))
    assert run(*words_of("whiten", world, tmp_path)) == 2
    assert "a whitening of 512 dimensions" in capsys.readouterr().err
    values = np.eye(1, 512, dtype=np.float32)
    write_descriptors(tmp_path / "d.h5", Descriptors(["a.jpg"], values))
    assert run("whiten", world / "index.h5", "-o", tmp_path / "w.h5", "--descriptors", tmp_path / "d.h5") == 2
    assert "a whitening of 512 dimensions" in capsys.readouterr().err
