"""The ablation example: which runs it makes, that it goes on, its arithmetic, its verdicts, what it says is missing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from example_runs import Commands, call, landmark_data, load_example, note_commands
from worlds import random_index, write_whole


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_example("ablation", monkeypatch)


@pytest.fixture
def commands(ablation: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.setattr(ablation, "draw_places", lambda index, count, seed: {f"reconstructions/s{seed}/sparse/0": "s"})
    return note_commands(ablation, monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return landmark_data(tmp_path / "data")


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_quick_trains_every_variant_with_two_seeds_and_measures_every_row(
    ablation: ModuleType, commands: Commands, data: Path
) -> None:
    said = call(ablation, data, "--quick")
    assert len(commands.of("train")) == 2 * (len(ablation.VARIANTS) - 1)
    assert all(words[words.index("--rounds") + 1] == "2" for words in commands.of("train"))
    assert len(commands.of("evaluate")) == sum(
        len(variant.whitenings) * (1 if variant is ablation.SHELF else 2) for variant in ablation.VARIANTS
    )
    assert "| 0 of" not in said
    assert "Missing" not in said
    assert (data.parent / "work" / "ablation.md").read_text() in said


def test_the_base_and_what_it_is_compared_with_come_first(ablation: ModuleType, commands: Commands, data: Path) -> None:
    call(ablation, data, "--quick")
    runs = [Path(words[words.index("-o") + 1]) for words in commands.of("train")]
    assert [run.parts[-3] for run in runs[:6]] == ["base", "base", "m1", "m1", "N1", "N1"]


def test_each_variant_differs_from_the_base_in_its_own_option_only(
    ablation: ModuleType, commands: Commands, data: Path
) -> None:
    call(ablation, data, "--seeds", "1", "--fold", "0")

    def options(variant: str) -> list[str]:
        found = [words for words in commands.of("train") if f"/{variant}/seed0/" in words[-1]]
        assert len(found) == 1
        return found[0][2:-2]

    base = options("base")
    more = {variant.name: options(variant.name)[len(base) :] for variant in ablation.VARIANTS[1:]}
    assert all(options(name)[: len(base)] == base for name in more)
    shelf = str(data.parent / "work" / "fold0" / "off-the-shelf" / "seed0" / "lw.h5")
    assert more == {
        "base": [],
        "m1": ["--positives", "m1"],
        "m2": ["--positives", "m2"],
        "N1": ["--negatives", "N1"],
        "random": ["--negatives", "random"],
        "semi-hard": ["--negatives", "semi-hard"],
        "triplet": ["--loss", "triplet"],
        "graded": ["--loss", "graded-contrastive"],
        "end-to-end": ["--whitening-layer", shelf],
        "end-to-end-triplet": ["--loss", "triplet", "--margin", "0.5", "--whitening-layer", shelf],
        "six": [],
        "half": [],
        "landmarks": [],
    }


def test_only_the_over_fitting_experiment_indexes_the_landmarks_of_the_test(
    ablation: ModuleType, commands: Commands, data: Path
) -> None:
    call(ablation, data, "--seeds", "1", "--fold", "1")
    held_out = {"b", "e"}
    for words in commands.of("build-index"):
        indexed = {Path(word).name for word in words if Path(word).parent.name == "collection_models"}
        over_fitting = "all_landmarks" in words[-1]
        assert indexed & held_out == (held_out if over_fitting else set())
    whitened = {words[words.index("-o") + 1]: words[1] for words in commands.of("whiten")}
    over_fitted = {target for target, tuples in whitened.items() if "all_landmarks" in tuples}
    assert over_fitted == {str(data.parent / "work" / "landmarks" / "seed0" / "lw.h5")}
    trained = [words for words in commands.of("train") if "all_landmarks" in words[1]]
    assert [Path(words[-1]).parts[-3] for words in trained] == ["landmarks"]


def test_the_over_fitted_network_is_trained_once_for_all_folds(
    ablation: ModuleType, commands: Commands, data: Path
) -> None:
    call(ablation, data, "--seeds", "2", "--variant", "landmarks")
    assert len(commands.of("train")) == 2
    assert len(list((data.parent / "work" / "results" / "landmarks").iterdir())) == 6


def test_what_is_done_is_not_done_again(ablation: ModuleType, commands: Commands, data: Path) -> None:
    call(ablation, data, "--quick", "--variant", "base", "--seeds", "1")
    before = len(commands.calls)
    said = call(ablation, data, "--quick", "--variant", "base", "--seeds", "1")
    assert len(commands.calls) == before
    assert "- base:" not in said
    said = call(ablation, data, "--quick", "--variant", "base")
    assert [Path(words[-1]).parts[-2] for words in commands.of("train")] == ["seed0", "seed1"]
    assert "- m1: 0 of 2 runs" in said


def test_an_interrupted_training_is_resumed(ablation: ModuleType, commands: Commands, data: Path) -> None:
    run = data.parent / "work" / "fold1" / "base" / "seed0" / "run"
    run.mkdir(parents=True)
    (run / "last.pt").write_text("")
    commands.fail_on = "evaluate"
    CliRunner().invoke(
        ablation.main, [str(data), str(data.parent / "work"), "--quick", "--variant", "base", "--seeds", "1"]
    )
    assert commands.calls[2][:3] == ["train", str(run.parents[2] / "tuples.h5"), "--resume"]


def test_a_run_that_fails_is_named_and_does_not_stop_the_others(
    ablation: ModuleType, commands: Commands, data: Path
) -> None:
    commands.fail_on = "graded-contrastive"
    result = CliRunner().invoke(ablation.main, [str(data), str(data.parent / "work"), "--quick"])
    assert result.exit_code == 1
    assert "graded, fold 1, seed 1: failed: sfm2tuples train" in result.output
    assert "- graded: 0 of 2 runs" in result.output
    assert result.output.count(" runs\n") == 1


def test_figures_of_other_settings_are_not_mixed(ablation: ModuleType, commands: Commands, data: Path) -> None:
    call(ablation, data, "--quick", "--variant", "off-the-shelf")
    result = CliRunner().invoke(ablation.main, [str(data), str(data.parent / "work"), "--variant", "base"])
    assert result.exit_code == 1
    assert "was begun as" in result.output
    assert commands.of("train") == []


def test_table_only_runs_nothing_and_says_what_is_missing(ablation: ModuleType, commands: Commands, data: Path) -> None:
    result = CliRunner().invoke(ablation.main, [str(data), str(data.parent / "work"), "--table-only"])
    assert "nothing was run here" in result.output
    call(ablation, data, "--quick", "--variant", "m1")
    (data.parent / "work" / "results" / "m1" / "fold1_seed1.json").unlink()
    before = len(commands.calls)
    said = call(ablation, data, "--table-only")
    assert len(commands.calls) == before
    assert "- m1: 1 of 2 runs" in said
    assert "| m1 for m3 | L_w | 1 of 2 |" in said


def test_fewer_places_are_among_the_more(ablation: ModuleType, tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(0), (2,) * 30, tuple((np.arange(30) // 2).tolist()))
    index.images.has_photo[index.images.model == 7] = False
    write_whole(tmp_path / "index.h5", index)
    for seed in range(5):
        six, ten = (ablation.draw_places(tmp_path / "index.h5", count, seed) for count in (6, 10))
        assert (len(set(six.values())), len(set(ten.values()))) == (6, 10)
        assert len(ten) == 20, "all models of a place come with it"
        assert set(six.items()) < set(ten.items())
    drawn = [ablation.draw_places(tmp_path / "index.h5", 6, seed) for seed in (0, 1)]
    assert drawn[0] != drawn[1]


# --- Table ------------------------------------------------------------------------------------------------------------


def random_results(ablation: ModuleType, drop: float = 0.0) -> dict:
    rng = np.random.default_rng(0)
    return {
        (variant.name, fold, seed): {whitening: float(rng.uniform(50, 90)) for whitening in variant.whitenings}
        for variant in ablation.VARIANTS
        for fold in range(3)
        for seed in range(1 if variant.name == "off-the-shelf" else 3)
        if rng.random() >= drop
    }


@pytest.mark.parametrize("drop", [0.0, 0.4])
def test_means_and_spreads_equal_naive_loops(ablation: ModuleType, drop: float) -> None:
    plan, results = ablation.Plan(), random_results(ablation, drop)
    for variant in ablation.VARIANTS[1:]:
        found = ablation.figures_of(results, plan, (variant.name, "none"))
        folds, whole = [], []
        for fold in range(3):
            of_fold = [results[variant.name, fold, s]["none"] for s in range(3) if (variant.name, fold, s) in results]
            if of_fold:
                folds.append(sum(of_fold) / len(of_fold))
        for seed in range(3):
            of_seed = [results[variant.name, f, seed]["none"] for f in range(3) if (variant.name, f, seed) in results]
            if len(of_seed) == 3:
                whole.append(sum(of_seed) / 3)
        assert ablation.mean_over_folds(found) == pytest.approx(sum(folds) / len(folds), abs=1e-9)
        expected = pytest.approx((min(whole), max(whole)), abs=1e-9) if whole else None
        assert ablation.spread_over_seeds(found, plan.folds) == expected


def test_differences_are_of_the_same_fold_and_seed_with_their_standard_error(ablation: ModuleType) -> None:
    plan, results = ablation.Plan(), random_results(ablation, 0.3)
    better, worse = (ablation.figures_of(results, plan, (name, "L_w")) for name in ("base", "off-the-shelf"))
    naive = []
    for fold in range(3):
        for seed in range(3):
            if ("base", fold, seed) in results and ("off-the-shelf", fold, 0) in results:
                naive.append(results["base", fold, seed]["L_w"] - results["off-the-shelf", fold, 0]["L_w"])
    assert 2 <= len(naive) < 9
    assert ablation.paired(better, worse) == pytest.approx(naive)
    mean = sum(naive) / len(naive)
    variance = sum((value - mean) ** 2 for value in naive) / (len(naive) - 1)
    assert ablation.standard_error(naive) == pytest.approx(math.sqrt(variance / len(naive)))


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([], "cannot be told"),
        ([5.0], "cannot be told"),
        ([0.0, 0.0], "cannot be told"),
        ([3.0, 3.0], "confirmed"),
        ([5.0, 3.0], "cannot be told"),  # 4 standard errors, of two pairs
        ([3.1, 2.9], "confirmed"),  # 30 standard errors
        ([-3.1, -2.9], "contradicted"),
        ([4.0, -1.0, 3.0, -2.0, 5.0, 0.0], "cannot be told"),
        ([2.0, 1.0, 3.0, 2.0, 1.0, 3.0], "confirmed"),
        ([-2.0, -1.0, -3.0, -2.0, -1.0, -3.0], "contradicted"),
    ],
)
def test_a_verdict_needs_more_than_chance(ablation: ModuleType, differences: list[float], expected: str) -> None:
    assert ablation.verdict(differences) == expected


def test_without_any_effect_at_most_one_verdict_in_twenty_is_told(ablation: ModuleType) -> None:
    rng = np.random.default_rng(1)
    for pairs in (2, 3, 6):
        told = [ablation.verdict(rng.standard_normal(pairs)) != "cannot be told" for _ in range(2000)]
        assert np.mean(told) < 0.065


def test_every_ordering_compares_rows_that_are_measured(ablation: ModuleType) -> None:
    rows = {(variant.name, whitening) for variant in ablation.VARIANTS for whitening in variant.whitenings}
    assert {row for ordering in ablation.ORDERINGS for row in (ordering.worse, ordering.better)} <= rows


def test_a_network_off_the_shelf_is_one_measurement_whatever_the_seeds(ablation: ModuleType) -> None:
    plan, results = ablation.Plan(), random_results(ablation)
    counts = {str(ordering): len(ablation.compared(results, plan, ordering)) for ordering in ablation.ORDERINGS}
    assert counts["off-the-shelf: none < PCA_w"] == 3
    assert counts["base: none < PCA_w"] == 9
    assert counts["off-the-shelf < m1, none"] == 9


def test_a_head_start_confirms_that_little_is_gained(ablation: ModuleType) -> None:
    plan = ablation.Plan(folds=(0,), seeds=2)

    def said(gain: float) -> str:
        results = {}
        for seed in range(2):
            results["base", 0, seed] = {"none": 70.0 + seed, "L_w": 70.0}
            results["landmarks", 0, seed] = {"none": 70.0 + seed + gain, "L_w": 70.0}
        line = next(line for line in ablation.table(results, plan).splitlines() if "landmarks < base + 1, none" in line)
        return line.split("|")[-2].strip()

    assert (said(0.3), said(1.0), said(4.0)) == ("confirmed", "cannot be told", "contradicted")


def test_the_table_says_the_figures_of_a_result_file(ablation: ModuleType, tmp_path: Path) -> None:
    for seed, value in enumerate((70.0, 72.0)):
        for name, more in (("base", 0.0), ("m1", -1.0)):
            file = ablation.result_file(tmp_path, name, 1, seed)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"figures": {"none": value + more * (1 + seed), "L_w": 80.0}}))
    text = ablation.table(ablation.read_results(tmp_path), ablation.QUICK)
    assert "| m1 for m3 | none | 2 of 2 | 69.5 | 69.0 .. 70.0 | -1.5 ± 0.5 |" in text
    assert "| m1 < base, none | [E16] | 2 | +1.5 ± 0.5 | cannot be told |" in text
