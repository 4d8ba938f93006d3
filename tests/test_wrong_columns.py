"""Columns that do not fit each other, and HDF5 files that are not what they say, are refused in one line."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import random_index, unit_rows, write_whole

from retrieval.local_features import feature_files
from retrieval.reports.inspection import inspect_file
from retrieval.search.ranks_file import Ranks, read_ranks, write_ranks
from retrieval.whitening.projection import FARTHEST, Whitening, check_reach, read_whitening, write_whitening
from sfm2tuples.errors import DataError, FileFormatError
from sfm2tuples.files.checked_columns import CheckedColumns
from sfm2tuples.files.container import content_fingerprint, create_file, open_file, read_header
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.files.plain_items import walk
from sfm2tuples.files.rules import Rule
from sfm2tuples.index import schema
from sfm2tuples.index.opened import open_index
from sfm2tuples.interop.foreign_descriptors import read_foreign_descriptors
from sfm2tuples.mining.photo_table import tables_of_index
from sfm2tuples.mining.rounds import MiningOptions, choose_tuples, plan_round
from sfm2tuples.mining.tuple_file import PackedPhotos, read_tuples, write_tuples

Change = Callable[[np.ndarray], np.ndarray]


def read_all_of_index(path: Path) -> None:
    """Ask an index all that it answers."""
    with open_index(path) as index:
        for table in (index.images, index.points, index.graph):
            for column in dir(table):
                _ = getattr(table, column)[:] if not column.startswith("_") else None
        for row in range(index.num_images):
            index.covisible(row), index.camera(row), index.points_of(row)
        index.poses()
        index.covisibility("overlap"), index.track(0), index.rows_of_place(0), index.row_of(index.images.key[0])


def read_all_of_tuples(path: Path) -> None:
    """Read a tuple file with its photos."""
    tuples = read_tuples(path)
    if tuples.packed_size:
        photos = PackedPhotos(tuples)
        assert all(isinstance(photos[row], bytes) for row in range(len(tuples.images.key)))


READERS: dict[str, Callable[[Path], object]] = {
    "index": read_all_of_index,
    "tuples": read_all_of_tuples,
    "descriptors": read_descriptors,
    "hloc": read_descriptors,
    "whitening": read_whitening,
    "ranks": read_ranks,
    "features": feature_files.read_features,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small right file of each kind."""
    folder, rng = tmp_path_factory.mktemp("good"), np.random.default_rng(5)
    index = random_index(rng, (6, 5, 7, 4), (0, 1, 2, 3), val=2)
    write_whole(folder / "index.h5", index, {})
    options = MiningOptions(positives="m1", min_shared=1, num_negatives=1, query_share=1.0)
    tables = tables_of_index(index.opened(), options, lambda path: (640, 480))
    descriptors = unit_rows(rng, len(tables.images.key), 8)
    tuples = {}
    for split in schema.SPLITS:
        plan = plan_round(tables.images, tables.places, tables.candidates[split], options, split, 0)
        values = descriptors[plan.rows_needed]
        tuples[split] = choose_tuples(plan, values, tables.images, tables.candidates[split], options)
    photos = [bytes([row]) * (row + 1) for row in range(len(descriptors))]
    write_tuples(
        folder / "tuples.h5",
        tables.images,
        tables.places,
        tuples,
        tables.candidates,
        {},
        [],
        photos,
        32,
        {"train": {"recall": 1.0}},
    )
    some = Descriptors(tables.images.key, descriptors, {"image_size": 64})
    write_descriptors(folder / "descriptors.h5", some)
    write_descriptors(folder / "hloc.h5", some, "hloc")
    write_whitening(folder / "whitening.h5", Whitening(np.zeros(8), np.eye(8)[:5], "lw", 0.1))
    row = np.array([[0, 1, -1], [2, 0, 1]])
    write_ranks(folder / "ranks.h5", Ranks(["q", "r"], ["a", "b", "c"], row, np.zeros((2, 3), np.float32)))
    features = feature_files.LocalFeatures(
        ["a", "b"],
        np.full((2, 2), 64, np.int32),
        np.ones(2),
        np.array([0, 3, 5]),
        np.ones((5, 4), np.float32),
        np.ones((5, 128), np.uint8),
        {},
    )
    feature_files.write_features(folder / "features.h5", features)
    return folder


def put(file: h5py.File, name: str, values: np.ndarray) -> None:
    """Put other values, of any type and shape, in place of a dataset's."""
    del file[name]
    file[name] = values


def at(place: tuple[int, ...] | int, value: float) -> Change:
    """Change one value."""

    def change(values: np.ndarray) -> np.ndarray:
        values[place] = value
        return values

    return change


WRONG: list[tuple[str, str, Change, str]] = [
    # Rows of another table.
    ("index", "covisibility/neighbour", at(7, 10**6), "covisibility/neighbour names the row 1000000 of 22 images"),
    ("index", "covisibility/neighbour", at(7, -1), "covisibility/neighbour names the row -1 of 22 images"),
    ("index", "models/place", at(0, 99), "models/place names the row 99 of 4 places"),
    ("index", "images/camera", at(3, 1), "images/camera names the row 1 of 1 cameras"),
    ("index", "observations/point", at(0, 100), "observations/point names the row 100 of 100 points"),
    ("tuples", "train/query", at(0, -1), "train/query names the row -1 of 22 images"),
    ("tuples", "images/place", at(3, 77), "images/place names the row 77 of 4 places"),
    ("tuples", "train/negative", at((0, 0), 9999), "train/negative names the row 9999 of 22 images"),
    ("tuples", "train/positive", at((0, 0), -2), "train/positive names the row -2 of 22 images"),
    ("ranks", "row", at((0, 0), 3), "row names the row 3 of 3 names"),
    # Rows of the right table that contradict another column.
    ("tuples", "train/query", at(0, 21), "train/query has 1 images of the other split, first model3/21.jpg"),
    ("tuples", "train/pool", at(0, 21), "train/pool has 1 images of the other split, first model3/21.jpg"),
    ("tuples", "train/candidates/image", at(0, 6), "1 images of another place than their query, first model1/6.jpg"),
    ("tuples", "train/negative", lambda v: v * 0, "of the place of their query, first model0/0.jpg"),
    ("index", "images/model", at(0, 1), "images/model of row 0 is 1, but models/image_start says 0"),
    # Starts of rows.
    ("index", "observations/indptr", at(4, 10**9), "observations/indptr does not rise from 0 to the"),
    ("index", "observations/indptr", at(0, 1), "observations/indptr does not rise from 0 to the"),
    ("index", "covisibility/indptr", at(-1, 5), "covisibility/indptr does not rise from 0 to the"),
    ("index", "covisibility/indptr", at(3, -4), "covisibility/indptr does not rise from 0 to the"),
    ("index", "models/image_start", at(1, 23), "models/image_start does not rise from 0 to the 22 images"),
    ("index", "images/key/offsets", at(2, 0), "images/key/offsets does not rise from 0 to the"),
    ("tuples", "photos/indptr", at(5, 0), "photos/indptr does not rise from 0 to the 253 bytes of photos"),
    ("features", "indptr", at(1, 6), "indptr does not rise from 0 to the 5 features"),
    ("descriptors", "names/offsets", at(-1, 9999), "names/offsets does not rise from 0 to the"),
    # Lengths that others allow.
    (
        "index",
        "observations/indptr",
        lambda v: v[:-1],
        "observations/indptr has the shape (22,), which does not fit",
    ),
    (
        "index",
        "images/translation",
        lambda v: v[:-1],
        "images/translation has the shape (21, 3), which does not fit",
    ),
    ("tuples", "val/shared", lambda v: v[:, :0], "val/shared has the shape"),
    ("ranks", "similarity", lambda v: v[:1], "similarity has the shape (1, 3), which does not fit 2 queries"),
    (
        "features",
        "descriptors",
        lambda v: v[:, :64],
        "descriptors has the shape (5, 64), which does not fit rows",
    ),
    ("whitening", "mean", lambda v: v[:4], "projection has the shape (5, 8), which does not fit 4 dimensions"),
    ("whitening", "mean", lambda v: v[0], "mean has 0 dimensions, not 1"),
    # Types.
    ("index", "models/place", lambda v: v.astype(float), "models/place is float64, not int64"),
    ("index", "images/key/utf8", lambda v: v.astype(np.int16), "images/key/utf8 is int16, not uint8"),
    ("descriptors", "descriptors", lambda v: v.astype(int), "descriptors is int64, not float"),
    # Values.
    ("index", "images/quaternion", at((0, 0), np.nan), "images/quaternion holds NaN or infinity"),
    ("index", "points/xyz", at((0, 0), np.inf), "points/xyz holds NaN or infinity"),
    ("index", "covisibility/shared", at(0, 0), "covisibility/shared holds 0, less than 1"),
    ("index", "places/split", at(0, 2), "places/split holds 2, more than 1"),
    ("index", "cameras/model", at(0, 99), "cameras/model holds 99, which is no camera model of COLMAP's"),
    ("tuples", "images/size", at((0, 0), 0), "images/size holds 0, less than 1"),
    ("tuples", "train/overlap", at((0, 0), np.inf), "train/overlap holds a value that is neither finite nor nan"),
    ("tuples", "train/negative_similarity", at((0, 0), np.nan), "holds a value that is neither finite nor -inf"),
    ("whitening", "projection", at((0, 0), np.nan), "projection holds NaN or infinity"),
    ("whitening", "projection", at((0, 0), 1e308), "whitened descriptors would overflow (its largest value is 1e+308)"),
]


@pytest.mark.parametrize(("kind", "column", "change", "words"), WRONG, ids=[f"{k}: {w[:50]}" for k, _, _, w in WRONG])
def test_a_wrong_column_is_refused(
    good: Path, tmp_path: Path, kind: str, column: str, change: Change, words: str
) -> None:
    path = tmp_path / "x.h5"
    shutil.copyfile(good / f"{kind}.h5", path)
    with h5py.File(path, "r+") as file:
        put(file, column, change(file[column][()]))
    with pytest.raises(DataError) as error:
        READERS[kind](path)
    assert str(error.value).startswith(f"{path}: ")
    assert words in str(error.value)


@pytest.mark.parametrize("kind", READERS)
def test_a_right_file_is_read(good: Path, kind: str) -> None:
    READERS[kind](good / f"{kind}.h5")
    inspect_file(good / f"{kind}.h5")


def test_an_edge_of_an_image_that_sees_nothing_is_refused(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    shutil.copyfile(good / "index.h5", path)
    with h5py.File(path, "r+") as file:
        put(file, "images/observed", file["images/observed"][()] * 0)
    with open_index(path) as index, pytest.raises(FileFormatError, match="shares more points than it observes"):
        index.covisible(0)
    with open_index(path) as index, pytest.raises(FileFormatError, match="shares more points than it observes"):
        index.covisibility("overlap")


def test_a_rotation_of_length_zero_is_refused(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    shutil.copyfile(good / "index.h5", path)
    with h5py.File(path, "r+") as file:
        put(file, "images/quaternion", file["images/quaternion"][()] * 0)
    with open_index(path) as index, pytest.raises(FileFormatError, match="images/quaternion has rows of length 0"):
        index.poses()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("options", "{", "its header has no valid options"),
        ("options", "[1]", "its header has no valid options"),
        ("options", "[" * 50_000, "its header has no valid options"),
        ("parents", "[3]", "its header has no valid parents"),
        ("parents", 7, "its header has no valid parents"),
        ("fingerprint", None, "its header has no valid fingerprint"),
        ("version", "x", "its header has no valid version"),
        ("version", None, "its header has no valid version"),
        ("version", 99, "version 99 of sfm2tuples-whitening is newer than this program reads (1)"),
        ("format", None, "is no file of sfm2tuples, not sfm2tuples-whitening"),
        ("format", np.ones(3), "is no file of sfm2tuples, not sfm2tuples-whitening"),
        ("options", json.dumps({"method": 3}), "its options say no method of a whitening"),
    ],
)
def test_a_wrong_header_is_refused(good: Path, tmp_path: Path, name: str, value: object, words: str) -> None:
    path = tmp_path / "x.h5"
    shutil.copyfile(good / "whitening.h5", path)
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value
    with pytest.raises(FileFormatError) as error:
        read_whitening(path)
    assert words in str(error.value)
    if "whitening" not in words:
        with pytest.raises(FileFormatError, match="has no valid"):
            read_header(path)


def test_a_text_without_an_end_is_refused(good: Path, tmp_path: Path) -> None:
    """HDF5 itself walks a heap that says a length of 0 for ever. Here any byte of the header's texts is changed."""
    path, content = tmp_path / "x.h5", (good / "whitening.h5").read_bytes()
    heap = content.index(b"GCOL")
    said = set()
    for at in range(heap, heap + 344):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x81]) + content[at + 1 :])
        said.add(complaint(read_header, path))
    assert f"{path}: torn: a text in it has no end; make it again, or give another" in said


@pytest.mark.parametrize("count", [1, 3, 20])
def test_a_header_may_have_more_attributes(good: Path, tmp_path: Path, count: int) -> None:
    """From nine on HDF5 keeps them elsewhere."""
    path = tmp_path / "x.h5"
    shutil.copyfile(good / "whitening.h5", path)
    with h5py.File(path, "r+") as file:
        for number in range(count):
            file.attrs[f"note {number}"] = "x" * (number + 1)
        file.attrs["long"] = "y" * 100_000
    assert read_header(path) == read_header(good / "whitening.h5")
    content = path.read_bytes()
    heap = content.index(b"GCOL")
    path.write_bytes(content[: heap + 24] + bytes(8) + content[heap + 32 :])
    assert complaint(read_header, path) is not None


def test_a_name_without_an_end_is_refused_on_import(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["names"] = ["a.jpg", "b.jpg"]
        file["descriptors"] = np.eye(2, dtype=np.float32)
    assert read_foreign_descriptors(tmp_path / "x.h5").descriptors.names == ["a.jpg", "b.jpg"]
    content = (tmp_path / "x.h5").read_bytes()
    heap = content.index(b"GCOL")
    (tmp_path / "x.h5").write_bytes(content[: heap + 24] + b"\x48" + content[heap + 25 :])
    assert "a text in it has no end" in str(complaint(read_foreign_descriptors, tmp_path / "x.h5"))


def external(file: h5py.File) -> None:
    Path(f"{file.filename}.raw").write_bytes(bytes(64))
    file.create_dataset("mean", (8,), np.float64, external=[(f"{file.filename}.raw", 0, 64)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((8,), np.float64)
    layout[:] = h5py.VirtualSource("/nowhere.h5", "x", (8,))
    file.create_virtual_dataset("mean", layout)


def link(file: h5py.File) -> None:
    os.mkfifo(f"{file.filename}.pipe")
    file["mean"] = h5py.ExternalLink(f"{file.filename}.pipe", "/x")


def loop(file: h5py.File) -> None:
    file["mean"] = h5py.SoftLink("/mean")


ODD: list[tuple[Callable[[h5py.File], object], str]] = [
    (external, "the values of mean lie in other files, which are not read"),
    (virtual, "the values of mean lie in other files, which are not read"),
    (link, "mean is a link to elsewhere, which is not followed"),
    (loop, "mean is a link to elsewhere, which is not followed"),
    (lambda file: file.create_group("mean"), "mean is a group, not a dataset"),
    (lambda file: file.__setitem__("mean", np.dtype("f8")), "mean is neither a group nor a dataset"),
    (lambda file: None, "torn or incomplete (no mean)"),
    (lambda file: file.__setitem__("mean", h5py.Empty("f8")), "mean has 0 dimensions, not 1"),
    (lambda file: file.create_dataset("mean", (10**12,), "f8"), "mean claims the shape (1000000000000,)"),
    (lambda file: file.create_dataset("mean", (10**12,), "f8", chunks=(1024,)), "but has not so many bytes"),
    (
        lambda file: file.create_dataset("mean", (10**12,), "f8", chunks=(1024,), compression="gzip"),
        "but has not so many bytes",
    ),
]


@pytest.mark.parametrize(("make", "words"), ODD)
def test_bytes_that_are_not_in_the_file_are_not_looked_for(
    good: Path, tmp_path: Path, make: Callable[[h5py.File], object], words: str
) -> None:
    path = tmp_path / "x.h5"
    shutil.copyfile(good / "whitening.h5", path)
    with h5py.File(path, "r+") as file:
        del file["mean"]
        make(file)
    with pytest.raises(FileFormatError) as error:
        read_whitening(path)
    assert words in str(error.value)


@pytest.mark.parametrize("name", ["descriptors", "names", "a/global_descriptor"])
def test_links_are_not_followed_to_tell_the_layout(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file[name] = h5py.ExternalLink(tmp_path / "pipe", "/x")
    with pytest.raises(FileFormatError, match=f"{name} is a link to elsewhere"):
        read_descriptors(tmp_path / "x.h5")


def test_groups_are_walked_to_a_depth(tmp_path: Path) -> None:
    deep = "/".join("a" * 3000)
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.create_dataset(f"{deep}/global_descriptor", data=np.ones(4, np.float16))
    with pytest.raises(FileFormatError, match="lie in each other deeper than 64") as error:
        read_descriptors(tmp_path / "deep.h5")
    assert len(str(error.value)) < 400


def test_a_group_in_itself_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a/global_descriptor", data=np.ones(4, np.float16))
        file["a/b"] = file["a"]
    with pytest.raises(FileFormatError, match="its groups are in themselves, first a/b"):
        read_descriptors(tmp_path / "x.h5")


def test_an_image_whose_group_is_empty_is_missed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a.jpg/global_descriptor", data=np.ones(4, np.float16))
        file.create_group("b.jpg")
    with pytest.raises(DataError, match=r"1 of 2 images have no usable global_descriptor, first b\.jpg"):
        read_descriptors(tmp_path / "x.h5")


def test_a_walk_finds_what_hdf5_finds_in_its_order(good: Path) -> None:
    for path in sorted(good.iterdir()):
        found: list[str] = []
        with h5py.File(path) as file:
            file.visititems(lambda name, item, to=found: to.append(name) if isinstance(item, h5py.Dataset) else None)
            assert [name for name, item in walk(path, file) if item is not None] == found


def test_a_fingerprint_opens_each_dataset_once(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bytes] = []
    usual = h5py.h5o.open

    def open_item(parent: object, name: bytes, **more: object) -> object:
        opened.append(name)
        return usual(parent, name, **more)

    with h5py.File(good / "whitening.h5") as file:
        expected = file.attrs["fingerprint"]
        monkeypatch.setattr(h5py.h5o, "open", open_item)
        assert content_fingerprint(file) == expected
    assert sorted(opened) == [b"mean", b"projection"]


def test_a_whitening_reaches_no_further_than_its_bound() -> None:
    """|P (f - m)| of unit vectors f stays below the bound that is looked at, to within rounding."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        mean, projection = rng.normal(size=6), rng.normal(size=(4, 6))
        bound = max(np.linalg.norm(projection, axis=1)) * (1 + np.linalg.norm(mean))
        directions = unit_rows(rng, 200, 6).astype(float)
        assert np.abs((directions - mean) @ projection.T).max() <= bound
        check_reach("w.h5", mean, projection * (0.99 * FARTHEST / bound))
        with pytest.raises(FileFormatError, match="would overflow"):
            check_reach("w.h5", mean, projection * (1.01 * FARTHEST / bound))


def test_a_part_of_a_column_is_checked_alone(tmp_path: Path) -> None:
    """What is not read is not looked at: a column may be larger than memory."""
    with create_file(tmp_path / "x.h5", "parts", 1, {}) as file:
        file["rows"] = np.array([0, 1, 5, 1])
        file["starts"] = np.array([0, 1, 4, 3, 3])
    rules = {"rows": Rule(("rows",), "int64", row_of="rows"), "starts": Rule(("rows + 1",), "int64", starts_of="rows")}
    with open_file(tmp_path / "x.h5", "parts", 1) as file:
        columns = CheckedColumns(tmp_path / "x.h5", file, rules)
        assert columns.read("rows", slice(0, 2)).tolist() == [0, 1]
        assert columns.read("rows", np.array([3, 0])).tolist() == [1, 0]
        assert columns.read("starts", slice(0, 3)).tolist() == [0, 1, 4]
        for rows in (slice(1, 3), np.array([2])):
            with pytest.raises(FileFormatError, match="rows names the row 5 of 4 rows"):
                columns.read("rows", rows)
        with pytest.raises(FileFormatError, match="starts does not rise"):
            columns.read("starts", slice(2, 4))
        with pytest.raises(FileFormatError, match="starts does not rise"):
            columns.read("starts", slice(3, 5))


def complaint(read: Callable[[Path], object], path: Path) -> str | None:
    """What a reader says of a file; None where it takes it. Any error but ours is a traceback for a user."""
    try:
        read(path)
    except DataError as error:
        return str(error)
    return None


def damaged(draw: st.DataObject, path: Path) -> None:
    """Change one dataset, or a few bytes, of a copy."""
    if draw.draw(st.booleans(), "bytes"):
        content = bytearray(path.read_bytes())
        for _ in range(draw.draw(st.integers(1, 3), "count")):
            content[draw.draw(st.integers(0, len(content) - 1), "at")] ^= draw.draw(st.integers(1, 255), "by")
        path.write_bytes(content)
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = draw.draw(st.sampled_from(names), "dataset")
        values = file[name][()]
        kinds = ["int8", "int32", "int64", "uint64", "float16", "float32", "float64", ">i8", ">f4"]
        kind = draw.draw(st.sampled_from([values.dtype.str, *kinds]), "type")
        extreme = st.sampled_from([-(2**62), -1, 0, 1, 2, 7, 2**31, 2**62, np.nan, np.inf, 1e308])
        with np.errstate(all="ignore"):
            if values.size and draw.draw(st.booleans(), "value"):
                flat = values.reshape(-1).astype(float)
                flat[draw.draw(st.integers(0, values.size - 1), "where")] = draw.draw(extreme, "what")
                values = flat.reshape(values.shape)
            elif values.ndim and len(values) and draw.draw(st.booleans(), "cut"):
                values = values[: draw.draw(st.integers(0, len(values) - 1), "rows")]
            put(file, name, values.astype(kind))


@pytest.mark.filterwarnings("error")
def test_a_value_beyond_float32_is_refused_in_one_line(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    shutil.copyfile(good / "descriptors.h5", path)
    with h5py.File(path, "r+") as file:
        values = file["descriptors"][()].astype(np.float64)
        values[0, 0] = 1e308
        put(file, "descriptors", values)
    assert "descriptors hold NaN or infinity" in (complaint(read_descriptors, path) or "")


@pytest.mark.parametrize("kind", READERS)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(draw=st.data())
@pytest.mark.filterwarnings("error")
def test_damage_is_refused_in_one_line_or_does_no_harm(
    good: Path, tmp_path: Path, kind: str, draw: st.DataObject
) -> None:
    path = tmp_path / "x.h5"
    shutil.copyfile(good / f"{kind}.h5", path)
    damaged(draw, path)
    for read in (READERS[kind], inspect_file):
        said = complaint(read, path)
        assert said is None or said.startswith(f"{path}: ")
        assert "\n" not in (said or "")
