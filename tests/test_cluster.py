"""Builds on a Dask cluster of two worker processes on this machine: the same bytes, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from click.testing import CliRunner
from distributed import Client, LocalCluster
from hand_made import write_binary_model
from lost_workers import make_workers_slow

from cli.main import group
from sfm2tuples.compute.dask_cluster import HOPELESS, DaskCluster
from sfm2tuples.compute.worker_pools import DeadWorkerError
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.ingest.part_building import Progress
from sfm2tuples.parts.work_folder import part_files, work_path

NAMES = [f"{i}.jpg" for i in range(8)]


@contextmanager
def slow_cluster(folder: Path) -> Iterator[str]:
    """Address of a cluster whose workers take a while for each model."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_workers_slow(folder, 0.2, monkeypatch)
        # Dask tries a job on four workers before it gives up; here on two, since each takes seconds to start.
        dask.config.set({"distributed.scheduler.allowed-failures": 1})
        with LocalCluster(n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None) as cluster:
            yield cluster.scheduler_address


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a cluster that all its workers outlive."""
    with slow_cluster(tmp_path_factory.mktemp("slow")) as address:
        yield address


@pytest.fixture
def wounded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a cluster for one test that kills workers: on a busy machine Dask does not always replace them."""
    with slow_cluster(tmp_path_factory.mktemp("slow")) as address:
        yield address


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of models that have a job each, and two tiny ones that share a job."""
    for row in range(6):
        write_binary_model(tmp_path / f"models/{row}/sparse/0", NAMES, 9000 + 500 * row, shift=row)
    for name in ("tiny1", "tiny2"):
        write_binary_model(tmp_path / f"models/{name}/sparse/0", NAMES[:3])
    return tmp_path / "models"


@pytest.fixture
def expected(root: Path, tmp_path: Path) -> bytes:
    """The index that this process builds alone."""
    build_index([root], tmp_path / "expected.h5", IngestOptions())
    return (tmp_path / "expected.h5").read_bytes()


def test_one_worker_two_workers_and_a_cluster_write_the_same_bytes(
    root: Path, tmp_path: Path, expected: bytes, url: str
) -> None:
    build_index([root], tmp_path / "two.h5", IngestOptions(), jobs=2)
    build_index([root], tmp_path / "lean.h5", IngestOptions(keep="graph"))
    for name, more in (("dask", []), ("lean_dask", ["--keep", "graph"])):
        words = ["build-index", str(root), "-o", str(tmp_path / f"{name}.h5"), "--dask", url, *more]
        result = CliRunner().invoke(group, words)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "two.h5").read_bytes() == expected
    assert (tmp_path / "dask.h5").read_bytes() == expected
    assert (tmp_path / "lean_dask.h5").read_bytes() == (tmp_path / "lean.h5").read_bytes()
    assert not work_path(tmp_path / "dask.h5").exists()


def test_a_worker_killed_in_the_middle_changes_nothing(
    root: Path, tmp_path: Path, expected: bytes, wounded_url: str
) -> None:
    with Client(wounded_url, set_as_default=False) as client:
        workers = client.run(os.getpid)
    assert len(workers) == 2
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.models and not killed:
            killed.append(next(iter(workers.values())))
            os.kill(killed[0], signal.SIGKILL)

    summary = build_index([root], tmp_path / "index.h5", IngestOptions(), dask=wounded_url, progress=kill_one)
    assert killed
    assert summary.failed == []
    assert (tmp_path / "index.h5").read_bytes() == expected


def test_a_model_that_always_kills_its_worker_is_left_out(
    root: Path, tmp_path: Path, expected: bytes, wounded_url: str
) -> None:
    write_binary_model(root / "tiny_always/always_kills/sparse/0", NAMES[:2])
    summary = build_index([root], tmp_path / "index.h5", IngestOptions(), dask=wounded_url)
    assert len(summary.failed) == 1
    assert "always_kills/sparse/0: the process that read it died" in summary.failed[0]
    assert (tmp_path / "index.h5").read_bytes() == expected


def test_a_broken_model_is_reported_as_without_a_cluster(root: Path, tmp_path: Path, url: str) -> None:
    (root / "3/sparse/0/cameras.bin").write_bytes(b"")
    alone = build_index([root], tmp_path / "alone.h5", IngestOptions())
    cluster = build_index([root], tmp_path / "cluster.h5", IngestOptions(), dask=url)
    assert alone.failed == cluster.failed
    assert (tmp_path / "alone.h5").read_bytes() == (tmp_path / "cluster.h5").read_bytes()


def test_a_cluster_goes_on_with_what_this_process_began(root: Path, tmp_path: Path, expected: bytes, url: str) -> None:
    target = tmp_path / "index.h5"

    def stop(progress: Progress) -> None:
        if progress.models >= 3:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        build_index([root], target, IngestOptions(), progress=stop)
    assert len(part_files(work_path(target))) == 3
    seen: list[Progress] = []
    build_index([root], target, IngestOptions(), dask=url, resume=True, progress=seen.append)
    assert seen[0].models == 3
    assert target.read_bytes() == expected


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere", "http://127.0.0.1:9", "tcp://"])
def test_a_scheduler_that_does_not_answer_is_one_line(
    root: Path, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfm2tuples.compute.dask_cluster.CONNECT_SECONDS", 1)
    with pytest.raises(DataError, match="no Dask scheduler answers there") as error:
        build_index([root], tmp_path / "index.h5", IngestOptions(), dask=address)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_a_port_that_answers_nothing_is_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfm2tuples.compute.dask_cluster.CONNECT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DataError, match="no Dask scheduler answers there"):
            build_index([root], tmp_path / "index.h5", IngestOptions(), dask=address)


def test_a_cluster_without_workers_is_waited_for_with_a_word_and_then_given_up(
    root: Path, tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It has one, loses it after some models, and the same command goes on from these."""
    monkeypatch.setattr("sfm2tuples.compute.worker_pools.LOOK_SECONDS", 0.5)
    target = tmp_path / "index.h5"
    with LocalCluster(n_workers=1, processes=True, threads_per_worker=1, dashboard_address=None) as cluster:

        def lose(progress: Progress) -> None:
            if progress.models:
                cluster.scale(0)

        with pytest.raises(DataError, match=r"the cluster has had no workers for \d+ seconds; start workers"):
            build_index(
                [root], target, IngestOptions(), dask=cluster.scheduler_address, dask_timeout=1.5, progress=lose
            )
    assert "no workers; waiting since" in caplog.text
    assert part_files(work_path(target))
    build_index([root], target, IngestOptions(), resume=True)
    assert target.read_bytes() == expected


def test_without_the_package_the_error_names_the_extra(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"sfm2tuples\[cluster\]"):
        build_index([root], tmp_path / "index.h5", IngestOptions(), dask="tcp://127.0.0.1:9")


def test_a_job_that_ends_shows_that_the_cluster_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs end all the time, so that nobody asks after workers; then all are lost, and the waiting begins only then."""
    now = [0.0]
    monkeypatch.setattr("sfm2tuples.compute.dask_cluster.time.monotonic", lambda: now[0])
    monkeypatch.setattr(DaskCluster, "__init__", lambda self: None)
    monkeypatch.setattr(DaskCluster, "_trouble", lambda self: "the cluster has had no workers")
    cluster = DaskCluster()  # type: ignore[call-arg]
    cluster._url, cluster._timeout, cluster._well_at, cluster._killed = "url", 300.0, 0.0, ValueError
    cluster._deaths = 0
    done: Future[int] = Future()
    done.set_result(7)
    now[0] = 1000.0
    assert cluster.outcome(done) == 7
    now[0] = 1010.0
    cluster.check_workers()
    now[0] = 1301.0
    with pytest.raises(DataError, match="for 301 seconds"):
        cluster.check_workers()


def test_workers_that_die_of_every_job_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One job that is done shows that it is the jobs that are at fault, however many kill their worker after it."""
    monkeypatch.setattr(DaskCluster, "__init__", lambda self: None)
    dead: Future[int] = Future()
    dead.set_exception(ValueError())
    done: Future[int] = Future()
    done.set_result(7)
    for first in (dead, done):
        cluster = DaskCluster()  # type: ignore[call-arg]
        cluster._url, cluster._killed, cluster._deaths = "tcp://here:1", ValueError, 0
        outcomes = []
        for future in [first] + [dead] * (HOPELESS - 1):
            try:
                outcomes.append(cluster.outcome(future))
            except (DeadWorkerError, DataError) as error:
                outcomes.append(type(error))
        given_up = first is dead
        assert outcomes[1:-1] == [DeadWorkerError] * (HOPELESS - 2)
        assert outcomes[-1] is (DataError if given_up else DeadWorkerError)


def test_a_relative_root_is_built_on_a_cluster_as_an_absolute_one(
    root: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "0/images").mkdir()
    for name in NAMES:
        (root / "0/images" / name).write_bytes(name.encode())
    build_index([root], tmp_path / "alone.h5", IngestOptions())
    monkeypatch.chdir(tmp_path)
    build_index([Path("models")], tmp_path / "cluster.h5", IngestOptions(), dask=url)
    assert (tmp_path / "cluster.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()
