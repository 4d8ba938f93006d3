"""`build-index` on what users bring besides COLMAP's own layout: Bundler, VisualSFM, hloc's output, a bare database."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_made import run
from worlds import Index, read_whole

from tests.hand_made import write_text_model

BUNDLE = (
    "# Bundle file v0.3\n3 1\n"
    "500 0 0\n1 0 0\n0 1 0\n0 0 1\n0 0 0\n"
    "1000 0 0\n1 0 0\n0 1 0\n0 0 1\n1 0 0\n"
    "0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n"
    "0 0 -4\n0 0 0\n2 0 0 0 0 1 0 250 0\n"
)
NVM = (
    "NVM_V3\n\n2\na.jpg 500 1 0 0 0 0 0 0 0 0\nb.jpg 500 1 0 0 0 1 0 0 0 0\n1\n0 0 4 0 0 0 2 0 0 0 0 1 0 -125 0\n\n"
    "2\nc.jpg 500 1 0 0 0 0 0 0 0 0\nd.jpg 500 1 0 0 0 1 0 0 0 0\n1\n0 0 4 0 0 0 2 0 0 0 0 1 0 -125 0\n\n"
    "1\nlost.jpg 0 1 0 0 0 0 0 0 0 0\n0\n\n0\n"
)


def put_photos(folder: Path, *names: str) -> None:
    """Files of different bytes in place of photos."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(f"{folder} {name}".encode())


def index_of(tmp_path: Path, *words: object) -> Index:
    """The index of a build that ends well."""
    assert run("build-index", *words, "-o", tmp_path / "index.h5", "--quiet") == 0
    return read_whole(tmp_path / "index.h5")


def test_scenes_of_an_internet_collection_are_indexed_with_photos_graph_and_places(tmp_path: Path) -> None:
    for scene in ("notredame", "trevi"):
        (tmp_path / "root" / scene / "bundle").mkdir(parents=True)
        (tmp_path / "root" / scene / "bundle" / "bundle.out").write_text(BUNDLE)
        (tmp_path / "root" / scene / "list.txt").write_text("images/a.jpg 0 500\nimages/b.jpg\nimages/c.jpg\n")
        put_photos(tmp_path / "root" / scene / "images", "a.jpg", "b.jpg", "c.jpg")
    index = index_of(tmp_path, tmp_path / "root")
    assert index.models.name == ["notredame/bundle/bundle.out", "trevi/bundle/bundle.out"]
    assert index.images.key == [f"{scene}/images/{name}.jpg" for scene in ("notredame", "trevi") for name in "ab"]
    assert index.images.has_photo.all()
    assert index.places.name == ["notredame", "trevi"]
    assert index.covisibility.shared.tolist() == [1, 1, 1, 1]
    # The second camera has twice the focal length at the same depth.
    assert index.covisibility.scale_change.tolist() == [2, 2, 2, 2]


def test_each_model_of_an_nvm_file_can_be_given_its_place(tmp_path: Path) -> None:
    put_photos(tmp_path / "root" / "site", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    (tmp_path / "root" / "site" / "site.nvm").write_text(NVM)
    index = index_of(tmp_path, tmp_path / "root")
    assert index.models.name == ["site/site.nvm", "site/site.nvm/1"]
    assert index.images.key == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert index.places.name == ["site"]
    assert index.places.reason[0].startswith("same scene folder")
    (tmp_path / "places.csv").write_text("model,place\nsite/site.nvm,front\nsite/site.nvm/1,back\n")
    index = index_of(tmp_path, tmp_path / "root", "--places", tmp_path / "places.csv", "--force")
    assert sorted(index.places.name) == ["back", "front"]


def test_hlocs_output_is_one_place_with_its_twins_left_out(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    sfm = tmp_path / "outputs" / "sfm"
    write_text_model(sfm / "models" / "1", ["a.jpg", "b.jpg"])
    write_text_model(sfm / "models" / "2", ["x.jpg", "y.jpg"])
    write_text_model(sfm / "up", ["a.jpg", "b.jpg", "c.jpg"])
    for file in (sfm / "up").iterdir():
        file.rename(sfm / file.name)
    pycolmap.Database.open(sfm / "database.db").close()
    (tmp_path / "outputs" / "feats-superpoint.h5").write_bytes(b"\x89HDF")
    (tmp_path / "outputs" / "pairs-netvlad.txt").write_text("a.jpg b.jpg\n")
    put_photos(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg", "x.jpg", "y.jpg")
    index = index_of(tmp_path, tmp_path / "outputs", "--images", tmp_path / "photos")
    assert index.models.name == ["sfm", "sfm/models/2"]
    assert index.places.name == ["sfm"]
    assert index.images.key == ["a.jpg", "b.jpg", "c.jpg", "x.jpg", "y.jpg"]
    assert index.images.has_photo.all()


@pytest.mark.parametrize(
    "words", [("--from-database", "database.db"), ("database.db", "-o", "i.h5"), (".", "-o", "i.h5")]
)
def test_a_database_without_a_model_is_a_usage_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    (tmp_path / "database.db").write_bytes(b"SQLite format 3\0")
    put_photos(tmp_path / "images", "a.jpg")
    monkeypatch.chdir(tmp_path)
    assert run("build-index", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: database.db: holds matches but no model; without 3D points there are neither shared"
    )
    assert "run colmap mapper --database_path database.db --image_path PHOTOS --output_path sparse" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "i.h5").exists()
