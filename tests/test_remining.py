"""Mining anew in training: the same functions as `mine-tuples`, each photo described once a round."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_tuples import OPTIONS, mine, world  # noqa: F401

from retrieval.extraction import ExtractionOptions, extract
from retrieval.network import build_network
from retrieval.photo_loading import TuplePhotos
from retrieval.remining import tuples_of_round
from retrieval.similarity_torch import TorchSearch
from retrieval.training_options import options_from_recipe
from sfm2tuples.mining import choose_tuples, mining_options, plan_round

TRAINING = options_from_recipe("squeezenet1_1", image_size=64, queries_per_round=100)


@pytest.fixture
def network():
    return build_network("squeezenet1_1", "gem", seed=0)


@pytest.fixture
def tuples(world):  # noqa: F811
    return mine(world, options=dataclasses.replace(OPTIONS, pool="ends+per-place:2", positives="m1"))[1]


def again(tuples, network, **changes):
    options = dataclasses.replace(TRAINING, **changes)
    return tuples_of_round(tuples, network, TuplePhotos(tuples, 64, network.backbone.smallest, 0), options, 1)


def test_a_round_describes_each_photo_that_it_looks_at_once(tuples, network):
    seen = []
    network.register_forward_pre_hook(lambda module, inputs: seen.extend(inputs[0].flatten(1).sum(1).tolist()))
    again(tuples, network)
    known = {f.name for f in dataclasses.fields(OPTIONS)}
    options = mining_options({k: v for k, v in tuples.header.options.items() if k in known})
    options = dataclasses.replace(options, num_queries=100)
    plan = plan_round(tuples.images, tuples.places, tuples.candidates["train"], options, "train", 1)
    assert len(seen) == len(set(seen)) == len(plan.rows_needed)
    assert len(plan.rows_needed) < len(tuples.images.key)


def test_a_round_is_mined_by_the_functions_of_mine_tuples(tuples, network):
    chosen = again(tuples, network)
    known = {f.name for f in dataclasses.fields(OPTIONS)}
    options = mining_options({k: v for k, v in tuples.header.options.items() if k in known})
    options = dataclasses.replace(options, num_queries=100)
    candidates = tuples.candidates["train"]
    plan = plan_round(tuples.images, tuples.places, candidates, options, "train", 1)
    paths = [tuples.images.path(row) for row in plan.rows_needed]
    expected = choose_tuples(plan, extract(network, paths, ExtractionOptions(64)), tuples.images, candidates, options)
    for field in dataclasses.fields(expected):
        assert np.array_equal(getattr(chosen, field.name), getattr(expected, field.name), equal_nan=True)


def test_the_guard_against_false_negatives_holds_in_training(world, network):  # noqa: F811
    free = again(mine(world)[1], network)
    limit = float(np.median(free.negative_similarity))
    guarded = again(mine(world, "guarded.h5", dataclasses.replace(OPTIONS, max_negative_similarity=limit))[1], network)
    assert free.negative_similarity.max() > limit
    assert guarded.negative_similarity.max() <= np.float32(limit)
    assert (guarded.negative >= 0).any()


def test_a_round_on_a_torch_device_mines_the_same(tuples, network, monkeypatch):
    first = again(tuples, network)
    monkeypatch.setattr("retrieval.remining.exact_search", lambda device: TorchSearch(torch.device("cpu"), 5))
    second = again(tuples, network)
    for field in dataclasses.fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name), equal_nan=True)
