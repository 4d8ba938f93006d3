"""cirtorch's training data, both ways: hostile pickles, pairs that survive, photos that its loader finds."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import pickle
import pickletools
import shutil
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hand_made import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from worlds import random_index, write_whole

from cli.commands.import_tuples import command as import_command
from retrieval.networks.choice import NetworkChoice
from retrieval.networks.network import build_network
from retrieval.reports.inspection import inspect_file
from retrieval.reports.options import ReportOptions
from retrieval.reports.report import write_report
from retrieval.training.loop import train
from retrieval.training.options import options_from_recipe
from retrieval.tuple_files.cirtorch_export import cautions, check_cirtorch_target, export_cirtorch
from retrieval.tuple_files.cirtorch_import import ImportOptions, import_tuple_file
from retrieval.tuple_files.mining import mine_tuple_file
from retrieval.tuple_files.readable_photos import PhotoOptions
from retrieval.whitening.matching_pairs import pairs_of_tuples
from retrieval.whitening.options import WhiteningOptions
from sfm2tuples.errors import DataError, MiningError, UsageError
from sfm2tuples.files.container import Header
from sfm2tuples.files.descriptors import Descriptors, write_descriptors
from sfm2tuples.files.safe_pickle import PickledArray, read_plain_pickle
from sfm2tuples.interop.cirtorch_files import CirtorchSplit, photo_path, read_cirtorch, write_cirtorch
from sfm2tuples.interop.cirtorch_tables import from_cirtorch, to_cirtorch, tuple_pairs
from sfm2tuples.mining.options import MiningOptions, mining_options
from sfm2tuples.mining.rounds import plan_round
from sfm2tuples.mining.summary import summarise
from sfm2tuples.mining.tuple_file import Candidates, ImageTable, PlaceTable, TupleFile, TupleSet, read_tuples

SPLITS = ("train", "val")
NO_NETWORK = NetworkChoice()
NO_DESCRIPTORS = PhotoOptions(NO_NETWORK)
QUICK = ImportOptions(num_negatives=2)


def jpeg(number: int, size: tuple[int, int] = (60, 44)) -> bytes:
    """A photo that no other has the bytes of."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


# --- hostile pickles ----------------------------------------------------------------------------------------------


class _Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def _touch(path: Path) -> str:
    return f"touch {path}"


HOSTILE = {
    "os.system": lambda path: pickle.dumps(_Calls(os.system, _touch(path))),
    "os.system in protocol 0": lambda path: pickle.dumps(_Calls(os.system, _touch(path)), 0),
    "eval": lambda path: pickle.dumps(_Calls(eval, f"__import__('os').system({_touch(path)!r})")),
    "a call inside the lists": lambda path: pickle.dumps(
        {"train": {"cids": [_Calls(os.system, _touch(path))]}, "val": {}}
    ),
    "a call as argument of a call": lambda path: pickle.dumps(_Calls(np.dtype, _Calls(os.system, _touch(path)))),
    "an object of the standard library": lambda path: pickle.dumps(OrderedDict(a=1)),
    "numpy's loader": lambda path: b"cnumpy\nload\n(S'" + str(path).encode() + b"'\ntR.",
    "an instance by its name": lambda path: b"(ios\nsystem\n.",
    "a persistent id": lambda path: b"Pevil\n.",
    "an extension code": lambda path: b"\x80\x02\x82\x01.",
    "a text that is called": lambda path: b"S'os.system'\n(S'true'\ntR.",
    "an attribute set on numpy": lambda path: b"cnumpy\nndarray\n}S'a'\nI1\nsb.",
    "a new object of an allowed class": lambda path: b"\x80\x02cnumpy\nndarray\n)\x81.",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_asks_for_code_is_refused_and_nothing_runs(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sign = tmp_path / "was_here"
    (tmp_path / "evil.pkl").write_bytes(HOSTILE[name](sign))
    (tmp_path / "ims").mkdir()
    assert run("import-tuples", tmp_path / "evil.pkl", "-o", tmp_path / "t.h5") == 1
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "nothing of it was run" in error
    assert not sign.exists()
    assert not (tmp_path / "t.h5").exists()


def test_the_refusal_names_what_was_asked_for(tmp_path: Path) -> None:
    for function, name in (
        (os.system, f"{os.system.__module__}.system"),
        (eval, "builtins.eval"),
        (getattr, "getattr"),
    ):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(_Calls(function, "x")))
        with pytest.raises(DataError, match=name):
            read_plain_pickle(tmp_path / "x.pkl")


_BIG = b"\xff\xff\xff\x7f"
_EXABYTE = b"\xff" * 7 + b"\x0f"
BOMBS = {
    "a text of 2 GB that is not there": b"\x80\x02X" + _BIG + b"abc.",
    "bytes of an exabyte": b"\x80\x04\x8e" + _EXABYTE + b"abc.",
    "a number of 2 GB": b"\x80\x02\x8b" + _BIG + b"1.",
    "a frame that is not there": b"\x80\x04\x95" + _EXABYTE,
    "an array of an exabyte": pickle.dumps(np.arange(3), 2).replace(b"K\x03\x85", b"\x8a\x08" + _EXABYTE + b"\x85"),
    "nothing": b"",
    "text": b"hello, this is a page of HTML",
    "an empty stack": b".",
    "a mark that is not there": b"e.",
    "a memo that is not there": b"\x80\x02h\x05.",
    "tuples nested as a key": b"(" + b"\x80\x02)" + b"\x85" * 300_000 + b"q\x00}h\x00K\x01s.",
    "tuples doubled as a key": b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 80 + b"}h\x00K\x01s.",
    "an unknown protocol": b"\x80\x09].",
    "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "a dtype of records": b"cnumpy\ndtype\n(S'V99999999'\nI0\nI1\ntR.",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_torn_or_swollen_pickle_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(BOMBS[name])
    with pytest.raises(DataError, match=r"x\.pkl: ") as error:
        read_plain_pickle(tmp_path / "x.pkl")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_bytes_that_are_used_over_and_over_fill_no_memory(tmp_path: Path) -> None:
    text = "x" * 100_000
    start = pickle.dumps([text], 2)[:-2]  # without APPEND and STOP: the text lies on the stack and in the memo
    memo = next(arg for op, arg, _ in pickletools.genops(start + b"a.") if op.name == "BINPUT" and arg)
    encode = b"c_codecs\nencode\nh" + bytes([memo]) + b"X\x06\x00\x00\x00latin1\x86R0"
    (tmp_path / "x.pkl").write_bytes(start + encode * 1000 + b"a.")
    with pytest.raises(DataError, match="over and over"):
        read_plain_pickle(tmp_path / "x.pkl")


def test_a_file_too_large_or_with_too_many_steps_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.pkl").write_bytes(b"]" * 2000 + b".")
    monkeypatch.setattr("sfm2tuples.files.safe_pickle.MOST_STEPS", 1000)
    with pytest.raises(DataError, match="1,000 steps"):
        read_plain_pickle(tmp_path / "x.pkl")
    monkeypatch.setattr("sfm2tuples.files.safe_pickle.MOST_BYTES", 1999)
    with pytest.raises(DataError, match="2,001 bytes"):
        read_plain_pickle(tmp_path / "x.pkl")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_a_pickle_is_a_value_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    whole = pickle.dumps(
        {"cids": ["abcdef"] * 3, "n": np.arange(4), "s": np.int64(3), "t": (1.5, None, b"\xff")},
        data.draw(st.integers(0, 5)),
    )
    start = data.draw(st.integers(0, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=4)) + whole[start + data.draw(st.integers(0, 6)) :]
    (tmp_path / "x.pkl").write_bytes(damaged)
    with contextlib.suppress(DataError):
        read_plain_pickle(tmp_path / "x.pkl")


# --- plain pickles ------------------------------------------------------------------------------------------------


def plain(value: object) -> object:
    """Arrays as lists, all the way down."""
    if isinstance(value, PickledArray | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4).map(lambda x: np.array(x, np.int64))
    | st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(lambda x: np.array(x, "U4"))
    | st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(lambda x: np.array(x, object)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.tuples(inner)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PLAIN, protocol=st.integers(0, 5))
def test_plain_values_of_every_protocol_are_what_pickle_reads(tmp_path: Path, value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    (tmp_path / "x.pkl").write_bytes(data)
    assert plain(read_plain_pickle(tmp_path / "x.pkl")) == plain(pickle.loads(data))


@pytest.mark.parametrize("dtype", ["<i8", ">i4", "u1", "<u2", "?", "<f4", ">f8", "S6"])
@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_scalars_of_every_type_are_read(tmp_path: Path, dtype: str, protocol: int) -> None:
    array = np.array([1, 0, 3]).astype(dtype)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([array, array[0]], protocol))
    found, scalar = read_plain_pickle(tmp_path / "x.pkl")
    expected = [v.decode() for v in array.tolist()] if dtype == "S6" else array.tolist()
    assert found.tolist() == expected
    assert scalar == expected[0]


def test_a_list_nested_deep_or_text_of_no_characters_is_one_line(tmp_path: Path) -> None:
    deep = b"\x80\x02}q\x00(X\x05\x00\x00\x00trainq\x01}(X\x04\x00\x00\x00cids" + b"]" * 100_000 + b"a" * 99_999
    (tmp_path / "deep.pkl").write_bytes(deep + b"uX\x03\x00\x00\x00val}u.")
    with pytest.raises(DataError, match="first a value of type list"):
        read_cirtorch(tmp_path / "deep.pkl")
    text = pickle.dumps(np.array(["ab"]), 2)
    (tmp_path / "text.pkl").write_bytes(text.replace(b"a\x00\x00\x00", b"a\x00\x00\x7f"))
    with pytest.raises(DataError, match="codes that no character has"):
        read_plain_pickle(tmp_path / "text.pkl")


def test_text_of_python_2_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(b"(dp0\nS'cids'\np1\n(lp2\nS'ab\\xe9'\np3\naI3\naL5L\naI01\nas.")
    assert read_plain_pickle(tmp_path / "x.pkl") == {"cids": ["abé", 3, 5, True]}


# --- the layout ---------------------------------------------------------------------------------------------------


def nested(depth: int) -> list:
    """A list of itself twice, over and over: 2 ** depth values in a few bytes of pickle."""
    value: list = ["x"]
    for _ in range(depth):
        value = [value, value]
    return value


def part(cids: list[str], cluster: object, pairs: list[tuple[int, int]]) -> dict:
    return {"cids": cids, "cluster": cluster, "qidxs": [q for q, _ in pairs], "pidxs": [p for _, p in pairs]}


EMPTY = part([], [], [])


def write_pickle(path: Path, train: object, val: object = EMPTY, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps({"train": train, "val": val}, protocol))
    return path


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ([], "train is no dict"),
        ({"cids": []}, "no list cluster"),
        (part(["abcdef"], [1, 2], []), "1 cids and 2 clusters"),
        (part(["abcdef"], ["1"], []), "cluster of train are not all whole numbers, first str"),
        (part(["abcdef"], [None], []), "not all whole numbers"),
        (part(["abcdef"], [2**63], []), "not all whole numbers"),
        (part(["abcdef"], [1], [(0, 1)]), "1 pidxs of train are beyond its 1 images"),
        (part(["abcdef"], [1], [(-1, 0)]), "1 qidxs of train are beyond"),
        ({**part(["abcdef"], [1], []), "qidxs": [0]}, "1 qidxs and 0 pidxs"),
        (part(["../../etc/passwd"], [1], []), "no names of photos"),
        (part(["abcd.."], [1], []), "no names of photos"),
        (part(["abcde"], [1], []), "no names of photos"),
        (part([7], [1], []), "no names of photos, first 7"),
        (part([nested(60)], [1], []), "no names of photos, first a value of type list"),
        (part(["abcdef"], [nested(60)], []), "not all whole numbers, first list"),
        (part([10**3000], [1], []), "no names of photos, first a value of type int"),
        (part(["abc\x00def"], [1], []), "no names of photos"),
    ],
)
def test_lists_that_make_no_sense_are_one_line(tmp_path: Path, train: object, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        read_cirtorch(write_pickle(tmp_path / "x.pkl", train))
    assert "\n" not in str(error.value)


def test_a_whitening_file_and_any_other_pickle_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"cids": [], "qidxs": [], "pidxs": []}))
    with pytest.raises(DataError, match="without -whiten"):
        read_cirtorch(tmp_path / "x.pkl")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="no parts train and val"):
        read_cirtorch(tmp_path / "x.pkl")


@pytest.mark.parametrize("protocol", range(6))
def test_lists_tuples_and_arrays_are_read_alike(tmp_path: Path, protocol: int) -> None:
    lists = part(["abcdef", "abcde0"], [3, 3], [(0, 1)])
    arrays = {key: np.array(value) for key, value in lists.items()}
    numbers = {**lists, "cluster": [np.int64(3), np.int32(3)], "qidxs": (0,)}
    for form in (lists, arrays, numbers):
        found = read_cirtorch(write_pickle(tmp_path / "x.pkl", form, protocol=protocol))["train"]
        assert found.cids == lists["cids"]
        for key in ("cluster", "qidxs", "pidxs"):
            assert getattr(found, key).dtype == np.int64
            assert getattr(found, key).tolist() == lists[key]


# --- import: what is dropped --------------------------------------------------------------------------------------


def split_of(cids: list[str], cluster: list[int], pairs: list[tuple[int, int]]) -> CirtorchSplit:
    columns = (cluster, [q for q, _ in pairs], [p for _, p in pairs])
    return CirtorchSplit(cids, *(np.array(column, np.int64) for column in columns))


def cid(number: int) -> str:
    return f"{number:012x}"


def size_of(path: Path) -> tuple[int, int]:
    return 640, 480


def named_pairs(imported: object, split: str) -> list[tuple[str, str]]:
    """Pairs by key, in order."""
    pairs, candidates, key = imported.pairs[split], imported.candidates[split], imported.images.key
    return [(key[q], key[candidates.image[e]]) for q, e in zip(pairs.query, pairs.edge, strict=True)]


def test_self_pairs_duplicates_and_pairs_across_places_are_dropped_and_counted() -> None:
    pairs = [(0, 1), (1, 1), (0, 1), (1, 0), (0, 2), (2, 3), (2, 3), (2, 2), (0, 4)]
    train = split_of([cid(i) for i in range(5)], [7, 7, 9, 9, 7], pairs)
    found = from_cirtorch({"train": train, "val": split_of([], [], [])}, Path("/p"), size_of)
    keys = [photo_path(cid(i)) for i in range(5)]
    assert named_pairs(found, "train") == [(keys[a], keys[b]) for a, b in [(0, 1), (1, 0), (2, 3), (0, 4)]]
    left = found.left_out
    assert (left.self_pairs, left.duplicate_pairs, left.pairs_across_places) == (2, 2, 1)
    assert found.candidates["train"].query.tolist() == [0, 1, 2]
    assert found.candidates["train"].image.tolist() == [1, 4, 0, 3]


def test_the_same_cluster_number_in_both_splits_is_two_places_unless_told() -> None:
    parts = {
        "train": split_of([cid(0), cid(1)], [5, 5], [(0, 1)]),
        "val": split_of([cid(2), cid(3), cid(4), cid(5)], [5, 5, 6, 6], [(0, 1), (2, 3)]),
    }
    apart = from_cirtorch(parts, Path("/p"), size_of)
    assert (apart.places.name, apart.places.split.tolist()) == (["train/5", "val/5", "val/6"], [0, 1, 1])
    assert apart.images.place.tolist() == [0, 0, 1, 1, 2, 2]
    told = from_cirtorch(parts, Path("/p"), size_of, global_clusters=True)
    assert told.places.name == ["train/5", "val/6"]
    assert (told.left_out.in_training_too, told.left_out.pairs_without_photo) == (2, 1)


def test_a_photo_is_never_in_both_splits_and_an_id_listed_twice_is_one_image() -> None:
    parts = {
        "train": split_of([cid(0), cid(1), cid(0)], [1, 1, 1], [(2, 1), (0, 1), (0, 2)]),
        "val": split_of([cid(1), cid(3), cid(4)], [1, 1, 1], [(0, 1), (1, 2)]),
    }
    found = from_cirtorch(parts, Path("/p"), size_of)
    assert found.images.key == [photo_path(cid(i)) for i in (0, 1, 3, 4)]
    assert found.images.index_row.tolist() == [0, 1, 4, 5]
    left = found.left_out
    assert (left.listed_twice, left.in_training_too) == (1, 1)
    assert (left.duplicate_pairs, left.self_pairs, left.pairs_without_photo) == (1, 1, 1)


def test_none_of_the_photos_is_one_line_that_names_the_flag(tmp_path: Path) -> None:
    write_pickle(tmp_path / "x.pkl", part([cid(1), cid(2)], [1, 1], [(0, 1)]))
    with pytest.raises(DataError, match=r"none of 2 photos can be read here, first 01/00/00/.*--images"):
        import_tuple_file(tmp_path / "x.pkl", tmp_path / "ims", tmp_path / "t.h5", QUICK, NO_DESCRIPTORS)


def test_a_file_without_pairs_is_refused_and_one_without_validation_is_not(world: Path, tmp_path: Path) -> None:
    train = documented_reader(world, "retrieval-SfM-mine", "train")[1]
    ims = world / "retrieval-SfM-mine" / "ims"
    import_tuple_file(write_pickle(tmp_path / "x.pkl", train), ims, tmp_path / "t.h5", QUICK, NO_DESCRIPTORS)
    assert len(read_tuples(tmp_path / "t.h5").tuples["val"].query) == 0
    empty = write_pickle(tmp_path / "x.pkl", {**train, "qidxs": [], "pidxs": []})
    with pytest.raises(DataError, match="holds no pairs"):
        import_tuple_file(empty, ims, tmp_path / "no.h5", QUICK, NO_DESCRIPTORS)


def test_a_file_of_the_released_size_is_imported(tmp_path: Path) -> None:
    """91,642 training and 6,403 validation images, 180,000 pairs; each cluster's counts against a plain loop."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, images, clusters, pairs, first in (
        ("train", 91_642, 551, 180_000, 0),
        ("val", 6_403, 162, 1_700, 1 << 20),
    ):
        cluster = np.sort(rng.integers(clusters, size=images))
        start = np.searchsorted(cluster, np.arange(clusters))
        end = np.searchsorted(cluster, np.arange(clusters), side="right")
        query = rng.integers(images, size=pairs)
        positive = rng.integers(start[cluster[query]], end[cluster[query]])
        parts[name] = {
            "cids": [cid(first + i) for i in range(images)],
            "cluster": cluster.tolist(), "qidxs": query.tolist(), "pidxs": positive.tolist(),
        }  # fmt: skip
    write_pickle(tmp_path / "x.pkl", parts["train"], parts["val"])
    found = from_cirtorch(read_cirtorch(tmp_path / "x.pkl"), Path("/p"), size_of)
    assert len(found.images.key) == 91_642 + 6_403
    left = 0
    for name in SPLITS:
        pairs = list(zip(parts[name]["qidxs"], parts[name]["pidxs"], strict=True))
        distinct = {pair for pair in pairs if pair[0] != pair[1]}
        assert len(found.pairs[name].query) == len(found.candidates[name].image) == len(distinct)
        left += len(pairs) - len(distinct)
    assert found.left_out.self_pairs + found.left_out.duplicate_pairs == left


# --- the round trip -----------------------------------------------------------------------------------------------


def file_of(place: list[int], split: list[int], pairs: dict[str, list[tuple[int, list[int]]]]) -> TupleFile:
    """A tuple file in memory: places of the images, splits of the places, tuples of (query, positives)."""
    n, none = len(place), np.zeros((0, 1), np.float32)
    images = ImageTable(
        [f"{i}.jpg" for i in range(n)], ["/p"] * n, [f"{i}.jpg" for i in range(n)],
        np.array(place, np.int64), np.full((n, 2), 9), np.arange(n),
    )  # fmt: skip
    tuples = {}
    for name in SPLITS:
        width = max((len(positives) for _, positives in pairs[name]), default=1)
        positive = np.full((len(pairs[name]), width), -1, np.int64)
        for row, (_, positives) in enumerate(pairs[name]):
            positive[row, : len(positives)] = positives
        query = np.array([q for q, _ in pairs[name]], np.int64)
        tuples[name] = TupleSet(query, positive, *(none,) * 7, np.zeros(0, np.int64))
    empty = Candidates(*(np.zeros(0, np.int64),) * 7)
    places = PlaceTable([f"place{p}" for p in range(len(split))], np.array(split, np.int8))
    header = Header("", 1, "", (), {}, "")
    return TupleFile(
        Path("t.h5"), header, images, places, tuples, dict.fromkeys(SPLITS, empty), 0, np.zeros(0, np.int64)
    )


@st.composite
def tuple_files(draw: st.DrawFn) -> TupleFile:
    split = draw(st.lists(st.integers(0, 1), min_size=1, max_size=5))
    place = [p for p in range(len(split)) for _ in range(draw(st.integers(1, 4)))]
    place = draw(st.permutations(place))
    pairs: dict[str, list[tuple[int, list[int]]]] = {"train": [], "val": []}
    for query in draw(st.lists(st.integers(0, len(place) - 1), max_size=8)):
        others = [i for i, p in enumerate(place) if p == place[query] and i != query]
        if others:
            positives = draw(st.lists(st.sampled_from(others), max_size=3, unique=True))
            pairs[SPLITS[split[place[query]]]].append((query, positives))
    return file_of(place, split, pairs)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tuples=tuple_files())
def test_any_tuple_set_survives_the_round_trip(tmp_path: Path, tuples: TupleFile) -> None:
    cids = [cid(1000 + row) for row in range(len(tuples.images.key))]
    write_cirtorch(tmp_path, ("x.pkl", "x-whiten.pkl"), to_cirtorch(tuples, cids))
    back = from_cirtorch(read_cirtorch(tmp_path / "x.pkl"), Path("/p"), size_of)
    row_of = {photo_path(c): row for row, c in enumerate(cids)}
    old_row = [row_of[key] for key in back.images.key]
    assert sorted(old_row) == list(range(len(cids)))
    for name in SPLITS:
        rows = zip(*tuple_pairs(tuples.tuples[name]), strict=True)
        expected = list(dict.fromkeys((int(q), int(p)) for q, p in rows))
        assert [(row_of[q], row_of[p]) for q, p in named_pairs(back, name)] == expected
    new_place = {old_row[row]: place for row, place in enumerate(back.images.place.tolist())}
    both = {(int(tuples.images.place[row]), new_place[row]) for row in range(len(cids))}
    assert len(both) == len({old for old, _ in both}) == len({new for _, new in both})
    for old, new in both:
        assert tuples.places.split[old] == back.places.split[new]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mined tuples of seven places with photos on disk, one of them a PNG, and their export."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    index = random_index(rng, (6,) * 7, tuple(range(7)), val=2)
    index = dataclasses.replace(
        index, models=dataclasses.replace(index.models, photo_root=[str(folder / "photos")] * 7)
    )
    for row in range(42):
        path = index.photo_path(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        if row == 3:
            Image.open(io.BytesIO(jpeg(row))).save(path, "BMP")
        else:
            path.write_bytes(jpeg(row))
    write_whole(folder / "index.h5", index, {})
    values = rng.standard_normal((42, 8))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    write_descriptors(folder / "descriptors.h5", Descriptors(index.images.key, values))
    options = MiningOptions(query_share=1.0, num_negatives=2, min_overlap=0.1, num_positives=2)
    photos = PhotoOptions(NO_NETWORK, folder / "descriptors.h5")
    mine_tuple_file(folder / "index.h5", folder / "t.h5", options, photos)
    export_cirtorch(folder / "t.h5", folder / "retrieval-SfM-mine")
    return folder


def documented_reader(data: Path, name: str, mode: str) -> tuple[list[Path], dict]:
    """What the documented layout says: the pickle below the data set's name, photos by the end of their ids."""
    root = data / name
    with (root / f"{name}.pkl").open("rb") as file:
        content = pickle.load(file)[mode]
    return [root / "ims" / c[-2:] / c[-4:-2] / c[-6:-4] / c for c in content["cids"]], content


@pytest.mark.parametrize("mode", SPLITS)
def test_a_reader_of_the_documented_layout_opens_every_photo(world: Path, mode: str) -> None:
    paths, content = documented_reader(world, "retrieval-SfM-mine", mode)
    assert len(paths) == len(set(paths)) == {"train": 30, "val": 12}[mode]
    for path in paths:
        with Image.open(path) as photo:
            assert (photo.format, photo.size) == ("JPEG", (60, 44))
    assert all(type(value) is int for key in ("cluster", "qidxs", "pidxs") for value in content[key])
    cluster = content["cluster"]
    assert len(content["qidxs"]) == len(content["pidxs"]) > 0
    for query, positive in zip(content["qidxs"], content["pidxs"], strict=True):
        assert query != positive
        assert cluster[query] == cluster[positive]


def test_the_whitening_pickle_holds_the_training_images_and_pairs(world: Path) -> None:
    _, train = documented_reader(world, "retrieval-SfM-mine", "train")
    with (world / "retrieval-SfM-mine" / "retrieval-SfM-mine-whiten.pkl").open("rb") as file:
        assert pickle.load(file) == {key: train[key] for key in ("cids", "qidxs", "pidxs")}


def test_a_small_jpeg_is_copied_byte_for_byte_and_the_list_says_which_it_is(world: Path) -> None:
    rows = list(csv.DictReader((world / "retrieval-SfM-mine" / "images.csv").open()))
    tuples = read_tuples(world / "t.h5")
    assert [row["key"] for row in rows] == tuples.images.key
    for number, row in enumerate(rows):
        copy = (world / "retrieval-SfM-mine" / "ims" / photo_path(row["cid"])).read_bytes()
        original = tuples.images.path(number).read_bytes()
        assert (copy == original) == (number != 3)
        place = int(tuples.images.place[number])
        assert (row["place"], row["cluster"]) == (tuples.places.name[place], str(place))


def test_force_leaves_released_training_data_alone(world: Path, tmp_path: Path) -> None:
    released = tmp_path / "retrieval-SfM-120k"
    (released / "ims" / "aa").mkdir(parents=True)
    for name in ("retrieval-SfM-120k.pkl", "retrieval-SfM-120k-whiten.pkl"):
        (released / name).write_bytes(b"theirs")
    with pytest.raises(UsageError, match="is not a folder that export made"):
        check_cirtorch_target(released, force=True)
    check_cirtorch_target(world / "retrieval-SfM-mine", force=True)


@pytest.fixture(scope="module")
def imported(world: Path) -> Path:
    folder = world / "retrieval-SfM-mine"
    import_tuple_file(folder / "retrieval-SfM-mine.pkl", folder / "ims", world / "back.h5", QUICK, NO_DESCRIPTORS)
    return world / "back.h5"


def test_mined_exported_imported_tuples_have_the_same_pairs_and_places(world: Path, imported: Path) -> None:
    before, after = read_tuples(world / "t.h5"), read_tuples(imported)
    rows = csv.DictReader((world / "retrieval-SfM-mine" / "images.csv").open())
    key_of = {photo_path(row["cid"]): row["key"] for row in rows}
    place_of = dict(zip(before.images.key, before.images.place.tolist(), strict=True))
    for name in SPLITS:
        old = [
            (before.images.key[q], before.images.key[p]) for q, p in zip(*tuple_pairs(before.tuples[name]), strict=True)
        ]
        key = [key_of[k] for k in after.images.key]
        new = [(key[q], key[p]) for q, p in zip(*tuple_pairs(after.tuples[name]), strict=True)]
        assert new == old != []
        assert (after.tuples[name].negative == -1).all()
    assert [after.places.name[p] for p in after.images.place] == [
        f"{SPLITS[before.places.split[place_of[key_of[k]]]]}/{place_of[key_of[k]]}" for k in after.images.key
    ]


def test_imported_tuples_train_a_round_and_validate(imported: Path, tmp_path: Path) -> None:
    options = options_from_recipe("squeezenet1_1", image_size=48, rounds=1, learning_rate=1e-4)
    run = train(imported, tmp_path / "run", options, build_network("squeezenet1_1", "gem", seed=3))
    queries = len(read_tuples(imported).candidates["train"].query)
    assert run.history[1].queries == queries
    assert np.isfinite(run.history[1].train_loss)
    assert 0 < run.history[1].val_map <= 1


def test_pairs_without_negatives_are_not_trained_on_as_they_are(imported: Path, tmp_path: Path) -> None:
    options = options_from_recipe("squeezenet1_1", image_size=48, rounds=1, remine=False)
    with pytest.raises(DataError, match="have no negatives; leave out --no-remine"):
        train(imported, tmp_path / "run", options, build_network("squeezenet1_1", "gem"))


def test_m3_draws_among_imported_positives_and_m2_is_refused(imported: Path) -> None:
    tuples = read_tuples(imported)
    known = {f.name for f in dataclasses.fields(MiningOptions)}
    options = mining_options({k: v for k, v in tuples.header.options.items() if k in known})
    tables = (tuples.images, tuples.places, tuples.candidates["train"])
    drawn = [plan_round(*tables, options, "train", round).positive.tolist() for round in range(4)]
    assert len({str(positive) for positive in drawn}) > 1
    with pytest.raises(MiningError, match=r"m2 chooses by shared points, which .* imported pairs do not have"):
        plan_round(*tables, dataclasses.replace(options, positives="m2"), "train", 1)
    plan_round(*tables, dataclasses.replace(options, positives="m1"), "train", 1)


def test_unknown_evidence_is_said_to_be_unknown(
    imported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sections = inspect_file(imported)["tuples"]
    names = ("shared points", "overlap", "scale change", "angle in degrees", "similarity of positives")
    assert [sections[f"median {name}"] for name in names] == [{"train": None, "val": None}] * 5
    tuples = read_tuples(imported)
    summary = summarise(tuples.tuples["train"], MiningOptions())
    assert (summary.overlap, summary.scale_change, summary.angle) == (None, None, None)
    page = write_report(imported, tmp_path / "page", ReportOptions(num_tuples=3)).page.read_text()
    assert page.count("<dt>shared points</dt><dd>not known</dd>") == 6
    assert ">nan" not in page
    assert len(pairs_of_tuples(tuples, WhiteningOptions()).pairs) == len(tuples.candidates["train"].image)
    assert "whatever their limits" in caplog.text


@pytest.mark.parametrize("negatives", ["N2", "random"])
def test_descriptors_or_random_give_every_pair_its_negatives(world: Path, imported: Path, negatives: str) -> None:
    folder, tuples = world / "retrieval-SfM-mine", read_tuples(imported)
    rng = np.random.default_rng(1)
    values = rng.standard_normal((len(tuples.images.key), 8))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    write_descriptors(world / "d.h5", Descriptors(tuples.images.key, values))
    pickle, options = folder / "retrieval-SfM-mine.pkl", ImportOptions(negatives, 2)
    photos = PhotoOptions(NO_NETWORK, world / "d.h5" if negatives == "N2" else None)
    found = import_tuple_file(pickle, folder / "ims", world / "mined.h5", options, photos)
    assert found.has_negatives
    for name in SPLITS:
        mined, rows = read_tuples(world / "mined.h5").tuples[name], tuples.tuples[name]
        assert np.array_equal(mined.query, rows.query)
        assert np.array_equal(mined.positive, rows.positive)
        place = tuples.images.place
        for row, query in enumerate(mined.query.tolist()):
            pool = [i for i in mined.pool.tolist() if place[i] != place[query]]
            best = {}
            for i in sorted(pool, key=lambda i: (-float(values[query] @ values[i]), i)):
                best.setdefault(int(place[i]), i)
            if negatives == "N2":
                assert mined.negative[row].tolist() == list(best.values())[:2]
            assert len({int(place[i]) for i in mined.negative[row]} - {int(place[query])}) == 2
        assert (mined.shared == -1).all()


def test_missing_and_torn_photos_are_left_out_with_their_pairs(
    world: Path, imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world / "retrieval-SfM-mine", tmp_path / "x")
    before = read_tuples(imported)
    gone, torn = before.images.key[0], before.images.key[1]
    (tmp_path / "x" / "ims" / gone).unlink()
    data = (tmp_path / "x" / "ims" / torn).read_bytes()
    (tmp_path / "x" / "ims" / torn).write_bytes(data[:700])
    words = ["--pack-images", 40, "--num-negatives", 2, "--json"]
    assert run("import-tuples", tmp_path / "x" / "retrieval-SfM-mine.pkl", "-o", tmp_path / "t.h5", *words) == 0
    said = capsys.readouterr()
    left = json.loads(said.out)["left_out"]
    assert (left["missing"], left["unreadable"]) == (1, 1)
    assert gone in said.err
    after = read_tuples(tmp_path / "t.h5")
    assert after.images.key == before.images.key[2:]
    assert after.packed_size == 40
    lost = [pair for pair in zip(*tuple_pairs(before.tuples["train"]), strict=True) if set(pair) & {0, 1}]
    assert left["pairs_without_photo"] == len(lost) > 0
    kept = [
        tuple(p - 2 for p in pair) for pair in zip(*tuple_pairs(before.tuples["train"]), strict=True) if min(pair) > 1
    ]
    assert list(zip(*tuple_pairs(after.tuples["train"]), strict=True)) == kept


def test_the_same_import_gives_the_same_bytes(world: Path, imported: Path) -> None:
    folder = world / "retrieval-SfM-mine"
    import_tuple_file(folder / "retrieval-SfM-mine.pkl", folder / "ims", world / "again.h5", QUICK, NO_DESCRIPTORS)
    assert (world / "again.h5").read_bytes() == imported.read_bytes()


def test_a_network_and_descriptors_exclude_each_other(world: Path, imported: Path) -> None:
    pickle = world / "retrieval-SfM-mine" / "retrieval-SfM-mine.pkl"
    photos = PhotoOptions(NetworkChoice(backbone="alexnet"), world / "d.h5")
    with pytest.raises(UsageError, match="--descriptors"):
        import_tuple_file(pickle, world, world / "no.h5", QUICK, photos)


def test_every_import_option_is_a_flag_with_its_default() -> None:
    flags = {p.name: p for p in import_command.params}
    for field in dataclasses.fields(ImportOptions):
        assert flags[field.name].opts == ["--" + field.name.replace("_", "-")]
        assert flags[field.name].default == field.default


# --- export -------------------------------------------------------------------------------------------------------


def test_photos_are_made_smaller_and_packed_ones_serve(world: Path, tmp_path: Path) -> None:
    options = MiningOptions(query_share=1.0, num_negatives=2, min_overlap=0.1)
    photos = PhotoOptions(NO_NETWORK, world / "descriptors.h5", pack_images=30)
    mine_tuple_file(world / "index.h5", tmp_path / "packed.h5", options, photos)
    (world / "photos").rename(world / "gone")
    try:
        for size, expected in ((None, 30), (20, 20)):
            made = export_cirtorch(tmp_path / "packed.h5", tmp_path / "retrieval-SfM-x", size)
            paths, _ = documented_reader(tmp_path, "retrieval-SfM-x", "train")
            assert (made.image_size, {max(Image.open(path).size) for path in paths}) == (expected, {expected})
    finally:
        (world / "gone").rename(world / "photos")
    export_cirtorch(tmp_path / "packed.h5", tmp_path / "retrieval-SfM-x", 50)
    paths, _ = documented_reader(tmp_path, "retrieval-SfM-x", "train")
    assert {max(Image.open(path).size) for path in paths} == {50}


def test_equal_photos_of_two_images_keep_an_id_each(world: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(world / "photos", photos)
    tuples = read_tuples(world / "t.h5")
    shutil.copy(tuples.images.path(0), tuples.images.path(20))
    try:
        made = export_cirtorch(world / "t.h5", tmp_path / "retrieval-SfM-x")
        cids = made.splits["train"].cids
        assert len(set(cids)) == len(cids) == 30
    finally:
        shutil.copy(photos / tuples.images.name[20], tuples.images.path(20))


def test_an_unreadable_photo_is_left_out_of_the_export_with_its_pairs(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuples = read_tuples(world / "t.h5")
    path = tuples.images.path(0)
    before = path.read_bytes()
    path.write_text("no photo")
    try:
        assert run("export", "--format", "cirtorch", world / "t.h5", "-o", tmp_path / "retrieval-SfM-x", "--json") == 0
    finally:
        path.write_bytes(before)
    said = capsys.readouterr()
    values = json.loads(said.out)
    lost = sum(0 in pair for pair in zip(*tuple_pairs(tuples.tuples["train"]), strict=True))
    assert (values["unreadable"], values["pairs_left_out"], values["train"]["images"]) == (1, lost, 29)
    assert "1 photo cannot be read and is left out" in said.err


def test_cirtorch_is_warned_of_too_few_places_and_of_an_odd_name(world: Path) -> None:
    splits = {name: split_of([cid(0), cid(1)], [1, 1], [(0, 1)]) for name in SPLITS}
    lines = cautions(Path("/x/landmarks"), splits)
    assert Counter(line.split()[0] for line in lines) == {"cirtorch": 1, "train": 1, "val": 1}
    wide = split_of([cid(i) for i in range(12)], [i // 2 for i in range(12)], [(0, 1)])
    assert cautions(Path("/x/retrieval-SfM-x"), dict.fromkeys(SPLITS, wide)) == []


def test_export_replaces_only_a_folder_that_it_made(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "retrieval-SfM-x"
    words = ["export", "--format", "cirtorch", world / "t.h5", "-o", target]
    assert run(*words) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: sfm2tuples import-tuples")
    first = {p.relative_to(target): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert run(*words) == 2
    assert run(*words, "--force") == 0
    assert {p.relative_to(target): p.read_bytes() for p in target.rglob("*") if p.is_file()} == first
    (target / "diary.txt").write_text("mine")
    assert run(*words, "--force") == 2
    assert (target / "diary.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["retrieval-SfM-x"]


@pytest.mark.parametrize("name", ["index.h5", "net.pt", "absent.h5"])
def test_another_file_is_refused_in_one_line(
    world: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (world / "net.pt").write_bytes(b"PK\x03\x04 a checkpoint")
    assert run("export", "--format", "cirtorch", world / name, "-o", tmp_path / "x") == 1
    error = capsys.readouterr().err
    assert name in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()
