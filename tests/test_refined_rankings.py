"""Query expansion, augmentation and re-ranking in `evaluate`: the rankings by definition, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracles
import pytest
from hand_made import run
from PIL import Image
from test_evaluate_command import oxford
from worlds import unit_rows

from retrieval.evaluation.refined_rankings import own_junk, refine
from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.protocols.benchmark import Benchmark
from retrieval.search.options import Expansion, Refinement
from retrieval.search.query_expansion import augment
from retrieval.search.ranked_lists import Pipeline
from sfm2tuples.errors import UsageError

__all__ = ["oxford"]  # the fixture

NETWORK = ("--backbone", "squeezenet1_1", "--pooling", "mac", "--image-size", 128)


class Windows:
    """A finder that knows every window's descriptor."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def find(self, row: np.ndarray) -> np.ndarray:
        return self.values[row]


def world(seed: int = 0):
    rng = np.random.default_rng(seed)
    return unit_rows(rng, 3, 6), unit_rows(rng, 20, 6), np.array([4, -1, -1])


def by_similarity(query: np.ndarray, rows: list[int], values: np.ndarray) -> list[int]:
    return sorted(rows, key=lambda r: (-oracles.exact_similarity(query, values[r]), r))


def test_expanded_rankings_are_whole_and_the_query_is_not_expanded_by_itself():
    queries, database, own = world()
    found = list(refine(queries, database, own, Pipeline(Refinement.parse(qe="alpha:4:3"))))
    for i in range(3):
        best = oracles.most_similar_by_sorting(queries[i], database, own[i], 4)
        expanded = np.float32(oracles.expanded_query(queries[i], [(database[r], s) for r, s in best], 3))
        assert found[i].tolist() == by_similarity(expanded, list(range(20)), database)


def test_an_augmented_database_is_ranked():
    queries, database, own = world(1)
    found = list(refine(queries, database, own, Pipeline(Refinement.parse(dba="average:3"))))
    augmented = augment(database, Expansion(3))
    assert [r.tolist() for r in found] == [by_similarity(q, list(range(20)), augmented) for q in queries]


def test_re_ranked_images_come_first_and_all_others_behind_in_their_order():
    queries, database, own = world(2)
    windows = unit_rows(np.random.default_rng(9), 20, 6)
    rankings = refine(queries, database, own, Pipeline(Refinement.parse(rerank="R:5"), Windows(windows)))
    for _ in range(2):  # each setup of a protocol goes through them again
        for i, found in enumerate(rankings):
            short = [r for r, _ in oracles.most_similar_by_sorting(queries[i], database, own[i], 5)]
            rest = [r for r in by_similarity(queries[i], list(range(20)), database) if r not in short]
            assert found.tolist() == by_similarity(queries[i], short, windows) + rest


def test_a_short_list_longer_than_the_database_is_the_database():
    queries, database, own = world(3)
    windows = unit_rows(np.random.default_rng(9), 20, 6)
    found = list(refine(queries, database, own, Pipeline(Refinement.parse(rerank="R"), Windows(windows))))
    assert found[1].tolist() == by_similarity(queries[1], list(range(20)), windows)
    assert found[0].tolist() == [*by_similarity(queries[0], [r for r in range(20) if r != 4], windows), 4]


def test_re_ranking_needs_a_finder():
    with pytest.raises(UsageError, match="network"):
        Pipeline(Refinement.parse(rerank="R:5"))


def test_a_query_that_may_find_itself_is_not_left_out():
    truth = make_ground_truth(np.arange(3), [[0], [0], [0]], [[1], [1], []], np.zeros(3, int), ["all"])
    assert own_junk(Benchmark(["a", "b"], ["b", "a", "x"], {"any": truth})).tolist() == [1, -1, -1]


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three patterns with different surroundings, and distractors."""
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    patterns = [rng.integers(0, 256, (12, 12, 3)).astype(np.uint8) for _ in range(3)]
    lines = ["image,label,role"]
    for number in range(15):
        canvas = rng.integers(100, 156, (16, 24, 3)).astype(np.uint8)
        label = f"p{number % 3}" if number < 12 else "none"
        if number < 12:
            left = int(rng.integers(0, 12))
            canvas[2:14, left : left + 12] = patterns[number % 3]
        name = f"{label}/{number}.jpg"
        (folder / label).mkdir(exist_ok=True)
        Image.fromarray(canvas).resize((144, 96), Image.Resampling.NEAREST).save(folder / name, quality=95)
        lines.append(f"{name},{label},{'query' if number < 6 else 'database' if number < 12 else 'distractor'}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def evaluate(folder: Path, target: Path, *words: object) -> dict:
    assert run("evaluate", "--labels", folder / "labels.csv", *words, "-o", target, "--force") == 0
    return json.loads(target.read_text())


def tops(result: dict) -> list[list[str]]:
    return [query["top"] for query in result["per_query"]]


@pytest.mark.parametrize(
    "words", [("--qe", "average:2"), ("--rerank", "R:6"), ("--rerank", "R:6", "--qe", "average:2")]
)
def test_evaluate_ranks_as_search_does(labelled, tmp_path, words):
    assert run("extract", labelled / "labels.csv", "-o", tmp_path / "d.h5", *NETWORK) == 0
    result = evaluate(labelled, tmp_path / "e.json", *NETWORK, *words)
    assert {f"--{k}": v for k, v in result["settings"].items() if f"--{k}" in words} == dict(
        zip(words[::2], words[1::2], strict=True)
    )
    files = ("--queries", tmp_path / "d.h5", "--database", tmp_path / "d.h5")
    network = (*NETWORK[:4], "--photos", labelled) if "--rerank" in words else ()
    assert run("search", *files, "-o", tmp_path / "r.h5", *words, *network) == 0
    ranked = evaluate(labelled, tmp_path / "f.json", "--rankings", tmp_path / "r.h5")
    assert tops(result) == tops(ranked)
    assert result["mean_over_queries"] == ranked["mean_over_queries"]


def test_a_descriptor_file_is_re_ranked_with_its_network(labelled, tmp_path, capsys):
    assert run("extract", labelled / "labels.csv", "-o", tmp_path / "d.h5", *NETWORK) == 0
    one = evaluate(labelled, tmp_path / "e.json", *NETWORK, "--rerank", "R:6")
    other = evaluate(labelled, tmp_path / "f.json", *NETWORK, "--rerank", "R:6", "--descriptors", tmp_path / "d.h5")
    assert tops(one) == tops(other)
    capsys.readouterr()
    words = ("--labels", labelled / "labels.csv", "--descriptors", tmp_path / "d.h5", "--rerank", "R:6")
    assert run("evaluate", *words) == 2
    assert "name theirs by --network or --backbone" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), ("--rerank", "R:6"), ("--qe", "average:2")])
def test_the_table_of_labels_is_read_once(labelled, tmp_path, monkeypatch, words):
    opened, real = [], Path.open

    def spied(path: Path, *args: object, **kwargs: object) -> object:
        opened.append(path.name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", spied)
    evaluate(labelled, tmp_path / "e.json", *NETWORK, *words)
    assert opened.count("labels.csv") == 1


def test_distractors_that_are_photos_are_re_ranked_too(labelled, tmp_path):
    (tmp_path / "more").mkdir()
    for number in (0, 3):
        source = labelled / f"p0/{number}.jpg"
        (tmp_path / "more" / f"m{number}.jpg").write_bytes(source.read_bytes())
    result = evaluate(labelled, tmp_path / "e.json", *NETWORK, "--rerank", "R:6", "--distractors", tmp_path / "more")
    assert "m0.jpg" in tops(result)[0]


def test_rankings_are_not_refined(labelled, tmp_path, capsys):
    (tmp_path / "r.txt").write_text("a b\n")
    words = ("--labels", labelled / "labels.csv", "--rankings", tmp_path / "r.txt", "--qe", "average")
    assert run("evaluate", *words) == 2
    assert "answers already" in capsys.readouterr().err


@pytest.mark.parametrize("crop", ["image", "activations"])
def test_cropped_queries_are_re_ranked_in_every_setup_by_their_box(oxford, tmp_path, crop):
    words = ("--data", oxford, "--backbone", "squeezenet1_1", "--image-size", 64, "--rerank", "R:4", "--crop", crop)
    assert run("evaluate", "--protocol", "roxford5k", *words, "-o", tmp_path / "e.json") == 0
    found = json.loads((tmp_path / "e.json").read_text())
    assert len(found["setups"]) == 3
    assert found["settings"]["rerank"] == "R:4"
    assert found["settings"]["crop"] == crop
