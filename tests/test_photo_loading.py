"""Photos of a tuple file come the same from the caller's thread, from threads and from processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import pytest
from decoding_spies import DEADLY, UNREADABLE, Spy
from test_training import SIZE, make_tuples

from retrieval.photos.augmentation import Augmentation, TupleChange
from retrieval.photos.decoding_processes import DecodingProcesses
from retrieval.photos.tuple_photos import PROCESSES, THREADS, TuplePhotos, default_decoders, default_workers
from sfm2tuples.errors import PhotoError, SfmTuplesError, UsageError
from sfm2tuples.mining.tuple_file import read_tuples
from tests.forked import Forked

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60
"""Long enough for anything here on a busy machine; what takes longer hangs."""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tuples(tmp_path_factory.mktemp("tuples") / "tuples.h5")


@pytest.fixture
def spied(tmp_path: Path) -> Iterator[DecodingProcesses]:
    processes = DecodingProcesses(2, Spy(tmp_path), photos=3, pixels=1)
    yield processes
    processes.close()


def started_by(pid: int) -> list[psutil.Process]:
    """All processes below a process."""
    return psutil.Process(pid).children(recursive=True)


def all_end(processes: list[psutil.Process]) -> bool:
    """Whether processes end, or have ended."""
    return psutil.wait_procs(processes, timeout=SECONDS)[1] == []


def decoding() -> set[int]:
    """Processes of ours that decode."""
    return {child.pid or 0 for child in multiprocessing.active_children() if child.name.startswith("decode-")}


def wait_until(happens) -> None:
    """Wait for something that must happen."""
    end = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


# --- the same photos ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_disk", [False, True])
def test_all_three_ways_give_the_same_bits_in_the_same_order(tmp_path: Path, on_disk: bool) -> None:
    tuples = read_tuples(make_tuples(tmp_path / "tuples.h5", root=tmp_path / "photos" if on_disk else None))
    rng = np.random.default_rng(1)
    groups = [rng.integers(0, 24, rng.integers(1, 10)).tolist() for _ in range(9)]
    augmentation = Augmentation(flip=0.5, colour=0.3, crop=0.4)
    changes = [TupleChange(augmentation, 5, 2, f"tuple {number}") for number in range(len(groups))]
    found = []
    for workers, decoders in ((0, THREADS), (2, THREADS), (1, PROCESSES), (2, PROCESSES)):
        with TuplePhotos(tuples, SIZE - 5, workers=workers, decoders=decoders) as photos:
            found.append([list(photos.in_order(groups)), list(photos.in_order(groups, changes))])
    plain, changed = found[0]
    assert [len(group) for group in plain] == [len(group) for group in groups]
    assert not all(np.array_equal(one[0], other[0]) for one, other in zip(plain, changed, strict=True))
    for other in found[1:]:
        for one, group in zip(plain + changed, other[0] + other[1], strict=True):
            assert all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(one, group, strict=True))


def test_no_groups_are_no_photos(packed: Path) -> None:
    with TuplePhotos(read_tuples(packed), SIZE, decoders=PROCESSES) as photos:
        assert list(photos.in_order([])) == []
        assert [len(group) for group in photos.in_order([[], [3], []])] == [0, 1, 0]


def test_photos_stay_as_they_are_while_the_next_are_decoded(packed: Path) -> None:
    with TuplePhotos(read_tuples(packed), SIZE, workers=1, decoders=PROCESSES) as photos:
        rows = [[row] for row in range(24)]
        kept = [group[0] for group in photos.in_order(rows)]
        assert all(np.array_equal(photo, photos.load(row)) for row, photo in enumerate(kept))


# --- processes ----------------------------------------------------------------------------------------------------


def test_processes_are_started_once_and_end_with_the_photos(packed: Path) -> None:
    with TuplePhotos(read_tuples(packed), SIZE, workers=2, decoders=PROCESSES) as photos:
        seen = []
        for groups in ([[0]], [[1, 2]], [[5] * 7, [6]]):
            list(photos.in_order(groups))
            seen.append(decoding())
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 2
    assert decoding() == set()


def test_at_most_one_group_more_than_workers_is_decoded_ahead(spied: DecodingProcesses, tmp_path: Path) -> None:
    groups = spied.in_order([[row] for row in range(20)])
    next(groups)
    wait_until(lambda: len(list(tmp_path.iterdir())) == 4)  # the one that was given, and three ahead
    time.sleep(0.2)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [0, 1, 2, 3]
    assert [int(photo[0, 0, 0]) for (photo,) in groups] == list(range(1, 20))


def test_each_process_uses_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    processes = DecodingProcesses(2, Spy(tmp_path), photos=1, pixels=1)
    list(processes.in_order([[0], [1]]))
    processes.close()
    told = [(tmp_path / name).read_text().split() for name in ("0", "1")]
    assert [threads for _, threads in told] == ["1", "1"]
    assert len({pid for pid, _ in told}) == 2
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "NUMBA_NUM_THREADS" not in os.environ


def test_a_process_need_not_load_torch_or_numba() -> None:
    loaded = "import sys; from retrieval.photos import augmentation, tuple_photos"
    loaded += "; print({'torch', 'numba'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out == "set()\n"


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_an_unreadable_photo_is_the_same_line_from_everywhere(tmp_path: Path) -> None:
    tuples = read_tuples(make_tuples(tmp_path / "tuples.h5", root=tmp_path / "photos"))
    (tmp_path / "photos/2/1.jpg").write_bytes(b"no photo")
    lines = set()
    for workers, decoders in ((0, THREADS), (2, THREADS), (2, PROCESSES)):
        with TuplePhotos(tuples, SIZE, workers=workers, decoders=decoders) as photos:
            groups = photos.in_order([[0, 1], [7], [2]])
            assert len(next(groups)) == 2
            with pytest.raises(PhotoError) as failure:
                next(groups)
        lines.add(str(failure.value))
    assert lines == {f"{tmp_path / 'photos/2/1.jpg'}: cannot be read as a photo (not a known format of photos)"}


def test_after_an_error_or_an_early_stop_photos_are_not_taken_for_others(spied: DecodingProcesses) -> None:
    with pytest.raises(PhotoError, match=r"404\.jpg: no such photo"):
        list(spied.in_order([[1], [UNREADABLE], [2], [3]]))
    left = spied.in_order([[10], [11], [12], [13], [14]])
    next(left)
    assert [int(photo[0, 0, 0]) for (photo,) in spied.in_order([[20], [21]])] == [20, 21]
    with pytest.raises(RuntimeError, match="a later iteration"):
        next(left)


def test_a_killed_process_ends_the_run_in_one_line(spied: DecodingProcesses) -> None:
    workers = [worker.process for worker in spied._workers]
    with pytest.raises(SfmTuplesError, match=r"has died \(killed by SIGKILL\); .* --resume$") as failure:
        list(spied.in_order([[row] for row in [*range(5), DEADLY, *range(20)]]))
    assert "\n" not in str(failure.value)
    assert not any(worker.is_alive() for worker in workers)


def test_a_process_killed_while_it_waits_is_noticed(spied: DecodingProcesses) -> None:
    list(spied.in_order([[1], [2]]))
    os.kill(spied._workers[1].process.pid, signal.SIGKILL)
    with pytest.raises(SfmTuplesError, match="killed by SIGKILL"):
        list(spied.in_order([[1], [2], [3]]))


def test_after_a_death_or_ctrl_c_photos_can_be_asked_for_again(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Connection) -> None:
        raise KeyboardInterrupt

    with TuplePhotos(read_tuples(packed), SIZE, decoders=PROCESSES) as photos:
        rows = [[row] for row in range(9)]
        groups = photos.in_order(rows)
        next(groups)
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "recv", interrupted)
            with pytest.raises(KeyboardInterrupt):
                next(groups)
        next(photos.in_order(rows))
        for pid in decoding():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(SfmTuplesError, match="killed by SIGKILL"):
            list(photos.in_order(rows))
        assert all(np.array_equal(photo, photos.load(row)) for row, (photo,) in enumerate(photos.in_order(rows)))


def test_a_script_without_a_guard_is_told(packed: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from retrieval.photos.tuple_photos import TuplePhotos\nfrom sfm2tuples.mining.tuple_file import read_tuples\n"
        f"photos = TuplePhotos(read_tuples({str(packed)!r}), 48, decoders='processes')\nlist(photos.in_order([[0]]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert run.returncode == 1
    assert "cannot start (exit code 1); a script that trains with processes needs `if __name__" in run.stderr


def test_ends_decode_elsewhere_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [default_decoders("cpu", 16), default_decoders("cuda", 4), default_decoders("cuda", 5)] == [
        THREADS,
        THREADS,
        PROCESSES,
    ]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    assert [default_workers("cpu"), default_workers("cuda")] == [2, 8]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert default_workers("cuda") == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert default_workers("cuda") == 2


def test_other_decoders_are_unknown(packed: Path) -> None:
    with pytest.raises(UsageError, match="decoders 'fibres' are unknown; one of threads, processes"):
        TuplePhotos(read_tuples(packed), SIZE, decoders="fibres")


# --- a command that is stopped ------------------------------------------------------------------------------------


def long_training(packed: Path, run: Path) -> list[str]:
    """The words of a training in two processes that does not end by itself."""
    words = ["train", str(packed), "-o", str(run), "--backbone", "squeezenet1_1", "--image-size", "48"]
    return [*words, "--rounds", "100000", "--no-remine", "--decoders", "processes", "--workers", "2"]


def started_once_it_has_begun(training: Forked | subprocess.Popen[str], run: Path) -> list[psutil.Process]:
    """All that a training has started, once it has trained for two rounds."""
    curves = run / "curves.csv"
    wait_until(lambda: training.poll() is not None or (curves.exists() and len(curves.read_text().splitlines()) > 2))
    return started_by(training.pid)


@pytest.fixture
def training_and_started(packed: Path, tmp_path: Path) -> Iterator[tuple[Forked, list[psutil.Process]]]:
    """A long training in processes, once it has begun: the command, and all that it started. It ends with the test."""
    run = tmp_path / "run"
    training = Forked(long_training(packed, run), tmp_path)
    try:
        yield training, started_once_it_has_begun(training, run)
    finally:
        training.kill()


def test_ctrl_c_leaves_one_line_and_no_process(packed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = subprocess.Popen(
        [sys.executable, "-m", "cli", *long_training(packed, run)], cwd=ROOT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        started = started_once_it_has_begun(training, run)
        assert len(started) >= 2
        os.killpg(training.pid, signal.SIGINT)
        _, told = training.communicate(timeout=SECONDS)
    finally:
        training.kill()
    assert training.returncode == 130
    assert "Traceback" not in told
    assert "interrupted: go on with: sfm2tuples train" in told
    assert all_end(started)


def test_a_killed_command_leaves_no_process(training_and_started: tuple[Forked, list[psutil.Process]]) -> None:
    training, started = training_and_started
    assert len(started) >= 2
    training.kill()
    assert training.wait(SECONDS) == -signal.SIGKILL
    assert "Traceback" not in training.stderr
    assert all_end(started)


def test_a_killed_process_ends_the_command_in_one_line(
    training_and_started: tuple[Forked, list[psutil.Process]],
) -> None:
    training, started = training_and_started
    workers = [process for process in started if "spawn_main" in " ".join(process.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    assert training.wait(SECONDS) == 1
    told = training.stderr
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("error: a process that decodes photos has died (killed by SIGKILL)")
    assert all_end(started)
