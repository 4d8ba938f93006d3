"""An index without points and observations: the same tuples, and one line where points are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hand_made import run, write_binary_model
from worlds import random_index, unit_rows, write_whole

from retrieval.reports.inspection import inspect_file
from retrieval.reports.verification import verify_file
from sfm2tuples.errors import DataError, FileFormatError, ModelError, UsageError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import POINT_TABLES
from sfm2tuples.ingest.build import build_index
from sfm2tuples.ingest.jobs import Wanted, find_files, read_again
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.ingest.part_building import Progress
from sfm2tuples.parts.work_folder import part_files, work_path
from sfm2tuples.readers.discover import find_models
from sfm2tuples.world.corridor import write_corridor
from sfm2tuples.world.synthetic import write_world

MINING = ("--query-share", 1, "--num-negatives", 1, "--min-overlap", 0.05, "--quiet")
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "places": ("world", {"inside": False}),
    "inside": ("site", {}),
    "apart": ("world", {"fragments": "apart"}),
    "fewer pairs": ("site", {"min_shared": 5}),
}
"""By name: which photos an index is of, and its options."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in world and a built-in site, each index of `KINDS` whole and lean, descriptors of all photos."""
    made = tmp_path_factory.mktemp("lean")
    write_world(made / "world", places=3, photos_per_place=6, size=(96, 72), jobs=1)
    write_corridor(made / "site", rooms=6, photos=24, size=(64, 48))
    for name, (source, options) in KINDS.items():
        for keep in ("all", "graph"):
            build_index([made / source], made / f"{name}.{keep}.h5", IngestOptions(keep=keep, **options))
        with open_index(made / f"{name}.all.h5") as index:
            keys = list(dict.fromkeys(index.images.key[:]))
        rows = unit_rows(np.random.default_rng(0), len(keys), 8)
        write_descriptors(made / f"{name}.descriptors.h5", Descriptors(keys, rows))
    return made


def columns(path: Path) -> dict[str, bytes]:
    """Type, shape and bytes of every dataset."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.__setitem__(name, repr((item.dtype, item.shape)).encode() + item[()].tobytes())
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_tuples_of_a_lean_index_have_the_same_bytes(folder: Path, tmp_path: Path, kind: str) -> None:
    described = ("--descriptors", folder / f"{kind}.descriptors.h5")
    for keep in ("all", "graph"):
        source = folder / f"{kind}.{keep}.h5"
        assert run("mine-tuples", source, "-o", tmp_path / f"{keep}.h5", *described, *MINING) == 0
    assert (tmp_path / "all.h5").read_bytes() == (tmp_path / "graph.h5").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_lean_index_lacks_points_and_observations_alone(folder: Path, kind: str) -> None:
    whole, lean = (columns(folder / f"{kind}.{keep}.h5") for keep in ("all", "graph"))
    assert lean == {name: column for name, column in whole.items() if name.split("/")[0] not in POINT_TABLES}
    assert any(name.startswith("inside/") for name in lean) == (kind != "places")


def test_what_is_made_of_either_names_one_fingerprint(folder: Path) -> None:
    whole, lean = (read_header(folder / f"inside.{keep}.h5") for keep in ("all", "graph"))
    assert whole.fingerprint == lean.fingerprint
    assert whole.details
    assert not lean.details
    assert whole.content != lean.content
    assert (whole.options["keep"], lean.options["keep"]) == ("all", "graph")


@pytest.mark.parametrize("name", ["points/xyz", "observations/xy", "images/translation"])
def test_damage_to_any_column_is_found(folder: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "i.h5"
    path.write_bytes((folder / "inside.all.h5").read_bytes())
    assert verify_file(path) == verify_file(folder / "inside.graph.h5")
    with h5py.File(path, "r+") as file:
        file[name][0] += 1
    with pytest.raises(FileFormatError, match="was changed or damaged"):
        verify_file(path)


def test_an_index_that_took_the_place_of_one_with_other_points_is_refused(tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(0), (4, 5), (0, 1))
    write_whole(tmp_path / "i.h5", index)
    with open_index(tmp_path / "i.h5") as opened:
        made, arguments = opened.__reduce__()
    index.points.xyz[:] += 1
    write_whole(tmp_path / "i.h5", index)
    with pytest.raises(DataError, match="was replaced"):
        made(*arguments)


ASKED: list[Callable[[OpenedIndex], object]] = [
    lambda index: index.points,
    lambda index: index.observations,
    lambda index: index.points_of(0),
    lambda index: index.track(0),
]


@pytest.mark.parametrize("ask", ASKED)
def test_what_needs_points_says_so_in_one_line(folder: Path, ask: Callable[[OpenedIndex], object]) -> None:
    with open_index(folder / "inside.graph.h5") as lean, open_index(folder / "inside.all.h5") as whole:
        with pytest.raises(DataError, match=r"inside\.graph\.h5: is a lean index.*build it again without --keep graph"):
            ask(lean)
        ask(whole)
        assert lean.num_points == whole.num_points == len(whole.points.id)
        assert (lean.has_points, whole.has_points) == (False, True)


def test_a_lean_index_answers_all_else(folder: Path) -> None:
    with open_index(folder / "inside.graph.h5") as lean, open_index(folder / "inside.all.h5") as whole:
        np.testing.assert_array_equal(lean.num_observed(), whole.num_observed())
        np.testing.assert_array_equal(lean.poses(), whole.poses())
        for row in range(whole.num_images):
            for name, values in vars(whole.covisible(row)).items():
                np.testing.assert_array_equal(getattr(lean.covisible(row), name), values)
        overlap = [index.covisibility("overlap") for index in (lean, whole)]
        assert (overlap[0] != overlap[1]).nnz == 0


def test_observed_points_are_counted_as_before_the_column_was_there(tmp_path: Path) -> None:
    index = random_index(np.random.default_rng(2), (9, 1, 12), (0, 1, 0), val=1)
    write_whole(tmp_path / "i.h5", index)
    with h5py.File(tmp_path / "i.h5", "r+") as file:
        del file["images/observed"]
        file.attrs["version"] = 1
    with open_index(tmp_path / "i.h5") as old:
        np.testing.assert_array_equal(old.num_observed(), index.images.observed)
        np.testing.assert_array_equal(old.images.observed[[7, 2]], index.images.observed[[7, 2]])
    with h5py.File(tmp_path / "i.h5", "r+") as file:
        del file["points"]
    with pytest.raises(FileFormatError, match="no images/observed"), open_index(tmp_path / "i.h5") as torn:
        torn.num_observed()


def test_commands_measure_and_show_a_lean_index(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = ("--descriptors", folder / "inside.descriptors.h5", "--split", "train")
    measure = ("evaluate", "--min-shared", 1, *described)
    figures = []
    for keep in ("all", "graph"):
        assert run(*measure, "--index", folder / f"inside.{keep}.h5") == 0
        said = capsys.readouterr().out
        figures.append([line for line in said.splitlines() if line.startswith("sfm: ")])
        assert ("for a localiser" in said) == (keep == "all")
        assert ("what a localiser gets, which needs its points, is left out" in said) == (keep == "graph")
    assert figures[0] == figures[1] != []
    for more in (["--localise"], ["--scale", 2.0], ["--pose-thresholds", "1:2"]):
        assert run(*measure, "--index", folder / "inside.graph.h5", *more) == 1
        said = capsys.readouterr().err.strip()
        assert "\n" not in said
        assert "is a lean index" in said
    assert run("report", folder / "inside.graph.h5", "-o", tmp_path / "page") == 0
    assert "3D points are not drawn" in (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    content = inspect_file(folder / "inside.graph.h5")["content"]
    assert content["observations"] == "left out by --keep graph, as the points are"
    assert content["points"] == inspect_file(folder / "inside.all.h5")["content"]["points"]


class Stopped(Exception):
    """Raised in the middle of a build."""


def stop(progress: Progress) -> None:
    if progress.models >= 2:
        raise Stopped


def test_a_lean_build_uses_no_parts_of_a_whole_one(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(8)]
    for row in range(4):
        write_binary_model(tmp_path / f"models/{row}/sparse/0", names, 9000 + 500 * row, shift=row)
    lean, whole = IngestOptions(keep="graph"), IngestOptions()
    sizes = {}
    for name, options in (("lean", lean), ("whole", whole)):
        build_index([tmp_path / "models"], tmp_path / f"{name}.h5", options)
        target = tmp_path / f"{name}2.h5"
        for other in (lean, whole):
            # The last of two interrupted builds leaves parts of both kinds.
            with pytest.raises(Stopped):
                build_index([tmp_path / "models"], target, other, resume=True, progress=stop)
            if other is options:
                sizes[name] = max(file.stat().st_size for file in part_files(work_path(target)))
        build_index([tmp_path / "models"], target, options, resume=True)
        assert target.read_bytes() == (tmp_path / f"{name}.h5").read_bytes()
    assert sizes["lean"] < 5000 < 9000 * 8 * 8 < sizes["whole"]


def test_processes_build_the_same_lean_index(folder: Path, tmp_path: Path) -> None:
    for kind, (source, options) in KINDS.items():
        build_index([folder / source], tmp_path / f"{kind}.h5", IngestOptions(keep="graph", **options), jobs=2)
        assert (tmp_path / f"{kind}.h5").read_bytes() == (folder / f"{kind}.graph.h5").read_bytes()


def test_a_model_that_changes_before_it_is_read_again_is_refused(tmp_path: Path) -> None:
    write_binary_model(tmp_path / "models/0/sparse/0", ["0.jpg", "1.jpg"], 20)
    location, wanted = next(iter(find_models([tmp_path / "models"]))), Wanted(lean=True)
    key = find_files(location, wanted).key
    assert len(read_again(location, wanted, key).points) == 20
    with pytest.raises(ModelError, match="was changed while the index was built"):
        read_again(location, Wanted(), key)


def test_other_words_than_all_and_graph_are_refused() -> None:
    with pytest.raises(UsageError, match="keep is points; give all or graph"):
        IngestOptions(keep="points")


def test_a_lean_build_does_not_ask_for_room_for_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_binary_model(tmp_path / "models/0/sparse/0", ["0.jpg", "1.jpg"], 2000)
    monkeypatch.setattr("sfm2tuples.files.room._free", lambda folder: 60_000)
    monkeypatch.setattr("sfm2tuples.files.room._file_system", lambda folder: "ext4")
    with pytest.raises(DataError, match="make room"):
        build_index([tmp_path / "models"], tmp_path / "i.h5", IngestOptions())
    build_index([tmp_path / "models"], tmp_path / "i.h5", IngestOptions(keep="graph"))
    assert (tmp_path / "i.h5").stat().st_size < 60_000
