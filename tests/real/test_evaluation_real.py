"""Average precision against a published figure, and random rankings of the published ground truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracles
import pytest

from retrieval.metrics.ground_truth import make_ground_truth
from retrieval.metrics.results import evaluate_rankings
from retrieval.photos.labels import read_labels
from retrieval.protocols.labels import labels_ground_truth

pytestmark = pytest.mark.real


def names_in(path: Path) -> list[str]:
    return path.read_text().split()


def test_the_published_rankings_of_oxford5k_give_the_published_map(shared: Path) -> None:
    folder = shared / "ground_truth" / "oxford5k"
    ranks = shared / "ground_truth" / "published" / "oxford5k_rank_based_voting" / "ranks"
    imlist = json.loads((shared / "ground_truth" / "oxford5k.json").read_text())["imlist"]
    row_of = {name: row for row, name in enumerate(imlist)}
    topics = sorted(path.stem for path in ranks.glob("*.txt"))
    assert len(topics) == 55
    rankings, positives, junk = [], [], []
    for topic in topics:
        rankings.append(np.array([row_of[name] for name in names_in(ranks / f"{topic}.txt")]))
        right = {name for kind in ("good", "ok") for name in names_in(folder / f"{topic}_{kind}.txt")}
        positives.append(np.array(sorted(row_of[name] for name in right)))
        junk.append(np.array([row_of[name] for name in names_in(folder / f"{topic}_junk.txt")]))
    truth = make_ground_truth(np.arange(55), positives, junk, np.zeros(55, int), ["oxford5k"])
    evaluation = evaluate_rankings(rankings, truth, len(imlist))
    assert evaluation.mean_over_queries == pytest.approx(0.663212, abs=5e-7)


@pytest.mark.parametrize("name", ["oxford5k", "paris6k", "roxford5k", "rparis6k"])
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_random_rankings_of_published_ground_truth_equal_a_walk(shared: Path, name: str, share: float) -> None:
    data = json.loads((shared / "ground_truth" / f"{name}.json").read_text())
    count = len(data["imlist"])
    kinds = ("ok",) if "ok" in data["gnd"][0] else ("easy", "hard")
    positives = [[row for kind in kinds for row in query[kind]] for query in data["gnd"]]
    junk = [query["junk"] for query in data["gnd"]]
    draw = np.random.default_rng(0)
    rankings = [draw.permutation(count)[: int(share * count)] for _ in positives]
    groups = np.zeros(len(positives), int)
    truth = make_ground_truth(np.arange(len(positives)), positives, junk, groups, [name])
    evaluation = evaluate_rankings(rankings, truth, count)
    expected = [
        oracles.average_precision_by_walking(r.tolist(), p, j)
        for r, p, j in zip(rankings, positives, junk, strict=True)
    ]
    np.testing.assert_allclose(evaluation.average_precision, expected, rtol=0, atol=1e-12)


def test_the_collection_has_the_queries_and_positives_that_its_readme_counts(shared: Path) -> None:
    labels = read_labels(shared / "collection" / "labels.csv")
    truth = labels_ground_truth(labels)
    assert (len(labels.images), len(truth.queries)) == (931, 49)
    assert labels.landmarks == sorted(
        ["chichen_itza", "hochiminh_mausoleum", "machu_picchu", "paris_sacrecoeur", "petra", "taj_mahal"]
    )
    counts = dict(zip(truth.groups.tolist(), np.diff(truth.positives_indptr).tolist(), strict=True))
    assert [counts[group] for group in range(6)] == [53, 45, 53, 20, 24, 53]
    fold = labels.only(["chichen_itza", "paris_sacrecoeur"])
    assert len(fold.images) == 677 + 54 + 21
