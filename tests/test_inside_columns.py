"""The optional groups `/inside` and `/spots` of an index: written, read by rows, and what follows from them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sfm2tuples.errors import FileFormatError
from sfm2tuples.index.opened import open_index
from sfm2tuples.index.schema import LEFT_OUT, OPTIONAL_TABLES, SPLITS, VAL, Spots
from tests.worlds import Index, random_index, read_whole, with_inside, write_whole


@pytest.fixture
def site() -> Index:
    rng = np.random.default_rng(3)
    return with_inside(rng, random_index(rng, (9, 8, 3), (0, 0, 1)))


def test_what_is_written_is_read(tmp_path: Path, site: Index) -> None:
    write_whole(tmp_path / "i.h5", site)
    back = read_whole(tmp_path / "i.h5")
    with open_index(tmp_path / "i.h5") as index:
        assert index.inside is not None
        assert index.spots is not None
        for name in OPTIONAL_TABLES:
            for column, values in vars(getattr(site, name)).items():
                np.testing.assert_array_equal(getattr(getattr(back, name), column), values)
                np.testing.assert_array_equal(getattr(getattr(index, name), column)[:], values)


def test_an_index_without_has_none(tmp_path: Path) -> None:
    plain = random_index(np.random.default_rng(0), (4, 5), (0, 1), val=1)
    write_whole(tmp_path / "i.h5", plain)
    with open_index(tmp_path / "i.h5") as index:
        assert index.inside is None
        assert index.spots is None
        np.testing.assert_array_equal(index.images.split[:], plain.image_split)
    with h5py.File(tmp_path / "i.h5") as file:
        assert not set(OPTIONAL_TABLES) & set(file)


def test_the_split_of_an_image_is_the_one_inside(tmp_path: Path, site: Index) -> None:
    write_whole(tmp_path / "i.h5", site)
    with open_index(tmp_path / "i.h5") as index:
        assert site.inside is not None
        np.testing.assert_array_equal(index.images.split[:], site.inside.split)
        assert {VAL, LEFT_OUT} <= set(index.images.split[np.arange(len(site.images.key))].tolist())


def test_left_out_is_no_split() -> None:
    assert len(SPLITS) == LEFT_OUT


def test_spots_are_numbered_within_their_place() -> None:
    assert Spots(np.array([0, 0, 2])).names(["a", "b", "c"]) == ["a#1", "a#2", "c#1"]
    assert Spots(np.zeros(0, np.int64)).names(["a"]) == []


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("inside/spot", 99, "names the row 99"),
        ("inside/split", 3, "more than 2"),
        ("inside/hops", 0, "less than 1"),
        ("inside/into", np.nan, "NaN"),
        ("inside/other", -1, "names the row -1"),
        ("spots/place", 7, "names the row 7"),
    ],
)
def test_values_that_mean_nothing_are_refused(tmp_path: Path, site: Index, name: str, value: float, what: str) -> None:
    write_whole(tmp_path / "i.h5", site)
    with h5py.File(tmp_path / "i.h5", "r+") as file:
        file[name][0] = value
    with pytest.raises(FileFormatError, match=what):
        read_whole(tmp_path / "i.h5")


def test_one_group_without_the_other_is_refused(tmp_path: Path, site: Index) -> None:
    write_whole(tmp_path / "i.h5", site)
    with h5py.File(tmp_path / "i.h5", "r+") as file:
        del file["spots"]
    with pytest.raises(FileFormatError, match="no spots/place"):
        open_index(tmp_path / "i.h5")
