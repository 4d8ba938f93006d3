"""A training on one site: tuples of its own, mined again in each round; and many places, which train as ever."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hand_made import run
from test_remining import again
from test_tuples import OPTIONS, mine, photo, world  # noqa: F401
from worlds import random_index, unit_rows, with_inside, write_whole

from retrieval.networks.network import build_network
from retrieval.training.kept_out import KeptOut, rows_and_positions
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.index.schema import TRAIN
from sfm2tuples.mining.rounds import choose_tuples, plan_round
from sfm2tuples.mining.tuple_file import read_tuples

SMALL = ("--backbone", "squeezenet1_1", "--weights", "none", "--image-size", "32")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of one place with relations, its photos, descriptors of them, and tuples that the command mined."""
    folder, rng = tmp_path_factory.mktemp("site"), np.random.default_rng(2)
    index = with_inside(rng, random_index(rng, (30,), (0,)), 5)
    index = replace(index, models=replace(index.models, photo_root=[str(folder / "photos")]))
    for row in range(30):
        index.photo_path(row).parent.mkdir(parents=True, exist_ok=True)
        index.photo_path(row).write_bytes(photo(rng, (40, 32)))
    write_whole(folder / "index.h5", index, {})
    write_descriptors(folder / "d.h5", Descriptors(index.images.key, unit_rows(rng, 30, 8)))
    loose = ("--min-overlap", "0", "--max-scale-change", "9", "--descriptors", folder / "d.h5")
    assert run("mine-tuples", folder / "index.h5", "-o", folder / "tuples.h5", *loose) == 0
    return folder


def test_mine_tuples_goes_inside_by_itself_and_says_so(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--descriptors", site / "d.h5", "--min-overlap", "0", "--max-scale-change", "9", "--force")
    assert run("mine-tuples", site / "index.h5", "-o", site / "again.h5", *flags) == 0
    said = capsys.readouterr().out
    assert "there are fewer places than negatives and a query need, so negatives are mined inside places" in said
    assert "2 negatives a tuple" in said
    tuples = read_tuples(site / "again.h5")
    options = tuples.header.options
    assert (options["inside"], options["num_negatives"], options["max_overlap"]) == (True, 2, 0.95)
    photos = int((tuples.image_split == TRAIN).sum())
    assert options["num_queries"] == round(photos / 4)
    assert run("mine-tuples", site / "index.h5", "-o", site / "no.h5", *flags, "--no-inside") == 1
    assert f"error: {site / 'index.h5'}: there are 1 training places with photos" in capsys.readouterr().err


def test_each_round_mines_inside_without_the_index(site: Path) -> None:
    tuples = read_tuples(site / "tuples.h5")
    network = build_network("squeezenet1_1", "gem", seed=0)
    found = again(tuples, network, image_size=32)
    held = tuples.barred.holds(np.broadcast_to(found.query[:, None], found.negative.shape), found.negative)
    assert len(found.query)
    assert not (held & (found.negative >= 0)).any()
    assert (found.negative >= 0).any(axis=1).all()
    assert (tuples.image_split[found.negative[found.negative >= 0]] == TRAIN).all()
    # Under every other number and rule too.
    more = again(tuples, network, image_size=32, num_negatives=4, negatives="N1", query_share=1.0)
    held = tuples.barred.holds(np.broadcast_to(more.query[:, None], more.negative.shape), more.negative)
    assert (more.negative < 0).any()
    assert not (held & (more.negative >= 0)).any()


@pytest.mark.parametrize("loss", ["contrastive", "triplet"])
def test_a_site_is_trained_on_and_goes_on_after_a_stop(site: Path, tmp_path: Path, loss: str) -> None:
    tuples, train = site / "tuples.h5", (*SMALL, "--loss", loss, "--min-shared", "1")
    assert run("train", tuples, "-o", tmp_path / "whole", *train, "--rounds", 2) == 0
    assert run("train", tuples, "-o", tmp_path / "parts", *train, "--rounds", 1) == 0
    assert run("train", tuples, "-o", tmp_path / "parts", "--resume", "--rounds", 2) == 0
    one, two = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts"))
    assert one["weights"].keys() == two["weights"].keys()
    assert all(torch.equal(one["weights"][name], two["weights"][name]) for name in one["weights"])
    assert all(np.isfinite(figures["train_loss"]) for figures in one["history"][1:])
    assert np.isfinite(one["history"][0]["val_map"])


def test_a_tuple_whose_negatives_are_kept_out_falls_away(site: Path) -> None:
    tuples = read_tuples(site / "tuples.h5")
    train = tuples.tuples["train"]
    lone = train.negative[0][train.negative[0] >= 0]
    rows, positions = rows_and_positions(lone, lone[:, None], lone[:, None])
    left = KeptOut(np.unique(lone), rows, positions).without(train, tuples)
    assert train.query[0] not in left.query
    assert (left.negative >= 0).any(axis=1).all()


def digest_of(columns: dict[str, np.ndarray]) -> str:
    """Of all but similarities, whose last bit depends on the machine that made the descriptors."""
    named = {name: column for name, column in sorted(columns.items()) if not name.endswith("similarity")}
    parts = [f"{name} {column.dtype.str} {column.shape} ".encode() + column.tobytes() for name, column in named.items()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def columns_of(path: Path) -> dict[str, np.ndarray]:
    """All datasets of a file that are no text about this machine."""
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("images/root"):
            found[name] = item[:]

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


MANY_PLACES = "7792acc3eb9cb5bf7bd3c4b028681b5405233695f1d3cf9be2e0ae0cd7046f70"
"""Digest of the tuples that the program mined of the world before it could mine inside places (717c250)."""
LATER_ROUNDS = (
    "4a5360aa1c7fc9e890350fcb5a3389c77ece986f18fe9e9cca4341b0434779f8",
    "cf223fb5727a09e3fef2c82889842fb92b5d662a263077a64e1c90b5cdf5e1b7",
)
"""Likewise of the tuples of two rounds of a training."""
OPTIONS_SAID = "6bcffd75f19dd8a9986b0cf538a6210f0c267b2b8521e38417658f38e4e80856"
"""Likewise of the options in the file's header."""


def test_many_places_are_mined_as_before_in_the_file_and_in_each_round(world: Path) -> None:  # noqa: F811
    _, tuples = mine(world)
    options = read_header(tuples.path).options
    assert digest_of(columns_of(tuples.path)) == MANY_PLACES
    assert hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest() == OPTIONS_SAID
    values = unit_rows(np.random.default_rng(1), len(tuples.images.key), 16)
    for round, expected in enumerate(LATER_ROUNDS, 1):
        of = tuples.candidates["train"], OPTIONS
        plan = plan_round(tuples.images, tuples.places, *of, "train", round)
        assert digest_of(vars(choose_tuples(plan, values[plan.rows_needed], tuples.images, *of))) == expected
