"""Batches of places: which photos are in one, and what is known of each pair of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import oracles_batches
import pytest
from worlds import unit_rows

from sfm2tuples.errors import MiningError, UsageError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.container import Header
from sfm2tuples.index.schema import TRAIN
from sfm2tuples.mining.barred import Barred
from sfm2tuples.mining.batch_options import HARD, RANDOM, GraphSampling
from sfm2tuples.mining.graph_batches import BatchPlan, GraphBatch, plan_batches
from sfm2tuples.mining.options import MiningOptions, PoolStrategy
from sfm2tuples.mining.rounds import plan_round
from sfm2tuples.mining.tuple_file import Candidates, ImageTable, PlaceTable, TupleFile

NOBODY = np.zeros(0, np.int64)
ALL = PoolStrategy(ends=True, per_place=99, total=0)


def random_file(seed: int, inside: bool, num_images: int = 40, spots: int = 8) -> TupleFile:
    """Images of spots, of which inside four are one place; candidates of all strengths, undefined ones among them."""
    rng = np.random.default_rng(seed)
    spot = np.sort(np.r_[np.arange(spots), rng.integers(0, spots, num_images - spots)])
    place = spot // 4 if inside else spot
    pairs = [(i, j) for i in range(num_images) for j in range(num_images) if i != j and place[i] == place[j]]
    shares = [pair for pair in pairs if rng.random() < 0.35]
    by_query = [[j for i, j in shares if i == q] for q in range(num_images)]
    queries = [q for q in range(num_images) if by_query[q]]
    image = np.array([j for q in queries for j in by_query[q]], np.int64)
    overlap = rng.choice(np.array([0.1, 0.2, 0.5, np.nan], np.float32), len(image))
    candidates = Candidates(
        np.array(queries, np.int64), indptr_of(np.array([len(by_query[q]) for q in queries])), image,
        np.full(len(image), 20, np.int32), overlap,
        rng.choice(np.array([1.2, 1.5, 1.6, np.nan], np.float32), len(image)), np.zeros(len(image), np.float32),
    )  # fmt: skip
    split = np.full(spots, TRAIN, np.int8)
    names = [f"{row}.jpg" for row in range(num_images)]
    nothing = np.zeros((num_images, 2), np.int64)
    barred = None
    if inside:
        held = {pair for pair in pairs if pair in shares or rng.random() < 0.2}
        held = sorted(held | {(j, i) for i, j in shares})
        counts = np.bincount([i for i, _ in held], minlength=num_images)
        others = np.array([j for _, j in held], np.int64)
        fragment = np.where(rng.random(num_images) < 0.1, -1, rng.integers(0, 2, num_images) * (seed % 2))
        barred = Barred(place.astype(np.int64), fragment, indptr_of(counts), others)
    return TupleFile(
        Path("t.h5"), Header("", 1, "", (), {}, ""), ImageTable(names, names, names, spot, nothing, spot),
        PlaceTable([str(s) for s in range(spots)], split), {}, {"train": candidates}, 0, NOBODY, barred,
    )  # fmt: skip


def planned(file: TupleFile, choice: str = HARD, size: str = "graph:4x3", round: int = 1, **more) -> BatchPlan:
    kept_out = more.pop("kept_out", None)
    options = MiningOptions(query_share=1.0, pool=ALL, **more)
    return plan_batches(file, options, GraphSampling.of(size), choice, round, kept_out)


def described(plan: BatchPlan, tied: bool) -> np.ndarray:
    rows = unit_rows(np.random.default_rng(5), len(plan.rows_needed), 6)
    return np.round(rows).astype(np.float32) if tied else rows


def all_batches(plan: BatchPlan, descriptors: np.ndarray | None, unfit: np.ndarray = NOBODY) -> list[GraphBatch]:
    return plan.batches(plan.other_queries(np.arange(len(plan.start)), descriptors, unfit), unfit)


def plan_round_queries(file: TupleFile, count: int) -> list[int]:
    options = MiningOptions(query_share=1.0, pool=ALL, num_queries=count, negatives="random", num_negatives=1)
    return plan_round(file.images, file.places, file.candidates["train"], options, "train", 1).query.tolist()


@pytest.mark.parametrize("tied", [False, True], ids=["random", "tied"])
@pytest.mark.parametrize("inside", [False, True], ids=["places", "inside"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_hard_batch_is_a_query_and_the_nearest_places_by_their_nearest_images(seed: int, inside: bool, tied: bool):
    file = random_file(seed, inside)
    plan = planned(file)
    descriptors = described(plan, tied)
    rows = {row: descriptors[at].tolist() for at, row in enumerate(plan.rows_needed.tolist())}
    found = plan.other_queries(np.arange(len(plan.start)), descriptors, NOBODY)
    spot = file.images.place
    for start, others in zip(plan.start.tolist(), found.tolist(), strict=True):
        want = oracles_batches.nearest_places(start, plan.possible.tolist(), rows, spot, file.barred, 3)
        assert [row for row in others if row >= 0] == want
    share = plan.other_queries(np.array([1, 3]), descriptors, NOBODY)
    assert share.tolist() == found[[1, 3]].tolist()


@pytest.mark.parametrize("choice", [HARD, RANDOM])
@pytest.mark.parametrize("inside", [False, True], ids=["places", "inside"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_pair_of_a_batch_is_what_the_words_say(seed: int, inside: bool, choice: str):
    file = random_file(seed, inside)
    plan = planned(file, choice)
    positives = oracles_batches.m3_pairs(file.candidates["train"], 0.2, 1.5)
    kinds, shares = set(), []
    for batch in all_batches(plan, described(plan, False) if choice == HARD else None):
        rows = batch.row.tolist()
        assert len(set(rows)) == len(rows) <= 4 * 3
        for a, i in enumerate(rows):
            for b, j in enumerate(rows):
                want = oracles_batches.relation_of(i, j, file.images.place, positives, file.barred)
                assert batch.relation[a, b] == (0 if a == b else want)
        assert (batch.relation == batch.relation.T).all()
        for a, i in enumerate(rows):
            for b, j in enumerate(rows):
                known = (
                    oracles_batches.overlap_of(i, j, file.candidates["train"]) if batch.relation[a, b] == 1 else None
                )
                shares.append(known)
                np.testing.assert_equal(float(batch.overlap[a, b]), math.nan if known is None else known)
        assert {i for i, j in positives} >= {rows[0]}
        assert (batch.relation[0] == 1).sum() >= 1
        assert (batch.relation[0] == -1).sum() >= 1
        kinds |= set(batch.relation[~np.eye(len(rows), dtype=bool)].tolist())
    assert kinds == {-1, 0, 1}
    assert len(set(shares)) > 2  # not known, and two overlaps at least


def test_a_group_is_a_query_and_up_to_k_less_one_of_its_m3_positives():
    file = random_file(2, False)
    positives = oracles_batches.m3_pairs(file.candidates["train"], 0.2, 1.5)
    for batch in all_batches(planned(file, RANDOM), None):
        spots = file.images.place[batch.row]
        assert batch.places == len(set(spots.tolist())) == 4
        for spot in set(spots.tolist()):
            query, *others = batch.row[spots == spot].tolist()
            of_query = [pair for pair in positives if pair[0] == query]
            assert all((query, other) in positives for other in others)
            assert len(others) == min(2, len(of_query)) > 0


def test_a_round_shows_as_many_photos_as_its_tuples_and_begins_with_its_queries():
    file = random_file(3, False, num_images=90)
    few, many = planned(file, RANDOM, num_queries=10), planned(file, RANDOM, num_queries=10, num_negatives=11)
    for plan, photos in ((few, 10 * 7), (many, 10 * 13)):
        assert plan.photos == photos
        sizes = [len(batch.row) for batch in all_batches(plan, None)]
        assert sum(sizes) >= photos > sum(sizes[:-1])
        assert len(set(plan.start.tolist())) == len(plan.start)
    assert many.start[: len(few.start)].tolist() == few.start.tolist()
    query = set(plan_round_queries(file, 10))
    assert set(many.start[:10].tolist()) == query  # and after them others of the pool
    assert not set(many.start[10:].tolist()) & query


def test_draws_are_named_by_seed_and_round():
    file = random_file(4, False)

    def rows(round: int, seed: int) -> list[list[int]]:
        return [batch.row.tolist() for batch in all_batches(planned(file, RANDOM, round=round, seed=seed), None)]

    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 0) != rows(2, 0)
    assert rows(1, 0) != rows(1, 7)


def test_kept_out_and_unreadable_photos_are_in_no_batch():
    file = random_file(5, False)
    kept_out = planned(file).start[:2]
    plan = planned(file, kept_out=kept_out)
    unfit = np.union1d(kept_out, plan.start[:1])
    batches = all_batches(plan, described(plan, False), unfit)
    assert batches
    assert not np.isin(np.concatenate([batch.row for batch in batches]), unfit).any()
    assert not {int(batch.row[0]) for batch in batches} & set(unfit.tolist())


def test_batches_that_find_no_second_place_are_refused_in_one_line():
    file = random_file(6, False)
    plan = planned(file, RANDOM)
    others = np.flatnonzero(file.images.place != file.images.place[plan.start[0]])
    with pytest.raises(MiningError, match=r"finds a second place among .* --sampling tuples"):
        all_batches(plan, None, others)


@pytest.mark.parametrize("text", ["graph", "graph:8", "graph:1x4", "graph:8x1", "graph:8x", "pairs", "graph:-8x4", ""])
def test_a_sampling_without_meaning_is_refused(text: str):
    with pytest.raises(UsageError, match=r"sampling .* both at least 2, such as graph:8x4"):
        GraphSampling.of(text)
