"""Recipes against the method's own table, and a round of training on real photos."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from retrieval.training.recipes import CIRTORCH, ECCV16, SMALL, TPAMI18, for_backbone

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def table(shared: Path) -> dict[str, list[str]]:
    """METHOD.md section 7's table: row name to its cells for eccv16, tpami18, cirtorch."""
    section = (shared.parent / "METHOD.md").read_text(encoding="utf-8").split("\n## 7.")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert [cell.split(" ")[0] for cell in rows[0][1:]] == ["eccv16", "tpami18", "cirtorch"]
    return {row[0]: row[1:] for row in rows[2:]}


def number(text: str) -> float:
    """The first number of a cell."""
    return float(re.search(r"\d+(\.\d+)?(e-?\d+)?", text)[0])


RECIPES = (ECCV16, TPAMI18, CIRTORCH)


def test_weight_decay_batch_pool_and_image_size_are_the_tables(table: dict[str, list[str]]):
    assert [r.weight_decay for r in RECIPES] == [
        number(c) for c in table["weight decay (L2 in the gradient, not AdamW)"]
    ]
    assert [r.batch_size for r in RECIPES] == [number(cell) for cell in table["batch"]]
    assert [r.pool for r in RECIPES] == table["pool"]
    assert [r.image_size for r in RECIPES] == [number(cell) for cell in table["image"]]


def test_epochs_and_rounds_are_the_tables(table: dict[str, list[str]]):
    wanted = [[int(n) for n in cell.split(",")] for cell in table["epochs, rounds in each"]]
    assert [[r.epochs, r.rounds_per_epoch] for r in RECIPES] == wanted


def test_optimisers_and_rates_are_the_tables(table: dict[str, list[str]]):
    eccv16, tpami18, cirtorch = table["optimiser"]
    assert eccv16 == "SGD momentum 0.9"
    assert set(ECCV16.optimiser.values()) == {"sgd"}
    alexnet, others = tpami18.split(" or ")
    assert alexnet == "SGD momentum 0.9 (AlexNet, lr 1e-3)"
    assert (TPAMI18.optimiser["alexnet"], TPAMI18.learning_rate["alexnet"]) == ("sgd", 1e-3)
    assert others == "Adam (VGG, ResNet, lr 1e-6)"
    for backbone in ("vgg16", "resnet18", "resnet50", "resnet101"):
        assert for_backbone(TPAMI18.optimiser, backbone) == "adam"
        assert for_backbone(TPAMI18.learning_rate, backbone) == 1e-6
    assert cirtorch.lower() == for_backbone(CIRTORCH.optimiser, "vgg16") == "adam"


def test_decays_are_the_tables(table: dict[str, list[str]]):
    eccv16, tpami18, cirtorch = table["rate"]
    assert eccv16.startswith("1e-3, divided by 5 every 10 epochs")
    assert (for_backbone(ECCV16.learning_rate, "vgg16"), 1 / ECCV16.decay, ECCV16.decay_every) == (1e-3, 5, 10)
    for recipe, cell in ((TPAMI18, tpami18), (CIRTORCH, cirtorch)):
        exponent = float(re.search(r"exp\(-(\S+) e\)", cell)[1])
        assert (np.log(recipe.decay), recipe.decay_every) == (pytest.approx(-exponent), 1)
    assert cirtorch.startswith("1e-6 (5e-7 ResNet101)")
    rates = [for_backbone(CIRTORCH.learning_rate, backbone) for backbone in ("vgg16", "resnet50", "resnet101")]
    assert rates == [1e-6, 1e-6, 5e-7]


def test_small_is_the_prototype_of_the_datas_readme(shared: Path):
    text = " ".join((shared / "README.md").read_text(encoding="utf-8").split())
    assert "Adam 2e-5 x exp(-0.1) a round, 5e-4 decay, 5 tuples a step, 4 rounds" in text
    assert for_backbone(SMALL.optimiser, "squeezenet1_1") == "adam"
    assert for_backbone(SMALL.learning_rate, "squeezenet1_1") == 2e-5
    assert (np.log(SMALL.decay), SMALL.weight_decay) == (pytest.approx(-0.1), 5e-4)
    assert (SMALL.batch_size, SMALL.rounds) == (5, 4)
    assert "margin 0.7" in text
    assert for_backbone(SMALL.margin, "squeezenet1_1") == 0.7


def test_a_round_on_real_photos_brings_positives_nearer_than_negatives(shared: Path, tmp_path: Path):
    """Eight scenes, one of them for validation, photos at 160 px and not packed; two short rounds."""
    from retrieval.networks.choice import NetworkChoice
    from retrieval.networks.network import build_network
    from retrieval.training.loop import train
    from retrieval.training.options import options_from_recipe
    from retrieval.tuple_files.mining import mine_tuple_file
    from retrieval.tuple_files.readable_photos import PhotoOptions
    from sfm2tuples.ingest.build import IngestOptions, build_index
    from sfm2tuples.mining.options import MiningOptions

    scenes = ("fountain_p11", "entry_p10", "sceaux_castle", "bridge", "monstree", "desk", "locomotive", "mother_child")
    index, tuples = tmp_path / "index.h5", tmp_path / "tuples.h5"
    build_index([shared / "reconstructions" / scene for scene in scenes], index, IngestOptions(val_share=0.2))
    weights = str(shared / "weights" / "squeezenet1_1.npz")
    choice = NetworkChoice(backbone="squeezenet1_1", weights=weights)
    mining = MiningOptions(num_negatives=4, queries_per_place=5)
    mine_tuple_file(index, tuples, mining, PhotoOptions(choice, image_size=160))
    options = options_from_recipe("squeezenet1_1", rounds=2, image_size=160, queries_per_round=12, min_shared=1)
    run = train(tuples, tmp_path / "run", options, build_network("squeezenet1_1", "gem", weights))
    assert run.round == 2
    assert all(0 < figures.val_map <= 1 and np.isfinite(figures.val_loss) for figures in run.history)
    assert run.history[2].val_loss < run.history[0].val_loss
    for figures in run.history[1:]:
        assert figures.queries > 0
        assert figures.positive_similarity > figures.negative_similarity
