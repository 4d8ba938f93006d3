"""The example that puts network and teacher side by side: what it asks, that it goes on, what it prints."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from example_runs import Commands, call, landmark_data, load_example, note_commands


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_example("student_and_teacher", monkeypatch)


@pytest.fixture
def commands(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Commands:
    return note_commands(example, monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return landmark_data(tmp_path / "data")


def rows_of(said: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("| ")]


def test_every_row_has_a_figure_of_each_fold_and_their_mean(
    example: ModuleType, commands: Commands, data: Path
) -> None:
    header, *rows = rows_of(call(example, data))
    assert header == ["", "fold 0", "fold 1", "fold 2", "mean", "over seeds"]
    assert len(rows) == len(example.ROWS)
    for title, *figures, mean, spread in rows:
        assert float(mean) == pytest.approx(np.mean([float(v) for v in figures]), abs=0.11), title
        assert spread == ""


def test_a_network_is_trained_once_a_fold_and_seed_whatever_the_rows(
    example: ModuleType, commands: Commands, data: Path
) -> None:
    call(example, data, "--seeds", "2", "--row", "tuned", "--row", "lw", "--row", "ms", "--row", "d16")
    assert len(commands.of("train")) == 3 * 2
    assert len(commands.of("evaluate")) == 3 * 2 * 4


def test_a_second_run_measures_nothing_again(example: ModuleType, commands: Commands, data: Path) -> None:
    first = call(example, data)
    before = len(commands.calls)
    assert call(example, data) == first
    assert len(commands.calls) == before


def test_the_spread_is_over_the_means_of_the_seeds(example: ModuleType) -> None:
    figures = np.array([[70.0, 80.0, 90.0], [60.0, 80.0, 88.0]])
    assert example.line("x", figures) == "| x | 65.0 | 80.0 | 89.0 | 78.0 | 76.0 to 80.0 |"


def test_several_scales_have_photos_and_a_whitening_of_their_own(
    example: ModuleType, commands: Commands, data: Path
) -> None:
    call(example, data, "--row", "ms", "--row", "lw")
    scales = {
        Path(words[-1]).parts[-2]: words[words.index("--scales") + 1] if "--scales" in words else "1"
        for words in commands.of("extract")
    }
    assert scales == {"multi_scale": example.SCALES, "gem_seed0": "1"}
    whitenings = {words[words.index("--whitening") + 1] for words in commands.of("evaluate")}
    assert len(whitenings) == 3 * 2


def test_re_ranking_is_told_network_and_photos_and_nothing_else_is(
    example: ModuleType, commands: Commands, data: Path
) -> None:
    call(example, data, "--row", "ms_qe", "--row", "ms_r_qe")
    for words in commands.of("evaluate"):
        told = {"--network", "--images", "--image-size", "--scales"} & set(words)
        assert len(told) == (4 if "--rerank" in words else 0)


def test_short_bags_learn_words_and_reduction_from_other_photos(
    example: ModuleType, commands: Commands, data: Path
) -> None:
    call(example, data, "--row", "short_bag")
    (shorten,) = commands.of("shorten-bow")
    learned_from = [shorten[place + 1] for place, word in enumerate(shorten) if word == "--learn-from"]
    assert len(learned_from) == example.VOCABULARIES
    for words in commands.of("build-bow"):
        assert ("--vocabulary" in words) != (words[-1] in learned_from)
    seeds = [words[words.index("--seed") + 1] for words in commands.of("build-bow") if "--seed" in words]
    assert len(set(seeds)) == example.VOCABULARIES
