"""Local features: found in processes of their own, the same for the same photo, in pixels of the photo's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.local_features.feature_extraction import FeatureOptions, extract_features
from retrieval.local_features.feature_files import LocalFeatures, read_features, write_features
from retrieval.local_features.sift import SiftOptions
from retrieval.photos.sources import PhotoSources, SourceColumns, photos_of
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from tests.textures import texture

pytest.importorskip("pycolmap")

SMALL = FeatureOptions(200, SiftOptions(first_octave=0, affine_shape=False))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(texture(0, 200, 150)).save(folder / "a.jpg", quality=95)
    Image.fromarray(texture(0, 200, 150)).resize((400, 300)).save(folder / "b.jpg", quality=95)
    (folder / "torn.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def features(folder: Path) -> LocalFeatures:
    found, failures = extract_features(photos_of(folder), SMALL)
    assert [Path(failure.path).name for failure in failures] == ["torn.jpg"]
    return found


def test_photos_that_can_be_read_have_features(features: LocalFeatures) -> None:
    assert features.names == ["a.jpg", "b.jpg"]
    assert features.size.tolist() == [[200, 150], [400, 300]]
    assert np.all(np.diff(features.indptr) > 20)


def test_descriptors_have_length_512(features: LocalFeatures) -> None:
    length = np.linalg.norm(features.descriptors.astype(np.float64), axis=1)
    assert np.abs(length - 512).max() < 10


def test_keypoints_are_in_pixels_of_the_file(features: LocalFeatures) -> None:
    assert features.zoom.tolist() == [1.0, 2.0]
    a, b = features.keypoints[features.of(0)], features.keypoints[features.of(1)]
    away = np.linalg.norm(2 * a[:, None, :2] - b[None, :, :2], axis=2).min(axis=1)
    assert np.mean(away < 3) > 0.5
    assert b[:, 0].max() > 200


def test_two_processes_find_the_same_as_one(folder: Path, features: LocalFeatures) -> None:
    photos = photos_of(folder).only(["a.jpg", "b.jpg"])
    again, _ = extract_features(photos, SMALL, jobs=2)
    assert np.array_equal(again.keypoints, features.keypoints)
    assert np.array_equal(again.descriptors, features.descriptors)


def test_features_survive_the_file(features: LocalFeatures, tmp_path: Path) -> None:
    write_features(tmp_path / "f.h5", features)
    read = read_features(tmp_path / "f.h5")
    assert read.names == features.names
    assert read.settings["image_size"] == 200
    for column in ("size", "zoom", "indptr", "keypoints", "descriptors"):
        assert np.array_equal(getattr(read, column), getattr(features, column))


def test_photos_are_chosen_by_name(features: LocalFeatures) -> None:
    chosen = features.only(["b.jpg"])
    assert np.array_equal(chosen.descriptors, features.descriptors[features.of(1)])
    with pytest.raises(DataError, match="1 of 1 photos have no features, first c"):
        features.only(["c.jpg"])


def test_columns_that_do_not_fit_are_refused(features: LocalFeatures, tmp_path: Path) -> None:
    import h5py

    write_features(tmp_path / "f.h5", features)
    with h5py.File(tmp_path / "f.h5", "a") as file:
        del file["zoom"]
        file["zoom"] = np.ones(1)
    with pytest.raises(FileFormatError, match=r"zoom has the shape \(1,\), which does not fit 2 photos"):
        read_features(tmp_path / "f.h5")


def test_options_without_meaning_are_refused() -> None:
    for options in ({"first_octave": -2}, {"peak_threshold": 0.0}, {"max_features": 0}):
        with pytest.raises(UsageError):
            SiftOptions(**options)


def test_equal_content_has_equal_features(folder: Path) -> None:
    sources = SourceColumns.below([folder], np.zeros(2, int), ["a.jpg", "absent.jpg"])
    doubled = PhotoSources(["x", "y"], sources, np.array([0, 0]), folder)
    found, failures = extract_features(doubled, SMALL)
    assert failures == []
    assert np.array_equal(found.descriptors[found.of(0)], found.descriptors[found.of(1)])


@pytest.mark.parametrize(("first_octave", "smallest"), [(-1, 16), (0, 16), (1, 31), (2, 61)])
def test_photos_too_small_for_pycolmap_are_named_before_it_sees_them(
    tmp_path: Path, first_octave: int, smallest: int
) -> None:
    options = FeatureOptions(200, SiftOptions(first_octave=first_octave))
    assert options.sift.smallest_side == smallest
    for side in (1, 3, smallest - 1):
        Image.new("RGB", (80, side)).save(tmp_path / f"{side}.png")
    with pytest.raises(DataError, match=r"none of its 3 photos can be read; .*1\.png: 80 x 1 pixels are too few"):
        extract_features(photos_of(tmp_path), options)
    Image.new("RGB", (80, 80)).save(tmp_path / "large.png")
    found, failures = extract_features(photos_of(tmp_path), options)
    assert found.names == ["large.png"]
    assert [failure.what for failure in failures[:2]] == [
        f"80 x {side} pixels are too few for local features, which need {smallest} a side"
        for side in sorted((1, 3, smallest - 1), key=lambda side: f"{side}.png")[:2]
    ]
