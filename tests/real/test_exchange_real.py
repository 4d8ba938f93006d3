"""Real landmarks on their way to other programs and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import networkx
import pytest
from PIL import Image
from worlds import Index, read_whole

from retrieval.networks.choice import NetworkChoice
from retrieval.tuple_files.cirtorch_export import export_cirtorch
from retrieval.tuple_files.cirtorch_import import ImportOptions, import_tuple_file
from retrieval.tuple_files.mining import mine_tuple_file
from retrieval.tuple_files.readable_photos import PhotoOptions
from sfm2tuples.ingest.build import IngestOptions, build_index
from sfm2tuples.interop.cirtorch_files import photo_path, read_cirtorch
from sfm2tuples.interop.cirtorch_tables import tuple_pairs
from sfm2tuples.interop.graph_export import write_graphml, write_neighbours
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.tuple_file import read_tuples
from sfm2tuples.readers.discover import PhotoFolder

pytestmark = pytest.mark.real
MATCHED = 5


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the landmarks, tuples with negatives at random, their export and its import."""
    folder = tmp_path_factory.mktemp("exchange")
    photos = [PhotoFolder(shared / "collection/images")]
    build_index([shared / "collection_models"], folder / "index.h5", IngestOptions(), photo_roots=photos)
    options = MiningOptions(negatives="random", num_negatives=2, query_share=1.0, queries_per_place=10, num_positives=2)
    no_network = PhotoOptions(NetworkChoice())
    mine_tuple_file(folder / "index.h5", folder / "t.h5", options, no_network)
    export_cirtorch(folder / "t.h5", folder / "retrieval-SfM-real", 128)
    root = folder / "retrieval-SfM-real"
    pickle, back = root / "retrieval-SfM-real.pkl", folder / "back.h5"
    import_tuple_file(pickle, root / "ims", back, ImportOptions(num_negatives=2), no_network)
    return folder


@pytest.fixture(scope="module")
def index(folder: Path) -> Index:
    return read_whole(folder / "index.h5")


def test_pairs_of_each_model_are_those_of_pycolmaps_tracks(shared: Path, folder: Path, index: Index) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    write_neighbours(index.opened(), folder / "pairs.txt", MATCHED, "key")
    lines = (folder / "pairs.txt").read_text().splitlines()
    expected = []
    for row, name in enumerate(index.models.name):
        model = pycolmap.Reconstruction(str(shared / "collection_models" / name))
        keys = index.images.key[index.models.image_start[row] : index.models.image_start[row + 1]]
        images = sorted(model.images.values(), key=lambda image: image.name)
        points = [{p.point3D_id for p in image.points2D if p.has_point3D()} for image in images]
        for i, own in enumerate(points):
            best = sorted((-len(own & other), j) for j, other in enumerate(points) if j != i and own & other)
            expected += [f"{keys[i]} {keys[j]}" for _, j in best[:MATCHED]]
    assert lines == expected


def test_the_graph_of_a_place_is_its_edges(folder: Path, index: Index) -> None:
    place = index.places.name[0]
    nodes, edges = write_graphml(index.opened(), folder / "graph.graphml", [place], 15)
    graph = networkx.read_graphml(folder / "graph.graphml")
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (nodes, edges)
    assert nodes == int((index.image_place == 0).sum())
    assert edges > nodes
    assert min(data["shared"] for *_, data in graph.edges(data=True)) >= 15


def test_pairs_come_back_from_cirtorchs_layout_and_every_photo_opens(folder: Path) -> None:
    before, after = read_tuples(folder / "t.h5"), read_tuples(folder / "back.h5")
    root = folder / "retrieval-SfM-real"
    splits = read_cirtorch(root / "retrieval-SfM-real.pkl")
    cids = {name: iter(part.cids) for name, part in splits.items()}
    key_of = {
        photo_path(next(cids[("train", "val")[split]])): key
        for key, split in zip(before.images.key, before.image_split.tolist(), strict=True)
    }
    for name in ("train", "val"):
        old = zip(*tuple_pairs(before.tuples[name]), strict=True)
        new = zip(*tuple_pairs(after.tuples[name]), strict=True)
        named = [(key_of[after.images.key[q]], key_of[after.images.key[p]]) for q, p in new]
        assert named == [(before.images.key[q], before.images.key[p]) for q, p in old] != []
    for key in after.images.key:
        with Image.open(root / "ims" / key) as photo:
            assert photo.format == "JPEG"
            assert max(photo.size) <= 128
    assert dataclasses.asdict(ImportOptions(num_negatives=2)).items() <= after.header.options.items()
