"""A whole round of mining: plan, choose, summarise."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import World, random_index, unit_rows

from sfm2tuples.errors import MiningError, PhotoError, UsageError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.mining.options import MiningOptions, mining_options
from sfm2tuples.mining.photo_table import Distractors, tables_of_index
from sfm2tuples.mining.rounds import choose_tuples, plan_round
from sfm2tuples.mining.summary import summarise
from sfm2tuples.mining.suspicious_places import suspicious_places
from sfm2tuples.similarity.best_rows import PoolRules
from sfm2tuples.similarity.exact_search import most_similar

SIZES, PLACES = (9, 8, 6, 7, 5, 6, 8, 9), (0, 0, 1, 2, 3, 4, 5, 6)
SEEDS = st.integers(0, 10**6)


def no_size(path):
    return (100, 80)


def make(seed=0, sizes=SIZES, place=PLACES, val=1, distinct=0, **options):
    rng = np.random.default_rng(seed)
    tables = tables_of_index(random_index(rng, sizes, place, val).opened(), MiningOptions(**options), no_size)
    descriptors = unit_rows(rng, len(tables.images.key), 8, distinct)
    return World(tables.images, tables.places, tables.candidates, descriptors)


def mine(world, split="train", round=0, block=4096, **options):
    chosen = mining_options({"query_share": 1.0, "num_negatives": 3, **options})
    candidates = world.candidates[split]
    plan = plan_round(world.images, world.places, candidates, chosen, split, round)
    values = world.descriptors[plan.rows_needed] if chosen.needs_descriptors else None
    return plan, choose_tuples(plan, values, world.images, candidates, chosen, partial(most_similar, block=block))


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.sampled_from(["m1", "m2", "m3"]), st.sampled_from(["N1", "N2", "random", "semi-hard"]), st.booleans())
def test_every_tuple_keeps_the_rules(seed, positives, negatives, tied):
    world = make(seed, distinct=4 if tied else 0)
    place = world.images.place
    for split in ("train", "val"):
        _, tuples = mine(world, split, positives=positives, negatives=negatives, num_positives=2)
        assert np.array_equal(tuples.query, np.unique(tuples.query))
        assert (world.places.split[place[tuples.query]] == (split == "val")).all()
        for t, query in enumerate(tuples.query):
            positive = tuples.positive[t][tuples.positive[t] >= 0]
            negative = tuples.negative[t][tuples.negative[t] >= 0]
            assert query not in positive
            assert len(positive) >= 1
            assert (place[positive] == place[query]).all()
            assert place[query] not in place[negative]
            assert set(negative) <= set(tuples.pool)
            assert negatives == "N1" or len(set(place[negative])) == len(negative)
            if split == "train":
                assert len(negative) == 3
                assert (world.places.split[place[negative]] == 0).all()


@settings(deadline=None, max_examples=10)
@given(SEEDS)
def test_a_round_of_n2_is_sort_and_walk_over_its_pool(seed):
    world = make(seed)
    _, tuples = mine(world)
    d, place = world.descriptors, world.images.place
    for t, query in enumerate(tuples.query):
        similarity = [oracles.exact_similarity(d[query], d[i]) for i in tuples.pool]
        rows = tuples.pool.tolist()
        assert tuples.negative[t].tolist() == oracles.n2_negatives(similarity, rows, place[rows], place[query], 3)
        expected = [np.float32(oracles.exact_similarity(d[query], d[i])) for i in tuples.negative[t]]
        assert np.allclose(tuples.negative_similarity[t], expected, atol=1e-7)


def test_the_evidence_beside_a_positive_is_that_of_the_pair():
    world = make()
    _, tuples = mine(world, num_positives=4)
    candidates = world.candidates["train"]
    for t, query in enumerate(tuples.query):
        at = int(np.searchsorted(candidates.query, query))
        edges = range(candidates.indptr[at], candidates.indptr[at + 1])
        edge_of = {int(candidates.image[e]): e for e in edges}
        for p, row in enumerate(tuples.positive[t].tolist()):
            if row < 0:
                assert tuples.shared[t, p] == 0
                assert np.isnan([tuples.overlap[t, p], tuples.scale_change[t, p], tuples.angle[t, p]]).all()
                assert tuples.positive_similarity[t, p] == -np.inf
                continue
            for name in ("shared", "overlap", "scale_change", "angle"):
                assert getattr(tuples, name)[t, p] == getattr(candidates, name)[edge_of[row]]
            pair = oracles.exact_similarity(world.descriptors[query], world.descriptors[row])
            assert tuples.positive_similarity[t, p] == pytest.approx(pair, abs=1e-6)


def test_m1_follows_the_network_and_m2_and_m3_do_not():
    world = make()
    other = dataclasses.replace(world, descriptors=unit_rows(np.random.default_rng(9), len(world.images.key), 8))
    for rule, moves in (("m1", True), ("m2", False), ("m3", False)):
        first, second = (mine(w, positives=rule)[1].positive for w in (world, other))
        assert np.array_equal(first, second) != moves


def test_positives_of_m1_are_in_a_pool_of_both_ends():
    world = make()
    plan, tuples = mine(world, positives="m1", pool="ends+per-place:1")
    positives = np.unique(tuples.positive[tuples.positive >= 0])
    assert np.array_equal(tuples.pool, np.union1d(plan.pool, positives))
    _, tuples = mine(world, positives="m1", pool="random:30")
    assert len(tuples.pool) == 30


def test_a_plan_needs_only_the_descriptors_that_are_looked_at():
    world = make()
    plan, tuples = mine(world, pool="ends+per-place:1")
    assert set(plan.rows_needed) == set(tuples.query) | set(tuples.positive.ravel()) | set(tuples.pool)
    assert len(plan.rows_needed) < len(world.images.key)
    plan, tuples = mine(world, positives="m2", negatives="random")
    assert len(plan.rows_needed) == 0
    assert (tuples.positive_similarity == -np.inf).all()
    plan, tuples = mine(world, positives="m1", negatives="random")
    assert set(tuples.positive.ravel()) <= set(plan.rows_needed)


def test_block_size_changes_nothing():
    world = make(distinct=5)
    for rule in ("N1", "N2", "semi-hard"):
        first, second = (mine(world, negatives=rule, block=block)[1] for block in (4096, 7))
        assert np.array_equal(first.negative, second.negative)
        assert np.array_equal(first.negative_similarity, second.negative_similarity)


def test_seed_and_round_change_the_tuples_and_nothing_else_does():
    world = make()
    mined = {(s, r): mine(world, round=r, seed=s)[1] for s in (0, 1) for r in (0, 1)}
    again = mine(world, round=1, seed=1)[1]
    for field in dataclasses.fields(again):
        assert np.array_equal(getattr(again, field.name), getattr(mined[1, 1], field.name), equal_nan=True)
    assert len({tuple(t.positive.ravel()) for t in mined.values()}) == 4


def in_another_order(index, order):
    """The same index with its models in another order, and each row's row there: (n,) int64."""
    models, images = index.models, index.images
    rows = [np.arange(models.image_start[m], models.image_start[m + 1]) for m in order]
    old = np.concatenate(rows)
    new = np.argsort(old)
    graph = index.covisibility
    edges, point = [np.arange(*graph.indptr[r : r + 2]) for r in old], index.observations
    seen = np.concatenate([np.arange(*point.indptr[r : r + 2]) for r in old])
    each = np.concatenate([e[np.argsort(new[graph.neighbour[e]])] for e in edges])
    moved = dataclasses.replace(
        index,
        models=dataclasses.replace(
            models,
            name=[models.name[m] for m in order],
            photo_root=[models.photo_root[m] for m in order],
            place=models.place[order],
            image_start=indptr_of(np.diff(models.image_start)[order]),
        ),
        images=dataclasses.replace(
            images,
            key=[images.key[r] for r in old],
            name=[images.name[r] for r in old],
            model=np.argsort(order)[images.model[old]],
            photo=np.arange(len(old)),
            observed=images.observed[old],
        ),
        observations=dataclasses.replace(
            point,
            indptr=indptr_of(np.diff(point.indptr)[old]),
            point=point.point[seen],
        ),
        covisibility=dataclasses.replace(
            graph,
            indptr=indptr_of(np.diff(graph.indptr)[old]),
            neighbour=new[graph.neighbour[each]],
            **{n: getattr(graph, n)[each] for n in ("shared", "scale_change", "angle", "axis_angle")},
        ),
    )
    return moved, old


def by_key(world, tuples):
    """Each query's key with those of its positives and negatives."""
    key = np.array([*world.images.key, ""])
    return {
        key[q]: (key[p].tolist(), key[n].tolist(), s.tolist())
        for q, p, n, s in zip(tuples.query, tuples.positive, tuples.negative, tuples.negative_similarity, strict=True)
    }


@pytest.mark.parametrize("positives", ["m1", "m2", "m3"])
@pytest.mark.parametrize("negatives", ["N1", "N2", "random", "semi-hard"])
def test_the_order_of_models_changes_no_tuple(positives, negatives):
    rng = np.random.default_rng(5)
    index = random_index(rng, SIZES, PLACES, 1)
    moved, old = in_another_order(index, np.array([3, 1, 7, 0, 5, 2, 6, 4]))
    descriptors = unit_rows(rng, len(old), 8)
    found = []
    for shown, values in ((index, descriptors), (moved, descriptors[old])):
        tables = tables_of_index(shown.opened(), MiningOptions(), no_size)
        world = World(tables.images, tables.places, tables.candidates, values)
        rules = {"positives": positives, "negatives": negatives, "query_share": 0.5, "pool": "ends+per-place:4"}
        found.append({s: by_key(world, mine(world, s, **rules)[1]) for s in ("train", "val")})
    assert found[0] == found[1]
    assert found[0]["train"]


def test_m3_drops_a_query_without_a_positive_and_counts_it():
    world = make()
    plan, _ = mine(world, min_overlap=0.5)
    candidates = world.candidates["train"]
    of = np.repeat(candidates.query, np.diff(candidates.indptr))
    good = (candidates.overlap >= 0.5) & (candidates.scale_change <= 1.5)
    train = world.places.split[world.images.place] == 0
    assert set(plan.query) == set(of[good])
    assert plan.without_positive == np.count_nonzero(train) - len(set(of[good])) > 0


def test_too_few_places_say_how_many_there_are_and_what_helps():
    world = make(sizes=(9, 9, 9, 9), place=(0, 1, 2, 3), val=0)
    with pytest.raises(MiningError, match=r"there are 4 training places.*5 negatives need 6.*--distractors"):
        mine(world, num_negatives=5)
    assert mine(world, num_negatives=3)[1].negative.min() >= 0
    assert mine(world, num_negatives=5, negatives="N1")[1].negative.min() >= 0


def test_a_pool_without_enough_places_is_refused():
    with pytest.raises(MiningError, match="random:2"):
        mine(make(), pool="random:2")


def test_no_image_with_a_positive_is_an_error_for_training_only():
    world = make()
    with pytest.raises(MiningError, match="lower --min-overlap"):
        mine(world, min_overlap=1.0, max_scale_change=1.0)
    _, tuples = mine(world, "val", min_overlap=1.0, max_scale_change=1.0)
    assert tuples.negative.shape == (0, 3)


def test_validation_pads_what_is_missing():
    world = make(sizes=(8, 8), place=(0, 1), val=1)
    _, tuples = mine(world, "val", num_negatives=4)
    assert len(tuples.query)
    assert (tuples.negative[:, 0] >= 0).all()
    assert (tuples.negative[:, 1:] == -1).all()
    assert (tuples.negative_similarity[:, 1:] == -np.inf).all()


def test_validation_draws_negatives_from_training_places_too():
    world = make(sizes=(8,) * 6, place=tuple(range(6)), val=2)
    _, tuples = mine(world, "val")
    splits = world.places.split[world.images.place[tuples.negative]]
    assert set(np.unique(splits)) == {0, 1}


def test_a_limit_on_similarity_leaves_negatives_out_and_does_not_fail():
    world = make()
    _, tuples = mine(world, max_negative_similarity=-0.3)
    assert (tuples.negative < 0).any()
    assert (tuples.negative >= 0).any()
    assert tuples.negative_similarity.max() <= np.float32(-0.3)


def test_a_training_tuple_without_any_negative_is_left_out_and_none_is_refused():
    world = make()
    place, similarity = world.images.place, world.descriptors @ world.descriptors.T
    similarity[place[:, None] == place] = 1
    plan, _ = mine(world)
    least = similarity[plan.query][:, plan.pool].min(axis=1)
    limit = float(np.median(least))
    _, tuples = mine(world, max_negative_similarity=limit)
    assert tuples.query.tolist() == plan.query[least <= limit].tolist() != plan.query.tolist()
    assert (tuples.negative >= 0).any(axis=1).all()
    with pytest.raises(MiningError, match=r"has a negative that is at most -1 similar \(--max-negative-similarity\)"):
        mine(make(), max_negative_similarity=-1)


def test_the_summary_counts_and_takes_medians():
    world = make()
    options = MiningOptions(query_share=1.0, num_negatives=3, negatives="semi-hard", margin=0.02)
    _, tuples = mine(world, negatives="semi-hard", margin=0.02)
    summary = summarise(tuples, options)
    assert summary.tuples == len(tuples.query)
    assert summary.overlap == pytest.approx(np.median(tuples.overlap))
    distance = np.sqrt(2 - 2 * tuples.positive_similarity.astype(float))
    farther = np.sqrt(2 - 2 * tuples.negative_similarity.astype(float))
    assert summary.filled == np.count_nonzero((farther <= distance) | (farther >= distance + 0.02)) > 0
    nothing = summarise(mine(world, negatives="random", positives="m2")[1], MiningOptions(negatives="random"))
    assert nothing.negative_similarity is None


def test_options_come_back_from_a_dict_and_an_unknown_one_is_refused():
    options = MiningOptions(positives="m1", num_queries=7)
    assert mining_options(options.as_dict()) == options
    with pytest.raises(UsageError, match="num_negative"):
        mining_options({"num_negative": 5})


@pytest.mark.parametrize(
    "wrong",
    [{"positives": "m4"}, {"negatives": "n2"}, {"num_negatives": 0}, {"query_share": 0}, {"query_share": 1.5},
     {"min_overlap": -0.1}, {"max_scale_change": 0.9}, {"num_queries": 0}, {"max_scale_change": float("nan")},
     {"margin": 0}, {"max_angle": -1}],
)  # fmt: skip
def test_an_option_without_meaning_is_refused_by_its_name(wrong):
    with pytest.raises(UsageError, match="--" + next(iter(wrong)).replace("_", "-")):
        MiningOptions(**wrong)


def unreadable(*names):
    def size(path: Path):
        if path.name in names:
            raise PhotoError(path, "torn")
        return (100, 80)

    return size


def test_photos_that_cannot_be_read_are_left_out_and_named():
    index = random_index(np.random.default_rng(0), (6, 6), (0, 1))
    tables = tables_of_index(index.opened(), MiningOptions(), unreadable("3.jpg"), leave_out=["model1/7.jpg"])
    assert len(tables.images.key) == 10
    assert len(tables.unreadable) == 1
    assert "3.jpg" in tables.unreadable[0]
    assert not {"model0/3.jpg", "model1/7.jpg"} & set(tables.images.key)
    assert tables.images.index_row.tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10, 11]


def test_a_photo_of_two_models_that_cannot_be_read_is_named_once():
    index = random_index(np.random.default_rng(0), (6, 6), (0, 0))
    columns = {name: list(getattr(index.images, name)) for name in ("key", "name")}
    photo = index.images.photo.copy()
    for values in (*columns.values(), photo):
        values[7] = values[3]
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, photo=photo, **columns))
    tables = tables_of_index(index.opened(), MiningOptions(), unreadable(Path(columns["name"][3]).name))
    assert len(tables.unreadable) == 1
    assert len(tables.images.key) == 10


def test_a_model_without_photos_is_left_out_with_a_count():
    index = random_index(np.random.default_rng(0), (6, 6), (0, 1))
    has_photo = np.arange(12) >= 6
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, has_photo=has_photo))
    tables = tables_of_index(index.opened(), MiningOptions(), no_size)
    assert tables.without_photo == 6
    assert set(tables.images.place) == {1}
    none = dataclasses.replace(index, images=dataclasses.replace(index.images, has_photo=np.zeros(12, bool)))
    with pytest.raises(MiningError, match="--images"):
        tables_of_index(none.opened(), MiningOptions(), no_size)


def test_a_photo_of_two_models_is_one_row_with_the_candidates_of_both():
    index = random_index(np.random.default_rng(4), (6, 6), (0, 0))
    photo = np.arange(12)
    photo[8] = 2
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, photo=photo))
    tables = tables_of_index(index.opened(), MiningOptions(), no_size)
    assert len(tables.images.key) == 11
    assert tables.same_photo == 1
    candidates = tables.candidates["train"]
    at = int(np.flatnonzero(candidates.query == 2)[0])
    models = index.images.model[tables.images.index_row[candidates.image[slice(*candidates.indptr[at : at + 2])]]]
    assert set(models) == {0, 1}


def test_distractors_add_places_for_negatives_only(tmp_path):
    index = random_index(np.random.default_rng(0), (6, 6), (0, 1))
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "twin").write_bytes(b"a")
    root = [str(tmp_path)] * 3
    distractors = Distractors(["d/a", "d/b", "d/twin"], root, ["a", "b", "twin"], ["new", "place1", "other"])
    tables = tables_of_index(index.opened(), MiningOptions(), no_size, distractors)
    assert tables.places.name == ["place0", "place1", "new"]
    assert tables.known_distractors == 1
    assert tables.images.place[-2:].tolist() == [2, 1]
    assert tables.images.index_row[-2:].tolist() == [-1, -1]
    assert tables.candidates["train"].query.max() < 12
    clash = Distractors(["model0/0.jpg"], root[:1], ["b"], ["new"])
    with pytest.raises(MiningError, match=r"model0/0.jpg"):
        tables_of_index(index.opened(), MiningOptions(), no_size, clash)


def test_distractors_of_a_place_bring_it_no_queries():
    world = make()
    images, more = world.images, 100
    with_distractors = dataclasses.replace(
        images,
        key=images.key + [f"d/{i}" for i in range(more)],
        root=images.root + ["/d"] * more,
        name=images.name + [f"{i}" for i in range(more)],
        place=np.pad(images.place, (0, more)),
        size=np.pad(images.size, ((0, more), (0, 0)), constant_values=80),
        index_row=np.pad(images.index_row, (0, more), constant_values=-1),
    )
    options = mining_options({"num_negatives": 3})
    plans = [
        plan_round(table, world.places, world.candidates["train"], options, "train", 0)
        for table in (images, with_distractors)
    ]
    assert np.array_equal(plans[0].query, plans[1].query)


def test_two_places_that_show_the_same_are_suspicious():
    rng = np.random.default_rng(0)
    looks = unit_rows(rng, 6, 32)
    looks[5] = looks[4]  # places 4 and 5 are one
    place = np.repeat(np.arange(6), 10)
    noisy = looks[place] + 0.1 * rng.standard_normal((60, 32))
    descriptors = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    pairs = suspicious_places(descriptors, place)
    assert [{pair.first, pair.second} for pair in pairs] == [{4, 5}]
    assert suspicious_places(descriptors[:10], place[:10]) == []
    assert len(suspicious_places(descriptors, place, distractor=place == 5)) == 1
    assert suspicious_places(descriptors, place, distractor=place >= 4) == []


def test_the_most_similar_of_an_empty_pool_are_missing():
    none = np.zeros(0, np.int64)
    row, similarity = most_similar(np.ones((2, 3)), np.zeros((0, 3)), 4, PoolRules(np.zeros(2, int), none, none))
    assert (row == -1).all()
    assert (similarity == -np.inf).all()
