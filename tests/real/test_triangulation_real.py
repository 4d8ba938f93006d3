"""Real models, their points stripped: the tracks that --triangulate makes give a graph close to the original one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retrieval.reconstruction.model_files import write_binary_model
from retrieval.reconstruction.triangulation import TrackMaker
from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.discover import PhotoFolder, find_models
from sfm2tuples.readers.sparse_model import SparseModel

pytestmark = pytest.mark.real
pytest.importorskip("pycolmap")


def graph_of(model: SparseModel) -> tuple[np.ndarray, np.ndarray]:
    """Shared points of each pair, and which ordered pairs are m3's: overlap 0.2, scale change 1.5, axes below 90."""
    graph, number = covisibility(model), len(model.image_names)
    shared, scale, axes = np.zeros((number, number)), np.full((number, number), np.inf), np.full((number, number), 9.0)
    row = np.repeat(np.arange(number), np.diff(graph.indptr))
    shared[row, graph.neighbour] = graph.shared
    scale[row, graph.neighbour] = graph.scale_change
    axes[row, graph.neighbour] = graph.axis_angle
    seen = [
        len(set(model.observation_points[a:b].tolist()))
        for a, b in zip(model.observation_indptr[:-1], model.observation_indptr[1:], strict=True)
    ]
    return shared, (shared >= 0.2 * np.array(seen)[:, None]) & (scale <= 1.5) & (axes < np.pi / 2) & (shared > 0)


@pytest.mark.parametrize("scene", ["climbing_wall", "fountain_p11"])
def test_the_graph_of_a_stripped_model_comes_back(shared: Path, tmp_path: Path, scene: str) -> None:
    original = read_model(shared / "reconstructions" / scene / "sparse/0")
    none = np.empty(0, np.int64)
    stripped = replace(
        original,
        observation_indptr=np.zeros_like(original.observation_indptr),
        observation_points=none,
        observation_xy=np.empty((0, 2)),
        points=np.empty((0, 3)),
        point_ids=none,
        point_errors=np.empty(0),
    )
    write_binary_model(tmp_path, stripped)
    (location,) = find_models([tmp_path])
    maker = TrackMaker(tmp_path / "index.h5", [PhotoFolder(shared / "reconstructions" / scene / "images")])
    made = read_model(maker(location))
    assert np.array_equal(made.quaternions, read_model(tmp_path).quaternions)
    assert np.array_equal(made.camera_params, original.camera_params)
    (before, before_m3), (after, after_m3) = graph_of(original), graph_of(made)
    assert ((before >= 5) & (after >= 1)).sum() >= 0.98 * (before >= 5).sum()
    above = np.triu_indices(len(before), 1)
    assert np.corrcoef(before[above], after[above])[0, 1] > 0.95
    assert (before_m3 & after_m3).sum() >= 0.9 * before_m3.sum()
    assert (before_m3 & after_m3).sum() >= 0.9 * after_m3.sum()
