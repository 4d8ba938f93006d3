"""Adding a pooling or a family of backbones is one module and one line in a table: their flags offer and build them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfm2tuples.files.descriptors import read_descriptors

ROOT = Path(__file__).resolve().parents[1]
POOLING = """
from retrieval.networks.poolings.pooling import Pooling


class Median(Pooling):
    options = ("regional",)

    def forward(self, x):
        return x.flatten(2).median(dim=2).values
"""
FAMILY = """
from torch import nn

from retrieval.networks.backbones.backbone import Backbone


def build(name):
    return Tiny(name)


class Tiny(Backbone):
    smallest = 8

    def __init__(self, name):
        super().__init__()
        self.name, self.channels = name, int(name.partition(":")[2])
        self.layer = nn.Conv2d(3, self.channels, 8, stride=8)

    def forward(self, x):
        return self.layer(x).relu()
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the packages with both new modules, a line for each, and three photos."""
    for package in ("sfm2tuples", "retrieval", "cli"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    networks = tmp_path / "retrieval" / "networks"
    (networks / "poolings" / "median.py").write_text(POOLING)
    (networks / "backbones" / "tiny_backbones.py").write_text(FAMILY)
    table = networks / "by_name.py"
    lines = table.read_text().splitlines()
    lines.insert(lines.index("POOLINGS = {") + 2, '    "median": "median:Median",')
    lines.insert(lines.index("BACKBONES = {") + 1, '    "tiny_backbones": ("tiny:NAME",),')
    table.write_text("\n".join(lines))
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def run_in(house: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(house)}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_pooling_and_a_new_family_are_offered_and_used_by_their_flags(house: Path) -> None:
    help = run_in(house, "-m", "cli", "extract", "--help")
    assert "median" in help
    assert "tiny:NAME" in help
    flags = ("--backbone", "tiny:5", "--pooling", "median", "--regional")
    run_in(house, "-m", "cli", "extract", "photos", "-o", "d.h5", *flags)
    found = read_descriptors(house / "d.h5")
    assert found.values.shape == (3, 5)
    assert (found.settings["backbone"], found.settings["pooling"]) == ("tiny:5", "median")
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, atol=1e-5)


def test_no_command_needs_torch_for_its_help() -> None:
    code = "import sys; from cli.main import COMMANDS, group; [group.get_command(None, name) for name in COMMANDS]"
    assert run_in(ROOT, "-c", f"{code}; print('torch' in sys.modules)").strip() == "False"
