"""Training on graph batches: gradients in chunks, by several processes and at once; rounds, and going on with a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cli.commands.train import command
from retrieval.descriptors.extraction import to_input
from retrieval.networks.checkpoints import load_checkpoint
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.batches.described import described_batch
from retrieval.training.batches.loss_table import build_batch_loss
from retrieval.training.batches.rounds import batches_of_round
from retrieval.training.batches.steps import train_on_batches
from retrieval.training.loop import train
from retrieval.training.optimisation import build_optimiser
from retrieval.training.options import TrainingOptions, options_from_recipe
from retrieval.training.passes import ForwardPlan
from retrieval.training.state import Resources
from retrieval.training.team import Team
from sfm2tuples.errors import DataError, PhotoError
from sfm2tuples.mining.tuple_file import TupleFile, read_tuples
from tests.teams import in_a_team
from tests.test_training import SIZE, make_tuples, network, state_of, without_time

NOBODY = np.zeros(0, np.int64)
PLANS = [
    ForwardPlan(),
    ForwardPlan(photos=3),
    ForwardPlan(photos=64),
    ForwardPlan(photos=64, chunked=True),
    ForwardPlan(held=2**40),
]


@pytest.fixture(scope="module")
def tuples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuples(tmp_path_factory.mktemp("tuples") / "tuples.h5")


def graph(**chosen: object) -> TrainingOptions:
    values = {"image_size": SIZE, "rounds": 2, "learning_rate": 1e-4, "sampling": "graph:3x2", **chosen}
    return options_from_recipe("squeezenet1_1", **values)


def round_of(file: TupleFile, options: TrainingOptions, resources: Resources, round: int = 1, most: int | None = None):
    """Weights and figures after one round, or its first steps, and its batches."""
    net = network()
    state = state_of(file, TuplePhotos(file, SIZE), net, options, resources)
    batches = batches_of_round(state, round, NOBODY)[:most]
    figures = train_on_batches(state, batches, round)
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()]), figures, batches


def with_one_forward(file: TupleFile, options: TrainingOptions, batches: list) -> tuple[torch.Tensor, list[float]]:
    """A plain loop: every photo of a batch forward with gradient, the loss, one backward, one step."""
    net, photos, losses = network(), TuplePhotos(file, SIZE), []
    optimiser, loss_of = build_optimiser(net, options), build_batch_loss(options.loss_options)
    for batch in batches:
        net.train()
        net.zero_grad()
        rows = torch.stack([net(to_input([photos.load(int(row))], net.device))[0] for row in batch.row])
        described = described_batch(rows, batch.relation, batch.overlap)
        loss = loss_of(described)
        loss.backward()
        optimiser.step()
        losses.append((loss.item(), described.anchors.item()))
    total, anchors = np.sum(losses, axis=0)
    return torch.cat([p.detach().reshape(-1) for p in net.parameters()]), total / anchors


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("loss", ["contrastive", "generalized-contrastive", "multi-similarity", "smooth-ap"])
def test_a_gradient_in_chunks_is_that_of_one_forward(tuples: Path, loss: str, plan: ForwardPlan):
    file = read_tuples(tuples)
    options = graph(loss=loss, optimiser="sgd", learning_rate=1e-3, queries_per_round=3)
    # Alike positives are drawn and pushed along the line between them: a second step follows the first one's rounding.
    most = 1 if loss == "generalized-contrastive" else None
    weights, figures, batches = round_of(file, options, Resources(plan), most=most)
    want, mean = with_one_forward(file, options, batches)
    assert (weights - torch.cat([p.detach().reshape(-1) for p in network().parameters()])).abs().max() > 1e-5
    torch.testing.assert_close(weights, want, atol=2e-6, rtol=1e-5)
    assert figures.loss == pytest.approx(mean, rel=1e-3)
    assert figures.queries == 3 * len(batches)
    assert figures.positive_similarity > figures.negative_similarity


@pytest.mark.parametrize("size", [2, 7])
def test_a_team_takes_the_steps_of_one_process(tuples: Path, size: int):
    """Seven processes have a batch of at most six photos: one at least describes none."""
    file, options = read_tuples(tuples), graph(optimiser="sgd", learning_rate=1e-3, queries_per_round=2)
    alone, figures, batches = round_of(file, options, Resources())
    members = in_a_team(size, lambda team: round_of(file, options, Resources(team=team)))
    for weights, of_member, chosen in members:
        assert [batch.row.tolist() for batch in chosen] == [batch.row.tolist() for batch in batches]
        torch.testing.assert_close(weights, alone, atol=2e-6, rtol=1e-5)
        assert torch.equal(weights, members[0][0])
        assert of_member.loss == pytest.approx(figures.loss, rel=1e-4)
        assert of_member.queries == figures.queries


def test_an_unreadable_photo_is_left_out_of_its_batch_in_every_process(tuples: Path, monkeypatch: pytest.MonkeyPatch):
    file, options = read_tuples(tuples), graph(batch_choice="random", queries_per_round=5)
    load = TuplePhotos.in_order
    held, often = np.unique(
        np.concatenate([batch.row for batch in round_of(file, options, Resources())[2]]), return_counts=True
    )
    bad = held[often.argmax()]

    def in_order(self, groups, changes=None):
        for group, pictures in zip(groups, load(self, groups, changes), strict=True):
            if bad in group:
                raise PhotoError(self.names(np.array([bad]))[0], "torn")
            yield pictures

    monkeypatch.setattr(TuplePhotos, "in_order", in_order)
    monkeypatch.setattr("retrieval.training.batches.steps.MOST_LEFT_OUT", 0.5)
    alone, figures, batches = round_of(file, options, Resources())
    assert sum(bad in batch.row for batch in batches) > 1
    for weights, of_member, _ in in_a_team(2, lambda team: round_of(file, options, Resources(team=team))):
        torch.testing.assert_close(weights, alone, atol=2e-6, rtol=1e-4)
        assert of_member.queries == figures.queries
    monkeypatch.setattr("retrieval.training.batches.steps.MOST_LEFT_OUT", 0.0)
    with pytest.raises(DataError, match=r"photos of graph batches cannot be read, first: .*torn"):
        round_of(file, options, Resources())


def test_a_run_that_goes_on_ends_as_one_that_was_not_interrupted(tuples: Path, tmp_path: Path):
    """Every round chooses by the weights it has; with warm-up, steps count over rounds."""
    options = {"loss": "multi-similarity", "warm_up": 20, "flip": 0.5}
    train(tuples, tmp_path / "whole", graph(**options), network())
    train(tuples, tmp_path / "parts", graph(**options, rounds=1), network())
    train(tuples, tmp_path / "parts", graph(**options), network(), resume=True)
    whole, parts = (without_time(load_checkpoint(tmp_path / name / "last.pt")) for name in ("whole", "parts"))
    for name, tensor in whole["weights"].items():
        assert torch.equal(tensor, parts["weights"][name]), name
    assert [f["queries"] for f in whole["history"]] == [f["queries"] for f in parts["history"]]
    assert whole["history"][1]["queries"] % 3 == 0 < whole["history"][1]["queries"]


@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_is_mirrored_as_a_whole(tuples: Path, size: int, monkeypatch: pytest.MonkeyPatch):
    """A mirrored building is another building: its two halves are no positive pair."""
    file, seen = read_tuples(tuples), []
    load, half = TuplePhotos.in_order, np.zeros((4, 6, 3), np.uint8)
    half[:, :3] = 255

    def in_order(self, groups, changes=None):
        for (row,), change in zip(groups, changes, strict=True):
            mirrored = not change(half, self.names(np.array([row]))[0])[0, 0, 0]
            seen.append((change.tuple_name, row, mirrored))
        return load(self, groups, changes)

    monkeypatch.setattr(TuplePhotos, "in_order", in_order)
    options = graph(flip=0.5, queries_per_round=5)
    batches = in_a_team(size, lambda team: round_of(file, options, Resources(team=team)))[0][2]
    whole = {}
    for name, row, mirrored in seen:
        whole.setdefault(name, set()).add((row, mirrored))
    assert sorted(sorted(row for row, _ in photos) for photos in whole.values()) == sorted(
        sorted(batch.row.tolist()) for batch in batches
    )
    assert all(len({mirrored for _, mirrored in photos}) == 1 for photos in whole.values())
    assert len({mirrored for _, _, mirrored in seen}) == 2


def chosen_rows(file: TupleFile, options: TrainingOptions, team: Team, known: dict[int, str]) -> list[list[int]]:
    """The batches of the second round, in a process that knows already of photos that cannot be read."""
    state = state_of(file, TuplePhotos(file, SIZE), network(), options, Resources(team=team))
    state.unreadable.update(known)
    return [batch.row.tolist() for batch in batches_of_round(state, 2, NOBODY)]


@pytest.mark.parametrize("choice", ["random", "hard"])
def test_what_a_step_could_not_read_changes_no_later_choice(tuples: Path, choice: str):
    """Only the process that read the photo knows of it, and a run that goes on knows nothing of earlier steps."""
    file, options = read_tuples(tuples), graph(batch_choice=choice, queries_per_round=5)
    rows = chosen_rows(file, options, Team(), {})
    known = {rows[0][-1]: "torn"}
    members = in_a_team(2, lambda team: chosen_rows(file, options, team, known if team.rank else {}))
    assert members == [rows, rows]


def test_a_photo_that_mining_cannot_read_is_in_no_batch(tmp_path: Path):
    file = read_tuples(make_tuples(tmp_path / "tuples.h5", root=tmp_path / "photos"))
    torn = int(file.candidates["train"].queries[0])
    file.images.path(torn).write_bytes(b"torn")
    first, second = in_a_team(2, lambda team: chosen_rows(file, graph(queries_per_round=5), team, {}))
    assert first == second
    assert not any(torn in rows for rows in first)


def test_without_held_out_places_no_kept_out_query_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from retrieval.training.kept_out import keep_out

    path, seen = make_tuples(tmp_path / "tuples.h5", val_places=0), []
    monkeypatch.setattr(
        "retrieval.training.loop.train_on_batches",
        lambda state, batches, *more: seen.extend(batches) or train_on_batches(state, batches, *more),
    )
    run = train(path, tmp_path / "run", graph(rounds=1), network())
    kept = keep_out(read_tuples(path), 0).query
    assert len(kept)
    assert not np.isin(np.concatenate([batch.row for batch in seen]), kept).any()
    assert run.history[-1].gap == run.history[-1].gap


def test_the_command_trains_on_graph_batches(tuples: Path, tmp_path: Path):
    words = [str(tuples), "-o", str(tmp_path / "run"), "--backbone", "squeezenet1_1", "--image-size", str(SIZE)]
    words += ["--weights", "none", "--rounds", "1", "--device", "cpu"]
    words += ["--sampling", "graph:2x3", "--batch-choice", "random", "--loss", "smooth-ap"]
    done = CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)
    assert done.exit_code == 0
    options = load_checkpoint(tmp_path / "run" / "last.pt")["options"]
    assert (options["sampling"], options["batch_choice"], options["loss"]) == ("graph:2x3", "random", "smooth-ap")
