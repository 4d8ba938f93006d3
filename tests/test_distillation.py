"""A teacher's loss and its batches: against naive versions, in chunks, by several processes; rounds, and going on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracles_distillation
import pytest
import torch
from hand_made import run as run_command

from retrieval.descriptors.extraction import to_input
from retrieval.networks.checkpoints import load_checkpoint, save_checkpoint
from retrieval.networks.choice import load_network
from retrieval.networks.network import build_network
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.batches.rounds import batches_of_round
from retrieval.training.batches.steps import train_on_batches
from retrieval.training.distillation.agreement import Agreement, keep_photos_out
from retrieval.training.distillation.loose_photos import loose_photos
from retrieval.training.distillation.photo_batches import nearest, photo_batches
from retrieval.training.distillation.relational import relational
from retrieval.training.distillation.sampling import PhotoSampling, sampling_of
from retrieval.training.distillation.teacher import TeacherChoice
from retrieval.training.distillation.teacher_file import BEGUN, TEACHER
from retrieval.training.distillation.teaching import Teaching
from retrieval.training.loop import train
from retrieval.training.optimisation import build_optimiser
from retrieval.training.options import TrainingOptions, options_from_recipe
from retrieval.training.passes import ForwardPlan
from retrieval.training.state import Resources
from retrieval.training.steps import train_round
from sfm2tuples.errors import DataError, MiningError, SfmTuplesError, UsageError
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.mining.batch_options import GraphSampling
from sfm2tuples.mining.tuple_file import TupleFile, read_tuples
from sfm2tuples.similarity.exact_search import most_similar
from tests.teams import in_a_team
from tests.test_training import SIZE, make_tuples, network, state_of, without_time

NOBODY = np.zeros(0, np.int64)
PLANS = [ForwardPlan(), ForwardPlan(photos=3), ForwardPlan(photos=64, chunked=True)]


def unit(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    rows = rng.normal(size=(n, dim)) + 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, a tuple file of them, one of the same without held-out places, and a teacher."""
    made = tmp_path_factory.mktemp("taught")
    make_tuples(made / "tuples.h5", root=made / "photos")
    make_tuples(made / "blind.h5", train_places=8, val_places=0, root=made / "photos")
    save_checkpoint(made / "teacher.pt", build_network("squeezenet1_1", "mac", seed=11))
    return made


@pytest.fixture(scope="module")
def tuples(folder: Path) -> TupleFile:
    return read_tuples(folder / "tuples.h5")


def options(sampling: str = "photos:3x2", **chosen: object) -> TrainingOptions:
    values = {"image_size": SIZE, "rounds": 2, "learning_rate": 1e-4, "sampling": sampling, **chosen}
    return options_from_recipe("squeezenet1_1", **values)


def teaching_of(tuples: TupleFile, weight: float = 1.0) -> Teaching:
    """Of every image of the file."""
    n = len(tuples.images.key)
    return Teaching(unit(np.random.default_rng(1), n, 5), np.arange(n), weight, "fingerprint")


def choice(folder: Path, **more: object) -> TeacherChoice:
    return TeacherChoice(str(folder / "teacher.pt"), **more)


# --- the loss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "dims"), [(0, (3, 3)), (1, (3, 3)), (2, (3, 3)), (3, (2, 9)), (12, (16, 4)), (7, (3, 3))]
)
@pytest.mark.parametrize("kind", ["random", "tied", "one point", "far"])
def test_the_loss_is_that_of_the_words(n: int, dims: tuple[int, int], kind: str):
    rng = np.random.default_rng(n)
    student, teacher = unit(rng, n, dims[0]), unit(rng, n, dims[1])
    if kind == "tied" and n > 2:
        student[1], teacher[2] = student[0], teacher[0]
    if kind == "one point":
        student[:] = student[:1]
    if kind == "far" and n > 2:  # Huber's linear part: one photo is far from all others, which are one point
        student[1:] = student[1:2]
        student[0] = -student[1]
    leaf = torch.tensor(student, requires_grad=True)
    loss = relational(leaf, torch.tensor(teacher))
    want = oracles_distillation.relational(student.astype(float).tolist(), teacher.astype(float).tolist())
    assert loss.item() == pytest.approx(want, rel=1e-5, abs=1e-6)
    if n:
        loss.backward()
        assert torch.isfinite(leaf.grad).all()


def test_scale_and_dimension_of_the_teacher_do_not_matter():
    rows = torch.tensor(unit(np.random.default_rng(0), 6, 4))
    wider = torch.cat([rows, torch.zeros(6, 3)], dim=1)
    assert relational(rows, 3 * wider).item() == pytest.approx(0, abs=1e-9)
    assert relational(rows, rows.flip(0)).item() > 1e-3


def test_gradient_steps_bring_the_distances_to_the_teachers():
    rng = np.random.default_rng(2)
    leaf, teacher = torch.tensor(unit(rng, 8, 6), requires_grad=True), torch.tensor(unit(rng, 8, 20))
    losses = []
    for _ in range(60):
        loss = relational(torch.nn.functional.normalize(leaf, dim=1), teacher)
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, leaf)
        leaf = (leaf - 0.5 * gradient).detach().requires_grad_()
    assert losses[-1] < 0.1 * losses[0]


def test_groups_are_judged_each_by_itself_and_weighted():
    rng = np.random.default_rng(3)
    table, rows = unit(rng, 9, 5), np.array([1, 3, 4, 6, 7, 8, 10, 11, 20])
    teaching = Teaching(table, rows, 0.25, "")
    student = torch.tensor(unit(rng, 7, 4))
    got = teaching.loss_of(student, [[20, 3, 1], np.array([6, 4, 11, 7])])
    parts = [(student[:3], [8, 1, 0]), (student[3:], [3, 2, 7, 4])]
    want = sum(oracles_distillation.relational(own.tolist(), table[at].tolist()) for own, at in parts)
    assert got.item() == pytest.approx(0.25 * want, rel=1e-4)
    unknown = teaching.loss_of(student, [[20, 5, 3, 1], np.array([0, 2, 30])])
    known = oracles_distillation.relational(student[[0, 2, 3]].tolist(), table[[8, 1, 0]].tolist())
    assert unknown.item() == pytest.approx(0.25 * known, rel=1e-4)
    with pytest.raises(ValueError, match="no descriptor"):
        teaching.of(np.array([3, 5]))
    with pytest.raises(ValueError, match="no descriptor"):
        teaching.of(np.array([21]))


# --- batches ------------------------------------------------------------------------------------------------------


def test_samplings_are_told_apart():
    assert sampling_of("tuples") is None
    assert sampling_of("graph:4x2") == GraphSampling(4, 2)
    assert sampling_of("photos:32x1") == PhotoSampling(32, 1)
    for wrong in ("photos", "photos:2x1", "photos:0x9", "photos:-3x2", "photos:3x2x1", "pictures:3x2"):
        with pytest.raises(UsageError, match="sampling"):
            sampling_of(wrong)


def test_nearest_are_the_teachers_and_never_the_photo_itself():
    rng = np.random.default_rng(4)
    table = unit(rng, 8, 3)
    table[5] = table[2]
    rows = np.array([0, 2, 3, 5, 7, 8, 9, 12])
    teaching = Teaching(table, rows, 1.0, "")
    among = np.array([2, 3, 5, 9, 12])
    got = nearest(teaching, np.array([3, 12, 0]), among, 5, most_similar)
    for query, found in zip([3, 12, 0], got, strict=True):
        others = [row for row in among if row != query]
        own = table[np.searchsorted(rows, query)].astype(float)
        others.sort(key=lambda row: (-(table[np.searchsorted(rows, row)].astype(float) @ own), row))
        assert found.tolist() == [*others, *[-1] * (5 - len(others))]


@pytest.mark.parametrize("sampling", ["photos:3x2", "photos:4x1", "photos:2x9"])
def test_a_round_draws_every_photo_once_with_its_nearest(tuples: TupleFile, sampling: str):
    asked, out = options(sampling), np.array([4, 9])
    state = replace(state_of(tuples, TuplePhotos(tuples, SIZE), network(), asked), teaching=teaching_of(tuples))
    size = sampling_of(sampling)
    first, second = (photo_batches(state, round, out) for round in (1, 2))
    assert [b.row.tolist() for b in first] == [b.row.tolist() for b in photo_batches(state, 1, out)]
    assert [b.row.tolist() for b in first] != [b.row.tolist() for b in second]
    fit = np.setdiff1d(np.arange(24), out)
    for batches in (first, second):
        # A last batch of fewer than three photos is none: 22 are 7 of 3 and one over, whose nearest makes two.
        assert (
            sum(batch.places for batch in batches) == {"photos:3x2": 21, "photos:4x1": 20, "photos:2x9": 22}[sampling]
        )
        assert not np.isin(np.concatenate([batch.row for batch in batches]), out).any()
        for batch in batches:
            assert len(set(batch.row.tolist())) == len(batch.row) <= size.photos * min(size.near, len(fit))
            assert not batch.relation.any()
        near = nearest(state.teaching, batches[0].row[:1], fit, size.near - 1, most_similar)
        held = [row for row in near[0] if row >= 0]
        assert batches[0].row[1 : 1 + len(held)].tolist() == held
    few = replace(state, options=options(sampling, queries_per_round=12))
    assert sum(batch.places for batch in photo_batches(few, 1, out)) == 12


def test_a_round_without_a_batch_of_three_photos_says_what_to_raise(tuples: TupleFile):
    asked = options("photos:4x1", queries_per_round=2)
    state = replace(state_of(tuples, TuplePhotos(tuples, SIZE), network(), asked), teaching=teaching_of(tuples))
    with pytest.raises(MiningError, match="no batch of photos:4x1 has 3 photos: a round draws 2; raise"):
        photo_batches(state, 1, NOBODY)


# --- steps --------------------------------------------------------------------------------------------------------


def taught_round(file: TupleFile, asked: TrainingOptions, resources: Resources):
    """Weights and figures after one round."""
    net = network()
    state = state_of(file, TuplePhotos(file, SIZE), net, asked, resources)
    state = replace(state, teaching=teaching_of(file, asked.teacher_weight))
    if asked.sampling == "tuples":
        figures = train_round(state, file.tuples["train"], 1)
        return torch.cat([p.detach().reshape(-1) for p in net.parameters()]), figures, None
    make = photo_batches if asked.graph is None else batches_of_round
    batches = make(state, 1, NOBODY)
    figures = train_on_batches(state, batches, 1)
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()]), figures, batches


def same_step(weights: torch.Tensor, want: torch.Tensor, rounding: float = 1e-3) -> bool:
    """Whether two trainings went the same way. A random network's descriptors lie so near each other that what is
    divided by their distances has few digits."""
    start = torch.cat([p.detach().reshape(-1) for p in network().parameters()])
    assert (want - start).abs().max() > 1e-5
    return bool((weights - want).norm() < rounding * (want - start).norm())


def with_one_forward(file: TupleFile, asked: TrainingOptions, groups: list[tuple[np.ndarray, object]]):
    """A plain loop: the photos of a group forward with gradient, the teacher's loss and another, one step a group."""
    net, photos, teaching = network(), TuplePhotos(file, SIZE), teaching_of(file)
    optimiser, losses = build_optimiser(net, asked), []
    for rows, other in groups:
        net.train()
        net.zero_grad()
        described = torch.stack([net(to_input([photos.load(int(row))], net.device))[0] for row in rows])
        loss = asked.teacher_weight * relational(described, torch.from_numpy(teaching.descriptors[rows]))
        if other is not None:
            loss = loss + other(described)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()]), losses


@pytest.mark.parametrize(
    ("sampling", "plan"), [*(("photos:3x2", plan) for plan in PLANS), ("graph:3x2", PLANS[1]), ("graph:3x2", PLANS[2])]
)
def test_a_gradient_in_chunks_is_that_of_one_forward(tuples: TupleFile, sampling: str, plan: ForwardPlan):
    from retrieval.training.batches.described import described_batch
    from retrieval.training.batches.loss_table import build_batch_loss

    more = {} if sampling.startswith("photos") else {"teacher_weight": 2.0}
    asked = options(sampling, optimiser="sgd", learning_rate=1e-3, queries_per_round=6, **more)
    weights, figures, batches = taught_round(tuples, asked, Resources(plan))
    others = [None] * len(batches)
    if asked.graph is not None:
        loss = build_batch_loss(asked.loss_options)
        others = [lambda d, b=batch: loss(described_batch(d, b.relation)) for batch in batches]
    groups = list(zip([batch.row for batch in batches], others, strict=True))
    want, losses = with_one_forward(tuples, asked, groups)
    assert same_step(weights, want, rounding=1e-2)
    if asked.graph is None:
        assert figures.loss == pytest.approx(sum(losses) / sum(len(batch.row) for batch in batches), rel=1e-3)
        assert figures.queries == sum(batch.places for batch in batches)


@pytest.mark.parametrize("plan", [ForwardPlan(), ForwardPlan(64, 4, chunked=True)], ids=str)
def test_a_tuple_has_the_loss_of_its_own_photos_besides(tuples: TupleFile, plan: ForwardPlan):
    asked = options("tuples", optimiser="sgd", learning_rate=1e-4, teacher_weight=3.0, batch_size=1)
    weights, figures, _ = taught_round(tuples, asked, Resources(plan))
    plain, before, _ = taught_round(tuples, replace(asked, teacher_weight=0.0), Resources(plan))
    from test_losses import described

    from retrieval.training import losses
    from retrieval.training.steps import _order

    chosen, groups = tuples.tuples["train"], []
    for t in _order(chosen, TuplePhotos(tuples, SIZE), 0, 1):
        ends = [int(row) for row in (chosen.query[t], chosen.positive[t, 0], *chosen.negative[t]) if row >= 0]

        def loss(d: torch.Tensor) -> torch.Tensor:
            return losses.contrastive(described(d[:1], d[None, 1:2], d[None, 2:]), asked.margin)

        groups.append((np.array(ends), loss))
    want, values = with_one_forward(tuples, asked, groups)
    assert same_step(weights, want)
    assert not same_step(weights, plain)
    assert figures.loss == pytest.approx(np.mean(values), rel=1e-3)
    assert figures.loss != before.loss


@pytest.mark.parametrize(("sampling", "size"), [("photos:3x2", 7), ("graph:3x2", 2), ("tuples", 2)])
def test_a_team_takes_the_steps_of_one_process(tuples: TupleFile, sampling: str, size: int):
    more = {} if sampling.startswith("photos") else {"teacher_weight": 2.0}
    asked = options(sampling, optimiser="sgd", learning_rate=1e-3, queries_per_round=4, **more)
    alone, figures, batches = taught_round(tuples, asked, Resources())
    members = in_a_team(size, lambda team: taught_round(tuples, asked, Resources(team=team)))
    for weights, of_member, chosen in members:
        if batches is not None:
            assert [batch.row.tolist() for batch in chosen] == [batch.row.tolist() for batch in batches]
        assert same_step(weights, alone)
        assert torch.equal(weights, members[0][0])
        assert of_member.loss == pytest.approx(figures.loss, rel=1e-4)
        assert of_member.queries == figures.queries


# --- runs ---------------------------------------------------------------------------------------------------------


def test_photos_alone_are_trained_on_and_the_best_round_agrees_most(folder: Path, tmp_path: Path):
    run = train(folder / "photos", tmp_path / "run", options(rounds=2), network(), teacher=choice(folder))
    values = [figures.agreement for figures in run.history]
    assert all(0 <= value <= 1 for value in values)
    assert not run.is_blind
    assert run.history[run.best_round].agreement == max(values) == run.best_map
    assert run.history[2].train_loss < run.history[1].train_loss
    assert all(np.isnan([f.val_map, f.val_loss, f.gap]).all() for f in run.history)
    assert run.recommended == tmp_path / "run" / "best.pt"
    assert run.recommended.is_file()
    assert len(read_descriptors(tmp_path / "run" / TEACHER).names) == 24
    assert "agreement" in (tmp_path / "run" / "curves.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("name", ["photos", "blind.h5"])
def test_no_kept_out_photo_is_in_a_batch(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    seen, kept = [], []
    monkeypatch.setattr(
        "retrieval.training.loop.train_on_batches",
        lambda state, batches, *more: seen.extend(batches) or train_on_batches(state, batches, *more),
    )
    monkeypatch.setattr(
        "retrieval.training.watch.keep_photos_out", lambda *asked: kept.append(keep_photos_out(*asked)) or kept[0]
    )
    train(folder / name, tmp_path / "run", options(rounds=1), network(), teacher=choice(folder))
    rows = np.concatenate([batch.row for batch in seen])
    assert len(kept[0].query) == 4
    assert len(set(rows.tolist())) > 10
    assert not np.isin(rows, kept[0].query).any()


def test_agreement_is_the_share_of_the_teachers_nearest(tuples: TupleFile):
    net = network()
    state = state_of(tuples, TuplePhotos(tuples, SIZE), net, options())
    teaching = teaching_of(tuples)
    found = keep_photos_out(state, teaching)
    assert found.rows.tolist() == list(range(24))
    assert found.wanted.shape == (4, 10)
    rows = state.describe(np.arange(24), "all")
    want = oracles_distillation.agreement(
        rows.astype(float).tolist(), teaching.descriptors.astype(float).tolist(), found.query.tolist(), 10
    )
    assert found.measure(state, 0) == pytest.approx(want)
    same = Teaching(rows, np.arange(24), 1.0, "")
    assert keep_photos_out(state, same).measure(state, 0) == 1
    with pytest.raises(DataError, match="11 photos can be read"):
        keep_photos_out(state, Teaching(rows[:11], np.arange(11), 1.0, ""))


def test_with_held_out_places_their_map_is_the_measure(folder: Path, tmp_path: Path):
    """Batches of photos of a tuple file ask for no label of the training places; the others are measured still."""
    for sampling, more in (
        ("photos:3x2", {}),
        ("tuples", {"teacher_weight": 1.0}),
        ("graph:3x2", {"teacher_weight": 1.0}),
    ):
        asked = options(sampling, rounds=1, queries_per_round=3, **more)
        run = train(folder / "tuples.h5", tmp_path / "run", asked, network(), teacher=choice(folder), force=True)
        assert not np.isnan(run.history[1].val_map)
        assert np.isnan(run.history[1].agreement)
        assert np.isnan(run.history[1].val_loss) == sampling.startswith("photos")
        assert len(read_descriptors(tmp_path / "run" / TEACHER).names) == 15


def test_a_round_that_agrees_less_leaves_the_network_before_training(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By rounds, and by what lies between: the start is the best of all that is measured."""
    falls = iter([0.9, 0.5, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr(Agreement, "measure", lambda *asked: next(falls))
    asked = options(rounds=2, learning_rate=1e-3, interpolate="auto", queries_per_round=3)
    run = train(folder / "photos", tmp_path / "run", asked, network(), teacher=choice(folder))
    assert (run.best_round, run.interpolated.share, run.interpolated.end) == (0, 0.0, 2)
    assert run.interpolated.val_maps == (0.9, 0.3, 0.2, 0.1, 0.4)
    best, last = (load_network(tmp_path / "run" / name) for name in ("best.pt", "last.pt"))
    assert all(torch.equal(a, b) for a, b in zip(best.parameters(), network().parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(last.parameters(), network().parameters(), strict=True))


@pytest.mark.parametrize(
    ("source", "sampling", "more"),
    [("photos", "photos:3x2", {"flip": 0.5, "warm_up": 9, "queries_per_round": 9}),
     ("tuples.h5", "tuples", {"teacher_weight": 0.5}),
     ("blind.h5", "graph:3x2", {"teacher_weight": 0.5, "ema": 0.9, "queries_per_round": 4})],
)  # fmt: skip
def test_a_run_that_goes_on_ends_as_one_that_was_not_interrupted(
    folder: Path, tmp_path: Path, source: str, sampling: str, more: dict
):
    path, teacher = folder / source, choice(folder)
    train(path, tmp_path / "whole", options(sampling, **more), network(), teacher=teacher)
    train(path, tmp_path / "parts", options(sampling, rounds=1, **more), network(), teacher=teacher)
    train(path, tmp_path / "parts", options(sampling, **more), network(), resume=True)
    whole, parts = (without_time(load_checkpoint(tmp_path / name / "last.pt")) for name in ("whole", "parts"))
    for name, tensor in whole["weights"].items():
        assert torch.equal(tensor, parts["weights"][name]), name
    assert whole["teacher"] == parts["teacher"] == read_descriptors(tmp_path / "parts" / TEACHER).fingerprint
    assert str([sorted(f.items()) for f in whole["history"]]) == str([sorted(f.items()) for f in parts["history"]])


def test_a_run_goes_on_with_its_own_teacher_only(folder: Path, tmp_path: Path):
    train(folder / "photos", tmp_path / "run", options(rounds=0), network(), teacher=choice(folder))
    kept = (tmp_path / "run" / TEACHER).read_bytes()
    train(folder / "photos", tmp_path / "other", options(rounds=0), network(), teacher=choice(folder, size=40))
    (tmp_path / "run" / TEACHER).write_bytes((tmp_path / "other" / TEACHER).read_bytes())
    with pytest.raises(DataError, match="not the file that the run began with"):
        train(folder / "photos", tmp_path / "run", options(), network(), resume=True)
    (tmp_path / "run" / TEACHER).unlink()
    with pytest.raises(UsageError, match=r"teacher.h5: is absent"):
        train(folder / "photos", tmp_path / "run", options(), network(), resume=True)
    (tmp_path / "run" / TEACHER).write_bytes(kept)
    with pytest.raises(UsageError, match="was trained on other photos"):
        train(folder / "photos" / "0", tmp_path / "run", options(), network(), resume=True)


def interrupted(*asked: object) -> None:
    raise KeyboardInterrupt


def test_a_run_that_was_to_be_replaced_goes_on_until_the_new_one_has_a_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch
):
    run, photos = tmp_path / "run", folder / "photos"
    train(photos, run, options(rounds=0), network(), teacher=choice(folder))
    kept = (run / TEACHER).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("retrieval.training.loop._remaining_rounds", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(photos, run, options(rounds=0), network(), teacher=choice(folder, size=40), force=True)
    assert (run / TEACHER).read_bytes() == kept
    train(photos, run, options(rounds=0), network(), resume=True)
    assert (run / TEACHER).read_bytes() == kept
    assert not (run / BEGUN).exists()


def test_a_run_killed_after_its_first_checkpoint_goes_on_with_its_own_teacher(
    folder: Path, tmp_path: Path, monkeypatch
):
    run, photos = tmp_path / "run", folder / "photos"
    train(photos, run, options(rounds=0), network(), teacher=choice(folder))
    with monkeypatch.context() as patch:
        patch.setattr("retrieval.training.run_folder.Run.write_what_follows", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(photos, run, options(rounds=0), network(), teacher=choice(folder, size=40), force=True)
    train(photos, run, options(rounds=0), network(), resume=True)
    assert read_descriptors(run / TEACHER).settings["image_size"] == 40


def test_a_run_without_a_teacher_leaves_no_file_of_the_one_before(folder: Path, tmp_path: Path):
    train(folder / "photos", tmp_path / "run", options(rounds=0), network(), teacher=choice(folder))
    train(folder / "tuples.h5", tmp_path / "run", options("tuples", rounds=0), network(), force=True)
    assert not (tmp_path / "run" / TEACHER).exists()


def test_a_file_of_descriptors_teaches_as_its_network_does(folder: Path, tmp_path: Path):
    few = options(rounds=1, queries_per_round=6)
    train(folder / "photos", tmp_path / "network", few, network(), teacher=choice(folder))
    of_file = TeacherChoice(descriptors=tmp_path / "network" / TEACHER)
    train(folder / "photos", tmp_path / "file", few, network(), teacher=of_file)
    one, other = (load_checkpoint(tmp_path / name / "last.pt")["weights"] for name in ("network", "file"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("sampling", ["tuples", "graph:3x2"])
def test_a_photo_of_which_the_teacher_says_nothing_is_trained_on_all_the_same(
    folder: Path, tuples: TupleFile, tmp_path: Path, sampling: str
):
    """A file of descriptors may lack some. The photo can be read, and is in most tuples."""
    teaching, lacking = teaching_of(tuples), 0
    own = tuples.tuples["train"]
    assert (np.column_stack([own.query, own.positive, own.negative]) == lacking).any(axis=1).sum() > 1
    kept = np.delete(np.arange(24), lacking)
    described = Descriptors([tuples.images.key[row] for row in kept], teaching.descriptors[kept])
    write_descriptors(tmp_path / "few.h5", described)
    asked = options(sampling, rounds=1, teacher_weight=1.0, **({"remine": False} if sampling == "tuples" else {}))
    queries = [
        train(folder / "tuples.h5", tmp_path / "run", asked, network(), teacher=teacher, force=True).history[1].queries
        for teacher in (choice(folder), TeacherChoice(descriptors=tmp_path / "few.h5"))
    ]
    assert queries[0] == queries[1] > 0


def test_a_team_asks_the_teacher_for_each_photo_once(folder: Path, tmp_path: Path):
    from retrieval.training.distillation.teacher_file import begin_teaching

    file = loose_photos(folder / "photos")

    def begin(team):
        state = state_of(file, TuplePhotos(file, SIZE), network(), options(), Resources(team=team))
        return begin_teaching(tmp_path, state, choice(folder)).teaching

    for teaching in in_a_team(3, begin):
        assert teaching.rows.tolist() == list(range(24))
        assert teaching.descriptors.tobytes() == read_descriptors(tmp_path / BEGUN).values.tobytes()


def test_a_photo_that_cannot_be_read_is_left_out_and_many_are_refused(folder: Path, tmp_path: Path, caplog):
    import shutil

    shutil.copytree(folder / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "1" / "0.jpg").write_bytes(b"torn")
    train(tmp_path / "photos", tmp_path / "run", options(rounds=1), network(), teacher=choice(folder))
    assert "1/0.jpg" not in read_descriptors(tmp_path / "run" / TEACHER).names
    assert "1 of 24 photos cannot be read" in caplog.text
    for number in (2, 3):
        (tmp_path / "photos" / str(number) / "0.jpg").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"3 of 24 photos cannot be read, .*, first: .*1/0\.jpg: .*; put"):
        train(tmp_path / "photos", tmp_path / "more", options(rounds=1), network(), teacher=choice(folder))


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"loss": "triplet"}, "leave out loss"),
        ({"margin": 0.3}, "leave out margin"),
        ({"negatives": "N1"}, "leave out negatives"),
        ({"remine": False}, "leave out remine"),
        ({"teacher_weight": 2.0}, "leave out teacher_weight"),
        ({"batch_choice": "random"}, "leave out batch_choice"),
    ],
)
def test_what_says_nothing_of_photos_is_refused(chosen: dict, said: str):
    with pytest.raises(UsageError, match=said):
        options(**chosen)


def test_a_teacher_and_its_weight_belong_together(folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="a teacher goes with a teacher_weight"):
        train(folder / "photos", tmp_path / "run", options(), network())
    with pytest.raises(UsageError, match="a teacher goes with a teacher_weight"):
        train(folder / "tuples.h5", tmp_path / "run", options("tuples"), network(), teacher=choice(folder))
    with pytest.raises(UsageError, match="teacher_weight"):
        options("tuples", teacher_weight=-1.0)


def test_without_a_teacher_options_are_as_they_were():
    assert "teacher_weight" not in options("tuples").as_dict()
    assert options("tuples", teacher_weight=0.5).as_dict()["teacher_weight"] == 0.5


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "one of --teacher and --teacher-descriptors"),
        ({"network": "salad", "descriptors": Path("d.h5")}, "one of --teacher and --teacher-descriptors"),
        ({"descriptors": Path("d.h5"), "size": 9}, "leave out --teacher-weights and --teacher-size"),
        ({"network": "nobody"}, "no network has this name"),
        ({"network": "vgg16"}, "no weights are installed"),
        ({"network": "salad", "weights": "none"}, "random weights"),
    ],
)
def test_a_teacher_that_is_none_is_refused(asked: dict, said: str):
    with pytest.raises(SfmTuplesError, match=said):
        TeacherChoice(**asked).network_choice()


# --- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    save_checkpoint(folder / "start.pt", network())
    return folder


TRAIN = (
    "--network",
    "start.pt",
    "--image-size",
    SIZE,
    "--rounds",
    1,
    "--queries-per-round",
    3,
    "--learning-rate",
    1e-4,
)


def test_a_folder_a_list_labels_and_an_index_are_photos_to_learn_from(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    names = sorted(str(path.relative_to(here / "photos")) for path in (here / "photos").rglob("*.jpg"))
    (tmp_path / "list.txt").write_text("\n".join(names))
    (tmp_path / "labels.csv").write_text("image,label,role\n" + "\n".join(f"{name},x,query" for name in names))
    for source, more in (("photos", ()), ("list.txt", ("--images", "photos")), ("labels.csv", ("--images", "photos"))):
        place = source if source == "photos" else tmp_path / source
        words = ("train", place, "-o", tmp_path / f"run_{source}", *TRAIN, "--teacher", "teacher.pt", *more)
        assert run_command(*words) == 0
        said = "".join(capsys.readouterr())
        assert "relational of photos:8x4 batches" in said
        assert "% as the teacher ranks" in said
        assert "agreement with the teacher" in said
    one, *others = (load_checkpoint(tmp_path / f"run_{s}" / "last.pt") for s in ("photos", "list.txt", "labels.csv"))
    for other in others:
        assert all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
    again = ("train", here / "photos", "-o", tmp_path / "run_photos", "--resume", "--rounds", 2)
    assert run_command(*again, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["rounds"] == 2
    assert 0 <= result["before"] <= result["agreement"] <= 1
    assert run_command("report", tmp_path / "run_photos", "-o", tmp_path / "page") == 0
    page = next((tmp_path / "page").glob("*.html")).read_text()
    assert "Agreement with the teacher" in page


def test_an_interruption_names_the_folder_that_a_lists_names_start_from(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):

    listed, run = tmp_path / "list.txt", tmp_path / "run"
    listed.write_text("\n".join(str(path.relative_to(here / "photos")) for path in (here / "photos").rglob("*.jpg")))
    monkeypatch.setattr("retrieval.training.loop.train_on_batches", interrupted)
    words = ("train", listed, "-o", run, *TRAIN, "--teacher", "teacher.pt", "--images", "photos")
    assert run_command(*words) == 130
    assert f"go on with: sfm2tuples train {listed} --images photos -o {run} --resume" in capsys.readouterr().err


def test_a_teacher_beside_tuples_has_a_weight_of_its_own(here: Path, tmp_path: Path):
    for name, more in (("one", ()), ("two", ("--teacher-weight", 2)), ("none", None)):
        teacher = () if more is None else ("--teacher", "teacher.pt", "--teacher-size", 40, *more)
        assert run_command("train", "tuples.h5", "-o", tmp_path / name, *TRAIN, *teacher, "--quiet") == 0
    asked = {name: load_checkpoint(tmp_path / name / "last.pt")["options"] for name in ("one", "two", "none")}
    assert [asked[name].get("teacher_weight") for name in asked] == [1.0, 2.0, None]
    assert not (tmp_path / "none" / TEACHER).exists()
    assert read_descriptors(tmp_path / "one" / TEACHER).settings["image_size"] == 40


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("photos",), "photos: holds no tuples; give a file of mine-tuples, or --teacher, which needs none"),
        (("tuples.h5", "--sampling", "photos:4x2"), "asks a teacher alone; add --teacher"),
        (("photos", "--teacher", "teacher.pt", "--sampling", "graph:2x2"), "--sampling graph:2x2 has none"),
        (("photos", "--teacher", "teacher.pt", "--loss", "triplet"), "leave out loss"),
        (("photos", "--teacher", "teacher.pt", "--teacher-weight", "2"), "leave out teacher_weight"),
        (("photos", "--teacher", "nobody"), "there is no such file, and no network has this name"),
        (("photos", "--teacher", "teacher.pt", "--teacher-descriptors", "tuples.h5"), "not both"),
        (
            ("photos", "--teacher-descriptors", "tuples.h5"),
            "tuples.h5: is sfm2tuples-tuples, not sfm2tuples-descriptors",
        ),
        (("photos/0", "--teacher", "teacher.pt"), "photos/0: 3 photos can be read"),
        (("tuples.h5", "--teacher", "teacher.pt", "--resume"), "leave out --teacher"),
        (("gone", "--teacher", "teacher.pt"), "gone: no such file"),
    ],
)
def test_what_cannot_be_taught_is_one_line(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
):
    start = ("--network", "start.pt", "--image-size", SIZE)
    assert run_command("train", *words, "-o", tmp_path / "run", *start, "--quiet") in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1, error
    assert said in error[0]
    assert not (tmp_path / "run" / "last.pt").exists()
