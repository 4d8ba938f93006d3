"""Room on a disk is asked for before long work: one line in place of hours, and never where the output would fit."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hand_made import run, write_text_model
from PIL import Image
from textures import texture
from worlds import random_index, write_whole

from retrieval.photos.packing import PackedStore
from sfm2tuples.errors import DataError
from sfm2tuples.files import room
from sfm2tuples.files.descriptors import require_room_for
from sfm2tuples.files.room import require_room, size_text
from sfm2tuples.ingest.room_for_parts import require_room_for_parts
from sfm2tuples.parts.work_folder import work_path
from sfm2tuples.readers.discover import find_models


def let_be_free(monkeypatch: pytest.MonkeyPatch, size: int, kind: str = "ext4", blocks: int = 1 << 30) -> None:
    status = SimpleNamespace(f_blocks=blocks, f_bfree=size, f_bavail=size, f_frsize=1)
    monkeypatch.setattr(room.os, "statvfs", lambda folder: status)
    monkeypatch.setattr(room, "_file_system", lambda folder: kind)


def test_what_does_not_fit_is_refused_and_what_fits_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_be_free(monkeypatch, 5_000_000_000)
    require_room(tmp_path / "x.h5", 5_000_000_000)
    with pytest.raises(DataError) as told:
        require_room(tmp_path / "x.h5", 12_340_000_000)
    assert str(told.value) == (
        f"{tmp_path}/x.h5: needs about 12.3 GB, 5.0 GB free on {tmp_path}; make room, or write to another disk"
    )


@pytest.mark.parametrize("kind", ["btrfs", "zfs", "overlay", "nfs4", ""])
def test_where_files_may_be_compressed_a_little_too_much_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    let_be_free(monkeypatch, 1000, kind)
    require_room(tmp_path / "x.h5", 3000)
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path}/x.h5: needs about 3.0 kB, 1.0 kB free on {tmp_path}; it may not fit"
    ]
    with pytest.raises(DataError, match="needs about"):
        require_room(tmp_path / "x.h5", 3001)


def test_a_file_system_that_says_nothing_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_be_free(monkeypatch, 0, blocks=0)
    require_room(tmp_path / "x.h5", 1 << 60)
    monkeypatch.undo()
    require_room(tmp_path / "absent" / "x.h5", 1 << 60)


def test_sizes_read_as_people_say_them() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 12_340_000, 999_960_000, 5 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "12.3 MB",
        "1.0 GB",
        "5.0 PB",
    ]


def test_the_kind_of_a_file_system_is_what_the_system_says(tmp_path: Path) -> None:
    said = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True)
    found = room._file_system(tmp_path)
    if said.stdout.strip() in ("ext2/ext3", "xfs", "tmpfs"):
        assert found in room.AS_LARGE
    else:
        assert found not in ("ext4", "xfs", "tmpfs")


def test_descriptors_ask_for_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_be_free(monkeypatch, 4_000)
    require_room_for(tmp_path / "d.h5", 10, 100)
    require_room_for(tmp_path / "d.h5", 20, 100, "hloc")
    for count, layout in ((11, "columnar"), (21, "hloc")):
        with pytest.raises(DataError, match="free on"):
            require_room_for(tmp_path / "d.h5", count, 100, layout)


def test_extract_asks_before_it_looks_at_a_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"no photo, which would be another error")
    let_be_free(monkeypatch, 100)
    assert run("extract", tmp_path / "p", "-o", tmp_path / "d.h5", "--backbone", "squeezenet1_1") == 1
    assert f"{tmp_path}/d.h5: needs about 2.0 kB, 100 bytes free" in capsys.readouterr().err


def test_a_build_asks_for_its_parts_and_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text_model(tmp_path / "scene", ["a.jpg", "b.jpg"])
    points = (tmp_path / "scene" / "points3D.txt").stat().st_size
    models = find_models([tmp_path / "scene"])
    needed = int(0.45 * int(0.3 * points)) + int(0.3 * points)
    let_be_free(monkeypatch, needed)
    require_room_for_parts(models, tmp_path / "i.h5")
    let_be_free(monkeypatch, needed - 1)
    with pytest.raises(DataError, match=r"i\.h5: needs about"):
        require_room_for_parts(models, tmp_path / "i.h5")
    work_path(tmp_path / "i.h5").mkdir()
    (work_path(tmp_path / "i.h5") / "0.part").write_bytes(b"x")  # of an earlier build, so that it need not be made
    require_room_for_parts(models, tmp_path / "i.h5")
    let_be_free(monkeypatch, 10)
    assert run("build-index", tmp_path / "scene", "-o", tmp_path / "i.h5", "--quiet") == 1
    assert sorted(os.listdir(tmp_path)) == [".i.h5.build", "scene"]


@pytest.mark.parametrize("kind", ["binary", "text"])
def test_what_a_build_asks_for_is_no_more_than_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    from sfm2tuples.world.synthetic import write_world

    write_world(tmp_path / "world", places=2, photos_per_place=6, size=(96, 72), jobs=1)
    folder = tmp_path / "world"
    if kind == "text":
        folder = tmp_path / "text"
        folder.mkdir()
        pycolmap.Reconstruction(str(next((tmp_path / "world").rglob("points3D.bin")).parent)).write_text(str(folder))
    asked: list[int] = []
    monkeypatch.setattr("sfm2tuples.ingest.room_for_parts.require_room", lambda path, size: asked.append(size))
    assert run("build-index", folder, "-o", tmp_path / "i.h5", "--quiet") == 0
    assert 0 < asked[0] <= 2 * (tmp_path / "i.h5").stat().st_size


def test_an_index_asks_for_the_columns_that_are_still_to_be_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sfm2tuples.files.columns import ColumnStream
    from sfm2tuples.index import schema

    index = random_index(np.random.default_rng(0), (4, 5), (0, 1))
    tables = {name: dict(vars(getattr(index, name))) for name in schema.TABLES}
    column = tables["observations"]["xy"]
    tables["observations"]["xy"] = ColumnStream(column.dtype, column.shape, lambda: iter([column]))
    let_be_free(monkeypatch, column.nbytes)
    schema.write_index(tmp_path / "i.h5", tables, {})
    let_be_free(monkeypatch, column.nbytes - 1)
    with pytest.raises(DataError, match=r"j\.h5: needs about"):
        schema.write_index(tmp_path / "j.h5", tables, {})
    write_whole(tmp_path / "k.h5", index)  # nothing waits, so nothing is asked
    assert sorted(os.listdir(tmp_path)) == ["i.h5", "k.h5"]


def test_packing_asks_when_it_knows_the_first_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{row}.png" for row in range(9)]
    for row, path in enumerate(paths):
        Image.fromarray(texture(row, 32, 24)).save(path)
    monkeypatch.setattr("retrieval.photos.packing.BATCH", 4)
    asked: list[int] = []
    monkeypatch.setattr("retrieval.photos.packing.require_room", lambda path, size: asked.append(size))
    with PackedStore(tmp_path / "t.h5", 32) as store:
        assert store.add([path.name for path in paths], paths) == {}
        sizes = [len(photo) for photo in store.photos([path.name for path in paths])]
    assert asked == [int(0.7 * sum(sizes[:4]) / 4 * (5 + 9))]
    monkeypatch.undo()
    let_be_free(monkeypatch, 10)
    with PackedStore(tmp_path / "t.h5", 32) as store, pytest.raises(DataError, match=r"t\.h5: needs about"):
        store.add([path.name for path in paths], paths)
