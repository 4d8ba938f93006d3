"""The field's protocols on published ground truth and rankings, and Holidays on the photos of it that are here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracles
import pytest

from cli.main import main
from retrieval.metrics.results import evaluate_rankings
from retrieval.protocols.benchmark import Benchmark, ProtocolChoice, figure
from retrieval.protocols.by_name import load_benchmark
from retrieval.protocols.oxford_paris import CORRUPT
from retrieval.protocols.photo_names import PhotoNames
from sfm2tuples.files.descriptors import Descriptors, write_descriptors

pytestmark = pytest.mark.real

RANKINGS = "published/oxford5k_rank_based_voting/ranks"
SHARES = (1.0, 0.3, 0.01, 0.0)


def run(*words: object) -> None:
    main([str(word) for word in words])


def listed(shared: Path, name: str) -> dict:
    return json.loads((shared / "ground_truth" / f"{name}.json").read_text())


def whole(shared: Path, name: str) -> Benchmark:
    values = listed(shared, name)
    names = PhotoNames([*values["imlist"], *values["qimlist"]], name)
    if name in ("oxford5k", "paris6k"):
        names = PhotoNames(values["imlist"], name)
    return load_benchmark(ProtocolChoice(name, shared / "ground_truth"), lambda: names)


@pytest.mark.parametrize("data", ["ground_truth", "ground_truth/oxford5k.json", "ground_truth/oxford5k"])
def test_evaluate_prints_the_map_that_the_published_rankings_have(
    shared: Path, tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rankings = shared / "ground_truth" / RANKINGS
    target = tmp_path / "result.json"
    run("evaluate", "--protocol", "oxford5k", "--data", shared / data, "--rankings", rankings, "-o", target)
    assert "oxford5k: mAP 0.663212\n" in capsys.readouterr().out
    result = json.loads(target.read_text())
    assert (result["queries"], len(result["per_query"])) == (55, 55)
    assert result["mean_over_queries"] == pytest.approx(0.663212, abs=5e-7)


def test_one_file_of_lines_gives_the_same_figure_as_a_file_a_query(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [
        f"{file.stem} {name}.jpg"
        for file in sorted((shared / "ground_truth" / RANKINGS).glob("*.txt"))
        for name in file.read_text().split()
    ]
    (tmp_path / "pairs.txt").write_text("\n".join(pairs))
    words = ["--protocol", "oxford5k", "--data", shared / "ground_truth", "--rankings", tmp_path / "pairs.txt"]
    run("evaluate", *words)
    assert "oxford5k: mAP 0.663212\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["oxford5k", "paris6k"])
@pytest.mark.parametrize("share", SHARES)
def test_original_figures_equal_the_public_definition(shared: Path, name: str, share: float) -> None:
    benchmark, entries = whole(shared, name), listed(shared, name)["gnd"]
    draw, count = np.random.default_rng(0), len(benchmark.database)
    rankings = [draw.permutation(count)[: int(share * count)] for _ in entries]
    evaluation = evaluate_rankings(rankings, benchmark.setups[name], count)
    expected = [
        oracles.average_precision_by_walking(ranking.tolist(), entry["ok"], entry["junk"])
        for ranking, entry in zip(rankings, entries, strict=True)
    ]
    np.testing.assert_allclose(evaluation.average_precision, expected, rtol=0, atol=1e-12)
    assert figure("mAP", evaluation) == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("name", ["roxford5k", "rparis6k"])
@pytest.mark.parametrize("share", SHARES)
def test_revisited_figures_equal_the_public_definition(shared: Path, name: str, share: float) -> None:
    benchmark, entries = whole(shared, name), listed(shared, name)["gnd"]
    draw, count = np.random.default_rng(1), len(benchmark.database)
    rankings = [draw.permutation(count)[: int(share * count)] for _ in entries]
    for setup, truth in benchmark.setups.items():
        evaluation = evaluate_rankings(rankings, truth, count)
        expected = {measure: [] for measure in benchmark.measures}
        for ranking, entry in zip(rankings, entries, strict=True):
            right, junk = oracles.revisited_lists(entry, setup)
            if not right:
                continue
            expected["mAP"].append(oracles.average_precision_by_walking(ranking.tolist(), right, junk))
            for k in (1, 5, 10):
                found = oracles.precision_at_by_walking(ranking.tolist(), right, junk, k)
                expected[f"mP@{k}"].append(found)
        for measure, values in expected.items():
            assert figure(measure, evaluation) == pytest.approx(np.mean(values), abs=1e-12)
        assert int(evaluation.counted.sum()) == len(expected["mAP"])


def test_texts_and_json_of_oxford_are_the_same_ground_truth(shared: Path) -> None:
    names = PhotoNames(listed(shared, "oxford5k")["imlist"], "imlist")
    from_json, from_texts = (
        load_benchmark(ProtocolChoice("oxford5k", shared / "ground_truth" / data), lambda: names)
        for data in ("oxford5k.json", "oxford5k")
    )
    assert sorted(from_texts.database) == sorted(from_json.database)

    def by_topic(benchmark: Benchmark) -> dict:
        truth, database = benchmark.setups["oxford5k"], np.array(benchmark.database)
        return {
            topic: (
                set(database[truth.positives_of(i)]),
                set(database[truth.junk_of(i)]),
                benchmark.queries[i],
                benchmark.boxes[i].tolist(),
            )
            for i, topic in enumerate(benchmark.aliases)
        }

    assert by_topic(from_texts) == by_topic(from_json)
    assert len(from_json.aliases) == 55


def test_the_corrupt_photos_of_paris_are_those_of_the_authors_list(shared: Path) -> None:
    given = (shared / "ground_truth" / "paris6k_corrupt.txt").read_text().split()
    assert {name.removesuffix(".jpg") for name in given} == CORRUPT
    assert not set(listed(shared, "paris6k")["imlist"]) & CORRUPT


def test_holidays_runs_on_the_photos_of_it_that_are_here(shared: Path, tmp_path: Path) -> None:
    """With random descriptors under the photos' names: what matters is which photos take part and how they count."""
    folder = shared / "collection" / "images"
    photos = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    rows = np.random.default_rng(0).normal(size=(len(photos), 16))
    values = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    write_descriptors(tmp_path / "d.h5", Descriptors(photos, values))
    words = ["--protocol", "holidays", "--data", folder, "--descriptors", tmp_path / "d.h5", "-o", tmp_path / "r.json"]
    run("evaluate", *words)
    result = json.loads((tmp_path / "r.json").read_text())
    own = {int(name[-10:-4]): row for row, name in enumerate(photos) if name.startswith("holidays_")}
    numbers = sorted(own)
    assert len(numbers) == 332
    queries = [number for number in numbers if number % 100 == 0]
    database = values[[own[number] for number in numbers]]
    expected = []
    for query in queries:
        ranking = [numbers[row] for row in oracles.ranking_by_sorting(values[own[query]], database)]
        if any(number // 100 == query // 100 and number != query for number in numbers):
            expected.append(oracles.holidays_average_precision(query, ranking, numbers))
    assert len(queries) == 139
    assert result["queries"] == len(expected)
    assert result["mean_over_queries"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert {f"{number}.jpg" for number in numbers} <= set(listed(shared, "holidays")["imlist"])


def test_positives_of_holidays_are_those_of_its_published_list(shared: Path) -> None:
    values = listed(shared, "holidays")
    benchmark = load_benchmark(
        ProtocolChoice("holidays", shared / "ground_truth"), lambda: PhotoNames(values["imlist"], "imlist")
    )
    truth = benchmark.setups["holidays"]
    found = {query: {benchmark.database[p] for p in truth.positives_of(i)} for i, query in enumerate(benchmark.queries)}
    assert found == {
        values["imlist"][entry["query"]]: {values["imlist"][row] for row in entry["ok"]} for entry in values["gnd"]
    }
    assert (len(found), benchmark.notes) == (500, ())
