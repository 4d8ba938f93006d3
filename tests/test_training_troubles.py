"""What a training does when something goes wrong: photos, half precision, checkpoints, processes that hurry."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from cli.commands.train import command
from retrieval.descriptors.extraction import ExtractionOptions, extract
from retrieval.networks.checkpoints import load_checkpoint, save_checkpoint
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.described_tuples import rows_and_positions
from retrieval.training.kept_out import KeptOut, nothing_kept_out
from retrieval.training.loop import train
from retrieval.training.run_folder import start_run
from retrieval.training.state import Resources, TrainingState
from retrieval.training.steps import StepFigures, train_round
from retrieval.training.team import Team
from sfm2tuples.errors import NotFiniteError, SfmTuplesError
from sfm2tuples.mining.tuple_file import TupleFile, TupleSet, read_tuples
from tests.teams import in_a_team
from tests.test_training import SIZE, make_tuples, network, photo_of, quick, state_of

TORN = photo_of(0, 0)[:200]


@pytest.fixture
def blind(tmp_path: Path) -> TupleFile:
    """Six tuples of loose photos, without validation places; each positive is in one tuple only."""
    return read_tuples(make_tuples(tmp_path / "tuples.h5", train_places=6, val_places=0, root=tmp_path / "photos"))


# --- photos that cannot be read -----------------------------------------------------------------------------------


def test_the_photo_that_is_marked_unreadable_is_the_one_that_is_torn(blind: TupleFile) -> None:
    query, torn = int(blind.tuples["train"].query[2]), int(blind.tuples["train"].positive[2, 0])
    key = list(blind.images.key)
    # As keys may be: the torn photo's path ends with the key of the query, and not with its own.
    key[query], key[torn] = "1.jpg", "elsewhere/2/1.jpg"
    file = replace(blind, images=replace(blind.images, key=key))
    file.images.path(torn).write_bytes(TORN)
    with TuplePhotos(file, SIZE, workers=0) as photos:
        state = state_of(file, photos, network(), quick(remine=False))
        train_round(state, file.tuples["train"], 1)
    assert list(state.unreadable) == [torn]


def test_a_photo_too_small_for_the_network_is_marked_where_photos_are_files(blind: TupleFile, tmp_path: Path) -> None:
    small = int(blind.tuples["train"].positive[2, 0])
    key = [f"site/{name}" for name in blind.images.name]
    file = replace(blind, images=replace(blind.images, key=key))
    file.images.path(small).write_bytes(_small_photo())
    with TuplePhotos(file, SIZE, network().backbone.smallest, workers=0) as photos:
        state = state_of(file, photos, network(), quick(remine=False))
        train_round(state, file.tuples["train"], 1)
    assert list(state.unreadable) == [small]


def test_a_kept_out_tuple_whose_photo_cannot_be_read_is_left_out_of_the_gap(
    blind: TupleFile, caplog: pytest.LogCaptureFixture
) -> None:
    tuples = blind.tuples["train"]
    kept = KeptOut(tuples.query, *rows_and_positions(tuples.query, tuples.positive, tuples.negative))
    with TuplePhotos(blind, SIZE, workers=0) as photos:
        state = state_of(blind, photos, network(), quick())
        values = state.describe(np.arange(len(blind.images.key)), "all")
        blind.images.path(int(tuples.positive[2, 0])).write_bytes(TORN)
        gaps = [kept.gap(state, round) for round in (1, 2)]
    left = [0, 1, 3, 4, 5]
    query, positive, negative = (values[rows[left]] for rows in (tuples.query, tuples.positive, tuples.negative))
    expected = (query[:, None] * positive).sum(2).mean() - (query[:, None] * negative).sum(2).mean()
    assert gaps == pytest.approx([expected] * 2, abs=1e-6)
    assert caplog.text.count("1 of 6 kept-out tuples hold a photo that cannot be read") == 1


def test_a_blind_training_that_keeps_nothing_out_survives_a_photo_that_is_torn_meanwhile(
    blind: TupleFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_and_tear(state: TrainingState, chosen: TupleSet, *arguments: int) -> StepFigures:
        figures = train_round(state, chosen, *arguments)
        blind.images.path(int(chosen.query.min())).write_bytes(TORN)
        return figures

    monkeypatch.setattr("retrieval.training.watch.keep_out", lambda *arguments: nothing_kept_out())
    monkeypatch.setattr("retrieval.training.loop.train_round", train_and_tear)
    run = train(blind.path, tmp_path / "run", quick(remine=False, rounds=1), network())
    assert (run.round, run.history[1].queries) == (1, 6)


def test_the_blind_warning_counts_the_tuples_that_are_kept_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tuples(tmp_path / "tuples.h5", train_places=6, val_places=0)
    tuples = read_tuples(path).tuples["train"]
    # One query of two tuples.
    rows = np.array([0, 1])
    query = np.repeat(tuples.query[:1], 2)
    kept = KeptOut(query[:1], *rows_and_positions(query, tuples.positive[rows], tuples.negative[rows]))
    monkeypatch.setattr("retrieval.training.watch.keep_out", lambda *arguments: kept)
    train(path, tmp_path / "run", quick(rounds=0), network())
    assert "once the gap of 2 kept-out tuples" in caplog.text


# --- half precision -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 2])
def test_a_step_without_any_gradient_changes_nothing(blind: TupleFile, members: int) -> None:
    tuples = blind.tuples["train"]
    blind.images.path(int(tuples.positive[2, 0])).write_bytes(TORN)

    def trained(team: Team) -> tuple[float, int]:
        with TuplePhotos(blind, SIZE, workers=0) as photos:
            scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
            net = network()
            # A step of each tuple, so that one has nothing to learn from.
            state = state_of(blind, photos, net, quick(batch_size=1), Resources(team=team, scaler=scaler))
            figures = train_round(state, tuples, 1)
            return next(net.parameters()).sum().item(), figures.queries

    results = in_a_team(members, trained)
    assert results == [results[0]] * members
    assert results[0][1] == 5


def test_momentum_does_not_go_on_where_no_process_has_a_gradient() -> None:
    def has_gradient(team: Team) -> list[bool]:
        net, found = network(), []
        found.append(team.add_up_gradients(net))
        assert all(parameter.grad is None for parameter in net.parameters())
        if team.rank == 0:
            net(torch.rand(1, 3, SIZE, SIZE)).sum().backward()
        found.append(team.add_up_gradients(net))
        return found

    assert in_a_team(2, has_gradient) == [[False, True]] * 2
    assert in_a_team(1, has_gradient) == [[False, True]]


def test_divergence_is_told_in_half_precision_as_in_full(blind: TupleFile, tmp_path: Path) -> None:
    for precision in ("fp32", "fp16"):
        options = quick(learning_rate=1e12, batch_size=10, rounds=3, precision=precision)
        with pytest.raises(NotFiniteError) as caught:
            train(blind.path, tmp_path / precision, options, network())
        assert str(caught.value).startswith("round 1: ")
        assert str(caught.value).endswith(f"{tmp_path / precision / 'last.pt'} holds the network after round 0")
    assert "--precision fp32" in str(caught.value)


def test_a_descriptor_out_of_fp16s_range_is_not_finite_either(tmp_path: Path) -> None:
    net = network()
    with torch.no_grad():
        net.backbone.features[0].weight.mul_(1e6)
    (tmp_path / "a.jpg").write_bytes(photo_of(1, 0))
    with pytest.raises(NotFiniteError, match=r"a\.jpg: .*range of fp16.*--precision bf16 or fp32"):
        extract(net, [tmp_path / "a.jpg"], ExtractionOptions(SIZE, precision="fp16"))


# --- a network that describes all alike ---------------------------------------------------------------------------


def test_a_collapse_is_warned_of_once_and_not_before_the_first_step(
    blind: TupleFile, caplog: pytest.LogCaptureFixture
) -> None:
    net = network()
    with torch.no_grad():
        for parameter in net.backbone.parameters():
            parameter.fill_(float(parameter.dim() == 1))  # whatever the photo, the biases are all that is left
    with TuplePhotos(blind, SIZE, workers=0) as photos:
        state = state_of(blind, photos, net, quick(learning_rate=0.0))
        every = np.tile(np.arange(len(blind.images.key)), 2)
        state.describe(every, "round 3 kept-out tuples")
        assert "alike" not in caplog.text
        train_round(state, blind.tuples["train"], 1)
        for round in (1, 2):
            state.describe(every, f"round {round} validate")
    assert [record.message.split(":")[0] for record in caplog.records] == ["round 1 validate"]
    assert "all alike" in caplog.text


# --- the checkpoint to go on from ---------------------------------------------------------------------------------


def _without(name: str) -> Callable[[dict], None]:
    return lambda content: content.pop(name)


def _put(name: str, value: object) -> Callable[[dict], None]:
    return lambda content: content.__setitem__(name, value)


def _option(name: str, value: object) -> Callable[[dict], None]:
    return lambda content: content["options"].__setitem__(name, value)


def _momenta(change: Callable[[dict], object]) -> Callable[[dict], None]:
    def changed(content: dict) -> None:
        change(content["optimiser"]["state"][0])

    return changed


DAMAGES = {
    "no started_from": (_without("started_from"), "started_from"),
    "no best_round": (_without("best_round"), "best_round"),
    "no history": (_without("history"), "history"),
    "empty history": (_put("history", []), "history"),
    "rounds that do not follow each other": (_put("history", [{"round": 3}]), "history"),
    "best_round beyond the rounds": (_put("best_round", 7), "best_round"),
    "negative best_round": (_put("best_round", -1), "best_round"),
    "best_round that is text": (_put("best_round", "0"), "best_round"),
    "no parents": (_put("parents", []), "parents"),
    "an option that nobody knows": (_option("hue", 1), "hue"),
    "an option of another kind": (_option("batch_size", "two"), "options"),
    "options without a recipe": (lambda content: content["options"].pop("recipe"), "options"),
    "an optimiser of another kind": (_put("optimiser", {"state": 1}), "optimiser"),
    "momenta of another shape": (_momenta(lambda of: of.update(exp_avg=torch.zeros(3))), "optimiser"),
    "momenta that are not finite": (_momenta(lambda of: of["exp_avg"].fill_(float("nan"))), "optimiser"),
    "no momenta": (_momenta(lambda of: of.pop("exp_avg")), "optimiser"),
    "steps that are not one number": (_momenta(lambda of: of.update(step=torch.zeros(6))), "optimiser"),
    "a scaler of another kind": (_put("scaler", [1]), "scaler"),
}


@pytest.fixture(scope="module")
def run_of_one_round(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("run")
    path = make_tuples(folder / "tuples.h5")
    train(path, folder / "run", quick(rounds=1), network())
    return path, folder / "run"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_checkpoint_that_cannot_be_gone_on_from_is_one_line(
    run_of_one_round: tuple[Path, Path], tmp_path: Path, damage: str
) -> None:
    change, named = DAMAGES[damage]
    tuples, run = run_of_one_round
    content = load_checkpoint(run / "last.pt")
    change(content)
    header = ("format", "version", "software", "network", "weights", "fingerprint")
    save_checkpoint(tmp_path / "last.pt", network(), **{k: v for k, v in content.items() if k not in header})
    with pytest.raises(SfmTuplesError, match=rf"last\.pt: .*{named}") as caught:
        train(tuples, tmp_path, quick(rounds=2), network(), resume=True)
    assert "\n" not in str(caught.value)


def test_resuming_reads_the_checkpoint_once(
    run_of_one_round: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuples, run = run_of_one_round
    shutil.copytree(run, tmp_path / "run")
    reads = []

    def counted(path: Path) -> dict:
        reads.append(path)
        return load_checkpoint(path)

    monkeypatch.setattr("retrieval.training.last_round.load_checkpoint", counted)
    words = [str(tuples), "-o", str(tmp_path / "run"), "--resume", "--rounds", "1", "--device", "cpu"]
    assert CliRunner().invoke(command, words, catch_exceptions=False).exit_code == 0
    assert reads == [tmp_path / "run" / "last.pt"]


# --- processes that hurry -----------------------------------------------------------------------------------------


def test_no_process_makes_the_folder_before_all_have_looked_into_it(blind: TupleFile, tmp_path: Path) -> None:
    def start(team: Team) -> bool:
        state = state_of(blind, None, network(), quick(), Resources(team=team))
        if team.rank == 1:
            time.sleep(0.2)
        was_there = (tmp_path / "run").exists()
        start_run(tmp_path / "run", state)
        return was_there

    assert in_a_team(2, start) == [False, False]
    assert (tmp_path / "run").is_dir()


def _small_photo() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()
