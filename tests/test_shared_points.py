"""Shared points alone, held against sets, against the full graph and against COLMAP's own count."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
from hand_made import random_model, write_text_model

from benchmarks.street import street, write_street
from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.covisibility.shared_points import SharedPoints, shared_points
from sfm2tuples.errors import ModelError
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.discover import find_models
from tests import oracles

pycolmap = pytest.importorskip("pycolmap")


def write_images_bin(folder: Path, seen: dict[str, list[int]]) -> Path:
    """An images.bin whose images see points of these ids, -1 for none."""
    folder.mkdir(parents=True)
    content = struct.pack("<Q", len(seen))
    for number, (name, points) in enumerate(seen.items(), 1):
        content += struct.pack("<I7dI", number, 1, 0, 0, 0, 0, 0, 0, 1) + name.encode() + b"\0"
        content += struct.pack("<Q", len(points)) + b"".join(struct.pack("<2dq", 1, 2, p) for p in points)
    (folder / "images.bin").write_bytes(content)
    return folder


def assert_counts(pairs: SharedPoints, seen: list[set[int]], min_shared: int = 1) -> None:
    """Every pair's number is that of the sets, and the matrix says the same."""
    expected = np.array([[len(a & b) if a is not b else 0 for b in seen] for a in seen])
    expected[expected < min_shared] = 0
    np.testing.assert_array_equal(pairs.matrix().toarray(), expected)
    assert len(pairs.neighbour) == (expected > 0).sum()


@pytest.mark.parametrize("min_shared", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_shared_points_are_those_of_sets(seed: int, min_shared: int) -> None:
    model = random_model(seed)
    spans = itertools.pairwise(model.observation_indptr.tolist())
    seen = [set(model.observation_points[a:b].tolist()) for a, b in spans]
    assert_counts(shared_points(model, min_shared), seen, min_shared)


@pytest.mark.parametrize("far", [9, 2**40, 2**63 - 1, -5])
def test_point_ids_may_be_far_apart(tmp_path: Path, far: int) -> None:
    seen = {"b.jpg": [far, 3, -1, far], "a.jpg": [3, far], "Zürich 1.jpg": [-1], "c.jpg": [], "d.jpg": [far, 4]}
    pairs = shared_points(write_images_bin(tmp_path / "m", seen))
    assert pairs.image_names == ["Zürich 1.jpg", "a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert_counts(pairs, [set(seen[name]) - {-1} for name in pairs.image_names])


def test_only_the_images_of_a_binary_model_are_read(tmp_path: Path) -> None:
    write_street(tmp_path / "m", 20, 2000)
    graph = covisibility(read_model(tmp_path / "m"))
    for name in ("cameras.bin", "points3D.bin"):
        (tmp_path / "m" / name).unlink()
    pairs = shared_points(tmp_path / "m")
    for field in ("indptr", "neighbour", "shared"):
        np.testing.assert_array_equal(getattr(pairs, field), getattr(graph, field))


def test_a_text_model_is_counted_too(tmp_path: Path) -> None:
    write_text_model(tmp_path / "m", ["a.jpg", "b.jpg"], num_points=7)
    assert shared_points(tmp_path / "m").shared.tolist() == [7, 7]


@pytest.mark.parametrize(("cut", "fault"), [(4, "ends inside the number of images"), (-1, "has room for at most")])
def test_a_torn_file_is_one_line(tmp_path: Path, cut: int, fault: str) -> None:
    path = write_images_bin(tmp_path / "m", {"a.jpg": [1]}) / "images.bin"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=fault):
        shared_points(tmp_path / "m")


def test_a_name_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="leaves the photo root"):
        shared_points(write_images_bin(tmp_path / "m", {"../a.jpg": [1]}))


@pytest.mark.parametrize("mean_track", [3.0, 6.4, 14.0])
def test_a_made_street_reads_and_counts_as_in_colmap(tmp_path: Path, mean_track: float) -> None:
    write_street(tmp_path, 40, 4000, mean_track, seed=1)
    oracles.assert_same_model(read_model(tmp_path), tmp_path)
    theirs = pycolmap.MVSModel()
    theirs.read_from_colmap(str(tmp_path), ".", "images")
    pairs = shared_points(tmp_path)
    spans = itertools.pairwise(pairs.indptr.tolist())
    ours = [dict(zip(pairs.neighbour[a:b].tolist(), pairs.shared[a:b].tolist(), strict=True)) for a, b in spans]
    assert ours == theirs.compute_shared_points()


def test_a_street_is_the_same_each_time_and_points_are_before_their_cameras(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_street(tmp_path / name, 40, 4000)
    for file in ("cameras.bin", "images.bin", "points3D.bin"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    drawn = street(40, 4000)
    assert abs(len(drawn.images) - 4000) < 400
    assert drawn.images.min() >= 0
    assert drawn.images.max() < 40
    graph = covisibility(read_model(tmp_path / "a"))
    assert graph.behind == 0
    # Projections are where the points are: seen from its own camera, a point is where its pixel says.
    model = read_model(tmp_path / "a")
    image = int(np.searchsorted(model.observation_indptr, 7, side="right") - 1)
    rotation = np.array(oracles.rotation_matrix(model.quaternions[image]))
    x, y, z = rotation @ model.points[model.observation_points[7]] + model.translations[image]
    np.testing.assert_allclose(model.observation_xy[7], [512 + 900 * x / z, 384 + 900 * y / z])


def test_an_images_bin_left_beside_a_text_model_is_not_read(tmp_path: Path) -> None:
    write_text_model(tmp_path / "m", ["a.jpg", "b.jpg"])
    write_images_bin(tmp_path / "old", {"other.jpg": [1, 2], "another.jpg": [1, 2]})
    (tmp_path / "old/images.bin").rename(tmp_path / "m/images.bin")
    expected = shared_points(read_model(tmp_path / "m"))
    assert expected.image_names == ["a.jpg", "b.jpg"]
    (location,) = find_models([tmp_path / "m"])
    for model in (tmp_path / "m", location):
        found = shared_points(model)
        assert found.image_names == expected.image_names
        np.testing.assert_array_equal(found.matrix().toarray(), expected.matrix().toarray())
