"""How much memory there is: of the machine, or of a container that is allowed less."""

from __future__ import annotations

import psutil
import pytest

from sfm2tuples.compute import memory
from sfm2tuples.compute.memory import machine_memory


@pytest.fixture
def limits(tmp_path, monkeypatch):
    """The files in which Linux says what a container may take; absent until written."""
    files = (tmp_path / "memory.max", tmp_path / "limit_in_bytes")
    monkeypatch.setattr(memory, "LIMITS", files)
    return files


def test_without_a_container_it_is_the_machine_s(limits):
    assert machine_memory() == psutil.virtual_memory().total


@pytest.mark.parametrize(("said", "expected"), [("1000000\n", 1_000_000), ("max\n", None), (f"{2**63 - 4096}\n", None)])
@pytest.mark.parametrize("which", [0, 1])
def test_a_container_may_be_allowed_less(limits, said, expected, which):
    limits[which].write_text(said)
    assert machine_memory() == (expected or psutil.virtual_memory().total)


def test_where_nobody_says_it_is_not_known(limits, monkeypatch):
    monkeypatch.delattr("os.sysconf")
    assert machine_memory() is None


def test_free_memory_is_what_the_machine_and_the_container_leave(limits, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "FREE", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "USED", (tmp_path / "current", tmp_path / "usage"))
    assert memory.free_memory() is None
    (tmp_path / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:       7 kB\n")
    assert memory.free_memory() == 7 * 1024
    limits[0].write_text("5000\n")
    (tmp_path / "current").write_text("4000\n")
    assert memory.free_memory() == 1000
    (tmp_path / "current").write_text("6000\n")
    assert memory.free_memory() == 0
    limits[0].write_text("max\n")
    assert memory.free_memory() == 7 * 1024
