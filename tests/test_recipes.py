"""Recipes hold the published constants."""

from __future__ import annotations

import dataclasses
import math

import pytest

from retrieval.training.recipes import (
    CIRTORCH,
    ECCV16,
    GEM_RATE_FACTOR,
    MARGINS_P18,
    RECIPES,
    SMALL,
    TPAMI18,
    Recipe,
    for_backbone,
    margin_of,
)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_every_constant_of_a_recipe_names_its_source(recipe: Recipe):
    constants = {f.name for f in dataclasses.fields(recipe)} - {"name", "sources"}
    assert set(recipe.sources) == constants
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
