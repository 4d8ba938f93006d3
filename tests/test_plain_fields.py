"""Values of headers and checkpoints: of the kind that a field has, of whole letters, or refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from test_training import make_tuples, quick

from retrieval.networks.checkpoints import load_checkpoint, network_of
from retrieval.networks.description import NetworkDescription
from retrieval.networks.network import Network
from retrieval.networks.weights import save_torch_file
from retrieval.site.photo_list import PhotoList
from retrieval.training.remining import options_of_round
from sfm2tuples.errors import FileFormatError, UsageError, WeightsError
from sfm2tuples.files.container import read_header
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors
from sfm2tuples.files.plain_fields import odd_field
from sfm2tuples.files.text import read_json
from sfm2tuples.mining.options import MiningOptions
from sfm2tuples.mining.tuple_file import read_tuples


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("mean", [(0.1, 0.2, 0.3), [0, 1, 0.5]], [(0.1, 0.2), [0.1, 0.2, "x"], 3, None]),
        ("l2_eps", [1e-6, 1], ["x", None, True, [1.0]]),
        ("clusters", [0, 64], [1.5, "64", None, True]),
        ("regional", [True, False], [1, "yes", None]),
        ("backbone", ["vgg16"], [3, None, ["vgg16"]]),
    ],
)
def test_a_value_is_of_the_kind_of_its_field(name: str, right: list, wrong: list) -> None:
    assert [value for value in right if odd_field({name: value}, NetworkDescription)] == []
    assert [value for value in wrong if odd_field({name: value}, NetworkDescription) != name] == []
    assert odd_field({"max_angle": None, "no field": 3}, MiningOptions) is None
    assert odd_field({"max_angle": "x"}, MiningOptions) == "max_angle"


def test_items_of_a_list_are_of_the_kind_of_its_field() -> None:
    right = {"names": ["a", "b"], "stamps": [[1, 2], []], "files": []}
    assert odd_field(right, PhotoList) is None
    for name, wrong in [
        ("names", ["a", 1]),
        ("names", "ab"),
        ("names", None),
        ("stamps", [[1], 2]),
        ("stamps", [[1.5]]),
    ]:
        assert odd_field({name: wrong}, PhotoList) == name


@pytest.mark.parametrize("field", ["backbone", "pooling", "mean", "regional"])
def test_a_description_with_a_value_of_another_kind_is_refused(tmp_path: Path, field: str) -> None:
    with pytest.raises(UsageError, match=f"a network's description has 1.5 for {field}"):
        NetworkDescription.from_dict({"backbone": "squeezenet1_1", "pooling": "gem", field: 1.5})
    network = Network(NetworkDescription("squeezenet1_1", "gem"))
    weights, print_ = network.state_dict(), network.fingerprint()
    content = {"network": network.description.to_dict() | {field: 1.5}, "weights": weights, "fingerprint": print_}
    content |= {"format": "sfm2tuples-checkpoint", "version": 1, "software": "x"}
    save_torch_file(tmp_path / "n.pt", content)
    with pytest.raises(WeightsError, match=f"its description builds no network .* has 1.5 for {field}"):
        network_of(load_checkpoint(tmp_path / "n.pt"), tmp_path / "n.pt")


@pytest.mark.parametrize(("name", "value"), [("max_scale_change", "x"), ("pool", 3), ("num_queries", "many")])
def test_tuples_mined_by_an_option_of_another_kind_are_refused(tmp_path: Path, name: str, value: object) -> None:
    tuples = read_tuples(make_tuples(tmp_path / "tuples.h5"))
    header = replace(tuples.header, options=tuples.header.options | {name: value})
    with pytest.raises(FileFormatError, match=f"its options have {value!r} for {name}; mine it again"):
        options_of_round(SimpleNamespace(path=tuples.path, header=header), quick())


def test_half_a_letter_in_json_is_refused(tmp_path: Path) -> None:
    descriptors = Descriptors(["a"], np.ones((1, 1), np.float32), {"backbone": "x"})
    write_descriptors(tmp_path / "d.h5", descriptors)
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        file.attrs["options"] = json.dumps({"backbone": "\ud800"})
    with pytest.raises(FileFormatError, match=r"d\.h5: .*options"):
        read_header(tmp_path / "d.h5")
    (tmp_path / "x.json").write_text('["\\ud800"]')
    with pytest.raises(FileFormatError, match=r"is no JSON \(it holds half a letter, U\+D800\)"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('["\\udcff"]')  # a byte of a name that is not UTF-8
    assert read_json(tmp_path / "x.json") == ["\udcff"]


def test_a_zero_byte_in_a_name_is_refused(tmp_path: Path) -> None:
    write_descriptors(tmp_path / "d.h5", Descriptors(["ab", "cd"], np.eye(2, dtype=np.float32)))
    with h5py.File(tmp_path / "d.h5", "r+") as file:
        file["names/utf8"][1] = 0
    with pytest.raises(FileFormatError, match="names/utf8 holds 0, less than 1"):
        read_descriptors(tmp_path / "d.h5")
