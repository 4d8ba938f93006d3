"""Mining inside places: spots for places, what is barred, and never a negative that is not proven."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from hand_made import run
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles_inside import nearest_allowed, photos_proven
from PIL import Image
from teams import in_a_team
from worlds import Index, drawn_worlds, random_index, unit_rows, with_inside, write_whole

from retrieval.search.torch_similarity import TorchSearch
from retrieval.training.remining import choose_in_shares
from sfm2tuples.errors import FileFormatError, MiningError, UsageError
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import LEFT_OUT, TRAIN, VAL
from sfm2tuples.mining.amounts import NUM_NEGATIVES, settled, with_queries
from sfm2tuples.mining.options import NEGATIVES, MiningOptions, mining_options
from sfm2tuples.mining.photo_table import NO_DISTRACTORS, Distractors, IndexTables, tables_of_index
from sfm2tuples.mining.rounds import RoundChoice, choose_tuples, plan_round
from sfm2tuples.mining.spots import HELD_OUT
from sfm2tuples.mining.tuple_file import TupleSet, read_tuples, write_tuples
from sfm2tuples.similarity.barred_rows import BarredRows
from sfm2tuples.similarity.best_rows import PoolRules
from sfm2tuples.similarity.exact_search import most_similar
from sfm2tuples.similarity.ivf_search import IvfSearch

SEEDS = st.integers(0, 10**6)
SIZES, PLACES = (14, 12, 9, 10), (0, 0, 0, 1)
MINED = {"inside": True, "query_share": 1.0, "num_negatives": 3, "min_overlap": 0.0, "max_scale_change": 9.0}


def site(seed: int = 0, spots: int = 4, **options: object) -> tuple[Index, OpenedIndex]:
    """Two places, the first of three models that show some photos twice, with random relations."""
    rng = np.random.default_rng(seed)
    index = random_index(rng, SIZES, PLACES)
    photo = np.arange(sum(SIZES))
    photo[[15, 27, 28]] = [1, 2, 16]
    index = dataclasses.replace(index, images=dataclasses.replace(index.images, photo=photo))
    index = with_inside(rng, index, spots)
    return index, opened(index, **options)


def opened(index: Index, **options: object) -> OpenedIndex:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        write_whole(Path(folder) / "i.h5", index, options)
        return open_index(Path(folder) / "i.h5")


def no_size(path: Path) -> tuple[int, int]:
    return 100, 80


def members_of(index: Index, tables: IndexTables) -> list[list[int]]:
    """The index's images of each photo of a table."""
    rows = tables.images.index_row.tolist()
    return [np.flatnonzero(index.images.photo == index.images.photo[r]).tolist() if r >= 0 else [] for r in rows]


@settings(deadline=None, max_examples=5)
@given(SEEDS, st.booleans())
def test_what_is_not_barred_is_proven_by_all_images_of_both_photos(seed: int, apart: bool) -> None:
    index, read = site(seed, fragments="apart" if apart else "unknown")
    tables = tables_of_index(read, MiningOptions(**MINED), no_size)
    members, n = members_of(index, tables), len(tables.images.key)
    first, second = np.divmod(np.arange(n * n), n)
    held = tables.barred.holds(first, second).reshape(n, n)
    for i in range(n):
        for j in range(n):
            if i != j:
                assert held[i, j] != photos_proven(index, members[i], members[j], apart), (i, j)
        assert set(tables.barred.of(i).tolist()) == {i, *np.flatnonzero(held[i]).tolist()}


@settings(deadline=None, max_examples=5)
@given(SEEDS)
def test_only_images_that_take_part_on_one_side_are_there_and_spots_are_the_places(seed: int) -> None:
    index, read = site(seed)
    tables = tables_of_index(read, MiningOptions(**MINED), no_size)
    names, inside = index.spots.names(index.places.name), index.inside
    there = set()
    for row, images in enumerate(members_of(index, tables)):
        assert all(inside.takes_part[i] and inside.split[i] != LEFT_OUT for i in images)
        place = tables.images.place[row]
        assert tables.places.name[place].removesuffix(HELD_OUT) == names[inside.spot[tables.images.index_row[row]]]
        assert {int(tables.places.split[place])} == {int(inside.split[i]) for i in images}
        there |= set(images)
    assert len(set(tables.places.name)) == len(tables.places.name)
    away = [i for i in range(len(inside.split)) if i not in there]
    assert tables.num_left_out == len(away) > 0
    for i in away:
        photo = np.flatnonzero(index.images.photo == index.images.photo[i])
        assert (inside.split[photo] == LEFT_OUT).any() or len(set(inside.split[photo].tolist())) > 1


def mined(tables: IndexTables, split: str, seed: int, **options: object) -> tuple[TupleSet, np.ndarray]:
    chosen = mining_options({**MINED, **options})
    asked = (tables.images, tables.candidates[split], chosen)
    plan = plan_round(tables.images, tables.places, tables.candidates[split], chosen, split, 0, tables.barred)
    values = unit_rows(np.random.default_rng(seed), len(tables.images.key), 6, 5)
    of_plan = values[plan.rows_needed] if chosen.needs_descriptors else None
    return choose_tuples(plan, of_plan, *asked, barred=tables.barred), values


@settings(deadline=None, max_examples=8)
@given(SEEDS, st.sampled_from(NEGATIVES), st.sampled_from(["m1", "m2", "m3"]), st.booleans())
def test_a_negative_is_proven_and_of_another_spot_one_a_spot(seed: int, rule: str, positives: str, apart: bool) -> None:
    index, read = site(seed, fragments="apart" if apart else "unknown")
    distractors = Distractors(["d/0", "d/1", "e/0"], ["/d"] * 3, ["0", "1", "e"], ["elsewhere", "place0", "elsewhere"])
    tables = tables_of_index(read, MiningOptions(**MINED), no_size, distractors)
    members, spot = members_of(index, tables), tables.images.place
    for split, number in (("train", TRAIN), ("val", VAL)):
        tuples, _ = mined(tables, split, seed, negatives=rule, positives=positives)
        for query, positive, negative in zip(tuples.query, tuples.positive, tuples.negative, strict=True):
            negative = negative[negative >= 0].tolist()
            assert len(negative) or split == "val"
            assert tables.places.split[spot[query]] == number
            for p in positive[positive >= 0].tolist():
                assert tables.places.split[spot[p]] == number
                assert not photos_proven(index, members[query], members[p], apart)
                assert tables.barred.place[p] == tables.barred.place[query]
            for n in negative:
                assert spot[n] != spot[query]
                assert photos_proven(index, members[query], members[n], apart)
                assert split == "val" or tables.places.split[spot[n]] == TRAIN
                # A photo of the place without a model may show anything of it.
                assert tables.images.key[n] != "d/1" or tables.barred.place[query] != 0
            assert rule == "N1" or len({spot[n] for n in negative}) == len(negative)


@settings(deadline=None, max_examples=8)
@given(SEEDS, st.booleans())
def test_n2_and_n1_walk_down_the_pool_and_skip_what_is_barred(seed: int, one_a_place: bool) -> None:
    tables = tables_of_index(site(seed)[1], MiningOptions(**MINED), no_size)
    tuples, values = mined(tables, "train", seed, negatives="N2" if one_a_place else "N1")
    spot, pool = tables.images.place, tuples.pool
    for query, negative in zip(tuples.query.tolist(), tuples.negative.tolist(), strict=True):
        similarity = [oracles.exact_similarity(values[query], values[row]) for row in pool]
        barred = set(tables.barred.of(query).tolist())
        allowed = [spot[row] != spot[query] and row not in barred for row in pool.tolist()]
        expected = nearest_allowed(similarity, spot[pool].tolist(), allowed, 3, one_a_place)
        assert [n for n in negative if n >= 0] == pool[expected].tolist()


def test_a_query_without_a_negative_in_the_pool_falls_away_and_is_counted() -> None:
    tables = tables_of_index(site(3)[1], MiningOptions(**MINED), no_size)
    chosen = mining_options({**MINED, "pool": "random:2", "negatives": "random"})
    asked = (tables.candidates["train"], chosen)
    plan = plan_round(tables.images, tables.places, *asked, "train", 0, tables.barred)
    tuples = choose_tuples(plan, None, tables.images, *asked, barred=tables.barred)
    rows = tables.barred.rows(plan.query, plan.pool)
    spot = tables.images.place
    for t, query in enumerate(plan.query.tolist()):
        free = ~rows.mask(np.array([t]), np.arange(len(plan.pool)))[0] & (spot[plan.pool] != spot[query])
        assert (query in tuples.query) == bool(free.any())
    assert 0 < len(tuples.query) < len(plan.query)
    assert (tuples.negative < 0).any()


def test_an_image_that_has_no_negative_anywhere_is_no_query() -> None:
    index, _ = site(0)
    # All but the images of the first model are unknown to one another, and none lie in another place.
    models = dataclasses.replace(index.models, place=np.zeros(4, np.int64))
    spots = dataclasses.replace(index.spots, place=np.zeros(len(index.spots.place), np.int64))
    alone = dataclasses.replace(index, models=models, spots=spots)
    first = index.images.model == 0
    n = len(first)
    pairs = np.flatnonzero((~first[:, None] & ~first & ~np.eye(n, dtype=bool)).ravel())
    one, other = np.divmod(pairs, n)
    zeros = np.zeros(len(one), np.float32)
    inside = dataclasses.replace(
        alone.inside, indptr=np.searchsorted(one, np.arange(n + 1)), other=other, hops=zeros.astype(np.uint8) + 3,
        into=zeros, distance=zeros,
    )  # fmt: skip
    tables = tables_of_index(opened(dataclasses.replace(alone, inside=inside)), MiningOptions(**MINED), no_size)
    plan = plan_round(*_tables(tables), mining_options(MINED), "train", 0, tables.barred)
    model = index.images.model[tables.images.index_row[plan.query]]
    assert len(model)
    assert set(model.tolist()) == {0}
    assert plan.without_negative > 0
    everything = dataclasses.replace(tables.barred, fragment=np.full(len(tables.images.key), -1))
    with pytest.raises(MiningError, match=r"has a proven negative.*--distractors"):
        plan_round(*_tables(tables), mining_options(MINED), "train", 0, everything)


def test_an_index_none_of_whose_images_takes_part_is_refused_with_the_reason() -> None:
    index, _ = site(0)
    nobody = dataclasses.replace(index.inside, spot=np.full(len(index.images.key), -1))
    with pytest.raises(MiningError, match=r"take no part.*--no-inside"):
        tables_of_index(opened(dataclasses.replace(index, inside=nobody)), MiningOptions(**MINED), no_size)


def _tables(tables: IndexTables) -> tuple:
    return tables.images, tables.places, tables.candidates["train"]


@pytest.mark.parametrize("size", [2, 3])
def test_shares_of_a_team_are_the_whole(size: int) -> None:
    tables = tables_of_index(site(0)[1], MiningOptions(**MINED), no_size)
    chosen = mining_options({**MINED, "positives": "m1", "pool": "random:2"})
    plan = plan_round(*_tables(tables), chosen, "train", 0, tables.barred)
    values = unit_rows(np.random.default_rng(0), len(tables.images.key), 6)[plan.rows_needed]
    choosing = RoundChoice(plan, values, tables.images, tables.candidates["train"], chosen, barred=tables.barred)
    whole = choose_tuples(plan, values, tables.images, tables.candidates["train"], chosen, barred=tables.barred)
    assert len(whole.query) < len(plan.query)
    for share in in_a_team(size, lambda team: choose_in_shares(choosing, team)):
        for column in dataclasses.fields(TupleSet):
            assert getattr(share, column.name).tobytes() == getattr(whole, column.name).tobytes()


def test_candidates_of_a_held_out_walk_are_images_for_training() -> None:
    _, read = site(9, val_names="*night*")
    tables = tables_of_index(read, MiningOptions(**MINED), no_size)
    split = tables.places.split[tables.images.place]
    val, train = tables.candidates["val"], tables.candidates["train"]
    assert len(val.image)
    assert (split[val.query] == VAL).all()
    assert (split[val.image] == TRAIN).all()
    assert (split[np.concatenate([train.query, train.image])] == TRAIN).all()


BARRED_WORLDS = drawn_worlds(60, 9, one_a_place=st.booleans(), share=st.sampled_from([0.0, 0.3, 1.0]))


@settings(deadline=None, max_examples=20)
@given(BARRED_WORLDS, st.integers(1, 70))
def test_no_search_gives_a_barred_row(world: dict, block: int) -> None:
    rng, (s, q) = np.random.default_rng(world["seed"]), (world["pool"], world["queries"])
    rows = unit_rows(rng, s + q, 7, world["distinct"])
    place, own = rng.integers(world["places"], size=s), rng.integers(world["places"], size=q)
    bar = rng.random((q, s)) < world["share"]
    homes = [np.stack([rng.integers(-1, 3, n), rng.integers(-1, 3, n)], axis=1) for n in (q, s)]
    query, row = np.nonzero(bar)
    barred = BarredRows(*homes, np.searchsorted(query, np.arange(q + 1)), row)
    group = place if world["one_a_place"] else np.arange(s)
    asked = (rows[s:], rows[:s], 4, PoolRules(own, place, group, barred=barred))
    found = most_similar(*asked, block=block)
    for t in range(q):
        similarity = [oracles.exact_similarity(rows[s + t], rows[i]) for i in range(s)]
        home = homes[0][t]
        unknown = [h[0] >= 0 and h[0] == home[0] and (h[1] < 0 or h[1] != home[1]) for h in homes[1]]
        allowed = [place[i] != own[t] and not bar[t, i] and not unknown[i] for i in range(s)]
        expected = nearest_allowed(similarity, place.tolist(), allowed, 4, world["one_a_place"])
        assert [r for r in found[0][t].tolist() if r >= 0] == expected
    for search in (TorchSearch(torch.device("cpu"), block), IvfSearch(probes=10**6)):
        for ours, theirs in zip(search(*asked), found, strict=True):
            assert np.array_equal(ours, theirs)


def write(path: Path, tables: IndexTables, **changed: object) -> None:
    tuples = {split: mined(tables, split, 1)[0] for split in ("train", "val")}
    write_tuples(path, tables.images, tables.places, tuples, tables.candidates, {"inside": True}, [],
                 barred=dataclasses.replace(tables.barred, **changed))  # fmt: skip


def test_a_tuple_file_holds_what_is_barred(tmp_path: Path) -> None:
    tables = tables_of_index(site(11)[1], MiningOptions(**MINED), no_size)
    write(tmp_path / "t.h5", tables)
    back = read_tuples(tmp_path / "t.h5")
    for column in dataclasses.fields(back.barred):
        assert np.array_equal(getattr(back.barred, column.name), getattr(tables.barred, column.name))
    assert back.image_place.tolist() == back.barred.place.tolist()


def test_a_tuple_file_with_an_unproven_negative_is_refused(tmp_path: Path) -> None:
    tables = tables_of_index(site(11)[1], MiningOptions(**MINED), no_size)
    fragment = np.full(len(tables.images.key), -1)
    write(tmp_path / "t.h5", tables, fragment=fragment)
    with pytest.raises(FileFormatError, match=r"negative has .* that are barred for their query"):
        read_tuples(tmp_path / "t.h5")
    write(tmp_path / "t.h5", tables, image=tables.barred.image[::-1].copy())
    with pytest.raises(FileFormatError, match="does not rise"):
        read_tuples(tmp_path / "t.h5")
    barred = tables.barred
    one_way = np.minimum(barred.indptr, barred.indptr[-1] - 1)  # the last pair is there from its first image alone
    write(tmp_path / "t.h5", tables, image=barred.image[:-1].copy(), indptr=one_way)
    with pytest.raises(FileFormatError, match="not symmetric"):
        read_tuples(tmp_path / "t.h5")


def test_cirtorch_has_no_pair_of_a_held_out_walk_and_an_image_for_training(tmp_path: Path, capsys) -> None:
    tables = tables_of_index(site(9, val_names="*night*")[1], MiningOptions(**MINED), no_size)
    count = len(tables.images.key)
    names = [f"{row:02d}.jpg" for row in range(count)]
    for row, name in enumerate(names):
        Image.new("RGB", (8, 6), (row, 0, 0)).save(tmp_path / name)
    images = dataclasses.replace(tables.images, root=[str(tmp_path)] * count, name=names)
    write(tmp_path / "t.h5", dataclasses.replace(tables, images=images))
    tuples = read_tuples(tmp_path / "t.h5").tuples
    assert run("export", "--format", "cirtorch", tmp_path / "t.h5", "-o", tmp_path / "retrieval-SfM-x") == 0
    said = capsys.readouterr().out
    across = int((tuples["val"].positive >= 0).sum())
    assert f"{across:,} pairs of a held-out walk and the images for training are left out" in said
    assert "left out with them" not in said
    assert f"{int((tuples['train'].positive >= 0).sum()):,} training and 0 validation pairs" in said


def test_a_photo_of_the_index_that_is_left_out_is_no_distractor(tmp_path: Path) -> None:
    index, _ = site(9)
    names = [f"{row}.jpg" for row in range(len(index.images.key))]
    for row, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([row]) * 20)
    roots = [str(tmp_path)] * len(index.models.name)
    index = dataclasses.replace(
        index,
        images=dataclasses.replace(index.images, name=names),
        models=dataclasses.replace(index.models, photo_root=roots),
    )
    read, options = opened(index), MiningOptions(**MINED)
    left_out = tables_of_index(read, options, no_size).num_left_out
    (tmp_path / "more").mkdir()
    copies = [f"more/{name}" for name in names]
    for name, copy in zip(names, copies, strict=True):
        (tmp_path / copy).write_bytes((tmp_path / name).read_bytes())
    (tmp_path / "more" / "new.jpg").write_bytes(b"new")
    copies.append("more/new.jpg")
    distractors = Distractors(copies, [str(tmp_path)] * len(copies), copies, ["more"] * len(copies))
    tables = tables_of_index(read, options, no_size, distractors)
    assert left_out > 0
    assert tables.known_distractors == len(names)
    assert [key for key, row in zip(tables.images.key, tables.images.index_row, strict=True) if row < 0] == copies[-1:]


def test_inside_is_what_happens_where_places_are_fewer_than_negatives_and_a_query_need() -> None:
    _, read = site()
    plain = random_index(np.random.default_rng(0), (4, 5), (0, 1)).opened()
    assert settled(MiningOptions(), read, []).inside
    assert not settled(MiningOptions(num_negatives=1), read, ["num_negatives"]).inside
    assert settled(MiningOptions(num_negatives=1, inside=True), read, ["num_negatives"]).inside
    assert not settled(MiningOptions(inside=False), read, []).inside
    assert not settled(MiningOptions(), plain, []).inside
    with pytest.raises(UsageError, match=r"has no relations inside its places.*--inside"):
        settled(MiningOptions(inside=True), plain, [])


def test_the_amounts_of_one_site_follow_its_photos_and_what_was_chosen_stays() -> None:
    _, read = site()
    found = settled(MiningOptions(), read, [])
    assert (found.num_negatives, found.query_share) == (NUM_NEGATIVES, 0.25)
    tables = tables_of_index(read, found, no_size)
    photos = int((tables.places.split[tables.images.place] == TRAIN).sum())
    assert with_queries(found, tables.images, tables.places, []).num_queries == round(photos / 4)
    chosen = ["num_negatives", "query_share", "num_queries"]
    kept = settled(MiningOptions(), read, chosen)
    assert (kept.num_negatives, kept.query_share, kept.across) == (5, 0.1, "auto")
    assert with_queries(kept, tables.images, tables.places, chosen).num_queries is None
    plain = settled(MiningOptions(inside=False), read, [])
    assert plain == MiningOptions(inside=False)
    assert with_queries(plain, tables.images, tables.places, []) == plain
    assert plain.as_dict() == MiningOptions().as_dict()


def test_without_inside_a_held_out_part_of_a_place_is_not_trained_on() -> None:
    index, read = site(13)
    tables = tables_of_index(read, MiningOptions(inside=False), no_size, NO_DISTRACTORS)
    assert tables.barred is None
    assert set(index.inside.split[tables.images.index_row].tolist()) == {TRAIN}
    assert set(tables.places.name) == {"place0", "place1"}


@settings(deadline=None, max_examples=10)
@given(SEEDS, st.integers(0, 60))
def test_pairs_that_a_user_leaves_out_are_neither_positives_nor_negatives(seed: int, count: int) -> None:
    index, read = site(seed)
    options, n = MiningOptions(**MINED), sum(SIZES)
    pairs = np.random.default_rng(seed).integers(n, size=(count, 2))
    pairs = pairs[index.image_place[pairs[:, 0]] == index.image_place[pairs[:, 1]]]
    before, after = (tables_of_index(read, options, no_size, left_out_pairs=given) for given in (None, pairs))
    row_of = {image: row for row, images in enumerate(members_of(index, after)) for image in images}
    gone = {frozenset((row_of.get(a, -1), row_of.get(b, -1))) for a, b in pairs.tolist()}
    gone = {pair for pair in gone if len(pair) == 2 and -1 not in pair}
    assert after.left_out_pairs == len(gone)
    size = len(after.images.key)
    first, second = np.divmod(np.arange(size * size), size)
    named = np.array([frozenset((a, b)) in gone for a, b in zip(first.tolist(), second.tolist(), strict=True)])
    assert np.array_equal(after.barred.holds(first, second), before.barred.holds(first, second) | named)
    for split in ("train", "val"):
        old, new = before.candidates[split], after.candidates[split]
        were = set(zip(old.queries.tolist(), old.image.tolist(), strict=True))
        assert set(zip(new.queries.tolist(), new.image.tolist(), strict=True)) == {
            p for p in were if frozenset(p) not in gone
        }


def test_a_site_prefers_other_sequences_and_leaves_near_duplicates_out_unless_somebody_chose() -> None:
    _, read = site()
    options = MiningOptions(num_negatives=9)
    assert (settled(options, read, ()).across, settled(options, read, ()).max_overlap) == ("auto", 0.95)
    chosen = MiningOptions(num_negatives=9, across="no", max_overlap=1.0)
    assert (settled(chosen, read, ()).across, settled(chosen, read, ()).max_overlap) == ("no", 1.0)
    assert settled(MiningOptions(inside=False), read, ()).across is None
