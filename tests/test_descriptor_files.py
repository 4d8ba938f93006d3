"""Descriptor files: what is written is read, in both layouts, and what is no descriptor is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import oracles
import pytest

from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.columns import write_strings
from sfm2tuples.files.container import create_file, read_header
from sfm2tuples.files.descriptors import (
    FORMAT,
    LAYOUTS,
    VERSION,
    Descriptors,
    align,
    read_descriptors,
    write_descriptors,
)

NAMES = ["castle/images/0000.jpg", "castle/images/0001.jpg", "é/ü.jpg", "flat.jpg"]
SETTINGS = {"size": 362, "scales": [1.0], "network": "abc"}


@pytest.fixture
def descriptors() -> Descriptors:
    return Descriptors(list(NAMES), unit_rows(len(NAMES), 8), dict(SETTINGS))


def unit_rows(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def write_hloc(path: Path, rows: dict[str, np.ndarray]) -> None:
    """A file as hloc's extract_features leaves it."""
    with h5py.File(path, "w", libver="latest") as file:
        for name, row in rows.items():
            group = file.create_group(name)
            group.create_dataset("global_descriptor", data=row.astype(np.float16))
            group.create_dataset("image_size", data=np.array([640, 480]))


def complaint(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_descriptors(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_columns_come_back_exactly(descriptors: Descriptors, tmp_path: Path) -> None:
    write_descriptors(tmp_path / "d.h5", descriptors, parents=["p" * 64])
    read = read_descriptors(tmp_path / "d.h5")
    assert read.names == NAMES
    assert read.values.dtype == np.float32
    np.testing.assert_array_equal(read.values, descriptors.values)
    header = read_header(tmp_path / "d.h5")
    assert (header.options, header.parents) == (SETTINGS, ("p" * 64,))
    assert (read.settings, read.fingerprint) == (SETTINGS, header.fingerprint)


def test_hloc_layout_comes_back_by_name_in_half_precision_and_normalised(
    descriptors: Descriptors, tmp_path: Path
) -> None:
    write_descriptors(tmp_path / "d.h5", descriptors, layout="hloc")
    read = read_descriptors(tmp_path / "d.h5")
    rows = align(read, NAMES, "index.h5")
    np.testing.assert_allclose(read.values[rows], descriptors.values, atol=2**-11)
    np.testing.assert_allclose(np.linalg.norm(read.values, axis=1), 1, atol=1e-6)
    assert read.settings == SETTINGS


def test_hlocs_own_reader_reads_our_file(descriptors: Descriptors, tmp_path: Path) -> None:
    write_descriptors(tmp_path / "d.h5", descriptors, layout="hloc")
    read = oracles.hloc_global_descriptors(tmp_path / "d.h5")
    assert sorted(read) == sorted(NAMES)
    for name, row in zip(NAMES, descriptors.values, strict=True):
        np.testing.assert_array_equal(read[name], row.astype(np.float16))


def test_a_file_of_hloc_is_read_as_a_foreign_one(tmp_path: Path) -> None:
    rows = dict(zip(NAMES, unit_rows(len(NAMES), 8), strict=True))
    write_hloc(tmp_path / "global.h5", rows)
    read = read_descriptors(tmp_path / "global.h5")
    assert sorted(read.names) == sorted(NAMES)
    assert (read.settings, read.fingerprint) == ({}, "")
    for name, row in zip(read.names, read.values, strict=True):
        np.testing.assert_allclose(row, rows[name], atol=2**-11)


def test_hloc_names_may_be_prefixes_of_others_and_may_be_called_like_our_columns(tmp_path: Path) -> None:
    rows = dict(zip(["descriptors", "descriptors/b", "names"], unit_rows(3, 4), strict=True))
    write_hloc(tmp_path / "global.h5", rows)
    assert sorted(read_descriptors(tmp_path / "global.h5").names) == sorted(rows)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_descriptors_give_the_same_bytes(descriptors: Descriptors, tmp_path: Path, layout: str) -> None:
    for name in ("a.h5", "b.h5"):
        write_descriptors(tmp_path / name, descriptors, layout=layout)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_align_gives_rows_in_the_order_asked(descriptors: Descriptors) -> None:
    assert align(descriptors, [NAMES[2], NAMES[0], NAMES[2]], "index.h5").tolist() == [2, 0, 2]


def test_align_counts_and_names_what_is_absent(descriptors: Descriptors) -> None:
    keys = [NAMES[0], *(f"a/{i}.jpg" for i in range(1, 1413))]
    with pytest.raises(DataError) as caught:
        align(replace(descriptors, path="descriptors.h5"), keys, "index.h5")
    assert str(caught.value) == (
        "descriptors.h5: 1,412 of 1,413 names in index.h5 have no row here, first a/1.jpg, a/2.jpg, a/3.jpg …; "
        "was it extracted under another root?"
    )


def spoil_nan(values: np.ndarray) -> None:
    values[1, 2] = np.nan


def spoil_infinity(values: np.ndarray) -> None:
    values[1, 2] = np.inf


def spoil_zero(values: np.ndarray) -> None:
    values[1] = 0


def spoil_length(values: np.ndarray) -> None:
    values[1] *= 1.01


SPOILERS = [
    (spoil_nan, "NaN or infinity"),
    (spoil_infinity, "NaN or infinity"),
    (spoil_zero, "zeros"),
    (spoil_length, "not L2-normalised"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILERS)
def test_a_row_that_is_no_descriptor_is_refused_when_written_and_when_read(
    descriptors: Descriptors, tmp_path: Path, spoil, words: str
) -> None:
    path = tmp_path / "d.h5"
    write_descriptors(path, descriptors)
    with h5py.File(path, "r+") as file:
        values = file["descriptors"][()]
        spoil(values)
        file["descriptors"][...] = values
    message = complaint(path)
    assert words in message
    assert "1 of 4" in message
    assert NAMES[1] in message
    with pytest.raises(DataError, match=words):
        write_descriptors(tmp_path / "other.h5", replace(descriptors, values=values))
    assert not (tmp_path / "other.h5").exists()


@pytest.mark.parametrize(("spoil", "words"), SPOILERS[:3])
def test_a_foreign_row_that_cannot_be_normalised_is_refused(tmp_path: Path, spoil, words: str) -> None:
    values = unit_rows(4, 8)
    spoil(values)
    write_hloc(tmp_path / "global.h5", dict(zip(NAMES, values, strict=True)))
    assert words in complaint(tmp_path / "global.h5")


def test_a_foreign_row_of_another_length_is_refused(tmp_path: Path) -> None:
    rows = dict(zip(NAMES, unit_rows(4, 8), strict=True))
    rows["odd.jpg"] = np.ones(5)
    write_hloc(tmp_path / "global.h5", rows)
    message = complaint(tmp_path / "global.h5")
    assert "4 descriptors have 8 values" in message
    assert "odd.jpg" in message


def test_a_file_of_local_features_is_told_apart(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["a.jpg/keypoints"] = np.ones((5, 2))
        file["a.jpg/descriptors"] = np.ones((128, 5))
    assert "no global_descriptor" in complaint(tmp_path / "features.h5")


def test_images_without_a_global_descriptor_are_counted(tmp_path: Path) -> None:
    write_hloc(tmp_path / "global.h5", dict(zip(NAMES, unit_rows(4, 8), strict=True)))
    with h5py.File(tmp_path / "global.h5", "r+") as file:
        del file["flat.jpg/global_descriptor"]
    message = complaint(tmp_path / "global.h5")
    assert "1 of 4 images" in message
    assert "flat.jpg" in message


def test_names_that_occur_twice_are_refused(descriptors: Descriptors, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 name occurs more than once, first flat\.jpg"):
        write_descriptors(tmp_path / "d.h5", replace(descriptors, names=["flat.jpg", *NAMES[1:]]))


@pytest.mark.parametrize("name", ["/a.jpg", "a//b.jpg", "./a.jpg", "a/global_descriptor"])
def test_names_that_hdf5_would_change_are_refused_in_hlocs_layout_only(
    descriptors: Descriptors, tmp_path: Path, name: str
) -> None:
    odd = replace(descriptors, names=[name, *NAMES[1:]])
    with pytest.raises(DataError, match="columnar"):
        write_descriptors(tmp_path / "d.h5", odd, layout="hloc")
    write_descriptors(tmp_path / "d.h5", odd)
    assert read_descriptors(tmp_path / "d.h5").names[0] == name


def test_fewer_rows_than_names_are_refused(descriptors: Descriptors, tmp_path: Path) -> None:
    write_descriptors(tmp_path / "d.h5", descriptors)
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        del file["descriptors"]
        file["descriptors"] = descriptors.values[:3]
    assert "descriptors has the shape (3, 8), which does not fit 4 names" in complaint(tmp_path / "d.h5")


@pytest.mark.parametrize("of_hloc", [False, True])
def test_a_cut_file_is_refused_at_every_length(descriptors: Descriptors, tmp_path: Path, of_hloc: bool) -> None:
    if of_hloc:
        write_hloc(tmp_path / "whole.h5", dict(zip(NAMES, unit_rows(4, 8), strict=True)))
    else:
        write_descriptors(tmp_path / "whole.h5", descriptors)
    whole = (tmp_path / "whole.h5").read_bytes()
    path = tmp_path / "d.h5"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        complaint(path)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    assert "no such file" in complaint(path)
    path.write_text("image,label,role\n")
    complaint(path)
    with h5py.File(path, "w"):
        pass
    assert "no global_descriptor" in complaint(path)
    with h5py.File(path, "w") as file:
        file["names"] = [b"a"]
        file["descriptors"] = unit_rows(1, 4)
    with pytest.raises(FileFormatError, match="import-descriptors"):
        read_descriptors(path)


def test_an_unknown_layout_is_a_usage_error(descriptors: Descriptors, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="columnar, hloc"):
        write_descriptors(tmp_path / "d.h5", descriptors, layout="rows")


def test_a_large_file_is_mapped_and_gives_the_same_rows(
    descriptors: Descriptors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_descriptors(tmp_path / "d.h5", descriptors)
    read = read_descriptors(tmp_path / "d.h5")
    monkeypatch.setattr("sfm2tuples.files.descriptors.MAPPED_FROM", 1)
    mapped = read_descriptors(tmp_path / "d.h5")
    assert isinstance(mapped.values, np.memmap)
    assert not isinstance(read.values, np.memmap)
    assert np.array_equal(mapped.values, read.values)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_netvlad_of_resnet50_is_read(tmp_path: Path, layout: str) -> None:
    values = unit_rows(2, 131072)
    write_descriptors(tmp_path / "d.h5", Descriptors(["a", "b"], values), layout)
    np.testing.assert_allclose(read_descriptors(tmp_path / "d.h5").values, values, atol=1e-4)


@pytest.mark.parametrize("dimension", [1 << 20, (1 << 20) + 1])
def test_descriptors_that_a_file_says_and_does_not_hold_are_refused(tmp_path: Path, dimension: int) -> None:
    with h5py.File(tmp_path / "global.h5", "w") as file:
        for row in range(100):
            file.create_dataset(f"{row}/global_descriptor", (dimension,), np.float16, fillvalue=1)
    assert f"0/global_descriptor claims the shape ({dimension},)" in complaint(tmp_path / "global.h5")
    with create_file(tmp_path / "d.h5", FORMAT, VERSION, {}) as file:
        write_strings(file, "names", ["a", "b"])
        file.create_dataset("descriptors", (2, dimension), np.float32, fillvalue=1)
    assert f"descriptors claims the shape (2, {dimension})" in complaint(tmp_path / "d.h5")


def test_descriptors_may_be_compressed(tmp_path: Path) -> None:
    row = np.zeros(1 << 16, np.float32)
    row[0] = 1
    with h5py.File(tmp_path / "global.h5", "w") as file:
        file.create_dataset("a/global_descriptor", data=row, compression="gzip")
    assert np.array_equal(read_descriptors(tmp_path / "global.h5").values, row[None])
