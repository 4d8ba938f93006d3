"""What validation and `evaluate --index` search on one site, and what is junk there."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles_inside import junk_and_positives
from worlds import Index, random_index, table_of, unit_rows, with_inside, write_whole

from retrieval.metrics.results import evaluate_descriptors
from retrieval.protocols.sfm import sfm_benchmark, tuples_ground_truth
from retrieval.training.validation import prepare_validation
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.files.container import Header
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import LEFT_OUT, TRAIN, VAL, CovisibilityGraph
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.photo_table import IndexTables, tables_of_index
from sfm2tuples.mining.tuple_file import TupleFile, TupleSet

SEEDS = st.integers(0, 10**6)


def site(seed: int, **options: object) -> tuple[Index, OpenedIndex]:
    """Two places, the first of two models that show two photos twice; no pair looks from opposite sides.

    But for a held-out walk, no pair of the two splits shares points, as the buffer of `build-index` makes sure.
    """
    rng = np.random.default_rng(seed)
    index = with_inside(rng, random_index(rng, (13, 12, 9), (0, 0, 1)), 4)
    photo = np.arange(34)
    photo[[14, 16, 26]] = [1, 2, 3]  # the last of two places, which no index should have
    if not options.get("val_names"):
        index = replace(index, covisibility=without_pairs_across(index))
    straight = replace(index.covisibility, axis_angle=np.zeros_like(index.covisibility.axis_angle))
    index = replace(index, images=replace(index.images, photo=photo), covisibility=straight)
    return index, opened(index, **options)


def without_pairs_across(index: Index) -> CovisibilityGraph:
    graph, split = index.covisibility, index.inside.split
    first = np.repeat(np.arange(len(split)), np.diff(graph.indptr))
    kept = split[first] == split[graph.neighbour]
    columns = {c.name: getattr(graph, c.name)[kept] for c in fields(graph) if c.name != "indptr"}
    return CovisibilityGraph(indptr=indptr_of(np.bincount(first[kept], minlength=len(split))), **columns)


def opened(index: Index, **options: object) -> OpenedIndex:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        write_whole(Path(folder) / "i.h5", index, options)
        return open_index(Path(folder) / "i.h5")


def expected(index: Index, min_shared: int, apart: bool, walk: bool) -> tuple[dict, set]:
    """By key of the query, keys of its positives and of its junk; keys of the database."""
    split, photos = index.inside.split, np.unique(index.images.photo)
    members = [np.flatnonzero(index.images.photo == p).tolist() for p in photos]
    members = [m for m in members if len({(split[i], index.image_place[i]) for i in m}) == 1]
    members = [m for m in members if split[m[0]] != LEFT_OUT]
    keys = [index.images.key[m[0]] for m in members]
    held_out = [bool(walk and split[m[0]] == VAL) for m in members]
    truth = {}
    for photo, rows in enumerate(members):
        if split[rows[0]] == VAL:
            found = junk_and_positives(index, members, photo, min_shared, apart, held_out)
            if found[0]:
                truth[keys[photo]] = tuple({keys[p] for p in part} for part in found)
    return truth, set(keys)


def by_key(truth: object, keys: list[str]) -> dict:
    parts = (truth.positives_of, truth.junk_of)
    return {
        keys[query]: tuple({keys[p] for p in part(i).tolist()} for part in parts)
        for i, query in enumerate(truth.queries.tolist())
    }


@settings(deadline=None, max_examples=6)
@given(SEEDS, st.booleans(), st.booleans(), st.sampled_from([1, 4]))
def test_an_index_of_one_site_searches_all_that_takes_part_and_junk_is_what_is_unknown(
    seed: int, apart: bool, walk: bool, min_shared: int
) -> None:
    options = {"fragments": "apart" if apart else "unknown", "val_names": "*night*" if walk else None}
    index, read = site(seed, **options)
    truth, database = expected(index, min_shared, apart, walk)
    assume(truth)
    found = sfm_benchmark(read, VAL, min_shared)
    assert set(found.database) == database
    assert by_key(found.setups["sfm"], list(found.database)) == truth


def tuple_file(tables: IndexTables, **options: object) -> TupleFile:
    none = np.zeros(0, np.int64)
    ends, figures = none.reshape(0, 1), np.zeros((0, 1), np.float32)
    empty = TupleSet(none, ends, ends, ends.astype(np.int32), *[figures] * 5, none)
    return TupleFile(
        Path("t.h5"), Header("sfm2tuples-tuples", 1, "", (), options, ""), tables.images, tables.places,
        {"train": empty, "val": empty}, tables.candidates, 0, none, tables.barred,
    )  # fmt: skip


@settings(deadline=None, max_examples=6)
@given(SEEDS, st.booleans(), st.booleans())
def test_a_tuple_file_mined_inside_has_the_ground_truth_of_its_index(seed: int, apart: bool, walk: bool) -> None:
    options = {"fragments": "apart" if apart else "unknown", "val_names": "*night*" if walk else None}
    _, read = site(seed, **options)
    tables = tables_of_index(read, MiningOptions(inside=True), lambda path: (9, 9))
    found = tuples_ground_truth(tuple_file(tables, **options), VAL, 4)
    assume(len(found.truth.queries))
    index = sfm_benchmark(read, VAL, 4)
    keys = [tables.images.key[row] for row in found.photos]
    assert set(keys) == set(index.database)
    ours, theirs = by_key(found.truth, keys), by_key(index.setups["sfm"], list(index.database))
    assert ours == theirs


def plain(val: int) -> Index:
    index = random_index(np.random.default_rng(6), (6, 5, 6, 7), (0, 1, 2, 3), val=val)
    return replace(index, covisibility=replace(index.covisibility, axis_angle=np.zeros_like(index.covisibility.angle)))


def of_plain(index: Index) -> TupleFile:
    tables = tables_of_index(index.opened(), MiningOptions(), lambda path: (9, 9))
    return tuple_file(tables)


def test_one_held_out_place_is_searched_among_all_photos_and_need_not_be_perfect() -> None:
    index = plain(1)
    found, file = sfm_benchmark(index.opened(), VAL, 2), of_plain(index)
    validation = prepare_validation(file, 2)
    place = index.image_place[file.images.index_row]
    for truth, keys in ((found.setups["sfm"], list(found.database)), (validation.truth, file.images.key)):
        assert len(keys) == len(index.images.key)
        assert {place[file.images.key.index(keys[q])] for q in truth.queries.tolist()} == {3}
        for i in range(len(truth.queries)):
            neither = set(truth.junk_of(i).tolist()) | set(truth.positives_of(i).tolist())
            assert {keys[row] for row in neither} == {
                key for key, p in zip(file.images.key, place, strict=True) if p == 3
            }
    assert validation.database.tolist() == list(range(len(place)))
    rows = unit_rows(np.random.default_rng(0), len(place), 5)
    result = evaluate_descriptors(rows[validation.truth.queries], rows, validation.truth)
    assert 0 < result.mean_over_queries < 1


@pytest.mark.parametrize("split", [TRAIN, VAL])
def test_several_held_out_places_are_searched_among_themselves(split: int) -> None:
    index = plain(2)
    images, _, _ = table_of(index)
    own = {key for key, s in zip(images.key, index.image_split, strict=True) if s == split}
    assert set(sfm_benchmark(index.opened(), split, 2).database) == own
    file = of_plain(index)
    assert {file.images.key[row] for row in tuples_ground_truth(file, split, 2).photos} == own
