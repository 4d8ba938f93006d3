"""Real COLMAP models, converted as COLMAP's converter does, read back through Bundler's and VisualSFM's formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfm2tuples.readers.any_kind import read_model
from tests import oracles

pycolmap = pytest.importorskip("pycolmap")
pytestmark = pytest.mark.real

MODELS = [
    "reconstructions/castle_p19/sparse/0",
    "reconstructions/bridge/sparse/0",
    "reconstructions/south_building_5/sparse/0",
    "reconstructions/climbing_wall/sparse/0",
    "reconstructions/computer_mouse/sparse/0",
    "reconstructions/plush_bear/sparse/1",
    "collection_models/petra/sparse/0",
    "collection_models/taj_mahal/sparse/0",
]


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_in_bundlers_format_has_the_originals_geometry_and_graph(
    shared: Path, tmp_path: Path, name: str
) -> None:
    original = read_model(shared / name)
    oracles.export_bundler(pycolmap.Reconstruction(shared / name), tmp_path / "bundle.out", tmp_path / "list.txt")
    oracles.assert_same_geometry(read_model(tmp_path), original)


@pytest.mark.parametrize("name", MODELS)
def test_a_real_model_in_visualsfms_format_has_the_originals_geometry_and_graph(
    shared: Path, tmp_path: Path, name: str
) -> None:
    original = read_model(shared / name)
    oracles.export_nvm(pycolmap.Reconstruction(shared / name), tmp_path / "model.nvm")
    oracles.assert_same_geometry(read_model(tmp_path), original)
