"""Extraction by shards on a cluster: the bytes of a run of one thread, whatever is interrupted, killed or full.

Most tests put a pool of this process in the cluster's place; those that name a URL have a cluster of two workers.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from hand_made import run, write_scene
from PIL import Image
from textures import texture
from worlds import unit_rows

from retrieval.descriptors import on_cluster, shards
from retrieval.descriptors.extraction import ExtractionOptions, extract_readable
from retrieval.descriptors.on_cluster import ClusterOptions, described_on_cluster
from retrieval.descriptors.shard_parts import read_shard_part
from retrieval.descriptors.shards import describe_shard, gpu_of, shards_of, split_shard
from retrieval.networks.checkpoints import save_checkpoint
from retrieval.networks.network import build_network
from retrieval.photos.sources import photos_of
from retrieval.whitening import projection
from retrieval.whitening.projection import Whitening, write_whitening
from sfm2tuples.compute.worker_pools import DeadWorkerError, ThisProcess
from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.parts.work_folder import part_files, work_path

PHOTOS = 23
SIZES = [(64, 48), (48, 64), (60, 50), (64, 48)]
FLAGS = ("--network", "network.pt", "--image-size", "48")
DASK = ("--dask", "tcp://here:1")
OTHER_FLAGS = {
    "plain": (),
    "scales": ("--scales", "1,0.7071", "--upright", "exif"),
    "whitened": ("--whitening", "w.h5", "--dim", "8"),
    "hloc": ("--layout", "hloc"),
}


class Pool(ThisProcess):
    """In the place of a cluster: does jobs in this process until one befalls it."""

    def __init__(self, before: Callable[[Any], None]) -> None:
        self._before = before

    def submit(self, work: Callable[[Any], Any], job: Any) -> Future[Any]:
        """Do a job that has travelled as to another machine."""
        self._before(job)
        return super().submit(work, pickle.loads(pickle.dumps(job)))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Workers keep PyTorch to one thread, and so does what they are compared with."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos, two of which cannot be read, a network and a whitening; shards of four photos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards, "SMALLEST", 4)
    monkeypatch.setattr(shards, "SHARDS", 4096)
    (tmp_path / "photos/deep").mkdir(parents=True)
    for number in range(PHOTOS - 2):
        name = f"{'deep/' if number % 3 else ''}{number:02d}.jpg"
        Image.fromarray(texture(number, *SIZES[number % 4])).save(f"photos/{name}", quality=90)
    (tmp_path / "photos/05x.jpg").write_bytes(b"no photo")
    (tmp_path / "photos/99.jpg").write_bytes((tmp_path / "photos/00.jpg").read_bytes()[:200])
    network = build_network("squeezenet1_1", "gem")
    save_checkpoint("network.pt", network)
    rng = np.random.default_rng(0)
    write_whitening("w.h5", Whitening(rng.normal(size=512) / 50, rng.normal(size=(16, 512)), "lw", 0.0))
    return tmp_path


@pytest.fixture
def befalls(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[Any], None]]:
    """What is called with each job before it is done; a cluster in this process."""
    calls: list[Callable[[Any], None]] = []

    def before(job: Any) -> None:
        for call in calls:
            call(job)

    monkeypatch.setattr(on_cluster, "DaskCluster", lambda url, timeout: Pool(before))
    return calls


def extract(source: str, target: str, *more: str) -> int:
    """Run the command."""
    return run("extract", source, "-o", target, *FLAGS, *more, "--quiet")


def counted(calls: list[Callable[[Any], None]]) -> list[int]:
    """From now on the number of photos of each job."""
    seen: list[int] = []
    calls.append(lambda job: seen.append(len(job.rows)))
    return seen


def interrupt_after(jobs: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[Any], None]:
    """Raises before the next job."""
    done: list[int] = []

    def interrupt(job: Any) -> None:
        if len(done) == jobs:
            raise error
        done.append(1)

    return interrupt


def interrupted(calls: list[Callable[[Any], None]], jobs: int = 2) -> None:
    """An extraction that Ctrl-C ends after some jobs, which leave parts."""
    calls.append(interrupt_after(jobs))
    assert extract("photos", "d.h5", *DASK) == 130
    calls.clear()
    assert len(part_files(work_path(Path("d.h5")))) == jobs
    assert not Path("d.h5").exists()


@pytest.mark.parametrize("flags", OTHER_FLAGS.values(), ids=OTHER_FLAGS)
def test_shards_have_the_bytes_of_one_run(world, befalls, flags, capsys) -> None:
    assert extract("photos", "plain.h5", *flags) == 0
    alone = capsys.readouterr().err
    seen = counted(befalls)
    assert extract("photos", "d.h5", *flags, *DASK) == 0
    assert seen == [4, 4, 4, 4, 4, 3]
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()
    assert capsys.readouterr().err == alone
    assert "2 photos could not be read" in alone
    assert not work_path(Path("d.h5")).exists()


@pytest.fixture
def sources(world: Path) -> Path:
    """The same photos as a list, a table with queries, an index in which one has two names, and packed photos."""
    names = sorted(path.relative_to("photos").as_posix() for path in Path("photos").rglob("*.jpg"))
    Path("photos/some.txt").write_text("".join(f"{name}\n" for name in names[::-1]))
    rows = "".join(f"{name},{row % 3},{'query' if row % 4 == 0 else 'database'}\n" for row, name in enumerate(names))
    Path("photos/labels.csv").write_text(f"image,label,role\n{rows}")
    whole = [Path("photos", name).read_bytes() for name in names if name not in ("05x.jpg", "99.jpg")]
    for row, scene in enumerate("abc"):
        photos = {f"{scene}{number}.jpg": whole[5 * row + number] for number in range(5)}
        write_scene(world / "models", scene, {**photos, f"{scene}9.jpg": whole[5 * row]}, num_points=20)
    assert run("build-index", "models", "-o", "index.h5", "--val-share", "0.34", "--quiet") == 0
    keys = photos_of(Path("index.h5")).keys
    write_descriptors("random.h5", Descriptors(keys, unit_rows(np.random.default_rng(0), len(keys), 8)))
    mining = ("--descriptors", "random.h5", "--num-negatives", "1", "--query-share", "0.5", "--pack-images", "48")
    assert run("mine-tuples", "index.h5", "-o", "tuples.h5", *mining, "--quiet") == 0
    return world


def test_every_kind_of_source_is_described_alike(sources, befalls) -> None:
    for source in ("photos/some.txt", "photos/labels.csv", "index.h5", "tuples.h5"):
        befalls.clear()
        assert extract(source, "plain.h5", "--force") == 0
        seen = counted(befalls)
        assert extract(source, "d.h5", "--force", *DASK) == 0
        assert len(seen) > 2
        assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes(), source
        assert sum(seen) == {"index.h5": 15}.get(source, len(photos_of(Path(source)).keys))


def test_photos_that_travel_take_nothing_of_the_others_with_them(sources) -> None:
    photos = photos_of(Path("tuples.h5"), size=48).sources
    some = pickle.loads(pickle.dumps(photos.portable(np.array([7, 2, 11]))))
    assert [one() for one in some] == [photos[row]() for row in (7, 2, 11)]
    assert len(some.roots[0]._start) == 3
    images = photos_of(Path("index.h5")).sources
    assert len(images.portable(np.array([0, 1])).roots) == 1
    both = (images + photos).portable(np.array([len(images) + 3, 0]))
    assert [both[0](), both[1]] == [photos[3](), images[0].absolute()]
    assert len(images.portable(np.zeros(0, np.int64))) == 0


def test_without_photos_or_without_missing_ones_there_is_no_shard(world) -> None:
    photos = photos_of(Path("photos"))
    work: Any = None
    assert shards_of(work, photos.keys, photos.sources, np.zeros(0, np.int64)) == []
    (one,) = shards_of(work, photos.keys, photos.sources, np.array([3]))
    assert split_shard(one) == []
    (three,) = shards_of(work, photos.keys, photos.sources, np.array([3, 8, 9]))
    pieces = split_shard(three)
    assert [piece.rows.tolist() for piece in pieces] == [[3], [8], [9]]
    assert [name for piece in pieces for name in piece.names] == [photos.keys[row] for row in (3, 8, 9)]
    assert [str(source) for piece in pieces for source in piece.sources] == [str(s) for s in three.sources]


@pytest.mark.parametrize(("photos", "size"), [(1, 16), (4096, 16), (4097, 17), (65536, 256), (7_400_000, 256)])
def test_few_photos_make_small_shards(photos: int, size: int) -> None:
    class Nowhere:
        """Sources that are not looked at."""

        def portable(self, rows: np.ndarray) -> np.ndarray:
            return rows

    work: Any = None
    nowhere: Any = Nowhere()
    (shard, *_) = shards_of(work, range(photos), nowhere, np.arange(min(photos, 1000)))
    assert len(shard.rows) == min(size, photos)


def test_ctrl_c_leaves_parts_and_resume_goes_on(world, befalls, capsys) -> None:
    assert extract("photos", "plain.h5") == 0
    interrupted(befalls)
    assert "go on with the same command and --resume" in capsys.readouterr().err
    seen = counted(befalls)
    assert extract("photos", "d.h5", *DASK, "--resume") == 0
    assert sum(seen) == PHOTOS - 8
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


def test_whole_parts_need_no_cluster(world, befalls) -> None:
    """The last write failed: what is left is to merge."""
    assert extract("photos", "plain.h5") == 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("retrieval.photos.origins.origins_of", interrupt_after(0, OSError))
        assert extract("photos", "d.h5", *DASK) == 1
    befalls.append(interrupt_after(0, AssertionError))
    assert extract("photos", "d.h5", *DASK, "--resume") == 0
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


@pytest.mark.parametrize("other", [("--image-size", "40"), ("--network", "other.pt"), ("--precision", "bf16")])
def test_parts_of_other_options_are_refused(world, befalls, other, capsys) -> None:
    torch.manual_seed(1)
    save_checkpoint("other.pt", build_network("squeezenet1_1", "gem", seed=1))
    assert extract("photos", "plain.h5", *other) == 0
    interrupted(befalls)
    seen = counted(befalls)
    assert extract("photos", "d.h5", *DASK, "--resume", *other) == 0
    assert sum(seen) == PHOTOS
    assert "2 of 2 parts were made by another network or other options, and are not used" in capsys.readouterr().err
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


def test_another_whitening_or_layout_goes_on_with_the_same_parts(world, befalls) -> None:
    assert extract("photos", "plain.h5", *OTHER_FLAGS["whitened"]) == 0
    interrupted(befalls)
    seen = counted(befalls)
    assert extract("photos", "d.h5", *DASK, "--resume", *OTHER_FLAGS["whitened"]) == 0
    assert sum(seen) == PHOTOS - 8
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


def test_a_changed_a_mended_and_a_new_photo_are_described_on_resume(world, befalls) -> None:
    interrupted(befalls, 5)
    Image.fromarray(texture(77, 64, 48)).save("photos/00.jpg", quality=90)
    Image.fromarray(texture(78, 64, 48)).save("photos/05x.jpg", quality=90)
    Image.fromarray(texture(79, 64, 48)).save("photos/01new.jpg", quality=90)
    Path("photos/03.jpg").unlink()
    seen = counted(befalls)
    assert extract("photos", "d.h5", *DASK, "--resume") == 0
    assert extract("photos", "plain.h5") == 0
    assert sum(seen) == PHOTOS - 20 + 3
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


@pytest.mark.parametrize("damage", ["short", "zeros", "header"])
def test_a_torn_part_is_made_again(world, befalls, damage) -> None:
    assert extract("photos", "plain.h5") == 0
    interrupted(befalls)
    part = part_files(work_path(Path("d.h5")))[0]
    content = part.read_bytes()
    torn = {
        "short": content[:-5],
        "zeros": content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
        "header": content.replace(b'"readable": [0', b'"readable": [9'),
    }
    assert torn[damage] != content
    part.write_bytes(torn[damage])
    with pytest.raises(FileFormatError, match="torn part"):
        read_shard_part(part, check=True)
    seen = counted(befalls)
    assert extract("photos", "d.h5", *DASK, "--resume") == 0
    assert sum(seen) == PHOTOS - 4
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


def test_the_network_is_loaded_once_and_runs_on_one_thread(world, befalls, monkeypatch) -> None:
    loads, threads = [], []
    load = shards.load_network
    monkeypatch.setattr(shards, "load_network", lambda path: loads.append(path) or load(path))

    def spied(*arguments: Any, **options: Any) -> Any:
        threads.append(torch.get_num_threads())
        return extract_readable(*arguments, **options)

    monkeypatch.setattr(shards, "extract_readable", spied)
    torch.set_num_threads(2)
    assert extract("photos", "d.h5", *DASK) == 0
    assert len(loads) == 1
    assert threads == [1] * 6
    save_checkpoint("network.pt", build_network("squeezenet1_1", "gem", seed=5))
    assert extract("photos", "other.h5", *DASK) == 0
    assert len(loads) == 2
    assert not np.allclose(read_descriptors("other.h5").values, read_descriptors("d.h5").values)


def test_a_photo_that_kills_every_worker_is_named_in_one_line(world, befalls, monkeypatch, capsys) -> None:
    def die(job: Any) -> None:
        if "deep/07.jpg" in job.names:
            raise DeadWorkerError

    def submit(self: Pool, work: Callable[[Any], Any], job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            self._before(job)
            future.set_result(work(job))
        except DeadWorkerError as death:
            future.set_exception(death)
        return future

    monkeypatch.setattr(Pool, "submit", submit)
    befalls.append(die)
    assert extract("photos", "d.h5", *DASK) == 0
    warned = capsys.readouterr().err.splitlines()
    assert [line for line in warned if line.startswith("WARNING")] == [
        "WARNING: deep/07.jpg: the worker that described it died each time, perhaps for want of memory"
    ]
    Path("photos/deep/07.jpg").unlink()
    assert extract("photos", "plain.h5") == 0
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


def test_a_photo_that_killed_every_worker_ends_a_strict_run_and_is_tried_again(world, befalls, capsys) -> None:
    Path("photos/05x.jpg").unlink()
    Path("photos/99.jpg").unlink()
    network = build_network("squeezenet1_1", "gem")
    found = on_cluster._Found(photos_of(Path("photos")), np.arange(PHOTOS - 2), network.dimension)
    found.lose(np.array([4]), ["deep/04.jpg"])
    assert not found.done.any()
    assert [str(error) for error in found.failures_in_order()] == [f"deep/04.jpg: {on_cluster.DIED}"]


def test_workers_that_do_not_see_the_photos_are_refused(world, befalls, monkeypatch, capsys) -> None:
    monkeypatch.setattr(shards, "photo_stamp", lambda source: None)
    assert extract("photos", "d.h5", *DASK) == 1
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "a worker does not see" in error
    assert "photos/05x.jpg, which is there; photos and output must lie under the same paths everywhere" in error


def test_workers_that_write_elsewhere_are_refused(world, befalls, monkeypatch, capsys) -> None:
    monkeypatch.setattr(shards, "write_shard_part", lambda *arguments: None)
    assert extract("photos", "d.h5", *DASK) == 1
    assert "tcp://here:1: does not see what its workers write into" in capsys.readouterr().err
    assert not work_path(Path("d.h5")).exists()


def test_workers_without_the_work_folder_say_so(world) -> None:
    photos = photos_of(Path("photos"))
    work = shards.ShardWork(world / "nowhere/network.pt", "", ExtractionOptions(), None, "", "")
    (shard,) = shards_of(work, photos.keys, photos.sources, np.array([1]))
    with pytest.raises(DataError, match="nowhere: is not there on the machine of a worker; photos and output"):
        describe_shard(shard)


def test_a_full_disk_of_a_worker_is_one_line_and_room_lets_it_go_on(world, befalls, capsys) -> None:
    assert extract("photos", "plain.h5") == 0
    before, before_limits = [], resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(job: Any) -> None:
        before.append(job)
        if len(before) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before_limits[1]))

    befalls.append(fill)
    try:
        assert extract("photos", "d.h5", *DASK) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before_limits)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("error")] == [
        f"error: {before[2].part}: File too large; make room, and run again with --resume"
    ]
    assert "WARNING: what was done is kept; the same command with --resume goes on from it" in said
    assert len(part_files(work_path(Path("d.h5")))) == 2
    assert not Path("d.h5").exists()
    befalls.clear()
    seen = counted(befalls)
    assert extract("photos", "d.h5", *DASK, "--resume") == 0
    assert sum(seen) == PHOTOS - 8
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


def test_no_photo_that_can_be_read_is_one_line(world, befalls, capsys) -> None:
    for path in Path("photos").rglob("*.jpg"):
        path.write_bytes(b"no photo")
    assert extract("photos", "d.h5", *DASK) == 1
    assert "photos: none of its 23 photos can be read" in capsys.readouterr().err


def test_strict_names_the_first_photo_that_cannot_be_read(world, befalls, capsys) -> None:
    assert extract("photos", "plain.h5", "--strict") == 1
    alone = capsys.readouterr().err
    assert extract("photos", "d.h5", "--strict", *DASK) == 1
    assert alone in capsys.readouterr().err
    assert not Path("d.h5").exists()


def test_a_stream_of_several_blocks_is_whitened_as_an_array(world, befalls, monkeypatch) -> None:
    for module in (on_cluster, projection):
        monkeypatch.setattr(module, "BLOCK_ROWS", 8)
    assert extract("photos", "plain.h5", *OTHER_FLAGS["whitened"]) == 0
    assert extract("photos", "d.h5", *OTHER_FLAGS["whitened"], *DASK) == 0
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()


def test_two_extractions_to_one_file_are_refused(world, befalls) -> None:
    network = build_network("squeezenet1_1", "gem")
    arguments = (network, photos_of(Path("photos")), ExtractionOptions(48), Path("d.h5"), ClusterOptions("here"), None)
    with (
        described_on_cluster(*arguments),
        pytest.raises(DataError, match="being made by another process"),
        described_on_cluster(*arguments),
    ):
        pass


def test_workers_have_a_gpu_each() -> None:
    assert [gpu_of(name, 4) for name in (0, 3, 6, "node-2", "node-7", "tcp://10.0.0.2:41234", "odd")] == [
        *(0, 3, 2, 2, 3, 0, 0)
    ]


def test_flags_of_a_cluster_without_one_are_refused(world, capsys) -> None:
    assert extract("photos", "d.h5", "--resume") == 2
    assert capsys.readouterr().err == "error: --resume is for --dask; leave it out\n"


def test_a_cluster_that_loses_a_worker_writes_the_same_bytes(world, monkeypatch) -> None:
    """Two workers of two threads each; one is killed after the first shard."""
    assert extract("photos", "plain.h5", "--scales", "1,0.7071") == 0
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    with LocalCluster(n_workers=2, processes=True, threads_per_worker=2, dashboard_address=None) as cluster:
        with Client(cluster.scheduler_address, set_as_default=False) as client:
            processes = list(client.run(os.getpid).values())
        add = on_cluster._Found.add

        def kill(self: Any, part: Any, rows: np.ndarray) -> None:
            if len(processes) == 2:
                os.kill(processes.pop(), signal.SIGKILL)
            add(self, part, rows)

        monkeypatch.setattr(on_cluster._Found, "add", kill)
        assert extract("photos", "d.h5", "--scales", "1,0.7071", "--dask", cluster.scheduler_address) == 0
    assert len(processes) == 1
    assert Path("d.h5").read_bytes() == Path("plain.h5").read_bytes()
