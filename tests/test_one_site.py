"""An index of one site: relations, spots and a split inside a place, from models on disk to what consumers ask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from sfm2tuples.errors import FileFormatError, UsageError
from sfm2tuples.files.columns import indptr_of
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import LEFT_OUT, TRAIN, VAL
from sfm2tuples.ingest.build import FEW_PLACES, IngestSummary, build_index
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.mining.barred import barred_of_index
from sfm2tuples.relations.held_out import MOST_BUFFER, barred_by, hold_out_models, hold_out_spots
from sfm2tuples.relations.site import SiteRelations, relations_of, site_relations
from sfm2tuples.relations.unknown_pairs import Graph
from tests.hand_made import run, write_scene
from tests.oracles_relations import naive_relations
from tests.site_models import PINHOLE, corridor, model_of, random_site, write_site
from tests.worlds import random_index, read_whole, with_inside


def build(folder: Path, *models: Any, **options: Any) -> tuple[Path, IngestSummary]:
    """An index of models of one scene folder."""
    for number, model in enumerate(models):
        write_site(folder / "site" / "sparse" / str(number), folder / "site" / "images", model)
    target = folder / "index.h5"
    return target, build_index([folder / "site"], target, IngestOptions(**options))


def test_a_site_says_what_its_model_proves(tmp_path: Path) -> None:
    model = random_site(np.random.default_rng(1))
    target, summary = build(tmp_path, model)
    right = naive_relations(model)
    with open_index(target) as index:
        found = relations_of(index)
        assert found is not None
        assert index.header.options["inside"] == "auto"
    n = len(right.takes_part)
    takes_part = right.takes_part[:, None] & right.takes_part
    proven = takes_part & ~right.positive & ~right.unknown & ~np.eye(n, dtype=bool)
    np.testing.assert_array_equal(found.is_proven(np.arange(n)[:, None], np.arange(n)), proven)
    assert summary.inside is not None
    assert summary.inside.proven == proven.sum() // 2 > 100
    assert summary.inside.positive == right.positive.sum() // 2
    assert summary.inside.positive + summary.inside.proven + summary.inside.unknown == n * (n - 1) // 2
    assert summary.inside.taking_part == right.takes_part.sum()


@pytest.mark.parametrize("options", [{}, {"min_shared": 3}, {"fragments": "apart"}], ids=str)
def test_processes_and_resumed_builds_give_the_same_bytes(tmp_path: Path, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    models = [random_site(rng, images=30), random_site(rng, images=20, points=2000)]
    target, _ = build(tmp_path, *[named(model, f"m{k}") for k, model in enumerate(models)], **options)
    build_index([tmp_path / "site"], tmp_path / "jobs.h5", IngestOptions(**options), jobs=2)
    build_index([tmp_path / "site"], tmp_path / "resumed.h5", IngestOptions(**options), resume=True)
    for other in ("jobs.h5", "resumed.h5"):
        assert (tmp_path / other).read_bytes() == target.read_bytes()


def named(model: Any, prefix: str) -> Any:
    """The same model with its photos in a folder of their own."""
    return replace(model, image_names=[f"{prefix}/{name}" for name in model.image_names])


def test_pairs_of_two_models_are_unknown_unless_they_are_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    models = [named(random_site(rng, images=30), "a"), named(random_site(rng, images=20), "b")]
    for fragments, is_proven in (("unknown", False), ("apart", True)):
        target, summary = build(tmp_path / fragments, *models, fragments=fragments)
        with open_index(target) as index:
            found, inside, model = relations_of(index), index.inside, index.images.model[:]
            assert found is not None
            assert inside is not None
            parting = np.flatnonzero(inside.takes_part[:])
        a, b = parting[model[parting] == 0], parting[model[parting] == 1]
        assert (found.is_proven(a[:, None], b) == is_proven).all()
        i, j = np.triu_indices(len(model), 1)
        assert summary.inside is not None
        assert summary.inside.proven == found.is_proven(i, j).sum()


def test_a_photo_in_two_models_is_proven_by_neither_alone() -> None:
    none = Graph(np.zeros(6, np.int64), np.zeros(0, np.int64))
    place, model, photo = np.zeros(5, np.int64), np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 3, 4])
    found = site_relations(place, model, photo, np.ones(5, bool), none, none, apart=False)
    assert found.fragment.tolist() == [0, -1, -1, 1, 1]
    assert not found.is_proven(np.array([1, 2, 0]), np.array([0, 3, 3])).any()
    assert found.is_proven(np.array([3]), np.array([4])).all()
    unknown = Graph(np.array([0, 1, 2, 2, 2, 2]), np.array([1, 0]))
    apart = site_relations(place, model, photo, np.ones(5, bool), none, unknown, apart=True)
    assert not apart.is_proven(np.array([1, 2, 1]), np.array([0, 0, 2])).any()
    assert apart.is_proven(np.array([1, 2, 0]), np.array([3, 4, 3])).all()


@pytest.mark.parametrize("apart", [False, True])
def test_the_relations_of_an_index_equal_a_walk_over_its_columns(apart: bool) -> None:
    rng = np.random.default_rng(8)
    index = with_inside(rng, random_index(rng, (7, 6, 5), (0, 0, 1)))
    inside, graph, model = index.inside, index.covisibility, index.images.model
    assert inside is not None
    found = site_relations(
        index.image_place,
        model,
        index.images.photo,
        inside.takes_part,
        Graph(graph.indptr, graph.neighbour),
        Graph(inside.indptr, inside.other),
        apart,
    )
    for i in range(len(model)):
        for j in range(len(model)):
            listed = {*own(graph.indptr, graph.neighbour, i), *own(inside.indptr, inside.other, i)}
            if index.image_place[i] != index.image_place[j]:
                right = True
            elif i == j or not (inside.takes_part[i] and inside.takes_part[j]) or j in listed:
                right = False
            else:
                right = bool(apart or model[i] == model[j])
            assert found.is_proven(i, j) == right
        assert own(found.indptr, found.barred, i) == sorted(listed)


def own(indptr: np.ndarray, values: np.ndarray, row: int) -> list[int]:
    return values[indptr[row] : indptr[row + 1]].tolist()


def test_many_places_have_the_index_that_they_had(tmp_path: Path) -> None:
    for scene in range(FEW_PLACES):
        write_scene(tmp_path / "m", f"scene{scene}", {f"{i}.jpg": f"{scene}/{i}".encode() for i in range(3)})
    build_index([tmp_path / "m"], tmp_path / "i.h5", IngestOptions())
    build_index([tmp_path / "m"], tmp_path / "no.h5", IngestOptions(inside=False))
    build_index([tmp_path / "m"], tmp_path / "yes.h5", IngestOptions(inside=True))
    assert (tmp_path / "i.h5").read_bytes() == (tmp_path / "no.h5").read_bytes()
    with open_index(tmp_path / "i.h5") as plain, open_index(tmp_path / "yes.h5") as asked:
        assert plain.inside is None
        assert not {"inside", "fragments", "val_names"} & set(plain.header.options)
        assert asked.inside is not None
        assert asked.header.options["inside"] == "yes"
        np.testing.assert_array_equal(asked.images.split[:], plain.images.split[:])


@pytest.mark.parametrize("options", [{"fragments": "apart"}, {"val_names": "0_*"}], ids=str)
def test_what_needs_relations_asks_for_them_of_many_places_too(tmp_path: Path, options: dict[str, Any]) -> None:
    for scene in range(FEW_PLACES):
        site, folder = random_site(np.random.default_rng(scene), images=25), tmp_path / "m" / f"scene{scene}"
        site = replace(site, image_names=[f"{scene}_{image}.jpg" for image in range(25)])
        write_site(folder / "sparse", folder / "images", site)
    build_index([tmp_path / "m"], tmp_path / "i.h5", IngestOptions(**options))
    with open_index(tmp_path / "i.h5") as index:
        assert len(index.places.name) == FEW_PLACES
        assert index.inside is not None
        assert index.header.options["inside"] == "auto"


@pytest.mark.parametrize("damage", ["one way", "falling"])
def test_unknown_pairs_that_are_not_symmetric_or_do_not_rise_are_refused(tmp_path: Path, damage: str) -> None:
    target, _ = build(tmp_path, random_site(np.random.default_rng(1)))
    with h5py.File(target, "a") as file:
        other, indptr = file["inside/other"], file["inside/indptr"][:]
        row = int(np.flatnonzero(np.diff(indptr) >= 2)[0])
        first, second = other[indptr[row] : indptr[row] + 2]
        other[indptr[row]] = second if damage == "falling" else row
        other[indptr[row] + 1] = first if damage == "falling" else second
    with open_index(target) as index:
        for ask in (relations_of, lambda i: barred_of_index(i, np.arange(i.num_images), i.num_images)):
            with pytest.raises(FileFormatError, match=r"index\.h5: inside/other is not symmetric"):
                ask(index)


def test_no_relations_are_made_where_no_photo_is_there(tmp_path: Path) -> None:
    model = random_site(np.random.default_rng(1), images=20)
    write_site(tmp_path / "site" / "sparse" / "0", None, model)
    summary = build_index([tmp_path / "site"], tmp_path / "i.h5", IngestOptions())
    assert summary.inside is None


def test_a_long_corridor_is_held_out_in_part_with_a_buffer(tmp_path: Path) -> None:
    target, summary = build(
        tmp_path, corridor(np.random.default_rng(0), images=200, length=30.0, rooms=1), val_share=0.2
    )
    with open_index(target) as index:
        found, split, spot = relations_of(index), index.images.split[:], read_whole(target).inside.spot
    assert found is not None
    train, val = np.flatnonzero(split == TRAIN), np.flatnonzero(split == VAL)
    assert found.is_proven(train[:, None], val).all()
    for number in np.unique(spot[val]):
        assert (split[spot == number] == VAL).all()
    assert 0.1 < len(val) / len(split) < 0.35
    assert summary.inside is not None
    assert summary.inside.buffer_share == pytest.approx((split == LEFT_OUT).mean())
    assert 0 < summary.inside.buffer_share < MOST_BUFFER
    left_out = np.flatnonzero(split == LEFT_OUT)
    assert (~found.is_proven(left_out[:, None], val)).any(axis=1).all()


def test_a_room_where_all_see_all_holds_nothing_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    points = np.random.default_rng(0).uniform((-1, -1, 4), (1, 1, 6), (60, 3))
    model = model_of(np.tile(np.eye(3), (30, 1, 1)), np.zeros((30, 3)), points, [np.arange(60)] * 30, [PINHOLE])
    target, summary = build(tmp_path, model)
    assert summary.inside is not None
    assert (summary.inside.val, summary.inside.train) == (0, 30)
    assert "nothing is held out" in caplog.text or summary.inside.spots == 1
    with open_index(target) as index:
        assert (index.images.split[:] == TRAIN).all()


def test_a_walk_is_held_out_by_its_names(tmp_path: Path) -> None:
    model = corridor(np.random.default_rng(0), images=60)
    names = [f"{'night' if row % 3 == 0 else 'day'}/{row:03d}.jpg" for row in range(60)]
    target, summary = build(tmp_path, replace(model, image_names=names), val_names="night/*")
    with open_index(target) as index:
        is_night = np.array([name.startswith("night/") for name in index.images.name[:]])
        split = index.images.split[:]
        inside = index.inside
        assert inside is not None
        takes_part = inside.takes_part[:]
        assert index.header.options["val_names"] == "night/*"
    np.testing.assert_array_equal(split, np.where(~takes_part, LEFT_OUT, np.where(is_night, VAL, TRAIN)))
    assert summary.inside is not None
    assert summary.inside.buffer_share == 0


def test_a_whole_place_that_is_for_validation_stays_so(tmp_path: Path) -> None:
    model = corridor(np.random.default_rng(0), images=40)
    target, _ = build(tmp_path, model, val_share=1.0)
    with open_index(target) as index:
        assert (index.images.split[:] == VAL).all()
    (tmp_path / "places.csv").write_text("model,place,split\nsite,hall,train\n")
    build_index([tmp_path / "site"], tmp_path / "fixed.h5", IngestOptions(), places=tmp_path / "places.csv")
    with open_index(tmp_path / "fixed.h5") as index:
        assert (index.images.split[:] == TRAIN).all()


@pytest.mark.parametrize("pattern", ["nothing/*", "*"])
def test_a_pattern_that_parts_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match="--val-names"):
        build(tmp_path, random_site(np.random.default_rng(1), images=12), val_names=pattern)
    assert not (tmp_path / "index.h5").exists()


def test_a_pattern_that_leaves_one_side_without_images_that_take_part_is_refused(tmp_path: Path) -> None:
    model = random_site(np.random.default_rng(1), images=20)
    takes_part = naive_relations(model).takes_part
    names = [f"{'in' if part else 'out'}/{row}.jpg" for row, part in enumerate(takes_part.tolist())]
    assert 0 < takes_part.sum() < 20
    for number, (pattern, said) in enumerate([("out/*", "none of which takes part"), ("in/*", "left for training")]):
        with pytest.raises(UsageError, match=said):
            build(tmp_path / str(number), replace(model, image_names=names), val_names=pattern)


def test_options_that_contradict_each_other_are_refused() -> None:
    for options in ({"val_names": "a*"}, {"fragments": "apart"}):
        with pytest.raises(UsageError, match="--no-inside"):
            IngestOptions(inside=False, **options)
    with pytest.raises(UsageError, match="fragments is together"):
        IngestOptions(fragments="together")


def chain_of(spots: int, each: int) -> tuple[SiteRelations, np.ndarray]:
    """Spots in a row, each of whose images bars those of the next one."""
    spot = np.repeat(np.arange(spots), each)
    near = abs(spot[:, None] - spot) <= 1
    np.fill_diagonal(near, False)
    barred = np.nonzero(near)[1]
    zero = np.zeros(len(spot), np.int64)
    return SiteRelations(zero, zero, indptr_of(near.sum(axis=1)), barred), spot


def test_a_part_at_an_end_costs_the_least() -> None:
    relations, spot = chain_of(10, 6)
    held = hold_out_spots(relations, spot, 0.2, seed=3)
    assert sorted(np.unique(spot[held.split == VAL]).tolist()) in ([0, 1], [8, 9])
    assert held.buffer_share == pytest.approx(0.1)


def test_the_buffer_is_the_whole_of_what_is_not_proven() -> None:
    relations, spot = chain_of(7, 4)
    held = hold_out_spots(relations, spot, 0.3, seed=0)
    n = len(spot)
    val, rows = np.flatnonzero(held.split == VAL), np.arange(n)
    naive = np.array([any(not relations.is_proven(i, j) for j in val if i != j) for i in rows])
    np.testing.assert_array_equal(barred_by(relations, held.split == VAL), naive)
    np.testing.assert_array_equal(held.split == LEFT_OUT, naive & (held.split != VAL))


@pytest.mark.parametrize("seed", range(4))
def test_whole_models_are_held_out_where_no_spots_are_proven_apart(seed: int) -> None:
    """Ten images each of five models: one is nearest to a fifth. What takes no part is on neither side."""
    fragment = np.repeat(np.arange(5), 10)
    spot = np.where(np.arange(50) == 7, -1, fragment)
    relations = SiteRelations(0 * fragment, fragment, np.zeros(51, np.int64), np.zeros(0, np.int64))
    assert hold_out_spots(relations, spot, 0.2, seed).buffer_share > MOST_BUFFER
    split = hold_out_models(relations, spot, 0.2, seed)
    assert split[7] == LEFT_OUT
    held = np.unique(fragment[split == VAL])
    assert len(held) == 1
    np.testing.assert_array_equal(split == VAL, (fragment == held[0]) & (spot >= 0))
    assert not (hold_out_models(relations, spot, 1.0, seed)[spot >= 0] == VAL).all()
    one = SiteRelations(0 * fragment, 0 * fragment, np.zeros(51, np.int64), np.zeros(0, np.int64))
    assert not (hold_out_models(one, spot, 0.2, seed) == VAL).any()


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_site(
        tmp_path / "s" / "sparse" / "0", tmp_path / "s" / "images", corridor(np.random.default_rng(0), images=80)
    )
    assert run("build-index", tmp_path / "s", "-o", tmp_path / "i.h5") == 0
    said = capsys.readouterr()
    assert "proven negative" in said.out + said.err
    assert "the buffer between them costs" in said.out + said.err
    again = ["build-index", tmp_path / "s", "-o", tmp_path / "i.h5", "--force", "--json"]
    assert run(*again) == 0
    assert json.loads(capsys.readouterr().out)["inside"]["proven"] > 0
    assert run(*again, "--no-inside") == 0
    assert json.loads(capsys.readouterr().out)["inside"] is None
    assert run(*again, "--no-inside", "--val-names", "a*") == 2
