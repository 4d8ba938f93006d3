"""What a localiser gets, on a real site: a meeting room whose photos are smaller than its model's camera says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles_localisation as oracles
import pytest
from hand_made import run

from retrieval.evaluation.database_images import DatabaseImages
from retrieval.evaluation.localisability import Localised, localisability
from retrieval.evaluation.localised_queries import localised_queries
from retrieval.localisation.lifting import nearest_observations
from retrieval.localisation.options import LocalisationOptions, parse_thresholds
from retrieval.protocols.sfm import sfm_benchmark
from sfm2tuples.index.opened import OpenedIndex, open_index
from sfm2tuples.index.schema import TRAIN

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def room(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> OpenedIndex:
    path = tmp_path_factory.mktemp("room") / "index.h5"
    assert run("build-index", shared / "sites" / "meeting_room", "-o", path, "--val-share", 0) == 0
    return open_index(path)


def test_points_seen_are_those_of_the_naive_loop_on_a_real_site(room: OpenedIndex) -> None:
    benchmark, rng = sfm_benchmark(room, TRAIN), np.random.default_rng(0)
    database = DatabaseImages.of_photos(room, benchmark.database)
    queries = np.arange(len(benchmark.database))
    results = np.array([rng.permutation(len(queries) + 5)[:20] for _ in queries])
    found = localisability(database, queries, results, parse_thresholds(None))
    indptr, point = database.point_indptr, database.point
    observed, seen = oracles.seen_points(indptr, point, queries, results)
    assert found.observed.tolist() == observed.tolist()
    assert found.seen.tolist() == seen.tolist()
    assert found.attainable.tolist() == oracles.attainable_points(indptr, point, queries).tolist()
    assert found.observed.tolist() == room.num_observed()[database.image].tolist()


def test_observations_near_keypoints_are_those_of_the_naive_loop_on_a_real_image(room: OpenedIndex) -> None:
    xy = room.points_of(20).xy
    keypoints = np.random.default_rng(0).uniform(0, 1109, (60, 2))
    assert nearest_observations(keypoints, xy, 9.0).tolist() == [
        oracles.nearest_observation(keypoint, xy, 9.0) for keypoint in keypoints
    ]


def test_photos_are_localised_by_those_that_share_most_points_and_by_no_others(room: OpenedIndex) -> None:
    pytest.importorskip("pycolmap")
    benchmark, poses = sfm_benchmark(room, TRAIN), parse_thresholds(None)
    database = DatabaseImages.of_photos(room, benchmark.database)
    row_of = {key: row for row, key in enumerate(benchmark.database)}
    queries = np.arange(10, 150, 40)
    near = [[row_of[key] for key in room.covisible(benchmark.database[query]).key[:3]] for query in queries]
    seen = [{*near_ones} for near_ones in near]
    far = [[row for row in range(70, 140) if row not in s][:3] for s in seen]

    def localised(results: list[list[int]]) -> Localised:
        options = LocalisationOptions(num_matched=3, max_features=2048)
        return localised_queries(database, benchmark, queries, np.array(results), poses, options, 1)

    assert localised(near).within(poses)[:, 0].all()
    shared = localisability(database, queries, np.array(far), poses).seen[:, -1]
    without = [reason for reason, count in zip(localised(far).reason, shared.tolist(), strict=True) if count < 12]
    assert without
    assert all(without)
