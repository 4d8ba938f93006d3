"""Recipes hold the published constants."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from test_training import SIZE, make_tuples

from retrieval.networks.checkpoints import load_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.network import Network, build_network
from retrieval.training.loop import train
from retrieval.training.options import TrainingOptions, options_from_recipe
from retrieval.training.recipes import (
    CIRTORCH,
    ECCV16,
    GEM_RATE_FACTOR,
    MARGINS_P18,
    MEGALOC_SITE,
    RECIPES,
    SALAD,
    SMALL,
    TPAMI18,
    Recipe,
    for_backbone,
    margin_of,
)
from sfm2tuples.errors import UsageError


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_every_constant_of_a_recipe_names_its_source(recipe: Recipe):
    constants = {f.name for f in dataclasses.fields(recipe)} - {"name", "sources", "besides"}
    assert set(recipe.sources) == constants | set(recipe.besides)
    assert set(recipe.besides) <= {f.name for f in dataclasses.fields(TrainingOptions)} - constants
    assert all(recipe.sources.values())


def test_eccv16_has_the_papers_constants():
    assert (for_backbone(ECCV16.optimiser, "vgg16"), for_backbone(ECCV16.learning_rate, "vgg16")) == ("sgd", 1e-3)
    assert (ECCV16.decay, ECCV16.decay_every) == (1 / 5, 10)
    assert (ECCV16.weight_decay, ECCV16.batch_size) == (5e-4, 5)
    assert (ECCV16.epochs, ECCV16.rounds_per_epoch, ECCV16.rounds) == (30, 3, 90)
    assert (ECCV16.pool, ECCV16.image_size) == ("ends+per-place:20", 362)


def test_tpami18_has_the_papers_constants():
    assert (for_backbone(TPAMI18.optimiser, "alexnet"), for_backbone(TPAMI18.learning_rate, "alexnet")) == ("sgd", 1e-3)
    for backbone in ("vgg16", "resnet101"):
        assert (for_backbone(TPAMI18.optimiser, backbone), for_backbone(TPAMI18.learning_rate, backbone)) == (
            "adam",
            1e-6,
        )
    assert (TPAMI18.decay, TPAMI18.decay_every) == (math.exp(-0.1), 1)
    assert (TPAMI18.weight_decay, TPAMI18.batch_size, TPAMI18.epochs, TPAMI18.rounds_per_epoch) == (5e-4, 5, 30, 3)
    assert (TPAMI18.pool, TPAMI18.image_size) == ("ends+random:22000", 362)


def test_cirtorch_has_its_readmes_constants():
    assert for_backbone(CIRTORCH.optimiser, "resnet101") == "adam"
    assert for_backbone(CIRTORCH.learning_rate, "vgg16") == 1e-6
    assert for_backbone(CIRTORCH.learning_rate, "resnet101") == 5e-7
    assert (CIRTORCH.decay, CIRTORCH.weight_decay) == (math.exp(-0.01), 1e-6)
    assert (CIRTORCH.eps, ECCV16.eps, TPAMI18.eps) == (1e-6, 0, 0)
    assert (CIRTORCH.epochs, CIRTORCH.rounds_per_epoch, CIRTORCH.pool) == (100, 1, "random:22000")


def test_small_has_the_prototypes_constants():
    assert for_backbone(SMALL.learning_rate, "squeezenet1_1") == 2e-5
    assert (SMALL.decay, SMALL.weight_decay, SMALL.batch_size, SMALL.rounds) == (math.exp(-0.1), 5e-4, 5, 4)
    assert (SMALL.image_size, margin_of(SMALL, "contrastive", "squeezenet1_1")) == (362, 0.7)


def test_margins_are_the_papers():
    assert margin_of(ECCV16, "contrastive", "vgg16") == 0.7
    for recipe in (TPAMI18, CIRTORCH, SMALL):
        assert margin_of(recipe, "contrastive", "alexnet") == 0.7
        assert margin_of(recipe, "contrastive", "vgg16") == 0.75
        assert margin_of(recipe, "contrastive", "resnet50") == 0.85
    for recipe in RECIPES.values():
        assert margin_of(recipe, "triplet", "resnet101") == 0.1
    assert MARGINS_P18["squeezenet1_1"] == 0.7


def test_gem_learns_at_ten_times_the_rate():
    assert GEM_RATE_FACTOR == 10


def test_salad_has_the_constants_of_its_authors_code():
    options = options_from_recipe("dinov2_vitb14", "salad")
    assert (options.optimiser, options.learning_rate, options.weight_decay) == ("adamw", 6e-5, 9.5e-9)
    assert (options.sampling, options.batch_choice, options.train_only) == ("graph:60x4", "random", "last:4")
    assert (options.loss, options.margin) == ("multi-similarity", 0.1)
    assert options.loss_option == ("alpha=1", "beta=50", "base=0")
    assert (options.image_size, options.rounds, options.rounds_per_epoch) == (224, 4, 1)
    assert options.decay**3 == pytest.approx(0.2)
    assert SALAD.besides.keys() == {"loss", "loss_option", "sampling", "batch_choice", "train_only"}


def test_megaloc_site_trains_the_head_and_two_blocks_gently():
    options = options_from_recipe("dinov2_vitb14", "megaloc-site")
    assert (options.optimiser, options.learning_rate, options.decay) == ("adamw", 1e-5, math.exp(-0.1))
    assert (options.sampling, options.batch_choice, options.train_only) == ("graph:8x4", "hard", "last:2")
    assert (options.loss, options.loss_option) == ("multi-similarity", ("alpha=1", "beta=50", "base=0"))
    assert (options.image_size, options.rounds, options.depth_decay, options.interpolate) == (322, 4, 0.8, "auto")
    assert MEGALOC_SITE.besides.keys() == SALAD.besides.keys() | {"depth_decay", "interpolate"}


def test_small_sets_nothing_besides_its_constants():
    """Ours for a few hundred photos: as measured in examples/own_models.md, and left as it is."""
    assert SMALL.besides == {}
    options = options_from_recipe("efficientnet_lite0")
    assert (options.recipe, options.optimiser, options.learning_rate) == ("small", "adam", 2e-5)
    assert (options.sampling, options.loss, options.train_only, options.interpolate) == (
        "tuples",
        "contrastive",
        "all",
        "no",
    )


@pytest.mark.parametrize("recipe", ["salad", "megaloc-site"])
def test_what_is_chosen_stands_in_place_of_a_recipe(recipe: str):
    def chosen(**flags: object) -> TrainingOptions:
        return options_from_recipe("dinov2_vitb14", recipe, **flags)

    assert chosen(train_only="head", learning_rate=1e-3).train_only == "head"
    assert chosen(sampling="graph:4x2").loss == "multi-similarity"
    other = chosen(loss="contrastive")
    assert (other.loss_option, other.margin) == ((), 0.85)
    tuples = chosen(sampling="tuples")
    assert (tuples.loss, tuples.loss_option, tuples.batch_choice) == ("contrastive", (), None)
    assert tuples.train_only == chosen().train_only
    assert chosen(sampling="photos:8x4").loss == "relational"
    below = chosen(freeze_below="blocks.10")
    assert (below.train_only, below.freeze_below) == ("all", "blocks.10")
    with pytest.raises(UsageError, match="batch_size counts tuples"):
        chosen(batch_size=3)


def head_of(network: Network) -> set[str]:
    return {name for name in network.state_dict() if not name.startswith("backbone.")}


@pytest.mark.parametrize(("recipe", "learning"), [("salad", 4), ("megaloc-site", 2), ("small", 6)])
def test_a_recipe_trains_what_it_says(recipe: str, learning: int, tmp_path: Path):
    """A transformer of six blocks with SALAD's head."""
    tuples = make_tuples(tmp_path / "tuples.h5")
    sizes = {"cluster-dim": 6, "token-dim": 5, "hidden": 7}
    start, net = (build_network("vit14:12-6-3-3", "salad", seed=3, clusters=3, pooling_sizes=sizes) for _ in range(2))
    options = options_from_recipe("vit14:12-6-3-3", recipe, rounds=1, image_size=SIZE, learning_rate=1e-3)
    train(tuples, tmp_path / "run", options, net)
    before, after = start.state_dict(), load_network(tmp_path / "run" / "last.pt").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    blocks = {int(name.split(".")[2]) for name in changed if name.startswith("backbone.blocks.")}
    assert blocks == set(range(6 - learning, 6))
    assert head_of(start) & changed
    asked = load_checkpoint(tmp_path / "run" / "last.pt")["options"]
    assert (asked["recipe"], asked["learning_rate"]) == (recipe, 1e-3)
    assert asked["loss"] == ("contrastive" if recipe == "small" else "multi-similarity")
