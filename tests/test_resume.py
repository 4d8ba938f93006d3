"""Builds that are interrupted, killed, resumed, or lose their workers: the index is as if nothing had happened."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hand_made import write_binary_model
from lost_workers import make_workers_slow

from sfm2tuples.errors import DataError, ModelError, UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.ingest.build import IngestOptions, IngestSummary, build_index
from sfm2tuples.ingest.jobs import GROUP_BYTES, GROUP_MODELS, Wanted, find_files, jobs_of
from sfm2tuples.ingest.part_building import Progress
from sfm2tuples.parts.work_folder import part_files, work_folder, work_path
from sfm2tuples.readers.discover import find_models
from tests.forked import Forked

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES = [f"{i}.jpg" for i in range(8)]
MODELS = 5


class Stopped(Exception):
    """Raised by a test in the middle of a build."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of models that have a job each, of different sizes, and two tiny ones that share a job."""
    for row in range(MODELS):
        write_binary_model(tmp_path / f"models/{row}/sparse/0", NAMES, 9000 + 500 * row, shift=row)
    for name in ("tiny1", "tiny2"):
        write_binary_model(tmp_path / f"models/{name}/sparse/0", NAMES[:3])
    return tmp_path / "models"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the index goes."""
    return tmp_path / "index.h5"


@pytest.fixture
def expected(root: Path, tmp_path: Path) -> bytes:
    """The index of an uninterrupted build."""
    build(root, tmp_path / "expected.h5")
    return (tmp_path / "expected.h5").read_bytes()


def build(root: Path, target: Path, **options: object) -> IngestSummary:
    """Build an index."""
    return build_index([root], target, IngestOptions(), **options)  # type: ignore[arg-type]


def stop_after(models: int) -> Callable[[Progress], None]:
    """A progress callback that stops the build."""

    def stop(progress: Progress) -> None:
        if progress.models >= models:
            raise Stopped

    return stop


def interrupted(root: Path, target: Path, models: int = 3) -> None:
    """A build that stops after some models."""
    with pytest.raises(Stopped):
        build(root, target, progress=stop_after(models))
    assert part_files(work_path(target))
    assert not target.exists()


def read_again(root: Path, target: Path) -> int:
    """How many models a resumed build reads."""
    seen: list[Progress] = []
    build(root, target, resume=True, progress=seen.append)
    assert seen[-1].models == MODELS + 2
    return seen[-1].models - seen[0].models


def command(root: Path, target: Path, *more: str) -> list[str]:
    """The command line of a build."""
    return [sys.executable, "-m", "cli", "build-index", str(root), "-o", str(target), "--force", "--quiet", *more]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start a command, in a process group of its own."""
    return subprocess.Popen(arguments, cwd=REPOSITORY, stderr=subprocess.PIPE, start_new_session=True)


def forked(root: Path, target: Path) -> Forked:
    """Start a build that need not import packages first."""
    return Forked(["build-index", root, "-o", target, "--force", "--quiet"], target.parent)


def started(root: Path, target: Path, jobs: int) -> Forked | subprocess.Popen[bytes]:
    """Start a build and wait until its work begins; that of workers begins when the first has imported packages."""
    process = forked(root, target) if jobs == 1 else start(command(root, target, "--jobs", str(jobs)))
    folder = work_path(target)
    while not (folder.exists() if jobs == 1 else part_files(folder)) and process.poll() is None:
        time.sleep(0.001)
    return process


def test_a_resumed_build_reads_only_what_is_missing(root: Path, target: Path, expected: bytes) -> None:
    interrupted(root, target, 3)
    assert read_again(root, target) == MODELS + 2 - 3
    assert target.read_bytes() == expected
    assert not work_path(target).exists()


def test_a_resumed_build_takes_other_options_into_account(root: Path, target: Path, tmp_path: Path) -> None:
    interrupted(root, target)
    build_index([root], target, IngestOptions(min_shared=9100), resume=True)
    build_index([root], tmp_path / "fresh.h5", IngestOptions(min_shared=9100))
    assert target.read_bytes() == (tmp_path / "fresh.h5").read_bytes()
    assert read_header(target).options["min_shared"] == 9100


def test_resume_with_nothing_to_go_on_from_builds(root: Path, target: Path, expected: bytes) -> None:
    build(root, target, resume=True)
    assert target.read_bytes() == expected


def test_without_resume_a_build_begins_anew_and_says_so(
    root: Path, target: Path, expected: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(root, target)
    caplog.clear()
    seen: list[Progress] = []
    build(root, target, progress=seen.append)
    assert seen[0].models == 0
    assert target.read_bytes() == expected
    assert ["--resume would have gone on" in r.getMessage() for r in caplog.records].count(True) == 1


@pytest.mark.parametrize("damage", ["short", "zeros"])
def test_a_torn_part_is_made_again(root: Path, target: Path, expected: bytes, damage: str) -> None:
    interrupted(root, target, 3)
    part = part_files(work_path(target))[0]
    content = part.read_bytes()
    half = content[: len(content) // 2]
    part.write_bytes(half if damage == "short" else half + bytes(len(content) - len(half)))
    assert read_again(root, target) == MODELS + 2 - 2
    assert target.read_bytes() == expected


def test_a_model_that_changed_since_is_read_anew(root: Path, target: Path, tmp_path: Path) -> None:
    interrupted(root, target, 3)
    largest = root / str(MODELS - 1) / "sparse/0"
    for file in largest.iterdir():
        file.unlink()
    largest.rmdir()
    write_binary_model(largest, NAMES, 9000 + 500 * (MODELS - 1), shift=99)
    assert read_again(root, target) == MODELS + 2 - 2
    build(root, tmp_path / "fresh.h5")
    assert target.read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_a_strict_build_goes_on_once_the_model_is_mended(
    root: Path, target: Path, expected: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    broken = root / "0/sparse/0/cameras.bin"
    content = broken.read_bytes()
    broken.write_bytes(content[:-1])
    with pytest.raises(ModelError, match=r"0/sparse/0/cameras\.bin"):
        build(root, target, strict=True)
    assert "--resume" in caplog.records[-1].getMessage()
    broken.write_bytes(content)
    assert read_again(root, target) < MODELS + 2
    assert target.read_bytes() == expected


def test_a_strange_folder_among_the_parts_is_removed_with_them(tmp_path: Path) -> None:
    target = tmp_path / "index.h5"
    (work_path(target) / "folder").mkdir(parents=True)
    with work_folder(target, False) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["lock"]


def test_two_builds_of_one_target_do_not_meet(root: Path, target: Path, expected: bytes) -> None:
    with work_folder(target, False), pytest.raises(DataError, match="another process"):
        build(root, target)
    build(root, target)
    assert target.read_bytes() == expected


def test_what_a_killed_writer_left_is_removed(root: Path, target: Path) -> None:
    stale = target.with_name(f".{target.name}.123-abcd.part")
    others = [target.with_name(f".{target.name}.bak.1-a.part"), target.with_name("x.part")]
    for file in (stale, *others):
        file.write_bytes(b"half")
    build(root, target)
    assert not stale.exists()
    assert all(file.exists() for file in others)


def test_tiny_models_share_a_job_and_the_largest_come_first(root: Path, tmp_path: Path) -> None:
    for row in range(GROUP_MODELS + 1):
        write_binary_model(root / f"z{row:04d}/sparse/0", NAMES[:2], 2)
    found = [find_files(location, Wanted()) for location in sorted(find_models([root]), key=lambda m: m.name)]
    jobs = jobs_of(found, tmp_path, Wanted())
    assert sorted(m.location.name for job in jobs for m in job.models) == [m.location.name for m in found]
    assert [job.size for job in jobs] == sorted((job.size for job in jobs), reverse=True)
    assert all(len(job.models) == 1 or job.size <= GROUP_BYTES for job in jobs)
    assert sorted(len(job.models) for job in jobs) == [1] * MODELS + [3, GROUP_MODELS]


@pytest.mark.parametrize(("jobs", "moments"), [(1, 8), (2, 4)])
def test_killed_at_any_moment_the_index_is_absent_or_whole(
    root: Path, target: Path, expected: bytes, jobs: int, moments: int
) -> None:
    """Moments are spread from the start of the work, which importing packages delays, to just after its end.

    Whether one of them leaves parts behind is luck; the tests of exact states below and above do not depend on it.
    """
    lengths = []
    for _ in range(2):  # The first may compile, which would put all moments behind the end of the others.
        target.unlink(missing_ok=True)
        process = started(root, target, jobs)
        began = time.perf_counter()
        assert process.wait() == 0
        lengths.append(time.perf_counter() - began)
    length = min(lengths)
    for moment in range(moments):
        old = b"old" if moment % 2 else None
        target.unlink()
        if old:
            target.write_bytes(old)
        process = started(root, target, jobs)
        time.sleep(length * 1.1 * moment / moments)
        with suppress(ProcessLookupError):  # It may have ended by then.
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        found = target.read_bytes() if target.exists() else None
        assert found in (old, expected), moment
        build(root, target, resume=True)
        assert target.read_bytes() == expected, moment
        assert sorted(path.name for path in target.parent.glob(".index*")) == [], moment


@pytest.mark.parametrize("state", ["one part", "most parts", "writing the index"])
def test_killed_in_a_certain_state_the_build_goes_on(root: Path, target: Path, expected: bytes, state: str) -> None:
    def reached() -> bool:
        if state == "writing the index":
            return any(target.parent.glob(f".{target.name}.*-*.part"))
        return len(part_files(work_path(target))) >= (1 if state == "one part" else MODELS - 1)

    process = forked(root, target)
    while not reached() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not target.exists() or target.read_bytes() == expected
    build(root, target, resume=True)
    assert target.read_bytes() == expected
    assert list(target.parent.glob(".index*")) == []


def test_workers_end_when_the_build_is_killed(
    root: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workers_slow(tmp_path, 0.5, monkeypatch)
    process = start(command(root, target, "--jobs", "2"))
    while not part_files(work_path(target)):
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    assert psutil.wait_procs(workers, timeout=10)[1] == []


def test_an_interrupted_command_says_how_to_go_on(
    root: Path, target: Path, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workers_slow(tmp_path, 0.3, monkeypatch)
    process = start(command(root, target, "--jobs", "2"))
    while not part_files(work_path(target)):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "interrupted: go on with the same command and --resume"
    assert b"Traceback" not in errors
    build(root, target, resume=True)
    assert target.read_bytes() == expected


def test_a_killed_worker_loses_only_its_model_which_is_read_again(
    root: Path, target: Path, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workers_slow(tmp_path, 0.2, monkeypatch)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.models and not killed:
            killed.append(multiprocessing.active_children()[0].pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    summary = build(root, target, jobs=2, progress=kill_one)
    assert killed
    assert summary.failed == []
    assert target.read_bytes() == expected


def test_a_model_that_always_kills_its_worker_is_left_out(
    root: Path,
    target: Path,
    tmp_path: Path,
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Tiny, so that it shares its job with others, which are saved."""
    make_workers_slow(tmp_path, 0, monkeypatch)
    write_binary_model(root / "tiny_always/always_kills/sparse/0", NAMES[:2])
    summary = build(root, target, jobs=2)
    assert len(summary.failed) == 1
    assert "always_kills/sparse/0: the process that read it died" in summary.failed[0]
    assert next(r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING) == summary.failed[0]
    assert target.read_bytes() == expected


def test_a_strict_build_stops_at_a_model_that_kills_its_worker(
    root: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workers_slow(tmp_path, 0, monkeypatch)
    write_binary_model(root / "always_kills/sparse/0", NAMES[:2])
    with pytest.raises(ModelError, match="the process that read it died"):
        build(root, target, jobs=2, strict=True)
    assert not target.exists()


def test_workers_that_cannot_start_are_one_error(root: Path, target: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from sfm2tuples.ingest.build import IngestOptions, build_index\n"
        f"build_index([Path({str(root)!r})], Path({str(target)!r}), IngestOptions(), jobs=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert UsageError.__name__ in run.stderr.splitlines()[-1]
    assert "__main__" in run.stderr.splitlines()[-1]
