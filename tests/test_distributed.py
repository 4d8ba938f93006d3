"""Processes that train together: shares, sums, the same curve as one process, and what happens when one dies."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hand_made import run

from retrieval.networks.checkpoints import load_checkpoint
from retrieval.networks.choice import load_network
from retrieval.photos.tuple_photos import TuplePhotos
from retrieval.training.options import options_from_recipe
from retrieval.training.remining import options_of_round
from retrieval.training.state import Resources
from retrieval.training.team import Team, join_team
from retrieval.training.validation import prepare_validation, validate
from sfm2tuples.errors import SfmTuplesError, UsageError
from sfm2tuples.mining.rounds import plan_round
from sfm2tuples.mining.tuple_file import read_tuples
from tests.teams import in_a_team, second_dies_while_mining, train_together
from tests.test_training import SIZE, make_tuples, network, quick, state_of

COMMON = ["--image-size", str(SIZE), "--learning-rate", "1e-4", "--seed", "5"]
OPTIONS = [*COMMON, "--batch-size", "4"]
BATCHES = [
    *COMMON,
    "--sampling",
    "graph:3x2",
    "--loss",
    "generalized-contrastive",
    "--train-only",
    "last:2",
    "--ema",
    "0.5",
]
NETWORK = ["--backbone", "squeezenet1_1", "--pooling", "gem"]


def torchrun(processes: int, *arguments: object) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *launcher, "-m", "cli", "train", *map(str, arguments), "--device", "cpu"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def curve(run: Path, column: str) -> list[float]:
    with (run / "curves.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


@pytest.mark.parametrize("options", [OPTIONS, BATCHES], ids=["tuples", "graph batches"])
def test_two_processes_give_the_curve_of_one_with_the_same_batch(options: list[str], tmp_path: Path) -> None:
    tuples = make_tuples(tmp_path / "tuples.h5")
    words = (*NETWORK, *options, "--rounds", 2)
    assert run("train", tuples, "-o", tmp_path / "one", *words, "--device", "cpu") == 0
    (first, said, _), (second, other, _) = train_together(2, tmp_path, tuples, "-o", tmp_path / "two", *words)
    assert (first, second) == (0, 0)
    assert (said + other).count("round 1:") == 1
    assert "2 processes" in said
    for column in ("train_loss", "val_loss", "val_map", "positive_similarity", "negative_similarity"):
        np.testing.assert_allclose(curve(tmp_path / "two", column), curve(tmp_path / "one", column), rtol=1e-4)
    weights = [load_network(tmp_path / name / "last.pt").state_dict() for name in ("one", "two")]
    for name, tensor in weights[0].items():
        np.testing.assert_allclose(weights[1][name].numpy(), tensor.numpy(), atol=2e-5, err_msg=name)


def test_a_process_that_dies_ends_the_run_in_one_line_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    tuples, run = make_tuples(tmp_path / "tuples.h5"), tmp_path / "run"
    command = torchrun(2, tuples, "-o", run, *NETWORK, *OPTIONS, "--rounds", 2000)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()) as job:
        deadline = time.monotonic() + 120
        while not (run / "last.pt").exists() and time.monotonic() < deadline and job.poll() is None:
            time.sleep(0.1)
        os.kill(workers_of(job.pid)[-1], signal.SIGKILL)
        _, complaints = job.communicate(timeout=120)
    assert job.returncode != 0
    assert load_network(run / "last.pt").dimension == 512
    assert "another process of this training is gone" in complaints or "Signal 9" in complaints
    before = len(curve(run, "val_map"))
    resumed = torchrun(2, tuples, "-o", run, "--resume", "--rounds", before + 1)
    again = subprocess.run(resumed, capture_output=True, text=True, env=environment(), check=False)
    assert again.returncode == 0, again.stderr
    assert len(curve(run, "val_map")) > before


def test_a_process_that_dies_while_mining_leaves_the_round_before(tmp_path: Path) -> None:
    tuples, target = make_tuples(tmp_path / "tuples.h5"), tmp_path / "run"
    words = (tuples, "-o", target, *NETWORK, *OPTIONS, "--rounds", 3)
    (code, _, told), (killed, _, _) = train_together(2, tmp_path, *words, first=second_dies_while_mining)
    assert (code, killed) == (1, -signal.SIGKILL)
    assert "another process of this training is gone" in told
    assert load_checkpoint(target / "last.pt")["round"] == 1
    assert run("train", tuples, "-o", target, "--resume", "--rounds", 2, "--device", "cpu") == 0
    assert load_checkpoint(target / "last.pt")["round"] == 2


def test_a_photo_missing_from_one_share_ends_the_run_with_its_name(tmp_path: Path) -> None:
    tuples = make_tuples(tmp_path / "tuples.h5", root=tmp_path / "photos")
    file = read_tuples(tuples)
    mining = options_of_round(file, options_from_recipe("squeezenet1_1", image_size=SIZE, seed=5))
    plan = plan_round(file.images, file.places, file.candidates["train"], mining, "train", 1)
    only_mined = ~np.isin(plan.rows_needed, prepare_validation(file, 15).rows)
    missing = int(plan.rows_needed[1::2][only_mined[1::2]][0])  # every second row is of the second share
    file.images.path(missing).unlink()
    done = train_together(2, tmp_path, tuples, "-o", tmp_path / "run", *NETWORK, *OPTIONS, "--rounds", 2)
    # More than one tuple in twenty: both processes refuse to go on; the one whose share it was knows why.
    for (code, _, told), why in zip(done, ("cannot be read", "no such photo"), strict=True):
        assert code == 1
        assert f"tuples hold a photo that cannot be read, first: {file.images.key[missing]}: {why}" in told
    assert load_checkpoint(tmp_path / "run" / "last.pt")["round"] == 0


def workers_of(pid: int) -> list[int]:
    """Processes of `train` that a launcher started, by rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
                environ = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            ranks = [int(item[5:]) for item in environ if item.startswith(b"RANK=")]
            if parent == pid and ranks:
                found[ranks[0]] = int(folder.name)
    return [found[rank] for rank in sorted(found)]


def test_a_team_of_one_does_nothing() -> None:
    with join_team() as team:
        assert team.leads
        assert team.share([1, 2, 3]) == [1, 2, 3]
        rows = np.arange(6.0).reshape(3, 2)
        assert team.gather_rows(rows, 3) is rows
        assert team.add_up(rows) is rows
        assert team.agree("x") == "x"


def test_shares_cover_everything_once() -> None:
    items = list(range(11))
    shares = [Team(rank, 3).share(items) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == items
    assert {len(share) for share in shares} == {3, 4}
    assert [Team(rank, 3).rows(11).tolist() for rank in range(3)] == shares


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.int64, np.uint8, bool])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_rows_are_gathered_in_order_and_bit_by_bit(kind: type, count: int) -> None:
    rows = np.random.default_rng(count).integers(-9, 9, (count, 3)).astype(kind)
    if kind in (np.float32, np.float64):
        special = np.array([-0.0, -np.inf, np.nan], kind)
        special.view(np.uint8)[-special.itemsize] = 7  # what a NaN holds
        rows[:1] = special
    for whole in in_a_team(3, lambda team: team.gather_rows(rows[team.rows(count)], count)):
        assert (whole.dtype, whole.shape, whole.tobytes()) == (rows.dtype, rows.shape, rows.tobytes())


def test_a_weight_without_a_gradient_stays_without_one_in_a_team() -> None:
    """As in a network of timm whose classifier's norm is of no use here: weight decay is not to move it."""

    def step(team: Team) -> tuple[bool, torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        layers = torch.nn.ModuleList([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
        before = layers[1].weight.detach().clone()
        optimiser = torch.optim.Adam(layers.parameters(), lr=0.1, weight_decay=0.5)
        if team.rank == 1:
            layers[0](torch.ones(1, 2)).sum().backward()
        has_one = team.add_up_gradients(layers)
        optimiser.step()
        return has_one, layers[1].weight - before, layers[0].weight.grad

    for has_one, moved, gradient in in_a_team(3, step):
        assert has_one
        assert not moved.any()
        assert gradient.tolist() == [[1.0, 1.0]]
    assert in_a_team(2, lambda team: team.add_up_gradients(torch.nn.Linear(2, 1))) == [False, False]


def test_work_that_fails_in_some_processes_fails_in_all_and_says_what_was_said_first() -> None:
    def work(team: Team) -> None:
        with team.shared_work():
            if team.rank > 1:
                raise (UsageError if team.rank == 2 else ValueError)(f"rank {team.rank}\nü" + 600 * "ü")

    errors = in_a_team(4, work)
    assert isinstance(errors[2], UsageError)
    assert isinstance(errors[3], ValueError)
    for error in errors[:2]:
        assert isinstance(error, SfmTuplesError)
        assert str(error).startswith("process 2 of 4 (and 1 more) failed at its share: rank 2\\nüü")
        assert len(str(error)) < 400


def test_work_that_all_do_fails_in_none() -> None:
    def work(team: Team) -> str:
        with team.shared_work():
            return f"rank {team.rank}"

    assert in_a_team(3, work) == ["rank 0", "rank 1", "rank 2"]


def test_who_failed_says_why_even_where_another_is_gone() -> None:
    class Lonely(Team):
        def _summed(self, tensor: torch.Tensor) -> torch.Tensor:
            raise SfmTuplesError("another process is gone")

    with pytest.raises(ValueError, match="my own"), Lonely(0, 2).shared_work():
        raise ValueError("my own")
    with pytest.raises(SfmTuplesError, match="gone"), Lonely(0, 2).shared_work():
        pass


def test_a_team_describes_each_photo_of_validation_once(tmp_path: Path) -> None:
    file, described = read_tuples(make_tuples(tmp_path / "tuples.h5")), []
    judged, validation = network().eval(), prepare_validation(file, 1)
    judged.register_forward_pre_hook(lambda module, inputs: described.append(len(inputs[0])))
    photos = TuplePhotos(file, SIZE, judged.backbone.smallest, 0)

    def measured(team: Team) -> tuple[float, float]:
        return validate(state_of(file, photos, judged, quick(), Resources(team=team)), validation, 1)

    expected = measured(Team())
    assert sum(described) == len(validation.rows)
    described.clear()
    assert in_a_team(3, measured) == [expected] * 3
    assert sum(described) == len(validation.rows)


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="start with torchrun"), join_team():
        pass
