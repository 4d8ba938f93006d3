"""Mining anew in training: the same functions as `mine-tuples`, each photo described once a round."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from teams import in_a_team
from test_mining import make
from test_training import state_of
from test_tuples import OPTIONS, mine, world  # noqa: F401

from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.networks.network import build_network
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.search.torch_similarity import TorchSearch
from retrieval.training.options import options_from_recipe
from retrieval.training.remining import choose_in_shares, tuples_of_round
from retrieval.training.state import Resources
from retrieval.training.team import Team
from sfm2tuples.errors import MiningError, SfmTuplesError
from sfm2tuples.mining.options import PoolStrategy, mining_options
from sfm2tuples.mining.rounds import RoundChoice, choose_tuples, plan_round
from sfm2tuples.mining.tuple_file import TupleSet
from sfm2tuples.similarity.exact_search import most_similar
from sfm2tuples.similarity.ivf_search import IvfSearch

TRAINING = options_from_recipe("squeezenet1_1", image_size=64, queries_per_round=100)


@pytest.fixture
def network():
    return build_network("squeezenet1_1", "gem", seed=0)


@pytest.fixture
def tuples(world):  # noqa: F811
    options = dataclasses.replace(OPTIONS, pool=PoolStrategy.of("ends+per-place:2"), positives="m1")
    return mine(world, options=options)[1]


def again(tuples, network, team=None, **changes):
    options = dataclasses.replace(TRAINING, **changes)
    photos = TuplePhotos(tuples, 64, network.backbone.smallest, 0)
    return tuples_of_round(state_of(tuples, photos, network, options, Resources(team=team or Team())), 1)


def choosing_of(world, split="train", search=most_similar, **options):  # noqa: F811
    chosen = mining_options({"query_share": 1.0, "num_negatives": 3, **options})
    plan = plan_round(world.images, world.places, world.candidates[split], chosen, split, 0)
    values = world.descriptors[plan.rows_needed] if chosen.needs_descriptors else None
    return RoundChoice(plan, values, world.images, world.candidates[split], chosen, search)


def whole(choosing):
    of = (choosing.plan, choosing.descriptors, choosing.images, choosing.candidates, choosing.options)
    return choose_tuples(*of, choosing.search)


def assert_same_bits(one, other):
    assert isinstance(one, TupleSet), one
    for field in dataclasses.fields(other):
        ours, theirs = getattr(one, field.name), getattr(other, field.name)
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes()), field.name


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
    monkeypatch.setattr("retrieval.training.remining.exact_search", lambda device: TorchSearch(torch.device("cpu"), 5))
    second = again(tuples, network)
    for field in dataclasses.fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name), equal_nan=True)


POOLS = ("ends+per-place:2", "ends+random:30", "random:40")
RULES = (
    st.sampled_from(["m1", "m2", "m3"]),
    st.sampled_from(["N1", "N2", "random", "semi-hard"]),
    st.sampled_from(["train", "val"]),
    st.sampled_from(POOLS),
)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 9), st.booleans(), *RULES)
def test_shares_put_together_are_the_round_of_one_process(seed, size, tied, positives, negatives, split, pool):
    small = make(seed, distinct=4 if tied else 0)
    options = {"positives": positives, "negatives": negatives, "pool": pool, "num_positives": 2}
    choosing = choosing_of(small, split, **options, max_negative_similarity=0.95)
    expected = whole(choosing)
    for chosen in in_a_team(size, lambda team: choose_in_shares(choosing, team)):
        assert_same_bits(chosen, expected)


@pytest.mark.parametrize("search", [most_similar, TorchSearch(torch.device("cpu"), 7), IvfSearch()])
@pytest.mark.parametrize("negatives", ["N1", "N2", "random", "semi-hard"])
def test_a_team_larger_than_its_round_has_processes_with_nothing_to_do(search, negatives):
    choosing = choosing_of(make(1), search=search, positives="m1", negatives=negatives, num_queries=3)
    expected = whole(choosing)
    assert len(expected.query) == 3
    for chosen in in_a_team(5, lambda team: choose_in_shares(choosing, team)):
        assert_same_bits(chosen, expected)


def test_a_team_describes_each_photo_once_and_mines_the_round_of_one_process(tuples, network):
    described = []
    network.register_forward_pre_hook(lambda module, inputs: described.extend(inputs[0].flatten(1).sum(1).tolist()))
    expected = again(tuples, network)
    alone = sorted(described)
    described.clear()
    for chosen in in_a_team(3, lambda team: again(tuples, network, team)):
        assert_same_bits(chosen, expected)
    assert sorted(described) == alone


def test_too_few_negatives_are_counted_over_all_shares(network):
    choosing = choosing_of(make(0), pool="random:5", num_negatives=4)
    with pytest.raises(MiningError) as expected:
        whole(choosing)
    for error in in_a_team(3, lambda team: choose_in_shares(choosing, team)):
        assert isinstance(error, MiningError)
        assert str(error) == str(expected.value)


@pytest.mark.parametrize("error", [MiningError("no lists"), MemoryError()])
def test_who_fails_at_its_share_of_the_queries_ends_the_round_for_all(error):
    def choose(team):
        def search(*args):
            if team.rank == 1:
                raise error
            return most_similar(*args)

        return choose_in_shares(choosing_of(make(0), search=search), team)

    first, second, third = in_a_team(3, choose)
    assert second is error
    for other in (first, third):
        assert isinstance(other, SfmTuplesError)
        assert str(other) == f"process 1 of 3 failed at its share: {str(error) or 'MemoryError'}"


def test_every_process_learns_of_a_photo_that_one_of_them_misses(tuples, network):
    known = {f.name for f in dataclasses.fields(OPTIONS)}
    options = mining_options({k: v for k, v in tuples.header.options.items() if k in known})
    plan = plan_round(tuples.images, tuples.places, tuples.candidates["train"], options, "train", 1)
    missing = int(plan.rows_needed[1])
    tuples.images.path(missing).unlink()

    def mine(team):
        photos = TuplePhotos(tuples, 64, network.backbone.smallest, 0)
        state = state_of(tuples, photos, network, TRAINING, Resources(team=team))
        return tuples_of_round(state, 1), set(state.unreadable)

    mined = in_a_team(3, mine)
    assert [unreadable for _, unreadable in mined] == [{missing}] * 3
    for found, _ in mined:
        assert np.array_equal(found.query, mined[0][0].query)
        assert np.array_equal(found.negative, mined[0][0].negative)


def test_the_recall_of_lists_is_that_of_all_shares_and_said_once(tuples, network, caplog, monkeypatch):
    monkeypatch.setattr("retrieval.training.remining.search_for", lambda search, exact: IvfSearch(exact))
    with caplog.at_level(logging.INFO, "retrieval.training.remining"):
        count = len(in_a_team(3, lambda team: again(tuples, network, team))[0].query)
    (line,) = [record.message for record in caplog.records]
    assert line.endswith(f"measured on {count} queries")
