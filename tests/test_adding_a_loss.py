"""Adding a loss is one module and one line in a table: `--loss` offers it and trains with it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_training import SIZE, make_tuples

from retrieval.networks.checkpoints import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
MODULE = """
def build(options):
    options.refuse_settings(["price"])
    price = options.values().get("price", 1.0)
    return lambda tuples: price * tuples.has_negative.sum() + 0 * tuples.query.sum()
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the packages with a new loss: it costs a price for each negative that is there."""
    for package in ("sfm2tuples", "retrieval", "cli"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    training = tmp_path / "retrieval" / "training"
    (training / "toll.py").write_text(MODULE)
    table = training / "losses_by_name.py"
    lines = table.read_text().splitlines()
    lines.insert(lines.index("LOSSES: Mapping[str, str] = {") + 1, '    "toll": "retrieval.training.toll:build",')
    table.write_text("\n".join(lines))
    return tmp_path


def run_in(house: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(house)}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, check=False)


def test_a_new_loss_is_offered_and_trained_with_by_its_flag(house: Path) -> None:
    assert "toll" in run_in(house, "-m", "cli", "train", "--help").stdout
    tuples = make_tuples(house / "tuples.h5")
    words = ("-m", "cli", "train", str(tuples), "-o", "run", "--backbone", "squeezenet1_1", "--image-size", str(SIZE))
    words += ("--loss", "toll", "--rounds", "1", "--no-remine", "--device", "cpu")
    done = run_in(house, *words, "--loss-option", "price=2")
    assert done.returncode == 0, done.stderr
    with (house / "run" / "curves.csv").open() as file:
        before, after = csv.DictReader(file)
    assert float(after["train_loss"]) == 2 * 3  # every training tuple has three negatives
    assert float(before["val_loss"]) == 2 * 2  # every validation tuple misses one
    options = load_checkpoint(house / "run" / "last.pt")["options"]
    assert (options["loss"], options["loss_option"]) == ("toll", ("price=2",))
    refused = run_in(house, *words, "--force", "--loss-option", "prize=2")
    assert refused.returncode == 2
    assert "loss toll has no option prize; it has price" in refused.stderr


def test_help_of_training_does_not_wait_for_torch() -> None:
    code = "import sys; import cli.commands.train; print('torch' in sys.modules)"
    assert run_in(ROOT, "-c", code).stdout.strip() == "False"
