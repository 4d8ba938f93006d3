"""Settings of descriptors: what is compared between two files, and what older files stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import run
from test_evaluate_command import write_photos

from retrieval.search.ranked_search import check_comparable
from retrieval.whitening.projection import settings_mismatch
from sfm2tuples.files.descriptor_settings import differing
from sfm2tuples.files.descriptors import Descriptors, read_descriptors, write_descriptors

OLD = {"network": "n", "scales": [1.0, 0.5]}
"""Of a file from before there was a precision."""


def test_what_both_know_is_compared_and_lists_are_like_tuples():
    first = {"image_size": 362, "scales": [1.0], "exponent": 3.0}
    second = {"image_size": 1024, "scales": (1.0,), "filter": "bilinear"}
    assert differing(first, second) == [("image_size", 362, 1024)]
    assert differing(first, second, always=["exponent"]) == [("exponent", 3.0, None), ("image_size", 362, 1024)]
    assert differing({}, second) == differing(first, {}) == []


@pytest.mark.parametrize(("precision", "differs"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_files_from_before_there_was_a_precision_are_of_fp32(precision, differs):
    new = OLD | {"precision": precision}
    assert differing(OLD, new) == ([("precision", "fp32", precision)] if differs else [])
    assert differing(new, OLD) == ([("precision", precision, "fp32")] if differs else [])
    assert differing(OLD, OLD) == differing(new, new) == []


def test_foreign_files_have_no_precision():
    assert differing({"origin": "hloc"}, OLD | {"precision": "bf16"}) == []


def test_a_whitening_and_a_search_across_precisions_are_warned_of():
    unit_row = np.eye(1, 4, dtype=np.float32)
    half = OLD | {"precision": "bf16"}
    assert settings_mismatch(OLD, OLD | {"precision": "fp32"}) is None
    assert "precision fp32 there, bf16 here" in str(settings_mismatch(OLD, half))
    queries = Descriptors(["q"], unit_row, OLD, "q.h5")
    assert check_comparable(queries, Descriptors(["d"], unit_row, OLD | {"precision": "fp32"}, "d.h5")) is None
    said = check_comparable(queries, Descriptors(["d"], unit_row, half, "d.h5"))
    assert said == "q.h5: made otherwise than the database: precision fp32 there, bf16 in d.h5"


def test_evaluate_warns_of_queries_of_another_precision_and_takes_older_files(tmp_path, capsys):
    for label in ("a", "b"):
        write_photos(tmp_path / "photos" / label, [f"{label}{number}" for number in range(3)], ord(label))
    words = [tmp_path / "photos", "--backbone", "squeezenet1_1", "--image-size", 64]
    assert run("extract", *words, "-o", tmp_path / "full.h5") == 0
    assert run("extract", *words, "-o", tmp_path / "half.h5", "--precision", "bf16") == 0
    assert read_descriptors(tmp_path / "half.h5").settings["precision"] == "bf16"
    full = read_descriptors(tmp_path / "full.h5")
    assert full.settings.pop("precision") == "fp32"
    write_descriptors(tmp_path / "old.h5", full)

    def warnings(database: str, queries: str) -> str:
        capsys.readouterr()
        files = ["--descriptors", tmp_path / database, "--queries", tmp_path / queries]
        assert run("evaluate", "--labels", tmp_path / "photos", *files) == 0
        return capsys.readouterr().err

    assert "precision" not in warnings("full.h5", "old.h5")
    assert "precision bf16, not fp32" in warnings("full.h5", "half.h5")
    assert "precision bf16, not fp32" in warnings("old.h5", "half.h5")
