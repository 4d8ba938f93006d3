"""The example in which a network teaches another on the folds: what it asks, that it goes on, what it prints."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from example_runs import Commands, call, landmark_data, load_example, note_commands


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_example("distillation", monkeypatch)


@pytest.fixture
def commands(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return note_commands(example, monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return landmark_data(tmp_path / "data")


def test_rows_differ_in_what_teaches_alone(example: ModuleType, commands: Commands, data: Path) -> None:
    said = call(example, data, "--fold", "1", "--rounds", "1")
    assert [line.split("|")[1].strip() for line in said.splitlines() if line.startswith("| ")][1:] == [
        example.ROWS[name][0] for name in example.DEFAULT
    ]
    tuples, alone, both = commands.of("train")
    assert "--teacher-descriptors" not in tuples
    taught = [words[words.index("--teacher-descriptors") + 1] for words in (alone, both)]
    assert taught[0] == taught[1]
    assert alone[alone.index("--sampling") + 1] == "photos:8x4"
    assert both[both.index("--teacher-weight") + 1] == "1"
    same = [words[2 : words.index("--seed") + 2] for words in (tuples, alone, both)]
    assert same[0] == same[1] == same[2]
    teachers = [words for words in commands.of("extract") if words[-1] == taught[0]]
    assert len(teachers) == 1
    assert teachers[0][2:4] == ["--backbone", "efficientnet_lite0"]


def test_a_second_run_trains_nothing_again(example: ModuleType, commands: Commands, data: Path) -> None:
    call(example, data, "--fold", "0", "--seeds", "2", "--row", "alone")
    assert len(commands.of("train")) == 2
    call(example, data, "--fold", "0", "--seeds", "2", "--row", "alone")
    assert (len(commands.of("train")), len(commands.of("extract"))) == (2, 5)


def test_figures_are_means_over_seeds_then_over_folds(example: ModuleType) -> None:
    figures = np.array([[[[50.0, 60.0], [60.0, 70.0]], [[80.0, 90.0], [82.0, 94.0]]]])
    assert example.table(["alone"], (0, 2), figures).splitlines() == [
        "|  | fold 0 | fold 0 + L_w | fold 2 | fold 2 + L_w | mean | mean + L_w |",
        "|---|---|---|---|---|---|---|",
        "| the teacher alone, no label | 55.0 | 65.0 | 81.0 | 92.0 | 68.0 | 78.5 |",
    ]
