"""Where models and their photos are found, and what they are called."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sfm2tuples.errors import DataError, ModelError, UsageError
from sfm2tuples.readers.any_kind import read_model
from sfm2tuples.readers.discover import PhotoFolder, find_models, find_photo_root, scene_folder


def put_model(folder: Path, suffix: str = ".bin", parts: tuple[str, ...] = ("cameras", "images", "points3D")) -> Path:
    """Empty files of a model; finding it does not read them."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        (folder / f"{part}{suffix}").write_bytes(b"")
    return folder


def put_photo(path: Path) -> Path:
    """A file in place of a photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def names_of(*roots: Path) -> list[str]:
    """Names of the models below the roots, in the order found."""
    return [location.name for location in find_models(roots)]


def kinds_of(*roots: Path) -> list[str]:
    """Kinds of the models below the roots."""
    return [location.kind for location in find_models(roots)]


# ---- finding -------------------------------------------------------------------------------------------------------


def test_every_layout_is_found_in_order_with_numbers_by_value(tmp_path: Path) -> None:
    layouts = [
        "flat",
        "a/sparse",
        "b/sparse/0",
        "b/sparse/2",
        "b/sparse/10",
        "c/sparses/0",
        "d/dense/sparse",
        "e/x/y/z",
    ]
    for layout in reversed(layouts):
        put_model(tmp_path / layout)
    assert names_of(tmp_path) == [*layouts[1:], "flat"]


def test_a_model_and_models_below_it_are_all_found(tmp_path: Path) -> None:
    put_model(tmp_path / "m" / "sparse")
    put_model(tmp_path / "m" / "sparse" / "0")
    assert names_of(tmp_path) == ["m/sparse", "m/sparse/0"]


def test_binary_is_preferred_where_a_folder_holds_both(tmp_path: Path) -> None:
    folder = put_model(put_model(tmp_path / "m"), ".txt")
    assert kinds_of(folder) == ["colmap_binary"]
    (folder / "points3D.bin").unlink()
    assert kinds_of(folder) == ["colmap_text"]
    (folder / "images.txt").unlink()
    assert kinds_of(folder) == ["colmap_binary"]


def test_a_folder_without_a_model_has_no_kind(tmp_path: Path) -> None:
    put_photo(tmp_path / "cameras.csv")
    with pytest.raises(
        DataError, match=r"holds no model \(cameras\.bin, images\.bin, points3D\.bin; .*; .*transforms\*\.json\)"
    ):
        find_models([tmp_path])


@pytest.mark.parametrize("suffix", [".bin", ".txt"])
@pytest.mark.parametrize("part", ["cameras", "images", "points3D"])
def test_an_incomplete_model_is_found_and_reading_it_names_what_is_missing(
    tmp_path: Path, part: str, suffix: str
) -> None:
    put_model(tmp_path / "m", suffix, (part,))
    (location,) = find_models([tmp_path])
    with pytest.raises(ModelError, match=r"\.(bin|txt): "):
        read_model(location)


def test_photos_hidden_folders_and_other_files_are_passed_over(tmp_path: Path) -> None:
    put_model(tmp_path / "m" / "sparse")
    put_model(tmp_path / "m" / "images" / "0")
    put_model(tmp_path / ".cache" / "0")
    put_photo(tmp_path / "m" / "database.db")
    assert names_of(tmp_path) == ["m/sparse"]


def test_a_root_called_images_is_still_looked_into(tmp_path: Path) -> None:
    put_model(tmp_path / "images" / "sparse")
    assert names_of(tmp_path / "images") == ["sparse"]


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    put_model(tmp_path / "elsewhere" / "m")
    root = tmp_path / "root"
    put_model(root / "z" / "sparse")
    (root / "a_link").symlink_to(root / "z")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "z" / "up").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "dangling").symlink_to(root / "nowhere")
    assert names_of(root) == ["z/sparse", "linked/m"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_may_not_be_looked_into_is_passed_over(tmp_path: Path) -> None:
    put_model(tmp_path / "m")
    (tmp_path / "closed").mkdir(mode=0)
    assert names_of(tmp_path) == ["m"]


def test_a_root_that_is_absent_a_file_or_without_a_model_is_named(tmp_path: Path) -> None:
    put_photo(tmp_path / "photo.jpg")
    with pytest.raises(DataError, match=r"nowhere: does not exist"):
        find_models([tmp_path / "nowhere"])
    with pytest.raises(DataError, match=r"photo\.jpg: is not a folder"):
        find_models([tmp_path / "photo.jpg"])
    with pytest.raises(DataError, match="holds no model"):
        find_models([tmp_path])
    with pytest.raises(DataError, match="does not exist"):
        find_models([tmp_path / ("x" * 300)])
    with pytest.raises(UsageError):
        find_models([])


# ---- Bundler, VisualSFM, hloc, databases ----------------------------------------------------------------------------


def put_bundler(path: Path, header: bytes = b"# Bundle file v0.3\n") -> Path:
    """A file that begins as Bundler's do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header)
    return path


def put_database(path: Path) -> Path:
    """A file that begins as COLMAP's database does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"SQLite format 3\0rest")
    return path


def test_a_scene_of_an_internet_collection_is_found_with_its_scene_and_photos(tmp_path: Path) -> None:
    put_bundler(tmp_path / "root" / "notredame" / "bundle" / "bundle.out")
    put_photo(tmp_path / "root" / "notredame" / "list.txt")
    put_photo(tmp_path / "root" / "notredame" / "images" / "a.jpg")
    (location,) = find_models([tmp_path / "root"])
    scene = tmp_path / "root" / "notredame"
    assert (location.name, location.kind, location.scene) == ("notredame/bundle/bundle.out", "bundler", scene)
    # Names are relative to the list's folder, or to that of the photos.
    assert find_photo_root(location, [], ["images/a.jpg"]) == scene
    assert find_photo_root(location, [], ["a.jpg"]) == scene / "images"
    assert find_photo_root(location, [], ["b.jpg"]) is None
    (alone,) = find_models([scene / "bundle"])
    assert find_photo_root(alone, [], ["images/a.jpg"]) == scene


def test_a_folder_called_bundle_is_a_scene_of_its_own_for_other_models(tmp_path: Path) -> None:
    put_model(tmp_path / "bundle")
    (location,) = find_models([tmp_path])
    assert location.scene == tmp_path / "bundle"


def test_photos_beside_an_nvm_file_are_found(tmp_path: Path) -> None:
    put_photo(tmp_path / "castle" / "castle.nvm")
    put_photo(tmp_path / "castle" / "a.jpg")
    (location,) = find_models([tmp_path])
    assert (location.name, location.kind, location.scene) == ("castle/castle.nvm", "nvm", tmp_path / "castle")
    assert find_photo_root(location, [], ["a.jpg"]) == tmp_path / "castle"


def test_photos_that_lie_beside_a_colmap_model_are_not_taken(tmp_path: Path) -> None:
    put_photo(put_model(tmp_path / "m") / "a.jpg")
    (location,) = find_models([tmp_path])
    assert find_photo_root(location, [], ["a.jpg"]) is None


def test_a_colmap_model_is_preferred_to_what_lies_beside_it(tmp_path: Path) -> None:
    put_model(tmp_path / "m")
    put_bundler(tmp_path / "m" / "bundle.out")
    put_photo(tmp_path / "m" / "m.nvm")
    (location,) = find_models([tmp_path])
    assert location.kind == "colmap_binary"


def test_a_list_called_like_a_file_of_a_text_model_hides_no_model_beside_it(tmp_path: Path) -> None:
    for number, name in enumerate(("images.txt", "cameras.txt", "points3D.txt")):
        put_photo(tmp_path / str(number) / name)
        put_photo(tmp_path / str(number) / "m.nvm")
    assert kinds_of(tmp_path) == ["nvm"] * 3
    put_photo(tmp_path / "2" / "images.txt")
    put_photo(tmp_path / "1" / "images.bin")
    assert kinds_of(tmp_path) == ["nvm", "colmap_binary", "colmap_text"]


def test_bundle_out_is_preferred_to_its_stages_and_else_every_file_with_the_header_is_a_model(tmp_path: Path) -> None:
    put_bundler(tmp_path / "stages" / "bundle.out")
    put_bundler(tmp_path / "stages" / "bundle_001.out")
    put_bundler(tmp_path / "stages" / "bundle.rd.out")
    put_bundler(tmp_path / "others" / "bundle.rd.out")
    put_bundler(tmp_path / "others" / "gt_bundle.out")
    put_bundler(tmp_path / "others" / "slurm.out", b"job 1 started\n")
    assert names_of(tmp_path) == ["others/bundle.rd.out", "others/gt_bundle.out", "stages/bundle.out"]


def test_copies_of_a_model_with_undistorted_photos_are_passed_over(tmp_path: Path) -> None:
    put_bundler(tmp_path / "a" / "bundle" / "bundle.out")
    put_bundler(tmp_path / "a" / "pmvs" / "bundle.rd.out")
    put_bundler(tmp_path / "b" / "pmvs" / "bundle.rd.out")
    put_photo(tmp_path / "c" / "c.nvm")
    put_bundler(tmp_path / "c" / "c.nvm.cmvs" / "00" / "bundle.rd.out")
    assert names_of(tmp_path) == ["a/bundle/bundle.out", "b/pmvs/bundle.rd.out", "c/c.nvm"]
    assert [location.scene.name for location in find_models([tmp_path])] == ["a", "b", "c"]


def test_a_root_may_be_a_file_with_a_model(tmp_path: Path) -> None:
    put_bundler(tmp_path / "scene" / "bundle.out")
    put_photo(tmp_path / "scene" / "a.nvm")
    assert names_of(tmp_path / "scene" / "bundle.out") == ["bundle.out"]
    assert names_of(tmp_path / "scene" / "a.nvm", tmp_path / "scene") == ["a.nvm", "bundle.out"]
    (location,) = find_models([tmp_path / "scene" / "a.nvm"])
    assert location.root == tmp_path / "scene"


def test_all_models_of_hlocs_output_are_found_and_belong_to_one_scene(tmp_path: Path) -> None:
    sfm = tmp_path / "outputs" / "sfm_superpoint+superglue"
    put_model(sfm)
    put_model(sfm / "models" / "1")
    put_model(sfm / "models" / "10")
    (sfm / "models" / "0").mkdir()
    put_database(sfm / "database.db")
    for name in ("feats-superpoint-n4096-r1024.h5", "pairs-netvlad.txt", "global-feats-netvlad.h5"):
        put_photo(tmp_path / "outputs" / name)
    put_photo(tmp_path / "datasets" / "images" / "a.jpg")
    locations = find_models([tmp_path / "outputs"])
    assert [location.name for location in locations] == [
        "sfm_superpoint+superglue",
        "sfm_superpoint+superglue/models/1",
        "sfm_superpoint+superglue/models/10",
    ]
    assert {location.scene for location in locations} == {sfm}
    given = [PhotoFolder(tmp_path / "datasets" / "images")]
    assert {find_photo_root(location, given, ["a.jpg"]) for location in locations} == {given[0].folder}
    assert names_of(sfm) == ["sfm_superpoint+superglue", "models/1", "models/10"]


def test_a_folder_called_models_that_a_user_made_holds_scenes_of_their_own(tmp_path: Path) -> None:
    for name in ("1", "2", "castle"):
        put_model(tmp_path / "models" / name)
    assert [location.scene.name for location in find_models([tmp_path])] == ["1", "2", "castle"]


@pytest.mark.parametrize("root", ["scene", "scene/database.db", "."])
def test_a_database_without_a_model_is_refused_as_a_usage_error_that_says_what_to_run(
    tmp_path: Path, root: str
) -> None:
    put_database(tmp_path / "scene" / "database.db")
    put_photo(tmp_path / "scene" / "images" / "a.jpg")
    with pytest.raises(UsageError, match=r"database\.db: holds matches but no model; .* colmap mapper --database_path"):
        find_models([tmp_path / root])


def test_other_files_called_db_do_not_count_as_a_database(tmp_path: Path) -> None:
    put_photo(tmp_path / "Thumbs.db")
    with pytest.raises(DataError, match="holds no model"):
        find_models([tmp_path])
    with pytest.raises(DataError, match="nor a file with a model"):
        find_models([tmp_path / "Thumbs.db"])


# ---- names and scenes ----------------------------------------------------------------------------------------------


def test_a_root_that_is_a_model_has_its_folders_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_model(tmp_path / "bridge")
    assert names_of(tmp_path / "bridge") == ["bridge"]
    monkeypatch.chdir(tmp_path / "bridge")
    assert names_of(Path()) == ["bridge"]


def test_names_are_unique_where_a_root_and_a_folder_in_it_are_called_the_same(tmp_path: Path) -> None:
    put_model(tmp_path / "m")
    put_model(tmp_path / "m" / "m")
    assert names_of(tmp_path / "m") == ["m", "m/m"]


def test_names_of_several_roots_are_relative_to_their_common_parent(tmp_path: Path) -> None:
    put_model(tmp_path / "x" / "castle" / "sparse" / "0")
    put_model(tmp_path / "y" / "castle" / "sparse" / "0")
    assert names_of(tmp_path / "y", tmp_path / "x") == ["y/castle/sparse/0", "x/castle/sparse/0"]
    assert names_of(tmp_path / "x" / "castle" / "sparse", tmp_path / "x") == ["castle/sparse/0"]


def test_a_model_below_two_roots_is_listed_once_under_the_first(tmp_path: Path) -> None:
    put_model(tmp_path / "a" / "sparse")
    put_model(tmp_path / "b" / "sparse")
    locations = find_models([tmp_path / "b", tmp_path, tmp_path / "b"])
    assert [(location.name, location.root) for location in locations] == [
        ("b/sparse", tmp_path / "b"),
        ("a/sparse", tmp_path),
    ]


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", b"\x1b[31m"])
def test_a_models_name_is_that_of_its_folder_whatever_bytes_it_has(tmp_path: Path, name: bytes) -> None:
    put_model(tmp_path / os.fsdecode(name) / "sparse")
    put_model(tmp_path / "b" / "sparse")
    assert name + b"/sparse" in [os.fsencode(location.name) for location in find_models([tmp_path])]


@pytest.mark.parametrize(
    ("model", "scene"),
    [
        ("castle/sparse/0", "castle"),
        ("castle/sparse", "castle"),
        ("castle/sparses/12", "castle"),
        ("castle/dense/sparse", "castle"),
        ("castle/dense/0/sparse", "castle"),
        ("castle", "castle"),
        ("0001/sparse/0", "0001"),
        ("castle/mvs/model", "castle/mvs/model"),
        ("distorted/sparse/0", "distorted"),
    ],
)
def test_the_scene_is_the_folder_above_colmaps_own(tmp_path: Path, model: str, scene: str) -> None:
    assert scene_folder(tmp_path / model) == tmp_path / scene


# ---- photos --------------------------------------------------------------------------------------------------------


def test_the_nearest_images_folder_that_holds_a_name_is_the_photo_root(tmp_path: Path) -> None:
    put_model(tmp_path / "root" / "castle" / "sparse" / "0")
    (location,) = find_models([tmp_path / "root"])
    folders = [
        "images",
        "root/images",
        "root/castle/images",
        "root/castle/sparse/images",
        "root/castle/sparse/0/images",
    ]
    assert find_photo_root(location, [], ["a.jpg", "b/c.jpg"]) is None
    for folder in folders:
        put_photo(tmp_path / folder / "b" / "c.jpg")
        assert find_photo_root(location, [], ["a.jpg", "b/c.jpg"]) == tmp_path / folder
    assert find_photo_root(location, [], ["other.jpg"]) is None
    assert find_photo_root(location, [], []) is None


def test_photos_above_the_folder_of_the_root_are_not_taken(tmp_path: Path) -> None:
    put_model(tmp_path / "a" / "root" / "sparse")
    put_photo(tmp_path / "images" / "a.jpg")
    (location,) = find_models([tmp_path / "a" / "root"])
    assert find_photo_root(location, [], ["a.jpg"]) is None


def test_a_folder_the_user_names_is_taken_where_nothing_nearer_holds_the_names(tmp_path: Path) -> None:
    put_model(tmp_path / "models" / "petra" / "sparse" / "0")
    put_photo(tmp_path / "models" / "petra" / "images" / "other.jpg")
    put_photo(tmp_path / "photos" / "petra" / "p1.jpg")
    (tmp_path / "empty").mkdir()
    (location,) = find_models([tmp_path / "models"])
    given = [PhotoFolder(tmp_path / "empty"), PhotoFolder(tmp_path / "photos")]
    assert find_photo_root(location, given, ["petra/p1.jpg"]) == tmp_path / "photos"
    put_photo(tmp_path / "models" / "petra" / "images" / "petra" / "p1.jpg")
    assert find_photo_root(location, given, ["petra/p1.jpg"]) == tmp_path / "models" / "petra" / "images"


def test_a_folder_for_one_root_is_for_that_root_only_and_goes_first(tmp_path: Path) -> None:
    for root in ("x", "y"):
        put_model(tmp_path / root / "m")
        put_photo(tmp_path / f"photos_{root}" / "a.jpg")
    x, y = find_models([tmp_path / "x", tmp_path / "y"])
    given = [PhotoFolder(tmp_path / "photos_y"), PhotoFolder(tmp_path / "photos_x", tmp_path / "x")]
    assert find_photo_root(x, given, ["a.jpg"]) == tmp_path / "photos_x"
    assert find_photo_root(y, given, ["a.jpg"]) == tmp_path / "photos_y"
    assert find_photo_root(y, given[1:], ["a.jpg"]) is None


def test_a_name_too_long_for_a_file_is_no_photo(tmp_path: Path) -> None:
    put_model(tmp_path / "m")
    put_photo(tmp_path / "images" / "a.jpg")
    (location,) = find_models([tmp_path / "m"])
    assert find_photo_root(location, [], ["x" * 300 + ".jpg"]) is None


def test_the_images_option_is_a_folder_or_root_equals_folder(tmp_path: Path) -> None:
    photos, root, odd = tmp_path / "photos", tmp_path / "root", tmp_path / "a=b"
    for folder in (photos, root, odd):
        folder.mkdir()
    assert PhotoFolder.parse(str(photos), [root]) == PhotoFolder(photos)
    assert PhotoFolder.parse(f"{root}={photos}", [root]) == PhotoFolder(photos, root)
    assert PhotoFolder.parse(f"{root}/={photos}", [root]) == PhotoFolder(photos, root)
    assert PhotoFolder.parse(str(odd), [root]) == PhotoFolder(odd)
    with pytest.raises(DataError, match="not a folder of photos"):
        PhotoFolder.parse(f"{photos}={root}", [root])


def test_the_folder_distorted_of_gaussian_splatting_is_of_its_scene_and_its_photos_lie_in_input(tmp_path: Path) -> None:
    put_model(tmp_path / "castle/sparse/0")
    put_model(tmp_path / "castle/distorted/sparse/0")
    put_photo(tmp_path / "castle/images/a.jpg")
    put_photo(tmp_path / "castle/input/a.jpg")
    distorted, undistorted = find_models([tmp_path])
    assert [distorted.scene, undistorted.scene] == [tmp_path / "castle"] * 2
    assert find_photo_root(distorted, [], ["a.jpg"]) == tmp_path / "castle/input"
    assert find_photo_root(undistorted, [], ["a.jpg"]) == tmp_path / "castle/images"


def test_photos_are_looked_for_where_only_one_of_model_and_root_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_model(tmp_path / "scenes/a/sparse/0")
    photo = put_photo(tmp_path / "scenes/images/1.jpg")
    monkeypatch.chdir(tmp_path)
    (location,) = find_models([Path("scenes")])
    moved = replace(location, path=location.path.absolute())  # as a build on a cluster does
    for odd in (moved, location, replace(moved, root=moved.root.absolute())):
        found = find_photo_root(odd, [], ["1.jpg"])
        assert found is not None
        assert found.resolve() == photo.parent


def test_a_root_that_is_a_file_names_its_own_photos(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.nvm").write_text("NVM_V3\n\n1\n1.jpg 800 1 0 0 0 0 0 0 0 0\n\n0\n0\n")
        put_photo(tmp_path / f"photos_{name}/1.jpg")
    roots = [tmp_path / "a.nvm", tmp_path / "b.nvm"]
    folders = [PhotoFolder.parse(f"{root}={tmp_path}/photos_{root.stem}", roots) for root in roots]
    found = [find_photo_root(location, folders, ["1.jpg"]) for location in find_models(roots)]
    assert found == [tmp_path / "photos_a", tmp_path / "photos_b"]
