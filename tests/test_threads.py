"""Threads change the time and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hand_made import random_model

from benchmarks.street import write_street
from sfm2tuples.compute import threads
from sfm2tuples.compute.threads import ITEMS_A_TASK, default_threads, map_in_order, over_blocks
from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.covisibility.shared_points import shared_points
from sfm2tuples.errors import UsageError
from sfm2tuples.readers import colmap_binary, colmap_text


@pytest.fixture(autouse=True)
def _small_models_are_worth_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "ENTRIES_A_THREAD", 1)
    monkeypatch.delenv(threads.VARIABLE, raising=False)


def assert_same_bits(a: object, b: object) -> None:
    """All fields of two dataclasses are equal to the last bit, NaN too."""
    for field in dataclasses.fields(a):  # type: ignore[arg-type]
        mine, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(mine, np.ndarray):
            assert (mine.dtype, mine.shape, mine.tobytes()) == (other.dtype, other.shape, other.tobytes()), field.name
        else:
            assert mine == other, field.name


@pytest.mark.parametrize("number", [2, 3, 16])
def test_the_graph_has_the_same_bits_for_any_number_of_threads(number: int) -> None:
    for seed in range(4):
        model = random_model(seed, num_images=40)
        assert_same_bits(covisibility(model, 1, threads=1), covisibility(model, 1, threads=number))
        assert_same_bits(shared_points(model, 2, threads=1), shared_points(model, 2, threads=number))


def test_a_model_reads_the_same_for_any_number_of_threads(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    write_street(tmp_path / "bin", 30, 3000)
    one = colmap_binary.read(tmp_path / "bin", threads=1)
    assert_same_bits(one, colmap_binary.read(tmp_path / "bin", threads=3))
    assert_same_bits(shared_points(tmp_path / "bin", threads=1), shared_points(tmp_path / "bin", threads=3))
    (tmp_path / "txt").mkdir()
    pycolmap.Reconstruction(tmp_path / "bin").write_text(tmp_path / "txt")
    text = colmap_text.read(tmp_path / "txt", threads=1)
    assert_same_bits(text, colmap_text.read(tmp_path / "txt", threads=3))


def test_a_fault_is_the_same_line_in_threads(tmp_path: Path) -> None:
    write_street(tmp_path, 30, 3000)
    content = bytearray((tmp_path / "images.bin").read_bytes())
    content[-24:-16] = np.float64(np.nan).tobytes()
    (tmp_path / "images.bin").write_bytes(content)
    for number in (1, 3):
        with pytest.raises(Exception, match=r"image 'street/000029\.jpg' has an observation that is not finite"):
            colmap_binary.read(tmp_path, threads=number)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0], [5], [0, 9, 0, 1, 1], [1] * 50, [100, 0, 0, 1]])
@pytest.mark.parametrize("number", [1, 2, 7])
def test_blocks_are_all_rows_once_and_in_order(lengths: list[int], number: int) -> None:
    indptr = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))])
    blocks = over_blocks(lambda begin, end: (begin, end), indptr, number)
    assert [row for begin, end in blocks for row in range(begin, end)] == list(range(len(lengths)))


def test_little_work_is_not_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "ENTRIES_A_THREAD", 100)
    indptr = np.arange(0, 200, 10)
    assert over_blocks(lambda begin, end: (begin, end), indptr, 8) == [(0, 19)]


def test_the_environment_says_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_threads() >= 1
    monkeypatch.setenv(threads.VARIABLE, "3")
    assert default_threads() == 3


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_an_odd_number_of_threads_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(threads.VARIABLE, text)
    with pytest.raises(UsageError, match="SFM2TUPLES_THREADS is"):
        default_threads()


def test_a_worker_process_uses_one_thread() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(default_threads).result() == 1


def test_processes_that_torchrun_started_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for started, expected in (("", 8), ("1", 8), ("3", 2), ("16", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", started)
        assert default_threads() == expected
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv(threads.VARIABLE, "5")
    assert default_threads() == 5


@pytest.mark.parametrize("count", [0, 1, 63, 64, 1000])
def test_items_are_taken_as_they_are_needed_and_their_results_come_in_order(count: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(count):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(2) as pool:
        results = map_in_order(pool, lambda item: item * item, items(), ahead=2)
        for item in range(count):
            assert next(results) == item * item
            assert len(taken) <= (item // ITEMS_A_TASK + 4) * ITEMS_A_TASK
        assert next(results, None) is None
    assert taken == list(range(count))


def test_what_fails_is_raised_where_its_turn_is_and_nothing_more_is_begun() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item == 100:
            raise ValueError("no")
        done.append(item)
        return item

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="no"):
        list(map_in_order(pool, work, range(100_000), ahead=3))
    assert len(done) < 1000
