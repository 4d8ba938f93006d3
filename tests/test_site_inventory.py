"""What `tune` finds below the folders that it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from hand_made import write_scene
from PIL import Image

from retrieval.site.inventory import take_inventory
from sfm2tuples.errors import DataError


def photo(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(path)
    return path


def test_models_and_loose_photos_are_told_apart(tmp_path: Path) -> None:
    write_scene(tmp_path / "models", "castle", {f"{i}.jpg": bytes([i]) for i in range(3)})
    photo(tmp_path / "models" / "loose.png")
    photo(tmp_path / "more" / "a.png", 1)
    photo(tmp_path / "named" / "b.png", 2)
    found = take_inventory([tmp_path / "models", tmp_path / "more"], [tmp_path / "named"], tmp_path / "site")
    assert found.roots == (tmp_path / "models",)
    assert found.loose_roots == (tmp_path / "more",)
    names = sorted(path.relative_to(tmp_path).as_posix() for _, path in found.photos)
    scene = [f"models/castle/images/{i}.jpg" for i in range(3)]
    assert names == sorted([*scene, "models/loose.png", "more/a.png", "named/b.png"])


def test_a_photo_by_two_roots_counts_once_and_the_site_not_at_all(tmp_path: Path) -> None:
    photo(tmp_path / "all" / "one.png")
    photo(tmp_path / "all" / "site" / "page" / "photos" / "000000.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "all")
    found = take_inventory([tmp_path / "all", tmp_path / "link"], [], tmp_path / "all" / "site")
    assert [path for _, path in found.photos] == [tmp_path / "link" / "one.png"]


def test_a_stamp_changes_with_a_file_alone(tmp_path: Path) -> None:
    model = write_scene(tmp_path, "castle", {f"{i}.jpg": bytes([i]) for i in range(3)})
    before, again = (take_inventory([tmp_path], [], tmp_path / "site") for _ in range(2))
    assert (before.models, before.stamps) == (again.models, again.stamps)
    (model / "points3D.txt").write_text((model / "points3D.txt").read_text() + "\n")
    changed = take_inventory([tmp_path], [], tmp_path / "site")
    assert changed.models != before.models
    assert changed.stamps == before.stamps
    (tmp_path / "castle" / "database.db").write_bytes(b"SQLite format 3\0")
    assert take_inventory([tmp_path], [], tmp_path / "site").models != changed.models


def test_what_is_no_root_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        take_inventory([tmp_path / "absent"], [], tmp_path / "site")
    with pytest.raises(DataError, match="nor a file with a model"):
        take_inventory([photo(tmp_path / "a" / "one.png")], [], tmp_path / "site")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no model .*, and no photo"):
        take_inventory([tmp_path / "empty"], [], tmp_path / "site")


def test_photos_that_are_not_read_do_not_stop_models(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_scene(tmp_path, "castle", {"0.cr3": b"raw", "1.cr3": b"raw too"})
    photo(tmp_path / "castle" / "images" / "2.tiff").rename(tmp_path / "castle" / "images" / "2.cr2")
    found = take_inventory([tmp_path], [], tmp_path / "site")
    assert len(found.roots) == 1
    assert found.photos == ()
    assert "cr2" in caplog.text
