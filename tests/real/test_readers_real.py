"""Readers on the real models, against COLMAP itself, and on the malformed ones, each with its one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.covisibility.shared_points import shared_points
from sfm2tuples.errors import ModelError
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.assembly import DROPPED_POINT, DROPPED_TRACK_IMAGE, DROPPED_TRACK_INDEX
from sfm2tuples.readers.discover import PhotoFolder, find_models, find_photo_root
from tests import oracles

pytestmark = pytest.mark.real

RECONSTRUCTIONS = [
    ("alexander_bust/sparse/0", 52),
    ("bridge/sparse/0", 28),
    ("brighton_beach/sparse/0", 18),
    ("castle_p19/sparse/0", 19),
    ("castle_p30/sparse/0", 30),
    ("climbing_wall/sparse/0", 13),
    ("computer_mouse/sparse/0", 56),
    ("desk/sparse/0", 24),
    ("dining_table/sparse/0", 14),
    ("entry_p10/sparse", 10),
    ("fountain_p11/sparse/0", 11),
    ("herz_jesu_p25/sparse/0", 25),
    ("locomotive/sparse/0", 21),
    ("monstree/sparse/0", 19),
    ("mother_child/sparse/0", 16),
    ("plush_bear/sparse/0", 3),
    ("plush_bear/sparse/1", 44),
    ("sceaux_castle/sparse/0", 11),
    ("south_building/sparse/0", 44),
    ("south_building_5/sparse/0", 5),
    ("stone_figure/dense/sparse", 23),
    ("stone_figure/sparse/0", 23),
    ("toy_car/sparse/0", 38),
]
LANDMARKS = [
    ("chichen_itza", 29),
    ("hochiminh_mausoleum", 31),
    ("machu_picchu", 38),
    ("paris_sacrecoeur", 19),
    ("petra", 23),
    ("taj_mahal", 38),
]
MODELS = [(f"reconstructions/{name}", count) for name, count in RECONSTRUCTIONS]
MODELS += [(f"collection_models/{name}/sparse/0", count) for name, count in LANDMARKS]

LINES = {
    "camera_absent": "images.bin: image 'camera000001_frame000000.png' names camera 777, which is not there",
    "camera_model_unknown": "cameras.bin: camera 1 is of unknown model 99",
    "cameras_missing": "cameras.bin: is missing",
    "cameras_truncated": "cameras.bin: ends inside camera 1 of 1",
    "count_huge": "images.bin: claims 1,152,921,504,606,846,976 images",
    "frames_truncated": "frames.bin: ends inside frame 8 of 8",
    "id_twice": "images.bin: image id 1 comes twice",
    "images_empty": "images.bin: ends inside the number of images, after 0 bytes",
    "images_missing": "images.bin: is missing",
    "images_truncated": "images.bin: claims 70 observations of image",
    "name_absolute": "images.bin: image name '/outside/photo.jpg' is an absolute path",
    "name_empty": "images.bin: an image has an empty name",
    "name_escapes": "images.bin: image name '../../outside.jpg' leaves the photo root",
    "name_twice": "images.bin: two images are named 'camera000001_frame000000.png'",
    "not_a_model": "images.bin: claims 5,064,878,326,892,452,095 images",
    "observations_huge": "images.bin: claims 288,230,376,151,711,744 observations",
    "point_nan": "points3D.bin: 1 of 60 points are not finite, first point 1",
    "points_truncated": "points3D.bin: ends inside point 60 of 60 or its track",
    "pose_nan": "images.bin: 1 of 8 poses are not finite",
    "quaternion_zero": "images.bin: 1 of 8 rotations are all zeros",
    "text_camera_parameters": "cameras.txt: line 4: camera 1 has 3 parameters, SIMPLE_RADIAL has 4",
    "text_cut": "points3D.txt: line 43: has 7 columns",
    "text_not_a_number": "images.txt: line 5: 'abc' is not a number",
    "text_observations_odd": "images.txt: line 6: the observations of image",
    "text_short_row": "images.txt: line 5: has only 5 columns",
    "text_track_odd": "points3D.txt: line 4: has 23 columns",
    "track_huge": "points3D.bin: ends inside point 1 of 60 or its track",
    "trailing_bytes": "images.bin: has 7 bytes after its last row",
}
LENIENT = {
    "good": {},
    "good_text": {},
    "legacy": {},
    "name_not_utf8": {},
    "no_images": {},
    "point_absent": {DROPPED_POINT: 1},
    "track_image_absent": {DROPPED_TRACK_IMAGE: 1},
    "track_index_outside": {DROPPED_TRACK_INDEX: 1},
}


@pytest.mark.parametrize(("name", "images"), MODELS)
def test_a_real_model_reads_as_colmap_reads_it(shared: Path, name: str, images: int) -> None:
    model = read_model(shared / name)
    oracles.assert_same_model(model, shared / name)
    assert len(model.image_names) == images
    assert model.dropped == {}


def test_all_reconstructions_are_found(shared: Path) -> None:
    locations = find_models([shared / "reconstructions"])
    assert [location.name for location in locations] == [name for name, _ in RECONSTRUCTIONS]
    assert {location.name for location in locations if location.kind == "colmap_text"} == {"dining_table/sparse/0"}
    assert all(location.scene == location.root / location.name.split("/")[0] for location in locations)


def test_photos_are_found_beside_all_scenes_but_the_one_without(shared: Path) -> None:
    for location in find_models([shared / "reconstructions"]):
        found = find_photo_root(location, [], read_model(location).image_names[:3])
        assert found == (None if location.scene.name == "plush_bear" else location.scene / "images")


def test_photos_of_the_collection_are_found_where_the_user_says(shared: Path) -> None:
    photos = PhotoFolder(shared / "collection" / "images")
    locations = find_models([shared / "collection_models"])
    assert len(locations) == len(LANDMARKS)
    for location in locations:
        names = read_model(location).image_names[:3]
        assert find_photo_root(location, [], names) is None
        assert find_photo_root(location, [photos], names) == photos.folder


@pytest.mark.parametrize("name", sorted(LINES))
def test_a_malformed_model_gives_its_one_line(shared: Path, name: str) -> None:
    (location,) = find_models([shared / "broken" / name])
    with pytest.raises(ModelError) as caught:
        read_model(location)
    line = str(caught.value)
    assert line.startswith(f"{location.path}/{LINES[name]}")
    assert line.isprintable()


@pytest.mark.parametrize("name", sorted(LENIENT))
def test_a_model_that_can_be_read_is_read_and_what_is_dropped_is_counted(shared: Path, name: str) -> None:
    (location,) = find_models([shared / "broken" / name])
    model = read_model(location)
    assert len(model.image_names) == (0 if name == "no_images" else 8)
    assert model.dropped == LENIENT[name]


def test_every_malformed_model_is_accounted_for(shared: Path) -> None:
    folders = {path.name for path in (shared / "broken").iterdir() if path.is_dir()}
    assert folders == set(LINES) | set(LENIENT)


def test_what_is_left_of_lenient_models_is_the_good_one(shared: Path) -> None:
    good = read_model(shared / "broken/good/sparse/0")
    for name in ("good_text", "legacy", "track_image_absent", "track_index_outside"):
        model = read_model(shared / f"broken/{name}/sparse/0")
        assert model.image_names == good.image_names
        np.testing.assert_array_equal(model.observation_points, good.observation_points)
        np.testing.assert_allclose(model.quaternions, good.quaternions, atol=1e-15)
        np.testing.assert_array_equal(model.points, good.points)


def test_malformed_models_take_little_memory(shared: Path) -> None:
    # In a process of its own with a bound on its address space: a huge claim must not even be tried.
    code = """
import resource, sys
from pathlib import Path
import sfm2tuples.readers.kernels
from sfm2tuples.covisibility.graph import covisibility
from sfm2tuples.errors import ModelError
from sfm2tuples.readers.any_kind import read_model
read_model(Path(sys.argv[1]) / "good/sparse/0")
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 64 * 2**20, size + 64 * 2**20))
for folder in sorted(Path(sys.argv[1]).glob("*/sparse/0")):
    try:
        read_model(folder)
    except ModelError:
        pass
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code, shared / "broken"], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@pytest.mark.parametrize(("name", "images"), MODELS)
def test_shared_points_of_a_real_model_are_those_of_its_graph_and_of_colmap(
    shared: Path, name: str, images: int
) -> None:
    pairs, graph = shared_points(shared / name), covisibility(read_model(shared / name))
    for field in ("indptr", "neighbour", "shared"):
        np.testing.assert_array_equal(getattr(pairs, field), getattr(graph, field))
    seen = {
        image: {point for point, _ in observations}
        for image, (*_, observations) in oracles.model_by_pycolmap(shared / name)["images"].items()
    }
    expected = [[len(seen[a] & seen[b]) if a != b else 0 for b in pairs.image_names] for a in pairs.image_names]
    np.testing.assert_array_equal(pairs.matrix().toarray(), expected)
    assert len(seen) == images
