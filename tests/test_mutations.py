"""Damaged files, kills and full disks, a few of each; `python -m benchmarks` does thousands (docs/performance.md)."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import full_disks, kills
from benchmarks.damage import damage
from benchmarks.file_kinds import KINDS
from benchmarks.mutations import Mutations, drawn, prepared
from benchmarks.tiny_world import make_world
from benchmarks.watched_worker import WatchedWorker

COUNT = 300
"""Damaged files of all kinds together."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are watched by way of /proc")
pytest.importorskip("safetensors", reason="the world has a file of safetensors")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.fixture(scope="module")
def mutations(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mutations]:
    with prepared(tmp_path_factory.mktemp("damaged"), world) as ready:
        yield ready


@pytest.fixture
def work(world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(world, tmp_path / "work"))


def test_damaged_files_are_refused_in_one_line_or_read_rightly(mutations: Mutations) -> None:
    found = [mutations.run(kind, seed) for kind, seed in drawn(COUNT, 0, list(KINDS))]
    assert [outcome.text() for outcome in found if outcome.failed] == []
    # The damage is damage: most of it is noticed.
    assert Counter(outcome.outcome for outcome in found)["refused"] > COUNT / 3


def test_damage_is_the_same_again(world: Path, tmp_path: Path) -> None:
    for kind in KINDS.values():
        found = []
        for _ in range(2):
            path = tmp_path / Path(kind.file).name
            path.write_bytes((world / kind.file).read_bytes())
            found.append((damage(path, np.random.default_rng(5), kind.is_whole), path.read_bytes()))
        assert found[0] == found[1]


WORSE = {
    "hang": "any(iter(int, 1))",
    "crash": "os.kill(os.getpid(), 11)",
    "traceback": "raise ZeroDivisionError",
    "memory": "bytearray(5 << 30)",
}


@pytest.mark.parametrize("how", WORSE)
def test_what_may_not_happen_is_noticed(how: str, tmp_path: Path) -> None:
    """A worker whose commands do what no command of ours does."""
    body = f"import os\ndef main(words):\n    if words: {WORSE[how]}\n"
    (tmp_path / "bad_commands.py").write_text(body)
    with WatchedWorker(tmp_path, cpu_seconds=1.0, commands="bad_commands") as worker:
        assert worker.run(["x"]).how == how
        assert worker.run([]).how == "ended"


def test_a_killed_command_ends_as_a_quiet_run_does_when_it_is_run_again(work: Path) -> None:
    quick = [name for name in kills.VICTIMS if name not in ("tune", "reconstruct")]
    assert [found for found in kills.tried(len(quick), 0, work, quick) if found[1]] == []


def test_a_full_disk_is_one_line_and_leaves_nothing(work: Path) -> None:
    kinds = ("build-index", "extract", "search", "report tuples", "export --format cirtorch network", "train", "ask")
    commands = [next(line for line in full_disks.COMMANDS if line.startswith(kind)) for kind in kinds]
    assert [found for found in full_disks.tried(1, 0, work, commands) if found[1]] == []
