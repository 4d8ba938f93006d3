"""The index of all real models: against pycolmap's own reader, sets and loops; places, twins, broken models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracles
import pytest
from worlds import Index, read_whole

from sfm2tuples.errors import ModelError
from sfm2tuples.ingest.build import IngestOptions, IngestSummary, build_index
from sfm2tuples.readers.discover import PhotoFolder

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the index of all goes."""
    return tmp_path_factory.mktemp("real") / "index.h5"


@pytest.fixture(scope="module")
def summary(shared: Path, target: Path) -> IngestSummary:
    """All 21 scenes and the six landmarks in one build, told nothing about places."""
    return build_index(
        [shared / "reconstructions", shared / "collection_models"],
        target,
        IngestOptions(),
        photo_roots=[PhotoFolder(shared / "collection/images")],
    )


@pytest.fixture(scope="module")
def index(summary: IngestSummary, target: Path) -> Index:
    """The index of all, read back."""
    return read_whole(target)


def groups(index: Index) -> list[list[str]]:
    """Scene folders of the places that have more than one model."""
    models: dict[int, list[str]] = {}
    for name, place in zip(index.models.name, index.models.place.tolist(), strict=True):
        models.setdefault(place, []).append(name.split("/sparse")[0].split("/")[-1])
    return sorted(m for m in models.values() if len(m) > 1)


def test_every_model_equals_pycolmap_sets_and_loops(shared: Path, index: Index) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    for row, name in enumerate(index.models.name):
        model = pycolmap.Reconstruction(str(shared / name))
        images = sorted(model.images.values(), key=lambda image: image.name)
        rows = range(index.models.image_start[row], index.models.image_start[row + 1])
        assert [index.images.name[i] for i in rows] == [image.name for image in images]
        for i, image in zip(rows, images, strict=True):
            _assert_equal_image(index, i, image)
        views = [_view(image) for image in images]
        expected = oracles.covisibility_by_sets(views, {p: point.xyz.tolist() for p, point in model.points3D.items()})
        _assert_equal_edges(index, rows, expected)


def _assert_equal_image(index: Index, row: int, image) -> None:  # type: ignore[no-untyped-def]
    pose = image.cam_from_world()
    np.testing.assert_allclose(index.images.quaternion[row], _unit(pose.rotation.quat)[[3, 0, 1, 2]], atol=1e-12)
    np.testing.assert_array_equal(index.images.translation[row], pose.translation)
    camera = index.images.camera[row]
    params = index.cameras.params[index.cameras.indptr[camera] : index.cameras.indptr[camera + 1]]
    np.testing.assert_array_equal(params, image.camera.params)
    part = slice(index.observations.indptr[row], index.observations.indptr[row + 1])
    seen = [(p.point3D_id, *np.float32(p.xy)) for p in image.points2D if p.has_point3D()]
    points = index.points.id[index.observations.point[part]].tolist()
    assert sorted(zip(points, *index.observations.xy[part].T, strict=True)) == sorted(seen)


def _unit(quaternion: np.ndarray) -> np.ndarray:
    """Text models have rounded ones, which pycolmap keeps as they are."""
    return quaternion / np.linalg.norm(quaternion)


def _view(image) -> tuple:  # type: ignore[no-untyped-def,type-arg]
    pose = image.cam_from_world()
    points = [p.point3D_id for p in image.points2D if p.has_point3D()]
    rotation = oracles.rotation_matrix(_unit(pose.rotation.quat)[[3, 0, 1, 2]])
    return points, rotation, pose.translation.tolist(), image.camera.mean_focal_length()


def _assert_equal_edges(index: Index, rows: range, expected: dict) -> None:  # type: ignore[type-arg]
    graph = index.covisibility
    part = slice(graph.indptr[rows.start], graph.indptr[rows.stop])
    counts = np.diff(graph.indptr[rows.start : rows.stop + 1])
    own = np.repeat(np.arange(len(rows)), counts)
    other = graph.neighbour[part] - rows.start
    both = {**expected, **{(j, i): value for (i, j), value in expected.items()}}
    pairs = sorted(both)
    assert list(zip(own.tolist(), other.tolist(), strict=True)) == pairs
    shared, scale_change, angle, axis_angle = np.array([both[pair] for pair in pairs]).reshape(-1, 4).T
    np.testing.assert_array_equal(graph.shared[part], shared)
    # A point of machu_picchu lies 4e-13 before the centre of a camera: its depth and ray are known to four digits.
    np.testing.assert_allclose(graph.scale_change[part], scale_change, rtol=2e-5)
    np.testing.assert_allclose(graph.angle[part], angle, rtol=2e-5)
    np.testing.assert_allclose(graph.axis_angle[part], axis_angle, rtol=1e-5, atol=1e-6)


def test_shared_photos_alone_make_the_castle_and_the_university_one_place_each(index: Index) -> None:
    assert groups(index) == [["castle_p19", "castle_p30"], ["south_building", "south_building_5"]]
    reasons = [reason.split(" share ")[1] for reason in index.places.reason if reason]
    assert reasons == ["10 photos", "5 photos"]


def test_the_places_file_joins_the_portal_and_the_fountain_to_the_castle(shared: Path, tmp_path: Path) -> None:
    root = shared / "reconstructions"
    build_index([root], tmp_path / "index.h5", IngestOptions(), places=root / "places.csv")
    index = read_whole(tmp_path / "index.h5")
    assert groups(index) == [
        ["castle_p19", "castle_p30", "entry_p10", "fountain_p11"],
        ["south_building", "south_building_5"],
    ]
    assert len(index.places.name) == 17


def test_twins_are_left_out(summary: IngestSummary) -> None:
    assert dict(summary.twins) == {
        "reconstructions/plush_bear/sparse/0": "reconstructions/plush_bear/sparse/1",
        "reconstructions/stone_figure/dense/sparse": "reconstructions/stone_figure/sparse/0",
    }


def test_only_the_bear_is_without_photos(summary: IngestSummary, index: Index) -> None:
    without = {index.models.name[m] for m in index.images.model[~index.images.has_photo].tolist()}
    assert without == {"reconstructions/plush_bear/sparse/1"}
    assert len(summary.missing) == 44
    assert index.image_split[~index.images.has_photo].max() == 0


def test_keys_are_unique_paths_from_the_common_parent(shared: Path, index: Index) -> None:
    assert len(set(index.images.key)) == len(index.images.key) == 699
    assert "reconstructions/castle_p19/images/0000.jpg" in index.images.key
    assert "collection/images/petra" in {key.rsplit("/", 1)[0] for key in index.images.key}
    for row in range(0, len(index.images.key), 50):
        if index.images.has_photo[row]:
            assert (shared / index.images.key[row]).samefile(index.photo_path(row))


def test_the_collection_alone_is_keyed_as_its_labels_are(shared: Path, tmp_path: Path) -> None:
    photos = PhotoFolder(shared / "collection/images")
    build_index([shared / "collection_models"], tmp_path / "index.h5", IngestOptions(), photo_roots=[photos])
    index = read_whole(tmp_path / "index.h5")
    labels = {line.split(",")[0] for line in (shared / "collection/labels.csv").read_text().splitlines()[1:]}
    assert index.images.key == index.images.name
    assert set(index.images.key) <= labels
    assert len(index.places.name) == 6


def test_each_broken_model_is_one_line_and_the_good_ones_are_indexed(shared: Path, tmp_path: Path) -> None:
    summary = build_index([shared / "broken"], tmp_path / "index.h5", IngestOptions())
    names = {name.split("/")[0] for name in read_whole(tmp_path / "index.h5").models.name}
    assert {"good", "good_text", "legacy", "name_not_utf8"} <= names
    broken = {path.name for path in (shared / "broken").iterdir() if path.is_dir()} - names
    assert len(summary.failed) == len(broken) == 29
    for line, name in zip(sorted(summary.failed), sorted(broken), strict=True):
        assert f"/broken/{name}/" in line
        assert "\n" not in line
    assert sum(summary.dropped.values()) == len(names) - 4


def test_strict_stops_at_the_first_broken_model(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="camera_absent"):
        build_index([shared / "broken"], tmp_path / "index.h5", IngestOptions(), strict=True)
    assert not (tmp_path / "index.h5").exists()


def test_two_jobs_write_the_same_bytes(shared: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        build_index([shared / "reconstructions"], tmp_path / f"{jobs}.h5", IngestOptions(), jobs=jobs)
    assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "2.h5").read_bytes()
