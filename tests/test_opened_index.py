"""An opened index answers what the index in memory does, reads only what it must, and works in many processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import oracles
import pytest
from hand_made import write_scene
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import Index, random_index, read_whole, write_whole

import sfm2tuples
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.container import create_file, read_header
from sfm2tuples.files.lazy_file import LazyColumn, LazyFile
from sfm2tuples.files.rules import Rule, text_rules
from sfm2tuples.index.key_lookup import KeyLookup
from sfm2tuples.index.opened import EVIDENCE, OpenedIndex, open_index
from sfm2tuples.ingest.build import IngestOptions, build_index


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three models in two places, one of them with a name that is not ASCII."""
    index = random_index(np.random.default_rng(3), (9, 1, 12), (0, 1, 0), val=1)
    index.images.key[4] = "modèle0/ü4.jpg"
    quaternion = np.random.default_rng(0).normal(size=(22, 4))
    index.images.quaternion[:] = quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
    index.images.translation[:] = np.random.default_rng(1).normal(size=(22, 3))
    index.points.xyz[:] = np.random.default_rng(2).normal(size=index.points.xyz.shape)
    index.observations.xy[:] = np.random.default_rng(3).normal(size=index.observations.xy.shape)
    target = tmp_path_factory.mktemp("index") / "index.h5"
    write_whole(target, index, {})
    return target


@pytest.fixture
def opened(path: Path) -> Iterator[OpenedIndex]:
    with open_index(path) as index:
        yield index


@pytest.fixture
def whole(path: Path) -> Index:
    return read_whole(path)


def test_columns_of_images_places_and_models_are_those_of_the_whole_index(
    opened: OpenedIndex, whole: Index, path: Path
) -> None:
    assert opened.num_images == len(opened.images) == 22
    assert opened.num_points == len(whole.points.id)
    assert opened.header == read_header(path)
    for name in ("key", "name"):
        assert list(getattr(opened.images, name)) == getattr(whole.images, name)
    for name in ("id", "model", "camera", "quaternion", "translation", "photo", "has_photo"):
        np.testing.assert_array_equal(getattr(opened.images, name), getattr(whole.images, name))
    np.testing.assert_array_equal(opened.images.place, whole.image_place)
    np.testing.assert_array_equal(opened.images.split, whole.image_split)
    assert opened.places.name == whole.places.name
    assert opened.models.name == whole.models.name
    np.testing.assert_array_equal(opened.points.xyz, whole.points.xyz)
    for name, column in vars(whole.covisibility).items():
        np.testing.assert_array_equal(getattr(opened.graph, name), column)
    assert "quaternion" in dir(opened.images)
    with pytest.raises(AttributeError):
        _ = opened.images.colour


def test_poses_take_points_of_the_world_into_the_camera(opened: OpenedIndex, whole: Index) -> None:
    assert opened.poses().shape == (22, 3, 4)
    for row, pose in enumerate(opened.poses()):
        rotation = np.array(oracles.rotation_matrix(whole.images.quaternion[row]))
        np.testing.assert_allclose(pose[:, :3], rotation, atol=1e-12)
        np.testing.assert_array_equal(pose[:, 3], whole.images.translation[row])
        centre = opened.centres([row])[0]
        np.testing.assert_allclose(rotation @ centre + whole.images.translation[row], 0, atol=1e-12)
    np.testing.assert_array_equal(opened.poses([3, 1]), opened.poses()[[3, 1]])
    assert opened.poses([]).shape == (0, 3, 4)


def test_each_image_observes_as_many_points_as_it_has_different_ones(
    opened: OpenedIndex, whole: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfm2tuples.index.image_columns._BLOCK", 5)
    seen = whole.observations
    sets = [set(seen.point[a:b].tolist()) for a, b in itertools.pairwise(seen.indptr)]
    assert opened.num_observed().tolist() == [len(points) for points in sets]


def neighbours_by_loops(index: Index, row: int, min_shared: int) -> list[tuple]:
    """Rows, shared points, overlap and the other evidence, most shared points first."""
    observed = index.observations
    seen = set(observed.point[observed.indptr[row] : observed.indptr[row + 1]].tolist())
    graph, found = index.covisibility, []
    for edge in range(graph.indptr[row], graph.indptr[row + 1]):
        shared = int(graph.shared[edge])
        if shared >= min_shared:
            evidence = (graph.scale_change[edge], graph.angle[edge], graph.axis_angle[edge])
            found.append((int(graph.neighbour[edge]), shared, np.float32(shared / len(seen)), *evidence))
    return sorted(found, key=lambda n: (-n[1], n[0]))


@pytest.mark.parametrize("min_shared", [1, 4, 1000])
def test_neighbours_equal_loops_over_the_whole_graph(opened: OpenedIndex, whole: Index, min_shared: int) -> None:
    for row in range(opened.num_images):
        found = opened.covisible(row, min_shared)
        expected = neighbours_by_loops(whole, row, min_shared)
        assert found.row.tolist() == [n[0] for n in expected]
        assert found.key == [whole.images.key[n[0]] for n in expected]
        for column, values in zip(EVIDENCE, list(zip(*expected, strict=True))[1:], strict=False):
            np.testing.assert_array_equal(getattr(found, column), values)


def test_an_image_may_be_given_by_its_key(opened: OpenedIndex) -> None:
    key = opened.images.key[4]
    assert key == "modèle0/ü4.jpg"
    assert opened.covisible(key).key == opened.covisible(4).key
    assert opened.photo_path(key) == Path("/photos/model0/4.jpg")


def test_every_key_finds_its_row(opened: OpenedIndex, whole: Index) -> None:
    assert [opened.row_of(key) for key in whole.images.key] == list(range(22))


def test_an_unknown_key_is_one_line_with_a_near_one(opened: OpenedIndex) -> None:
    with pytest.raises(DataError, match=r"index\.h5: has no image model0/3\.JPG; did you mean model0/3\.jpg") as error:
        opened.row_of("model0/3.JPG")
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="3 is no key of an image"):
        opened.row_of(3)
    with pytest.raises(DataError, match=r"has no image #####"):
        opened.covisible("#####")


@pytest.mark.parametrize("unknown", ["images/model2/12.jpg", "model2/12.JPG"])
def test_among_many_keys_a_near_one_has_the_same_file_name_or_folder(
    path: Path, monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    monkeypatch.setattr("sfm2tuples.index.key_lookup._FEW", 12)
    with open_index(path) as index, pytest.raises(DataError, match=r"did you mean model2/12\.jpg"):
        index.row_of(unknown)


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
"""What a name may be made of: no file system has one with a zero byte."""


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(LETTERS, max_size=12), unique=True, max_size=30))
def test_keys_of_any_letters_are_found(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    from sfm2tuples.files.columns import write_strings

    path = tmp_path_factory.mktemp("keys") / "f.h5"
    with create_file(path, "keys", 1, {}) as file:
        write_strings(file, "key", keys)
    lookup = KeyLookup(LazyFile(path, "keys", 1, text_rules("key", "keys")), "key")
    assert [lookup.row(key) for key in keys] == list(range(len(keys)))
    assert lookup.row("?" * 13) is None


def test_keys_of_one_hash_are_told_apart(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfm2tuples.index.key_lookup._hash_rows", lambda text, o: np.zeros(len(o) - 1, np.uint64))
    with open_index(path) as index:
        assert index.row_of("model2/12.jpg") == 12
        with pytest.raises(DataError):
            index.row_of("model2/99.jpg")


def dense(index: Index, value: str) -> np.ndarray:
    """The graph as a matrix, by a loop over its edges; NaN where there is no edge."""
    n, graph, observed = len(index.images.key), index.covisibility, index.observations
    matrix = np.full((n, n), np.nan)
    for i in range(n):
        seen = len(set(observed.point[observed.indptr[i] : observed.indptr[i + 1]].tolist()))
        for edge in range(graph.indptr[i], graph.indptr[i + 1]):
            values = graph.shared / seen if value == "overlap" else getattr(graph, value)
            matrix[i, graph.neighbour[edge]] = np.float32(values[edge]) if value != "shared" else values[edge]
    return matrix


@pytest.mark.parametrize("value", EVIDENCE)
@pytest.mark.parametrize("block", [2, 5, 4096])
def test_the_graph_of_all_of_a_place_and_of_a_model_equals_loops(
    opened: OpenedIndex, whole: Index, value: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfm2tuples.index.opened._BLOCK", block)
    expected = dense(whole, value)
    parts = [
        (opened.covisibility(value), np.arange(22)),
        (opened.covisibility(value, place="place0"), opened.rows_of_place(0)),
        (opened.covisibility(value, model="model2"), opened.rows_of_model(2)),
        (opened.covisibility(value, model=1), np.array([9])),
    ]
    assert parts[1][1].tolist() == [*range(9), *range(10, 22)]
    for matrix, rows in parts:
        found = np.full((len(rows), len(rows)), np.nan)
        entries = matrix.tocoo()
        found[entries.row, entries.col] = entries.data
        np.testing.assert_array_equal(found, expected[np.ix_(rows, rows)])
        assert matrix.has_sorted_indices


def test_the_graph_of_an_unknown_value_place_or_both_is_refused(opened: OpenedIndex) -> None:
    with pytest.raises(UsageError, match="inliers is none of shared"):
        opened.covisibility("inliers")
    with pytest.raises(UsageError, match="not both"):
        opened.covisibility(model=0, place=0)
    with pytest.raises(DataError, match="has no place Rome"):
        opened.covisibility(place="Rome")
    with pytest.raises(UsageError, match="model 3 of 3"):
        opened.rows_of_model(3)


def test_points_and_tracks_equal_loops(opened: OpenedIndex, whole: Index) -> None:
    observed, tracks = whole.observations, {}
    for image in range(22):
        found, part = opened.points_of(image), slice(observed.indptr[image], observed.indptr[image + 1])
        np.testing.assert_array_equal(found.point, observed.point[part])
        np.testing.assert_array_equal(found.xyz, whole.points.xyz[observed.point[part]])
        np.testing.assert_array_equal(found.error, whole.points.error[observed.point[part]])
        np.testing.assert_array_equal(found.xy, observed.xy[part])
        for point, xy in zip(found.point.tolist(), found.xy.tolist(), strict=True):
            tracks.setdefault(point, []).append((image, *xy))
    for point in range(opened.num_points):
        track = opened.track(point)
        assert [(i, *xy) for i, xy in zip(track.image.tolist(), track.xy.tolist(), strict=True)] == tracks.get(
            point, []
        )
    with pytest.raises(UsageError, match="point 75 of 75"):
        opened.track(75)


def test_cameras_of_all_models_are_read(tmp_path: Path) -> None:
    write_scene(tmp_path / "m", "a", {"1.jpg": b"1"})
    build_index([tmp_path / "m"], tmp_path / "i.h5", IngestOptions())
    with sfm2tuples.open_index(tmp_path / "i.h5") as index:
        camera = index.camera("1.jpg")
    assert (camera.model, camera.size, camera.params.tolist()) == ("SIMPLE_PINHOLE", (200, 200), [100, 100, 100])


@pytest.mark.parametrize("image", [-1, 22, 10**9])
def test_a_row_out_of_range_is_refused(opened: OpenedIndex, image: int) -> None:
    with pytest.raises(UsageError, match="of 22"):
        opened.covisible(image)
    if image > 0:
        with pytest.raises(IndexError, match="of 22"):
            _ = opened.images.key[image]


@settings(deadline=None)
@given(data=st.data())
def test_columns_are_read_by_rows_as_arrays_are(path: Path, data: st.DataObject) -> None:
    rows = data.draw(
        st.one_of(
            st.integers(-22, 21),
            st.slices(22),
            st.lists(st.integers(-22, 21), max_size=9),
            st.lists(st.booleans(), min_size=22, max_size=22).map(np.array),
        )
    )
    whole = read_whole(path)
    with open_index(path) as index:
        chosen = np.array(whole.images.key, object)[np.array(rows, np.int64) if isinstance(rows, list) else rows]
        assert index.images.key[rows] == (chosen if isinstance(rows, int) else chosen.tolist())
        expected = whole.images.quaternion[np.array(rows, np.int64) if isinstance(rows, list) else rows]
        np.testing.assert_array_equal(index.images.quaternion[rows], expected)


def test_a_mask_of_another_length_is_refused(opened: OpenedIndex) -> None:
    with pytest.raises(IndexError, match="mask of 3"):
        _ = opened.images.key[np.ones(3, bool)]


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Values that are read of each dataset."""
    counts: dict[str, int] = {}
    usual = h5py.Dataset.__getitem__

    def read(dataset: h5py.Dataset, rows: object) -> object:
        values = usual(dataset, rows)
        name = dataset.name.strip("/")
        counts[name] = counts.get(name, 0) + np.size(values)
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", read)
    return counts


def test_opening_reads_no_column(path: Path, rows_read: dict[str, int]) -> None:
    with open_index(path) as index:
        assert index.num_images == 22
        _ = index.images.key, index.images.pose, index.points.xyz
    assert rows_read == {}


def test_one_image_reads_only_its_part_of_every_column(tmp_path: Path, rows_read: dict[str, int]) -> None:
    whole = random_index(np.random.default_rng(0), (200, 300, 200), (0, 0, 0))
    write_whole(tmp_path / "i.h5", whole, {})
    rows_read.clear()
    with open_index(tmp_path / "i.h5") as index:
        row = 200 + int(np.argmax(np.diff(whole.covisibility.indptr)[200:500]))
        neighbours = index.covisible(row)
    assert len(neighbours.row) > 10
    edges = len(neighbours.row)
    keys = {name: rows_read.pop(f"images/key/{name}") for name in ("utf8", "offsets")}
    assert rows_read == {
        "covisibility/indptr": 2,
        **{f"covisibility/{n}": edges for n in ("neighbour", "shared", "scale_change", "angle", "axis_angle")},
        "images/observed": 1,
    }
    assert keys["offsets"] <= 301


def test_rows_far_apart_are_read_one_by_one(tmp_path: Path, rows_read: dict[str, int]) -> None:
    with create_file(tmp_path / "f.h5", "far", 1, {}) as file:
        file["x"] = np.arange(1 << 18)
    rows_read.clear()
    column = LazyFile(tmp_path / "f.h5", "far", 1, {"x": Rule(("values",), "int64")}).column("x")
    rows = np.array([250_000, 3, 250_001, 3, 100_000])
    assert column[rows].tolist() == rows.tolist()
    assert rows_read["x"] <= 10


def ask(index: OpenedIndex, rows: list[int]) -> list[list[int]]:
    """Neighbours of some images, and the process that found them."""
    return [[os.getpid()], *(index.covisible(row).row.tolist() for row in rows)]


def test_four_spawned_processes_read_at_once(opened: OpenedIndex) -> None:
    rows = list(range(22))
    expected = ask(opened, rows)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        answers = pool.starmap(ask, [(opened, rows)] * 8, chunksize=1)
    assert all(answer[1:] == expected[1:] for answer in answers)
    assert os.getpid() not in {answer[0][0] for answer in answers}


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_forked_processes_and_the_one_they_come_from_read_at_once(opened: OpenedIndex) -> None:
    rows = list(range(22)) * 10
    expected = ask(opened, rows)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        waiting = [pool.apply_async(ask, (opened, rows)) for _ in range(4)]
        assert ask(opened, rows) == expected
        answers = [one.get(60) for one in waiting]
    assert all(answer[1:] == expected[1:] for answer in answers)
    assert ask(opened, rows) == expected


def inherited(connection: object) -> None:
    """Read with an index that was open before the fork."""
    handle = INHERITED[0]._file._opened
    connection.send((INHERITED[0].covisible(0).row.tolist(), INHERITED[0]._file._opened is not handle))  # type: ignore[attr-defined]


INHERITED: list[OpenedIndex] = []


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_an_index_inherited_by_a_fork_is_opened_anew(opened: OpenedIndex) -> None:
    expected = opened.covisible(0).row.tolist()
    INHERITED[:] = [opened]
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=inherited, args=(theirs,))
    child.start()
    assert ours.poll(60)
    assert ours.recv() == (expected, True)
    child.join()
    assert opened.covisible(0).row.tolist() == expected


def test_threads_share_one_index(opened: OpenedIndex) -> None:
    expected, found = ask(opened, list(range(22))), []
    threads = [threading.Thread(target=lambda: found.append(ask(opened, list(range(22))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_an_index_is_pickled_as_its_path(opened: OpenedIndex, path: Path) -> None:
    opened.covisible("model0/1.jpg")
    assert len(pickle.dumps(opened)) < 500
    again = pickle.loads(pickle.dumps(opened))
    assert (again.path, again.num_images) == (path, 22)
    for column in (opened.images.key, opened.images.place, opened.images.pose, opened.points.xyz):
        copy: LazyColumn = pickle.loads(pickle.dumps(column))
        np.testing.assert_array_equal(copy[:3], column[:3])


def test_an_index_that_was_replaced_is_refused_in_another_process(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_whole(tmp_path / f"{seed}.h5", random_index(np.random.default_rng(seed), (5,), (0,)), {})
    path = tmp_path / "0.h5"
    with open_index(path) as index:
        travelling = pickle.dumps(index), pickle.dumps(index.images.key)
        os.replace(tmp_path / "1.h5", path)
        assert len(index.images.key[:]) == 5
        with pytest.raises(DataError, match=r"0\.h5: was replaced"):
            pickle.loads(travelling[0])
        with pytest.raises(DataError, match=r"0\.h5: was replaced"):
            _ = pickle.loads(travelling[1])[:]


def test_a_closed_index_refuses_in_one_line(path: Path) -> None:
    with open_index(path) as index:
        neighbours = index.covisible(0)
    assert len(neighbours.row)
    with pytest.raises(DataError, match=r"index\.h5: was closed"):
        index.covisible(0)


def test_a_file_that_is_no_index_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_index(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(FileFormatError, match="not a whole HDF5 file"):
        open_index(tmp_path / "text.h5")
    with create_file(tmp_path / "other.h5", "sfm2tuples-tuples", 1, {}) as file:
        file["x"] = np.zeros(1)
    with pytest.raises(FileFormatError, match="is sfm2tuples-tuples"):
        open_index(tmp_path / "other.h5")


def test_an_index_without_a_column_is_refused_as_it_is_opened(tmp_path: Path, path: Path) -> None:
    copy = tmp_path / "i.h5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "a") as file:
        del file["covisibility/angle"]
    with pytest.raises(FileFormatError, match="no covisibility/angle"):
        open_index(copy)


def test_an_index_without_images_opens(tmp_path: Path) -> None:
    write_whole(tmp_path / "i.h5", random_index(np.random.default_rng(0), (0,), (0,)), {})
    with open_index(tmp_path / "i.h5") as index:
        assert index.covisibility().shape == (0, 0)
        assert index.poses().shape == (0, 3, 4)
        assert list(index.images.key) == []


def test_the_package_offers_open_index_without_loading_it() -> None:
    program = "import sys, sfm2tuples; assert 'h5py' not in sys.modules; print(sfm2tuples.open_index.__name__)"
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True).stdout == b"open_index\n"
    with pytest.raises(AttributeError):
        _ = sfm2tuples.close_index  # type: ignore[attr-defined]


OF_SITES = "## Sites, tuples and networks"
"""Heading of the part of the page that tests/test_site.py runs."""
PAGE = Path(__file__).resolve().parents[1] / "docs" / "python_api.md"


def test_the_examples_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for scene in ("castle", "bridge"):
        write_scene(tmp_path / "m", scene, {f"{i}.jpg": f"{scene}{i}".encode() for i in range(4)}, num_points=20)
    build_index([tmp_path / "m"], tmp_path / "index.h5", IngestOptions())
    monkeypatch.chdir(tmp_path)
    examples = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8").split(OF_SITES)[0], re.MULTILINE | re.DOTALL
    )
    assert len(examples) >= 4
    scripts = [example for example in examples if "__main__" in example]
    assert len(scripts) == 1
    for example in examples:
        if example in scripts:  # its processes import it
            (tmp_path / "example.py").write_text(example, encoding="utf-8")
            done = subprocess.run([sys.executable, "example.py"], capture_output=True, text=True)
            assert done.returncode == 0, f"{example}\n{done.stderr}"
            assert done.stdout
        else:
            exec(compile(example, str(PAGE), "exec"), {})
            assert capsys.readouterr().out
