"""What is written is whole or not there: full disks, removed folders, killed and competing writers, taken names."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import random_index

from cli.main import main
from retrieval.networks.weights import save_torch_file
from sfm2tuples.errors import DataError, UsageError
from sfm2tuples.files import atomic
from sfm2tuples.files.atomic import (
    OurFolder,
    refuse_folder_overwrite,
    refuse_overwrite,
    write_atomically,
    write_folder_atomically,
)
from sfm2tuples.files.columns import ColumnStream
from sfm2tuples.files.container import create_file
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.index import schema

PAGE = OurFolder("page that report made", ("index.html", "photos"), "index.html", b"made by us")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As a disk that is full after so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def descriptors(count: int = 150, dim: int = 64) -> Descriptors:
    return Descriptors(
        [f"a{row % 7}/{row}.jpg" for row in range(count)], np.eye(dim, dtype=np.float32)[:1].repeat(count, 0)
    )


@pytest.fixture
def no_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_CLAIMED", set())


@pytest.mark.parametrize("layout", ["columnar", "hloc"])
@pytest.mark.parametrize("size", [0, 500, 20_000])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, layout: str, size: int) -> None:
    path = tmp_path / "d.h5"
    write_descriptors(path, descriptors(3), layout)
    before = path.read_bytes()
    with files_of_at_most(size), pytest.raises(DataError, match=r"d\.h5: File too large; nothing was kept"):
        write_descriptors(path, descriptors(), layout)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["d.h5"]


@pytest.mark.parametrize("size", [1000, 50_000, 100_001, 150_000])
def test_a_checkpoint_on_a_full_disk_is_one_line(tmp_path: Path, size: int) -> None:
    path = tmp_path / "n.pt"
    with files_of_at_most(size), pytest.raises(DataError, match=r"n\.pt: File too large; nothing was kept"):
        save_torch_file(path, {"weights": torch.zeros(100, 500), "more": torch.zeros(3)})
    assert os.listdir(tmp_path) == []
    save_torch_file(path, {"weights": torch.ones(3)})
    assert torch.load(path, weights_only=True)["weights"].tolist() == [1, 1, 1]


def append_rounds(path: Path, rounds: list[int]) -> None:
    """Append a megabyte at a time, as packing photos does; `rounds` counts."""
    with create_file(path, "sfm2tuples-test", 1, {}) as file:
        data = file.create_dataset("jpeg", (0,), np.uint8, maxshape=(None,), chunks=(1 << 18,))
        for number in range(1, 100):
            data.resize(number * 1_000_000, axis=0)
            data[-1_000_000:] = 1
            file.check()
            rounds.append(number)


def test_a_file_that_is_made_by_appending_stops_at_the_first_failed_write(tmp_path: Path) -> None:
    rounds: list[int] = []
    with files_of_at_most(100_000), pytest.raises(DataError, match="File too large"):
        append_rounds(tmp_path / "x.h5", rounds)
    assert len(rounds) < 60
    assert os.listdir(tmp_path) == []


def test_a_failure_in_the_middle_is_passed_on_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), create_file(tmp_path / "x.h5", "sfm2tuples-test", 1, {}) as file:
        file["a"] = 1 / 0
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_removed_meanwhile_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()

    def write_and_remove() -> None:
        with write_atomically(folder / "x.txt") as temporary:
            temporary.write_text("x")
            temporary.unlink()
            folder.rmdir()

    with pytest.raises(DataError, match=r"x\.txt: cannot be written: the folder was removed"):
        write_and_remove()


def test_names_that_cannot_be_written_are_refused_before_any_work(tmp_path: Path, no_claims: None) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(UsageError, match="is a folder; give the name of a file"):
        refuse_overwrite(tmp_path / "folder", force=True)
    with pytest.raises(UsageError, match="too long"):
        refuse_overwrite(tmp_path / ("x" * 300), force=False)
    with pytest.raises(UsageError, match="is a link that leads nowhere"):
        refuse_overwrite(tmp_path / "link", force=False)


def test_the_longest_name_that_a_disk_takes_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + ".txt")
    atomic.write_text(path, "x")
    assert path.read_text() == "x"


def test_force_replaces_a_folder_that_bears_our_mark_and_no_other(tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    refuse_folder_overwrite(folder, True, PAGE)
    (folder / "photos").mkdir()
    with pytest.raises(UsageError, match="is not a page that report made"):
        refuse_folder_overwrite(folder, True, PAGE)
    (folder / "index.html").write_text("<title>our holidays</title>")
    with pytest.raises(UsageError, match="is not a page that report made"):
        refuse_folder_overwrite(folder, True, PAGE)
    (folder / "index.html").write_text("<title>made by us</title>")
    refuse_folder_overwrite(folder, True, PAGE)
    (folder / "notes.txt").write_text("")
    with pytest.raises(UsageError, match="is not a page that report made"):
        refuse_folder_overwrite(folder, True, PAGE)


@pytest.mark.parametrize(("here", "target"), [(".", "."), ("photos", ".."), (".", "../page")])
def test_force_does_not_take_the_folder_away_that_the_command_runs_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, target: str
) -> None:
    (tmp_path / "page" / "photos").mkdir(parents=True)
    (tmp_path / "page" / "index.html").write_text("<title>made by us</title>")
    monkeypatch.chdir(tmp_path / "page" / here)
    with pytest.raises(UsageError, match="is the folder that this command runs in"):
        refuse_folder_overwrite(target, True, PAGE)
    monkeypatch.chdir(tmp_path)
    refuse_folder_overwrite("page", True, PAGE)


def test_the_second_of_two_writers_without_force_refuses(tmp_path: Path, no_claims: None) -> None:
    path, folder = tmp_path / "x.txt", tmp_path / "page"
    refuse_overwrite(path, force=False)
    refuse_folder_overwrite(folder, False, PAGE)
    path.write_text("first")
    folder.mkdir()
    with pytest.raises(DataError, match=r"x\.txt: was made by another process meanwhile"):
        atomic.write_text(path, "second")
    with pytest.raises(DataError, match="page: was made by another process meanwhile"), write_folder_atomically(folder):
        pass
    assert path.read_text() == "first"
    refuse_overwrite(path, force=True)
    atomic.write_text(path, "third")
    assert path.read_text() == "third"
    assert sorted(os.listdir(tmp_path)) == ["page", "x.txt"]


@pytest.mark.parametrize("spelt", ["{0}/in/../{1}", "{0}/link/{1}", "{0}/in/../link/./{1}"])
def test_a_name_is_claimed_however_it_is_spelt(tmp_path: Path, no_claims: None, spelt: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(".")
    refuse_overwrite(spelt.format(tmp_path, "x.txt"), force=False)
    refuse_folder_overwrite(spelt.format(tmp_path, "page"), False, PAGE)
    (tmp_path / "x.txt").write_text("first")
    (tmp_path / "page").mkdir()
    with pytest.raises(DataError, match=r"x\.txt: was made by another process meanwhile"):
        atomic.write_text(tmp_path / "x.txt", "second")
    with (
        pytest.raises(DataError, match="page: was made by another process meanwhile"),
        write_folder_atomically(spelt.format(tmp_path, "page")),
    ):
        pass
    assert (tmp_path / "x.txt").read_text() == "first"


@pytest.mark.parametrize("failing", ["fsync", "pwrite"])
def test_what_a_disk_says_of_a_column_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The system tells of a failed write once, here to the request that goes out before the end."""
    told: list[int] = []

    def fail_once(descriptor: int, *more: object) -> int:
        if told:
            return 0 if failing == "fsync" else whole(descriptor, *more)
        told.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    whole = getattr(os, failing)
    monkeypatch.setattr(schema, "SYNCED_EARLY", 1)
    index = random_index(np.random.default_rng(0), (4, 5), (0, 1))
    streamed = ColumnStream(np.dtype("i8"), (1,), lambda: iter([np.zeros(1, np.int64)]))
    tables = {name: dict(vars(getattr(index, name))) for name in schema.TABLES}
    tables["observations"]["point"] = streamed
    monkeypatch.setattr(os, failing, fail_once)
    with pytest.raises(DataError, match=r"i\.h5: cannot be written: Input/output error"):
        schema.write_index(tmp_path / "i.h5", tables, {})
    assert len(told) == 1
    assert os.listdir(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from sfm2tuples.files import atomic
def die(*_): os._exit(9)
if sys.argv[1] == "file":
    with atomic.write_atomically(Path(sys.argv[2])) as temporary:
        temporary.write_text("half")
        die()
atomic.exchange = lambda *_: False
atomic.shutil.rmtree = die
with atomic.write_folder_atomically(Path(sys.argv[2])) as folder:
    (folder / "new").write_text("")
    replace = os.replace
    os.replace = lambda *names: (replace(*names), die())
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_writer_clears_up_after_a_killed_one(tmp_path: Path, kind: str) -> None:
    path, stranger = tmp_path / "out", tmp_path / ".out.1-0123456789abcdef.part"
    stranger.write_text("another machine's")
    if kind == "folder":
        path.mkdir()
        (path / "old").write_text("")
    killed = subprocess.run([sys.executable, "-c", KILLED, kind, str(path)], check=False)
    assert killed.returncode == 9
    assert len(os.listdir(tmp_path)) >= 2
    write = write_atomically if kind == "file" else write_folder_atomically
    with pytest.raises(ZeroDivisionError), write(path):
        raise ZeroDivisionError
    assert sorted(os.listdir(tmp_path)) == sorted([stranger.name] + ["out"] * (kind == "folder"))
    assert kind == "file" or os.listdir(path) == ["old"]


def test_a_folder_is_replaced_whole_with_and_without_a_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page"
    for content, swap in (("a", True), ("b", True), ("c", False)):
        if not swap:
            monkeypatch.setattr(atomic, "exchange", lambda *_: False)
        with write_folder_atomically(path) as folder:
            (folder / content).write_text("")
        assert os.listdir(path) == [content]
        assert os.listdir(tmp_path) == ["page"]


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(28, "No space left on device", "some.h5"), "error: some.h5: No space left on device"),
        (OSError("odd"), "error: odd"),
        (MemoryError(), "error: not enough memory; close other programs, or do it in parts"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            "error: not enough memory; close other programs, or do it in parts",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it"),
            "error: not enough memory; close other programs, or do it in parts",
        ),
    ],
)
def test_what_the_system_says_is_one_line(
    raised: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise raised

    monkeypatch.setattr("cli.main.group.main", fail)
    with pytest.raises(SystemExit) as end:
        main(["inspect", "x"])
    assert end.value.code == 1
    assert capsys.readouterr().err == said + "\n"


def test_new_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_descriptors(tmp_path / "d.h5", descriptors())
    assert np.array_equal(read_descriptors(tmp_path / "d.h5").values, descriptors().values)
