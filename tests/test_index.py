"""The index file: written, read back, refused when it is not whole."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import h5py
import numpy as np
import pytest
from hand_made import random_model

from sfm2tuples.covisibility import covisibility
from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.index import Index, distinct_points, read_index, write_index
from sfm2tuples.merging import BuiltModel, PlaceChoices, merge_models
from sfm2tuples.readers.discover import ModelLocation


@pytest.fixture
def index() -> Index:
    """Two random models without photos, merged."""
    built = []
    for seed, name in enumerate(["a", "b"]):
        model = random_model(seed)
        location = ModelLocation(Path("/r") / name, Path("/r"), name, Path("/r") / name, "colmap_binary")
        built.append(BuiltModel(location, model, covisibility(model)))
    return merge_models(built, [None, None], PlaceChoices([None, None], {}, 0.5, 0))[0]


def assert_equal_tables(a: Index, b: Index) -> None:
    """Every column has the same values and type."""
    for table in dataclasses.fields(Index):
        if table.name != "header":
            for column in dataclasses.fields(getattr(a, table.name)):
                left, right = (getattr(getattr(i, table.name), column.name) for i in (a, b))
                np.testing.assert_array_equal(left, right, err_msg=f"{table.name}.{column.name}")
                assert getattr(left, "dtype", None) == getattr(right, "dtype", None), f"{table.name}.{column.name}"


def test_an_index_reads_back_as_it_was_written(tmp_path: Path, index: Index) -> None:
    write_index(tmp_path / "index.h5", index, {"seed": 3})
    back = read_index(tmp_path / "index.h5")
    assert_equal_tables(index, back)
    assert back.header is not None
    assert back.header.options == {"seed": 3}


def test_the_same_content_gives_the_same_bytes(tmp_path: Path, index: Index) -> None:
    for name in ("one.h5", "two.h5"):
        write_index(tmp_path / name, index, {"seed": 3})
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_the_fingerprint_is_of_the_content_and_not_of_where_photos_lie(tmp_path: Path, index: Index) -> None:
    moved = dataclasses.replace(index, models=dataclasses.replace(index.models, photo_root=["/x", "/y"]))
    names = dataclasses.replace(index, images=dataclasses.replace(index.images, name=index.images.name[::-1]))
    prints = []
    for number, version in enumerate([index, moved, names]):
        write_index(tmp_path / f"{number}.h5", version, {})
        header = read_index(tmp_path / f"{number}.h5").header
        assert header is not None
        prints.append(header.fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_index_is_refused_in_one_line(tmp_path: Path, index: Index, share: float) -> None:
    path = tmp_path / "index.h5"
    write_index(path, index, {})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FileFormatError, match=r"index\.h5") as error:
        read_index(path)
    assert "\n" not in str(error.value)


def test_an_index_without_a_column_is_refused(tmp_path: Path, index: Index) -> None:
    path = tmp_path / "index.h5"
    write_index(path, index, {})
    with h5py.File(path, "a") as file:
        del file["covisibility/shared"]
    with pytest.raises(FileFormatError, match="shared"):
        read_index(path)


def test_an_absent_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_index(tmp_path / "index.h5")


def test_rows_of_a_model_are_shifted_to_rows_of_the_index(index: Index) -> None:
    model = random_model(1)
    alone = covisibility(model)
    images = index.models.image_start
    start, end = index.covisibility.indptr[images[1]], index.covisibility.indptr[images[2]]
    np.testing.assert_array_equal(index.covisibility.neighbour[start:end], alone.neighbour + images[1])
    np.testing.assert_array_equal(index.covisibility.shared[start:end], alone.shared)
    points = index.observations.point[index.observations.indptr[images[1]] : index.observations.indptr[images[2]]]
    np.testing.assert_array_equal(points, model.observation_points + index.models.point_start[1])
    np.testing.assert_array_equal(index.points.xyz[points], model.points[model.observation_points])
    camera = index.images.camera[images[1]]
    assert index.cameras.model[camera] == model.camera_models[model.image_cameras[0]]


def test_distinct_points_counts_a_point_seen_twice_once(index: Index) -> None:
    indptr = index.observations.indptr
    sets = [set(index.observations.point[a:b].tolist()) for a, b in itertools.pairwise(indptr)]
    assert distinct_points(index.observations).tolist() == [len(s) for s in sets]
    assert any(len(s) < b - a for s, a, b in zip(sets, indptr[:-1], indptr[1:], strict=True))
