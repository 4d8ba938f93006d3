"""import-descriptors: hloc's HDF5 and .npy with names to our columns, checked."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from cli.main import main
from sfm2tuples.errors import DataError, FileFormatError, UsageError
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.interop.foreign_descriptors import read_foreign_descriptors

NAMES = ["a/1.jpg", "b 2.jpg", "é.jpg"]


def rows(count: int = 3, dimension: int = 4) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(count, dimension))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def write_npy(folder: Path, values: np.ndarray, names: list[str] = NAMES) -> Path:
    np.save(folder / "d.npy", values)
    (folder / "d.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder / "d.npy"


def write_hloc(path: Path, values: np.ndarray, dtype: type = np.float16) -> Path:
    with h5py.File(path, "w") as file:
        for name, row in zip(NAMES, values, strict=True):
            file.create_dataset(f"{name}/global_descriptor", data=row.astype(dtype))
            file.create_dataset(f"{name}/image_size", data=np.array([640, 480]))
    return path


def write_datasets(path: Path, values: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["names"] = NAMES
        file["descriptors"] = values
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_array_with_names_beside_it_becomes_our_columns(tmp_path: Path, dtype: type) -> None:
    found = read_foreign_descriptors(write_npy(tmp_path, rows().astype(dtype)))
    assert (found.descriptors.names, found.num_normalised) == (NAMES, 0)
    np.testing.assert_allclose(found.descriptors.values, rows(), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors.values, axis=1), 1, atol=1e-6)
    write_descriptors(tmp_path / "ours.h5", found.descriptors)
    assert read_descriptors(tmp_path / "ours.h5").names == NAMES


def test_an_array_is_held_once(tmp_path: Path) -> None:
    path = write_npy(tmp_path, np.ones((1000, 512), np.float32), [f"{row}.jpg" for row in range(1000)])
    tracemalloc.start()
    found = read_foreign_descriptors(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * found.descriptors.values.nbytes


def test_rows_that_are_not_of_length_one_are_normalised_and_counted(tmp_path: Path) -> None:
    scaled = rows() * np.array([[1.0], [7.0], [0.01]])
    for source in (
        write_npy(tmp_path, scaled),
        write_hloc(tmp_path / "hloc.h5", scaled, np.float32),
        write_datasets(tmp_path / "columns.h5", scaled),
    ):
        found = read_foreign_descriptors(source)
        assert found.num_normalised == 2
        order = [found.descriptors.names.index(name) for name in NAMES]
        np.testing.assert_allclose(found.descriptors.values[order], rows(), atol=1e-6)


def test_half_precision_of_hloc_counts_as_normalised(tmp_path: Path) -> None:
    found = read_foreign_descriptors(write_hloc(tmp_path / "h.h5", rows()))
    assert sorted(found.descriptors.names) == sorted(NAMES)
    assert found.num_normalised == 0


def test_columns_are_turned_when_it_is_said_and_hinted_at_when_not(tmp_path: Path) -> None:
    path = write_npy(tmp_path, rows().T)
    with pytest.raises(DataError, match=r"4 rows, but 3 names in .*; the descriptors are columns: give --columns"):
        read_foreign_descriptors(path)
    np.testing.assert_allclose(read_foreign_descriptors(path, columns=True).descriptors.values, rows(), atol=1e-6)


def test_names_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write_npy(tmp_path, rows())
    (tmp_path / "d.txt").rename(tmp_path / "other.list")
    with pytest.raises(DataError, match=r"d\.txt: no such file with the names of d\.npy; give it by --names"):
        read_foreign_descriptors(path)
    assert read_foreign_descriptors(path, tmp_path / "other.list").descriptors.names == NAMES


def spoilt(row: int, value: float) -> np.ndarray:
    values = rows()
    values[row] = value
    return values


FAULTS = {
    "2 rows, but 3 names": (rows(2), NAMES),
    "d.txt: 1 name occurs more than once, first a/1.jpg": (rows(), [NAMES[0], NAMES[0], NAMES[2]]),
    "1 of 3 descriptors hold NaN or infinity, first b 2.jpg": (spoilt(1, np.nan), NAMES),
    "1 of 3 descriptors are all zeros, first é.jpg": (spoilt(2, 0.0), NAMES),
    "is no (n, D) array of floating point": (np.ones((3, 4), int), NAMES),
    "no (n, D) array": (np.ones((3, 0)), NAMES),
    "holds no descriptors": (np.ones((0, 4)), []),
}


@pytest.mark.parametrize("said", FAULTS)
def test_each_fault_of_an_array_is_named(tmp_path: Path, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        read_foreign_descriptors(write_npy(tmp_path, *FAULTS[said]))


def test_torn_files_and_other_kinds_are_refused(tmp_path: Path) -> None:
    path = write_npy(tmp_path, rows())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"is no whole \.npy array"):
        read_foreign_descriptors(path)
    np.save(path, np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"is no whole \.npy array"):
        read_foreign_descriptors(path)
    with pytest.raises(DataError, match="no such file"):
        read_foreign_descriptors(tmp_path / "absent.npy")
    with pytest.raises(UsageError, match=r"neither HDF5 nor \.npy"):
        read_foreign_descriptors(tmp_path / "d.txt")
    hloc = write_hloc(tmp_path / "h.h5", rows())
    with pytest.raises(UsageError, match=r"--names and --columns go with a \.npy"):
        read_foreign_descriptors(hloc, tmp_path / "d.txt")
    hloc.write_bytes(hloc.read_bytes()[: hloc.stat().st_size // 2])
    with pytest.raises(FileFormatError, match="not a whole HDF5 file"):
        read_foreign_descriptors(hloc)


def test_a_file_of_ours_and_hdf5_of_other_things_are_refused(tmp_path: Path) -> None:
    write_descriptors(tmp_path / "ours.h5", Descriptors(NAMES, rows().astype(np.float32)))
    with pytest.raises(UsageError, match="a file of ours, which needs no import"):
        read_foreign_descriptors(tmp_path / "ours.h5")
    with h5py.File(tmp_path / "local.h5", "w") as file:
        file["a.jpg/keypoints"] = np.zeros((5, 2))
    with pytest.raises(DataError, match="holds no global_descriptor"):
        read_foreign_descriptors(tmp_path / "local.h5")
    with h5py.File(tmp_path / "unnamed.h5", "w") as file:
        file["descriptors"] = rows()
    with pytest.raises(DataError, match="no dataset of text /names beside"):
        read_foreign_descriptors(tmp_path / "unnamed.h5")


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_npy(tmp_path, 3 * rows())
    main(["import-descriptors", str(path), "-o", str(tmp_path / "ours.h5")])
    said = capsys.readouterr().out
    assert "3 descriptors were not of length 1 and are normalised" in said
    assert "3 descriptors of 4 dimensions" in said
    assert read_descriptors(tmp_path / "ours.h5").settings == {"imported": "npy"}


def test_a_folder_is_not_called_absent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; give a file in it"):
        read_foreign_descriptors(tmp_path)


def test_an_array_cut_anywhere_is_one_line(tmp_path: Path) -> None:
    path = write_npy(tmp_path, rows())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"is no whole \.npy array") as caught:
            read_foreign_descriptors(path)
        assert "\n" not in str(caught.value)
