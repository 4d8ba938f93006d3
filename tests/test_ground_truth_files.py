"""Ground truth of Oxford and Paris that makes no sense is one line, whatever values its file nests."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from retrieval.protocols.ground_truth_files import read_ground_truth
from sfm2tuples.errors import DataError

BOX = [0, 0, 9, 9]


def content(**changes: Any) -> dict[str, Any]:
    """Two photos and a query."""
    entry = {"bbx": BOX, "ok": [0], "junk": [1], **changes.pop("entry", {})}
    return {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [entry], **changes}


def write(folder: Path, values: dict[str, Any], suffix: str) -> Path:
    path = folder / f"gnd{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps(values))
    else:
        path.write_bytes(pickle.dumps(values))
    return path


def nested(depth: int) -> list[Any]:
    """A list of itself twice, over and over: 2 ** depth values in a few bytes of pickle."""
    value: list[Any] = ["x"]
    for _ in range(depth):
        value = [value, value]
    return value


def refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read_ground_truth(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(caught.value.what) < 300


@pytest.mark.parametrize("suffix", [".json", ".pkl"])
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"imlist": ["a", 1.5]}, "1 entries of imlist are no names, first 1.5"),
        ({"qimlist": [["q"]]}, "qimlist are no names, first a value of type list"),
        ({"entry": {"topic": []}}, "topic are no names"),
        ({"entry": {"ok": [float("inf")]}}, "ok holds something else than rows"),
        ({"entry": {"ok": [float("nan")]}}, "ok holds something else than rows"),
        ({"entry": {"ok": [2e70]}}, "ok holds something else than rows"),
        ({"entry": {"ok": [2**70]}}, "ok holds something else than rows"),
        ({"entry": {"bbx": [2**4000, 0, 9, 9]}}, "no box with an area"),
        ({"index_base": []}, "index_base is a value of type list, not 0 or 1"),
        ({"index_base": "x"}, "index_base is 'x', not 0 or 1"),
        ({"index_base": 2**70}, "index_base is a value of type int, not 0 or 1"),
    ],
)
def test_values_of_another_kind_are_named(tmp_path, changes, match, suffix):
    refused(write(tmp_path, content(**changes), suffix), match)


def test_rows_may_begin_with_one_and_names_may_be_numbers(tmp_path):
    values = content(imlist=[1, b"b"], index_base=1, entry={"ok": [1.0], "junk": [2]})
    truth = read_ground_truth(write(tmp_path, values, ".pkl"))
    assert truth.imlist == ["1", "b"]
    assert [lists[0].tolist() for lists in truth.lists.values()] == [[0], [1]]


@pytest.mark.parametrize("key", ["imlist", "qimlist"])
def test_lists_in_lists_are_never_printed(tmp_path, key):
    refused(write(tmp_path, content(**{key: [nested(60)]}), ".pkl"), "no names, first a value of type list")


def test_json_that_nests_too_deep_or_counts_too_far_is_one_line(tmp_path):
    for number, text in enumerate(["[" * 100_000, '{"imlist": ' + "9" * 5000 + "}"]):
        path = tmp_path / f"{number}.json"
        path.write_text(text)
        refused(path, "is no JSON")


@pytest.mark.parametrize("suffix", [".json", ".pkl"])
def test_queries_without_any_box_are_read_and_say_so(tmp_path, suffix):
    whole = content()
    without = content(entry={"bbx": None})
    assert read_ground_truth(write(tmp_path, whole, ".json")).boxless == ""
    truth = read_ground_truth(write(tmp_path, without, suffix))
    assert truth.boxes is None
    assert truth.boxless == f"{tmp_path / f'gnd{suffix}'}: some of its queries have no bbx"
