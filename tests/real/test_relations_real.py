"""The relations of real models: equal to the loop over all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.ingest.build import build_index
from sfm2tuples.ingest.options import IngestOptions
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.discover import find_models
from sfm2tuples.relations.model_relations import relations_of_model
from sfm2tuples.relations.unknown_pairs import Graph
from tests.oracles_relations import naive_relations

pytestmark = pytest.mark.real
FOLDERS = ["sites/gardens_point", "sites/meeting_room", "reconstructions"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_relations_of_real_models_equal_the_loop(shared: Path, folder: str) -> None:
    locations = find_models([shared / folder])
    assert locations
    for location in locations:
        model = read_model(location)
        graph = covisibility(model)
        found, right = relations_of_model(model, Graph(graph.indptr, graph.neighbour)), naive_relations(model)
        np.testing.assert_array_equal(found.takes_part, right.takes_part)
        rows = np.repeat(np.arange(len(found.takes_part)), np.diff(found.unknown.indptr))
        others = found.unknown.other
        np.testing.assert_array_equal(np.stack([rows, others]), np.nonzero(right.unknown), err_msg=location.name)
        np.testing.assert_array_equal(found.unknown.hops, right.hops[rows, others])
        np.testing.assert_array_equal(found.unknown.into, right.into[rows, others].astype(np.float32))
        np.testing.assert_allclose(found.unknown.distance, right.distance[rows, others], rtol=1e-5)


@pytest.mark.parametrize(
    ("site", "positive", "proven", "unknown"),
    [("gardens_point", 8895, 3300, 67605), ("meeting_room", 2949, 3854, 6563)],
)
def test_a_real_site_has_the_pairs_that_the_method_says(
    shared: Path, tmp_path: Path, site: str, positive: int, proven: int, unknown: int
) -> None:
    found = build_index([shared / "sites" / site], tmp_path / "i.h5", IngestOptions()).inside
    assert found is not None
    assert (found.positive, found.proven, found.unknown) == (positive, proven, unknown)
