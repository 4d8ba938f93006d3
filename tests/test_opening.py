"""Doors of the system: no locks, files that others write, pipes, Ctrl-C while modules are imported."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hand_made import run, write_text_model

from retrieval.networks.weights import load_torch_file
from retrieval.photos.decoding import load_photo, photo_size
from retrieval.photos.labels import read_labels
from retrieval.photos.sources import photos_of
from sfm2tuples.compute import locks
from sfm2tuples.errors import DataError, FileFormatError, ModelError, PhotoError, UsageError, WeightsError
from sfm2tuples.files.atomic import refuse_overwrite
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, read_hloc_rows, write_descriptors
from sfm2tuples.files.opening import is_hdf5, open_hdf5
from sfm2tuples.files.safe_pickle import read_plain_pickle
from sfm2tuples.files.text import begins_with, read_json, read_text
from sfm2tuples.interop.foreign_descriptors import read_foreign_descriptors
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.discover import find_models

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 120
NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(locks.TOLD, raising=False)
    yield
    os.environ.pop(locks.TOLD, None)


@pytest.fixture
def descriptors(tmp_path: Path) -> Path:
    write_descriptors(tmp_path / "d.h5", Descriptors(["a.jpg"], np.eye(1, 4, dtype=np.float32)))
    return tmp_path / "d.h5"


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "hloc.h5", "w") as file:
        file["a.jpg/global_descriptor"] = np.eye(1, 4, dtype=np.float32)[0]
    return tmp_path / "hloc.h5"


# --- file systems without locks -----------------------------------------------------------------------------------


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> list[Any]:
    """Let `flock` fail, Python's and HDF5's; gives the list of what h5py was asked for locks."""
    asked: list[Any] = []
    opened = h5py.File.__init__

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def open_unlocked(self: h5py.File, *arguments: Any, locking: bool | None = None, **more: Any) -> None:
        asked.append(locking)
        if locking is not False and arguments[1:] == ("r",):
            said = f"(unable to lock file, errno = {number}, error message = '{os.strerror(number)}')"
            raise OSError(f"Unable to synchronously open file {said}")
        opened(self, *arguments, locking=locking, **more)

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(h5py.File, "__init__", open_unlocked)
    return asked


@pytest.mark.parametrize("number", NO_LOCKS)
def test_without_locks_files_are_read_and_one_line_says_so(
    number: int, descriptors: Path, foreign: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = without_locks(monkeypatch, number)
    assert read_descriptors(descriptors).names == ["a.jpg"]
    assert read_descriptors(foreign).names == ["a.jpg"]
    assert read_foreign_descriptors(foreign).descriptors.names == ["a.jpg"]
    assert read_header(descriptors).format == "sfm2tuples-descriptors"
    assert asked[:2] == [None, False]
    assert [record.getMessage() for record in caplog.records] == [
        f"{descriptors}: its file system has no locks, so nothing keeps two programs from writing one file: "
        "run one at a time"
    ]


@pytest.mark.parametrize("number", NO_LOCKS)
def test_an_index_is_built_without_locks_and_one_line_says_so(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_model(tmp_path / "scene", ["a.jpg", "b.jpg"])
    without_locks(monkeypatch, number)
    for target in ("i.h5", "j.h5"):
        assert run("build-index", tmp_path / "scene", "-o", tmp_path / target, "--quiet") == 0
    told = capsys.readouterr().err
    assert told.count("has no locks") == 1
    assert told.count("i.h5") == 1
    assert not (tmp_path / ".i.h5.build").exists()


def test_only_the_first_process_of_a_team_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RANK", "1")
    locks.warn_of_no_locks(tmp_path)
    assert caplog.records == []
    monkeypatch.setenv("RANK", "0")
    locks.warn_of_no_locks(tmp_path)
    assert len(caplog.records) == 1


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, for a C library whose flock fails")
def test_a_whole_command_runs_where_the_system_refuses_locks(tmp_path: Path, descriptors: Path, foreign: Path) -> None:
    source, library = tmp_path / "nolock.c", tmp_path / "nolock.so"
    source.write_text("#include <errno.h>\nint flock(int f, int o) { (void)f; (void)o; errno = ENOLCK; return -1; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True, timeout=SECONDS)
    write_text_model(tmp_path / "scene", ["a.jpg", "b.jpg"])
    for words in (
        ["build-index", "scene", "-o", "i.h5"],
        ["inspect", "d.h5"],
        ["import-descriptors", "hloc.h5", "-o", "e.h5"],
    ):
        ended = command(words, tmp_path, LD_PRELOAD=str(library))
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr.count("has no locks") == 1


def command(words: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
    line = [sys.executable, "-m", "cli", *words]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)


# --- files that another program writes ----------------------------------------------------------------------------


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    """Another process has the file open for writing."""
    code = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    try:
        yield
    finally:
        holder.communicate("", timeout=SECONDS)


@pytest.mark.skipif(os.environ.get("HDF5_USE_FILE_LOCKING", "TRUE") != "TRUE", reason="locks are turned off here")
def test_a_file_that_another_program_writes_is_not_called_torn(descriptors: Path, foreign: Path) -> None:
    with held_by_another(descriptors), pytest.raises(DataError) as told:
        read_header(descriptors)
    assert str(told.value).startswith(f"{descriptors}: another program has it open for writing")
    with held_by_another(foreign):
        for read in (read_foreign_descriptors, read_descriptors, read_hloc_rows):
            with pytest.raises(
                DataError, match=r"another program has it open for writing.*HDF5_USE_FILE_LOCKING=FALSE"
            ):
                read(foreign)
    assert read_descriptors(descriptors).names == read_descriptors(foreign).names


def test_a_file_that_its_writer_never_closed_is_named_as_such(tmp_path: Path) -> None:
    code = "import h5py, os, sys; f = h5py.File(sys.argv[1], 'w', libver='latest'); f['a'] = 1; f.flush(); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.h5")], check=True, timeout=SECONDS)
    with pytest.raises(DataError, match=r"ended without closing it; close it there, or run: h5clear -s .*a\.h5"):
        open_hdf5(tmp_path / "a.h5")


def test_a_torn_file_is_called_torn(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FileFormatError, match="not a whole HDF5 file"):
        open_hdf5(tmp_path / "a.h5")


# --- pipes and devices --------------------------------------------------------------------------------------------


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe.jpg")
    return tmp_path / "pipe.jpg"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (lambda path: load_photo(path, 8), PhotoError),
        (photo_size, PhotoError),
        (read_text, DataError),
        (read_json, DataError),
        (open_hdf5, DataError),
        (read_header, DataError),
        (read_descriptors, DataError),
        (read_foreign_descriptors, DataError),
        (read_plain_pickle, DataError),
        (load_torch_file, WeightsError),
        (photos_of, DataError),
        (read_labels, DataError),
        (lambda path: find_models([path]), DataError),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_pipe_is_refused_wherever_a_file_is_read(
    read: Callable[[Path], object], kind: type[DataError], pipe: Path
) -> None:
    with pytest.raises(kind, match=r"pipe\.jpg: is a pipe, not a regular file"):
        read(pipe)


@pytest.mark.timeout(60)
def test_a_pipe_holds_nothing(pipe: Path) -> None:
    assert not is_hdf5(pipe)
    assert not begins_with(pipe, b"{")


@pytest.mark.parametrize(("path", "what"), [("/dev/null", "is a device, not a"), ("/", "is a folder; give a file in")])
def test_devices_and_folders_are_named(path: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        open_hdf5(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["cameras.txt", "images.txt", "points3D.txt", "rigs.txt"])
def test_a_pipe_in_a_model_is_one_line(tmp_path: Path, name: str) -> None:
    write_text_model(tmp_path / "scene", ["a.jpg", "b.jpg"])
    (tmp_path / "scene" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "scene" / name)
    if name == "rigs.txt":
        (tmp_path / "scene" / "frames.txt").write_text("")
    with pytest.raises(ModelError, match=f"{name}: is a pipe, not a regular file"):
        read_model(find_models([tmp_path / "scene"])[0])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("words", [["export", "--format", "cirtorch"], ["extract"], ["report"], ["train"]])
def test_a_command_refuses_a_pipe_that_it_should_read(
    words: list[str], pipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words[0], pipe, *words[1:], "-o", pipe.with_name("out")) == 1
    assert capsys.readouterr().err.startswith(f"error: {pipe}: is a pipe, not a regular file")


def test_force_does_not_replace_a_pipe(pipe: Path) -> None:
    with pytest.raises(UsageError, match="is a pipe or a device, which --force does not replace"):
        refuse_overwrite(pipe, force=True)


# --- Ctrl-C, and what an import makes of it ------------------------------------------------------------------------

AT_IMPORT = """
import os, signal, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            try:
                exec("os.kill(os.getpid(), signal.SIGINT)")
            except KeyboardInterrupt:
                if not {instead!r}:
                    raise
                raise {instead}("in its place")
sys.meta_path.insert(0, Interrupts())
"""
"""Python runs it as it starts. By way of `exec`, since dataclasses are made so, and Python then ends by the signal."""


def interrupted_at(name: str, instead: str, folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """`inspect`, which gets the signal as it begins to import a module, where another error may take its place."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(before + AT_IMPORT.format(name=name, instead=instead))
    return command(["inspect", "d.h5"], folder, PYTHONPATH=f"{folder / 'site'}{os.pathsep}{ROOT}")


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("cli.interruption", ""),
        ("cli.main", ""),
        ("click", ""),
        ("cli.commands.inspect", "RecursionError"),
        ("retrieval.reports.inspection", ""),
        ("retrieval.reports.inspection", "RecursionError"),
        ("retrieval.reports.inspection", "ImportError"),
    ],
)
def test_ctrl_c_in_the_middle_of_an_import_is_a_line_and_130(name: str, instead: str, descriptors: Path) -> None:
    ended = interrupted_at(name, instead, descriptors.parent)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr.splitlines()[-1:] == ["interrupted"]
    assert "Traceback" not in ended.stderr


def test_ctrl_c_that_is_ignored_stays_ignored(descriptors: Path) -> None:
    before = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    ended = interrupted_at("click", "", descriptors.parent, before)
    assert ended.returncode == 0, ended.stderr


def test_too_deep_a_file_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr("cli.main.group.main", fail)
    assert run("inspect", "x") == 1
    assert capsys.readouterr().err == (
        "error: something that was read is nested too deeply; is it what it should be?\n"
    )
