"""An opened index of the real reconstructions answers what the index in memory does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
from worlds import read_whole

import sfm2tuples
from sfm2tuples.index.schema import distinct_points
from sfm2tuples.ingest.build import IngestOptions, build_index

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def path(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of all reconstructions, told nothing about places."""
    target = tmp_path_factory.mktemp("real") / "index.h5"
    build_index([shared / "reconstructions"], target, IngestOptions())
    return target


def test_neighbours_graphs_and_poses_equal_the_whole_index(path: Path) -> None:
    whole = read_whole(path)
    graph, observed = whole.covisibility, distinct_points(whole.observations.indptr, whole.observations.point)
    with sfm2tuples.open_index(path) as index:
        np.testing.assert_array_equal(index.num_observed(), observed)
        everything = index.covisibility()
        np.testing.assert_array_equal(everything.indptr, graph.indptr)
        np.testing.assert_array_equal(everything.indices, graph.neighbour)
        np.testing.assert_array_equal(everything.data, graph.shared)
        poses = index.poses()
        for row, key in enumerate(whole.images.key):
            part = slice(graph.indptr[row], graph.indptr[row + 1])
            order = sorted(range(part.start, part.stop), key=lambda e: (-graph.shared[e], graph.neighbour[e]))
            found = index.covisible(key)
            np.testing.assert_array_equal(found.row, graph.neighbour[order])
            np.testing.assert_array_equal(found.overlap, (graph.shared[order] / observed[row]).astype(np.float32))
            np.testing.assert_array_equal(found.angle, graph.angle[order])
            rotation = np.array(oracles.rotation_matrix(whole.images.quaternion[row]))
            np.testing.assert_allclose(poses[row, :, :3], rotation, atol=1e-9)


def test_points_seen_by_two_images_are_their_shared_points(path: Path) -> None:
    with sfm2tuples.open_index(path) as index:
        for row in range(0, index.num_images, 40):
            near = index.covisible(row)
            for other, shared in list(zip(near.row.tolist(), near.shared.tolist(), strict=True))[:3]:
                both = set(index.points_of(row).point.tolist()) & set(index.points_of(other).point.tolist())
                assert len(both) == shared
                track = index.track(min(both))
                assert {row, other} <= set(track.image.tolist())
