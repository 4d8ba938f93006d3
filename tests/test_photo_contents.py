"""Photos are numbered by their bytes, and as little as possible is read for it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfm2tuples.places import photo_contents
from sfm2tuples.places.photo_contents import number_photos

BLOCK = 1 << 14


def write(folder: Path, contents: dict[str, bytes]) -> list[str]:
    """Files of given contents; gives their paths."""
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in contents]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names of the files of which a block was read, and of those that were read whole."""
    seen: dict[str, list[str]] = {"_hash_of_block": [], "_hash": []}
    for name, names in seen.items():
        usual = getattr(photo_contents, name)
        monkeypatch.setattr(
            photo_contents, name, lambda path, n=names, u=usual: (n.append(os.path.basename(path)), u(path))[1]
        )
    return seen


def test_equal_bytes_have_the_number_of_the_first_row(tmp_path: Path) -> None:
    files = write(tmp_path, {"a": b"1", "b": b"22", "c": b"33", "d": b"22"})
    photo, has_photo = number_photos([*files, files[0], str(tmp_path / "absent"), "", ""], [*"abcda", "e", "f", "f"])
    assert photo.tolist() == [0, 1, 2, 1, 0, 5, 6, 6]
    assert has_photo.tolist() == [True] * 5 + [False] * 3
    assert photo.dtype == np.int64


def test_a_file_is_read_only_where_sizes_collide_and_whole_only_where_a_block_does(
    tmp_path: Path, read: dict[str, list[str]]
) -> None:
    middle = b"m" * 3 * BLOCK
    contents = {"alone": b"x", "1": b"a" + middle, "2": b"b" + middle, "3": b"a" + middle[:-1] + b"z"}
    files = write(tmp_path, {**contents, "4": b"a" + b"n" * 3 * BLOCK, "5": b"a" + middle})
    assert number_photos(files, files)[0].tolist() == [0, 1, 2, 3, 4, 1]
    assert sorted(read["_hash_of_block"]) == ["1", "2", "3", "4", "5"]
    assert sorted(read["_hash"]) == ["1", "2", "3", "5"]


def test_one_path_and_links_to_one_file_are_one_photo_unread(tmp_path: Path, read: dict[str, list[str]]) -> None:
    (file,) = write(tmp_path, {"a": b"photo"})
    os.link(file, tmp_path / "hard")
    os.symlink(file, tmp_path / "soft")
    files = [file, file, str(tmp_path / "hard"), str(tmp_path / "soft"), f"{tmp_path}/./a"]
    assert number_photos(files, files)[0].tolist() == [0] * 5
    assert read == {"_hash_of_block": [], "_hash": []}


def test_empty_files_folders_and_pipes_are_no_photos(tmp_path: Path) -> None:
    files = write(tmp_path, {"a": b"", "b": b""})
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    files += [str(tmp_path / "folder"), str(tmp_path / "pipe"), "a\0b"]
    photo, has_photo = number_photos(files, files)
    assert photo.tolist() == [0, 1, 2, 3, 4]
    assert not has_photo.any()


def test_a_file_that_cannot_be_read_is_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, {"a": b"same", "b": b"same", "c": b"same", "d": b"other"})
    usual = photo_contents._hash
    monkeypatch.setattr(photo_contents, "_hash", lambda path: None if path.endswith("b") else usual(path))
    photo, has_photo = number_photos(files, files)
    assert photo.tolist() == [0, 1, 0, 3]
    assert has_photo.tolist() == [True, False, True, True]


def test_no_photos_at_all() -> None:
    assert [len(part) for part in number_photos([], [])] == [0, 0]
    assert number_photos(["", ""], ["k", "k"])[0].tolist() == [0, 0]


@settings(deadline=None, max_examples=30)
@given(contents=st.lists(st.sampled_from([b"", b"a", b"b", b"ab", b"ba", None]), max_size=30))
def test_numbers_equal_a_dictionary_of_contents(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes | None]
) -> None:
    folder = tmp_path_factory.mktemp("photos")
    files = [str(folder / str(i)) for i in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        if content is not None:
            Path(file).write_bytes(content)
    first: dict[object, int] = {}
    expected = [first.setdefault(content or ("missing", row), row) for row, content in enumerate(contents)]
    photo, has_photo = number_photos(files, files)
    assert photo.tolist() == expected
    assert has_photo.tolist() == [bool(content) for content in contents]


def test_many_tasks_give_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, {str(i): bytes([i % 7]) * (1 + i % 3) for i in range(50)})
    once = number_photos(files, files)
    monkeypatch.setattr(photo_contents, "_FILES_A_TASK", 3)
    again = number_photos(files, files)
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])
