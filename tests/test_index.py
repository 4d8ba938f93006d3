"""The index file: written, read back, refused when it is not whole."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hand_made import random_model
from worlds import Index, read_whole, write_whole

from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.files.container import content_fingerprint, read_header
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import POINT_TABLES, distinct_points, write_index
from sfm2tuples.ingest.merging import PlaceChoices, StoredModel, merge_models, stored_models
from sfm2tuples.ingest.part_files import COLUMNS, part_of, read_part, write_part
from sfm2tuples.readers.discover import ModelLocation


@pytest.fixture
def models() -> list[StoredModel]:
    """Two random models without photos, in one part."""
    names = ["a", "b"]
    read = [random_model(seed) for seed in range(2)]
    part = part_of([(name, name, model, covisibility(model)) for name, model in zip(names, read, strict=True)])
    root = Path("/r")
    return stored_models(part, [ModelLocation(root / n, root, n, root / n, "colmap_binary") for n in names])


@pytest.fixture
def index(models: list[StoredModel], tmp_path: Path) -> Index:
    """The index of the two models, written from streams and read back."""
    write_merged(tmp_path / "merged.h5", models)
    return read_whole(tmp_path / "merged.h5")


def write_merged(path: Path, models: list[StoredModel], threads: int = 1) -> None:
    """Merge models and write their index."""
    merged = merge_models(models, [""] * len(models), PlaceChoices([None] * len(models), {}, 0.5, 0))
    write_index(path, merged.tables, {}, threads=threads)


def assert_equal_tables(a: Index, b: Index) -> None:
    """Every column has the same values and type."""
    for table in dataclasses.fields(Index):
        if getattr(a, table.name) is None:
            assert getattr(b, table.name) is None
            continue
        for column in dataclasses.fields(getattr(a, table.name)):
            left, right = (getattr(getattr(i, table.name), column.name) for i in (a, b))
            np.testing.assert_array_equal(left, right, err_msg=f"{table.name}.{column.name}")
            assert getattr(left, "dtype", None) == getattr(right, "dtype", None), f"{table.name}.{column.name}"


def test_an_index_reads_back_as_it_was_written(tmp_path: Path, index: Index) -> None:
    write_whole(tmp_path / "index.h5", index, {"seed": 3})
    assert_equal_tables(index, read_whole(tmp_path / "index.h5"))
    assert read_header(tmp_path / "index.h5").options == {"seed": 3}


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, index: Index) -> None:
    for name in ("one.h5", "two.h5"):
        write_whole(tmp_path / name, index, {"seed": 3})
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_the_fingerprint_is_of_the_content_and_not_of_where_photos_lie(tmp_path: Path, index: Index) -> None:
    moved = dataclasses.replace(index, models=dataclasses.replace(index.models, photo_root=["/x", "/y"]))
    names = dataclasses.replace(index, images=dataclasses.replace(index.images, name=index.images.name[::-1]))
    prints = []
    for number, version in enumerate([index, moved, names]):
        write_whole(tmp_path / f"{number}.h5", version, {})
        prints.append(read_header(tmp_path / f"{number}.h5").fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_index_is_refused_in_one_line(tmp_path: Path, index: Index, share: float) -> None:
    path = tmp_path / "index.h5"
    write_whole(path, index, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileFormatError, match=r"index\.h5") as error:
        open_index(path)
    assert "\n" not in str(error.value)


def test_an_index_without_a_column_is_refused(tmp_path: Path, index: Index) -> None:
    path = tmp_path / "index.h5"
    write_whole(path, index, {})
    with h5py.File(path, "a") as file:
        del file["covisibility/shared"]
    with pytest.raises(FileFormatError, match="shared"):
        open_index(path)


def test_an_absent_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_index(tmp_path / "index.h5")


def test_rows_of_a_model_are_shifted_to_rows_of_the_index(index: Index) -> None:
    model = random_model(1)
    alone = covisibility(model)
    images = index.models.image_start
    start, end = index.covisibility.indptr[images[1]], index.covisibility.indptr[images[2]]
    np.testing.assert_array_equal(index.covisibility.neighbour[start:end], alone.neighbour + images[1])
    np.testing.assert_array_equal(index.covisibility.shared[start:end], alone.shared)
    points = index.observations.point[index.observations.indptr[images[1]] : index.observations.indptr[images[2]]]
    np.testing.assert_array_equal(points, model.observation_points + index.models.point_start[1])
    xyz = index.points.xyz[points] + index.points.centre[1]
    np.testing.assert_allclose(xyz, model.points[model.observation_points], rtol=0, atol=1e-5)
    camera = index.images.camera[images[1]]
    assert index.cameras.model[camera] == model.camera_models[model.image_cameras[0]]


def test_distinct_points_counts_a_point_seen_twice_once(index: Index) -> None:
    indptr = index.observations.indptr
    sets = [set(index.observations.point[a:b].tolist()) for a, b in itertools.pairwise(indptr)]
    assert distinct_points(indptr, index.observations.point).tolist() == [len(s) for s in sets]
    assert any(len(s) < b - a for s, a, b in zip(sets, indptr[:-1], indptr[1:], strict=True))


def test_columns_hashed_as_they_are_written_have_the_fingerprint_of_the_file(
    tmp_path: Path, models: list[StoredModel]
) -> None:
    for threads in (1, 4):
        write_merged(tmp_path / f"{threads}.h5", models, threads)
        time.sleep(1.1 * (threads == 1))  # HDF5 keeps times of objects in seconds, unless told not to.
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "4.h5").read_bytes()
    with h5py.File(tmp_path / "1.h5") as file:
        assert file.attrs["fingerprint"] == content_fingerprint(file, ["models/photo_root", *POINT_TABLES])
        assert file.attrs["details"] == content_fingerprint(file, groups=POINT_TABLES)


def test_large_models_are_gathered_in_blocks(
    tmp_path: Path, models: list[StoredModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = [dataclasses.replace(model, part=dataclasses.replace(model.part)) for model in models]
    write_merged(tmp_path / "whole.h5", models)
    monkeypatch.setattr("sfm2tuples.ingest.merging.BLOCK_ROWS", 7)
    write_merged(tmp_path / "blocks.h5", apart)
    assert (tmp_path / "whole.h5").read_bytes() == (tmp_path / "blocks.h5").read_bytes()


def test_models_are_taken_out_of_parts_in_any_order(tmp_path: Path, models: list[StoredModel]) -> None:
    """As after a resumed build, or where twins are left out."""
    many = [(f"{seed}", "", random_model(seed), covisibility(random_model(seed))) for seed in range(5)]
    locations = [ModelLocation(Path("/r") / n, Path("/r"), n, Path("/r") / n, "colmap_binary") for n, *_ in many]
    one = stored_models(part_of(many), locations)
    write_part(tmp_path / "p.part", part_of(many[::-1]))
    reverse = stored_models(read_part(tmp_path / "p.part"), locations[::-1])
    wanted = [0, 2, 4]
    write_merged(tmp_path / "one.h5", [one[k] for k in wanted])
    write_merged(tmp_path / "reverse.h5", [reverse[4 - k] for k in wanted])
    write_merged(tmp_path / "mixed.h5", [one[0], reverse[2], one[4]])
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "reverse.h5").read_bytes()
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "mixed.h5").read_bytes()


def test_a_part_reads_back_as_it_was_written(tmp_path: Path) -> None:
    models = [(f"{seed}", f"key{seed}", random_model(seed), covisibility(random_model(seed))) for seed in range(3)]
    part = part_of(models)
    write_part(tmp_path / "p.part", part)
    back = read_part(tmp_path / "p.part", check=True)
    assert back.models == part.models
    for name in COLUMNS:
        np.testing.assert_array_equal(back.read_whole(name), part.read_whole(name), err_msg=name)


@pytest.mark.parametrize("damage", ["empty", "short", "header", "zeros", "long"])
def test_a_torn_part_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "p.part"
    write_part(path, part_of([("a", "k", random_model(0), covisibility(random_model(0)))]))
    content = path.read_bytes()
    half = len(content) // 2
    torn = {
        "empty": b"",
        "short": content[:half],
        "header": content[:30] + b"\0" * 20 + content[50:],
        "zeros": content[:half] + bytes(len(content) - half),
        "long": content + b"\0",
    }
    path.write_bytes(torn[damage])
    with pytest.raises(FileFormatError, match="torn part"):
        read_part(path, check=True)
