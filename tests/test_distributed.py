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

from retrieval.checkpoints import load_network
from retrieval.distributed import Team, join_team
from sfm2tuples.errors import UsageError
from tests.test_training import SIZE, make_tuples

OPTIONS = ["--image-size", str(SIZE), "--batch-size", "4", "--learning-rate", "1e-4", "--seed", "5"]
NETWORK = ["--backbone", "squeezenet1_1", "--pooling", "gem"]


def torchrun(processes: int, *arguments: object) -> list[str]:
    words = [str(argument) for argument in arguments]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *launcher, "-m", "cli", "train", *words, "--device", "cpu"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def curve(run: Path, column: str) -> list[float]:
    with (run / "curves.csv").open(newline="") as file:
        return [float(row[column]) for row in csv.DictReader(file) if row[column]]


def test_two_processes_give_the_curve_of_one_with_the_same_batch(tmp_path: Path) -> None:
    tuples = make_tuples(tmp_path / "tuples.h5")
    one = [sys.executable, "-m", "cli", "train", str(tuples), "-o", str(tmp_path / "one"), *NETWORK, *OPTIONS]
    subprocess.run([*one, "--rounds", "2", "--device", "cpu"], check=True, capture_output=True, env=environment())
    two = torchrun(2, tuples, "-o", tmp_path / "two", *NETWORK, *OPTIONS, "--rounds", 2)
    done = subprocess.run(two, check=True, capture_output=True, text=True, env=environment())
    assert done.stdout.count("round 1:") == 1
    assert "2 processes" in done.stdout
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


def test_half_an_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="start with torchrun"), join_team():
        pass
